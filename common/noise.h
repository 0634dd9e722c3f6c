/* common/noise.h -- random numbers for jitter: a courtesy, never a secret. */
#ifndef COMMON_NOISE_H
#define COMMON_NOISE_H

#include <stdint.h>
#include <sys/random.h>

#include "common/clock.h"

/* Without entropy the clock still keeps workers apart. Never waits. */
static inline uint32_t noise(void)
{
    uint32_t number;

    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
        number = (uint32_t)clock_us();
    return number;
}

#endif
