/* worker/local/warm.h -- which sandboxes are forked from a warmed interpreter,
 * and from which.
 *
 * Errors: negated errno.
 */
#ifndef WORKER_LOCAL_WARM_H
#define WORKER_LOCAL_WARM_H

#include "common/job.h"
#include "common/strbuf.h"
#include "common/template.h"

/* May this job's sandbox be a fork? Not if its template says isolation "cold",
 * and not if it sets a variable that is only read when an interpreter or a
 * preloaded package starts. */
bool warm_suits(const struct job *job, const struct spec *spec);

/* The modules of its zygote: NULL-terminated or NULL. Borrowed. */
char *const *warm_modules(const struct spec *spec);

/* Appends one WIRE_WARM message: a kind of sandbox of which `floor` are to be
 * held ready. */
int warm_message(const char *interpreter, bool warm, char *const *modules,
                 int floor, struct strbuf *out);

#endif
