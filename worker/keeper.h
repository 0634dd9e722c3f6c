/* worker/keeper.h -- the thread that keeps this worker's place in Redis.
 *
 * Registers an identity, renews its lease, brings back the jobs of dead peers,
 * moves due jobs to their queues. When the lease can't be renewed in time, or a
 * peer fenced us, it kills all sandboxes and makes a new identity.
 */
#ifndef WORKER_KEEPER_H
#define WORKER_KEEPER_H

#include "worker/worker.h"

struct keeper;

int keeper_start(struct worker *w, struct keeper **keeper_out);
/* Leaves Redis for good (if nothing is in flight) and ends the thread. */
void keeper_join(struct keeper *k);
#endif
