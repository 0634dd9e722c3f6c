#include "producer/gateway/slots.h"

#include <errno.h>
#include <stdlib.h>

static void ended(struct waiter *w, int rc, const redisReply *fields)
{
    struct slot *slot = w->ctx;

    (void)rc;
    (void)fields;
    slot->holder->jobs--;
    free(slot);
}

int slot_take(struct waiters *set, struct holder *holder, int64_t most,
              const char *job_id, struct slot **slot_out)
{
    struct slot *slot;

    *slot_out = NULL;
    if (!holder)
        return 0;
    if (most > 0 && holder->jobs >= most)
        return -EAGAIN;
    slot = calloc(1, sizeof(*slot));
    if (!slot)
        return -ENOMEM;
    slot->holder = holder;
    slot->waiter = (struct waiter){
        .done = ended, .ctx = slot, .patient = true, .held = true};
    if (waiters_add(set, job_id, &slot->waiter) < 0) {
        free(slot);
        return -ENOMEM;
    }
    holder->jobs++;
    *slot_out = slot;
    return 0;
}

void slot_keep(struct slot *slot)
{
    if (slot)
        waiters_there(&slot->waiter);
}

void slot_drop(struct slot *slot)
{
    if (!slot)
        return;
    waiters_remove(&slot->waiter);
    slot->holder->jobs--;
    free(slot);
}
