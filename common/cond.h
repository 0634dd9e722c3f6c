/* common/cond.h -- conditions with deadlines on the clock that never jumps.
 *
 * A condition made by cond_init() is waited for in CLOCK_MONOTONIC, which is
 * what clock_ms() and every deadline of ours is told in. Fencing depends on it:
 * a wall clock that was set must not keep a sandbox alive.
 */
#ifndef COMMON_COND_H
#define COMMON_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "common/must.h"

static inline void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    MUST0(pthread_condattr_init(&attr));
    MUST0(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST0(pthread_cond_init(cond, &attr));
    MUST0(pthread_condattr_destroy(&attr));
}

/* As pthread_cond_timedwait(3), also in waking for no reason: 0, or -ETIMEDOUT
 * once deadline_ms (of clock_ms()) is over. */
static inline int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                                  int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = deadline_ms % 1000 * 1000000};

    return -pthread_cond_timedwait(cond, lock, &until);
}

#endif
