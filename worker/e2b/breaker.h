/* worker/e2b/breaker.h -- stops asking an endpoint that fails, and tries again.
 *
 *   closed     calls go out; BREAKER_FAILURES failures in a row open it
 *   open       no call goes out until the pause is over
 *   half open  one call is let through: its end closes or opens it again
 *
 * Pauses double from BREAKER_PAUSE_MS to BREAKER_PAUSE_MAX_MS, each with jitter
 * of a half. The clock is the caller's, so that a test needs no sleep.
 *
 * Threads:  one at a time (the caller's lock).
 */
#ifndef WORKER_E2B_BREAKER_H
#define WORKER_E2B_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES     5
#define BREAKER_PAUSE_MS     1000
#define BREAKER_PAUSE_MAX_MS 30000
/* A call let through that never tells its end must not hold it for ever. */
#define BREAKER_PROBE_MS 120000

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    enum breaker_state state;
    int failures;     /* in a row */
    int64_t pause_ms; /* of the next opening */
    int64_t until_ms; /* open: when it may be tried; half open: when the
                         one let through counts as lost */
    char why[160];    /* the last failure */
};

const char *breaker_name(enum breaker_state state); /* "closed", … */

/* May a call go out now? Half open: only the first who asks. */
bool breaker_admits(struct breaker *b, int64_t now_ms);
/* Would breaker_admits() say yes? Changes nothing. */
bool breaker_would_admit(const struct breaker *b, int64_t now_ms);
/* How it ended. noise: any random number, for the jitter. */
void breaker_good(struct breaker *b);
void breaker_bad(struct breaker *b, int64_t now_ms, uint32_t noise,
                 const char *why);
/* The call let through ended without telling anything (given up by us). */
void breaker_nothing(struct breaker *b, int64_t now_ms);

#endif
