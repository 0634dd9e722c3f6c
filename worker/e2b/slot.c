#include "worker/e2b/slot.h"

#include <errno.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/cond.h"

void call_slot_init(struct call_slot *slot)
{
    *slot = (struct call_slot){.call = NULL};
    MUST0(pthread_mutex_init(&slot->lock, NULL));
    cond_init(&slot->changed);
}

void call_slot_fini(struct call_slot *slot)
{
    pthread_cond_destroy(&slot->changed);
    pthread_mutex_destroy(&slot->lock);
}

static bool slot_take(struct call_slot *slot, struct http_call *call)
{
    bool free;

    MUST0(pthread_mutex_lock(&slot->lock));
    free = !slot->aborted;
    if (free)
        slot->call = call;
    MUST0(pthread_mutex_unlock(&slot->lock));
    return free;
}

static void slot_leave(struct call_slot *slot)
{
    MUST0(pthread_mutex_lock(&slot->lock));
    slot->call = NULL;
    MUST0(pthread_mutex_unlock(&slot->lock));
}

int call_slot_do(struct call_slot *slot, struct http *http,
                 struct http_call *call)
{
    int rc;

    if (!slot)
        return http_do(http, call);
    if (!slot_take(slot, call)) {
        call->trouble = HTTP_ABORTED;
        call->sent = false;
        call->retry_after_s = -1;
        snprintf(call->error, sizeof(call->error), "given up");
        return call->rc = -ECANCELED;
    }
    rc = http_do(http, call);
    slot_leave(slot);
    return rc;
}

void call_slot_abort(struct call_slot *slot, struct http *http)
{
    MUST0(pthread_mutex_lock(&slot->lock));
    slot->aborted = true;
    MUST0(pthread_cond_broadcast(&slot->changed));
    /* The call cannot return while its slot is locked. */
    if (slot->call)
        http_abort(http, slot->call);
    MUST0(pthread_mutex_unlock(&slot->lock));
}

bool call_slot_nap(struct call_slot *slot, int64_t ms)
{
    int64_t end = clock_ms() + ms;
    int rc = 0;
    bool aborted;

    MUST0(pthread_mutex_lock(&slot->lock));
    while (!slot->aborted && rc == 0)
        rc = cond_wait_until(&slot->changed, &slot->lock, end);
    aborted = slot->aborted;
    MUST0(pthread_mutex_unlock(&slot->lock));
    return !aborted;
}

bool call_slot_aborted(struct call_slot *slot)
{
    bool aborted;

    MUST0(pthread_mutex_lock(&slot->lock));
    aborted = slot->aborted;
    MUST0(pthread_mutex_unlock(&slot->lock));
    return aborted;
}
