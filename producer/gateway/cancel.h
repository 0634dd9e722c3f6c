/* producer/gateway/cancel.h -- DELETE jobs/{id}, and what a client that went
 * away leaves behind.
 */
#ifndef PRODUCER_GATEWAY_CANCEL_H
#define PRODUCER_GATEWAY_CANCEL_H

#include "producer/gateway/request.h"

struct gateway;

void cancel_job(struct request *r);

/* Nobody is told how it went; what goes wrong is logged. */
void cancel_quietly(struct gateway *g, const char *id);

#endif
