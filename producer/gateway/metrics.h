/* producer/gateway/metrics.h -- GET /metrics: Prometheus text, version 0.0.4.
 *
 * capibara6's names, which its dashboards ask for, and our own: base units,
 * each with its help and type. Figures of jobs come from Redis, so every
 * gateway says the same; what begins with capibox_gateway_ is this process'.
 */
#ifndef PRODUCER_GATEWAY_METRICS_H
#define PRODUCER_GATEWAY_METRICS_H

#include "common/strbuf.h"
#include "producer/gateway/request.h"
#include "producer/gateway/snapshot.h"

void metrics_get(struct request *r);

/* The whole text appended. */
void metrics_print(struct strbuf *text, const struct request *r,
                   struct view *view);

#endif
