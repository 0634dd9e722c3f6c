/* producer/gateway/health.h -- GET /api/v1/e2b/health: runs a small job.
 *
 * One job at a time, whose outcome all who ask meanwhile share: asking is cheap
 * and cannot fill a queue. 200 healthy, 503 unhealthy, with what went wrong.
 *
 * Memory:   health_create() makes, health_destroy() frees.
 */
#ifndef PRODUCER_GATEWAY_HEALTH_H
#define PRODUCER_GATEWAY_HEALTH_H

#include "producer/gateway/request.h"

#define HEALTH_WAIT_S 10 /* then it is unhealthy */

struct gateway;
struct health;

int health_create(struct gateway *g, struct health **out);
void health_destroy(struct health *h);

void health_get(struct request *r);

#endif
