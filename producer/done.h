/* producer/done.h -- the channel on which job ids come as jobs end.
 *
 * A message is a hint: look at the hash before believing it, and look now and
 * then without one (messages are lost while a connection is down).
 */
#ifndef PRODUCER_DONE_H
#define PRODUCER_DONE_H

#include "producer/client.h"

struct done {
    struct redis *redis;
    int64_t retry_at_ms;
    struct backoff backoff;
};

/* Subscribes on a connection of its own. */
int done_open(struct done *d, struct client *c);
void done_close(struct done *d);

/* 1: an id came. 0: none until deadline_ms, or the connection was lost and is
 * being made anew (look at the hashes). Never fails for good. */
int done_next(struct done *d, struct client *c, int64_t deadline_ms,
              char id_out[JOB_ID_MAX + 1]);

#endif
