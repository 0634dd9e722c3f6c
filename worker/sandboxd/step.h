/* worker/sandboxd/step.h -- which step of making a sandbox failed, and why.
 *
 * Filled where it happens, carried as it is to the worker (wire_failed) and to
 * people. Plain data: it crosses from the sandbox's init in one message.
 */
#ifndef WORKER_SANDBOXD_STEP_H
#define WORKER_SANDBOXD_STEP_H

#include <stdint.h>

struct step {
    int32_t error; /* errno; 0: nothing failed */
    char what[160];
};

/* Fills *step with what was tried and returns -error, so that callers can
 * `return step_failed(step, errno, "mount %s", path)`. */
__attribute__((format(printf, 3, 4))) int
step_failed(struct step *step, int error, const char *fmt, ...);

#endif
