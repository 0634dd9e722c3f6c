/* producer/gateway/slots.h -- how many jobs of a key are on their way.
 *
 * A slot is taken for each job a key submits and given back when the job ends,
 * whoever waits for it. Counted in this process: a gateway that was started
 * anew has forgotten what came before.
 *
 * Threads:  the loop's.
 */
#ifndef PRODUCER_GATEWAY_SLOTS_H
#define PRODUCER_GATEWAY_SLOTS_H

#include "producer/gateway/keys.h"
#include "producer/gateway/waiters.h"

struct slot {
    struct waiter waiter;
    struct holder *holder;
};

/* *slot_out is NULL without a holder. -EAGAIN: as many as `most` are taken (0:
 * no bound); -ENOMEM. */
int slot_take(struct waiters *set, struct holder *holder, int64_t most,
              const char *job_id, struct slot **slot_out);
/* The job was accepted: from here on the slot lives until it ends. */
void slot_keep(struct slot *slot);
/* It was not. Both are harmless on NULL. */
void slot_drop(struct slot *slot);

#endif
