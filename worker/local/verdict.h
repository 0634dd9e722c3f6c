/* worker/local/verdict.h -- what a run's end means, from the kernel's facts.
 *
 * Pure. What the code printed or reported plays no part.
 */
#ifndef WORKER_LOCAL_VERDICT_H
#define WORKER_LOCAL_VERDICT_H

#include "common/outcome.h"
#include "common/template.h"
#include "worker/local/wire.h"

/* The one verdict. VERDICT_NONE when the worker gave the run up;
 * VERDICT_SETUP_FAILED when the interpreter could not be started. */
enum verdict verdict_decide(const struct wire_ended *e);

/* A warning for each limit that was met without being the verdict. */
void verdict_warn(const struct wire_ended *e,
                  const struct template_limits *limits, struct outcome *o);

#endif
