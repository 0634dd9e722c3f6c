/* producer/gateway/batch.h -- POST batch: many jobs in one request.
 *
 * All jobs are good or none is taken. The batch is created once its jobs are in
 * their queues, with as many as were accepted: a job whose id was there before
 * ("duplicates") or that found its queue full ("rejected") belongs to none.
 */
#ifndef PRODUCER_GATEWAY_BATCH_H
#define PRODUCER_GATEWAY_BATCH_H

#include "producer/gateway/request.h"

void batch_submit(struct request *r);

#endif
