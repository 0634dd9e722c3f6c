/* tests/support/null_backend.h -- a backend that makes no sandbox: for the
 * bench of the queue alone and for tests of the pool. Not in the shipped
 * programs.
 *
 * A job's code says what it does:
 *   "…anything…"   ok at once, nothing printed
 *   "sleep N"      runs N ms (ends early when interrupted or killed)
 *   "gate N"       runs until null_backend_open_gate(), then N ms more (ends
 *                  early when interrupted or killed)
 *   "create gate"  create takes until null_backend_open_gate(), which nothing
 *                  ends early
 *   "deaf N"       create takes N ms, unless it is interrupted twice
 *   "setup"        create fails
 *   "backend"      run fails
 *   "place N"      create finds no place (-EAGAIN, again in N ms) while
 *                  null_backend_full() says so
 *   "user"         verdict user_error
 *   "print TEXT"   TEXT on stdout
 *   "crash"        the whole process kills itself (kill -9)
 */
#ifndef TESTS_SUPPORT_NULL_BACKEND_H
#define TESTS_SUPPORT_NULL_BACKEND_H

#include "worker/backend.h"

extern const struct backend_ops backend_null;

/* How often it ran, the most at one time, and how many run now: in this
 * process, and in those forked after null_backend_share(), which also starts
 * from zero. */
void null_backend_share(void);
/* Counts of workers there are begin again at 0; nothing may run. */
void null_backend_reset(void);
int null_backend_runs(void);
int null_backend_most(void);
int null_backend_running(void);
/* For good; null_backend_share() and _reset() shut it. */
void null_backend_open_gate(void);
void null_backend_full(bool full);
/* How often a create found no place. */
int null_backend_put_off(void);

#endif
