/* producer/gateway/admit.h -- what is checked before a handler sees a request:
 * path, method, host, origin, key, rate, content type, length.
 *
 * Threads:  the loop's.
 * Errors:   none: what does not pass is answered.
 */
#ifndef PRODUCER_GATEWAY_ADMIT_H
#define PRODUCER_GATEWAY_ADMIT_H

#include "producer/gateway/request.h"

/* Of a request whose head is there and whose r->match is filled in. Answers it
 * (r->answered) if it may not go on; else sets holder, head_only, body_max. */
void admit(struct request *r, const char *method);

/* The request's Origin, if it is one of those listed, else NULL. */
const char *admit_origin(const struct request *r);

#endif
