/* producer/gateway/admit.h -- what is checked before a handler sees a request:
 * path, method, host, origin, key, rate, content type, length.
 *
 * Threads:  the loop's.
 * Errors:   what does not pass is answered; of settings, a complaint.
 */
#ifndef PRODUCER_GATEWAY_ADMIT_H
#define PRODUCER_GATEWAY_ADMIT_H

#include "producer/gateway/request.h"

struct admit_head { /* as libmicrohttpd tells them */
    const char *method, *target, *version;
};

/* The path of a target, which may be a whole URL (RFC 9112 section 3.2.2). */
const char *admit_path(const char *target);

/* Of a request whose head is there and whose r->match is filled in. Answers it
 * (r->answered) if it may not go on; else sets holder, head_only, body_max. */
void admit(struct request *r, const struct admit_head *head);

/* CAPIBOX_API_ORIGINS: each is as browsers send it, or "*"; anything else would
 * never fit. -EINVAL. */
int admit_check_origins(const char *list, struct complaint *why);

/* The request's Origin, if it is one of those listed, else NULL. */
const char *admit_origin(const struct request *r);

#endif
