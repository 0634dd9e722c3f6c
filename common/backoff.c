/* common/backoff.c -- how long to wait before the next reconnect. */
#include "common/noise.h"
#include "common/redis.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_CAP_MS   5000
#define BACKOFF_DOUBLING 7 /* 50 ms << 7 is past the cap */

int backoff_next_ms(struct backoff *b)
{
    unsigned failures = b->failures;
    unsigned span_ms;

    if (b->failures < BACKOFF_DOUBLING + 1)
        b->failures++;
    if (failures == 0)
        return 0;
    span_ms = (unsigned)BACKOFF_FIRST_MS << (failures - 1);
    if (span_ms > BACKOFF_CAP_MS)
        span_ms = BACKOFF_CAP_MS;
    /* Full jitter: a fleet that lost its server does not come back as one. */
    return 1 + (int)(noise() % span_ms);
}

void backoff_reset(struct backoff *b)
{
    b->failures = 0;
}
