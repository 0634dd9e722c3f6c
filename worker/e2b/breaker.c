#include "worker/e2b/breaker.h"

#include <stdio.h>

const char *breaker_name(enum breaker_state state)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed",
        [BREAKER_OPEN] = "open",
        [BREAKER_HALF_OPEN] = "half open",
    };

    return names[state];
}

bool breaker_would_admit(const struct breaker *b, int64_t now_ms)
{
    return b->state == BREAKER_CLOSED || now_ms >= b->until_ms;
}

bool breaker_admits(struct breaker *b, int64_t now_ms)
{
    if (b->state == BREAKER_CLOSED)
        return true;
    if (now_ms < b->until_ms)
        return false;
    b->state = BREAKER_HALF_OPEN;
    b->until_ms = now_ms + BREAKER_PROBE_MS;
    return true;
}

void breaker_good(struct breaker *b)
{
    *b = (struct breaker){.state = BREAKER_CLOSED};
}

void breaker_bad(struct breaker *b, int64_t now_ms, uint32_t noise,
                 const char *why)
{
    snprintf(b->why, sizeof(b->why), "%s", why);
    b->failures++;
    /* Calls that were under way when it opened say nothing new. */
    if (b->state == BREAKER_OPEN)
        return;
    if (b->state == BREAKER_CLOSED && b->failures < BREAKER_FAILURES)
        return;
    if (b->pause_ms == 0)
        b->pause_ms = BREAKER_PAUSE_MS;
    b->state = BREAKER_OPEN;
    b->until_ms =
        now_ms + b->pause_ms / 2 + noise % (uint32_t)(b->pause_ms / 2 + 1);
    b->pause_ms *= 2;
    if (b->pause_ms > BREAKER_PAUSE_MAX_MS)
        b->pause_ms = BREAKER_PAUSE_MAX_MS;
}

void breaker_nothing(struct breaker *b, int64_t now_ms)
{
    if (b->state != BREAKER_HALF_OPEN)
        return;
    b->state = BREAKER_OPEN;
    b->until_ms = now_ms;
}
