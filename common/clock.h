/* common/clock.h -- the two clocks: one for waiting, one for people.
 *
 * Deadlines and durations are CLOCK_MONOTONIC and never jump; wall-clock times
 * appear only in what people and results read. Nothing here can fail.
 */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in milliseconds / microseconds. */
static inline int64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t clock_ms(void)
{
    return clock_us() / 1000;
}

/* Unix time in seconds, with decimals. */
static inline double clock_unix_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Milliseconds from now to deadline_ms (CLOCK_MONOTONIC), never below 0: what
 * poll() wants. */
static inline int clock_left_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_ms();

    if (left < 0)
        return 0;
    return left > 3600000 ? 3600000 : (int)left;
}

#endif
