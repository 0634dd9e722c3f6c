/* worker/explain.h -- the short message of a verdict, the same on each backend.
 *
 * Errors:   none; outcome_error() says why.
 */
#ifndef WORKER_EXPLAIN_H
#define WORKER_EXPLAIN_H

#include "common/outcome.h"
#include "common/template.h"

/* Sets o->error from verdict, exit code, signal, error_name and error_value. */
void explain(const struct template_limits *limits, struct outcome *o);

#endif
