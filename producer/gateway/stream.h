/* producer/gateway/stream.h -- GET jobs/{id}/events: server-sent events.
 *
 * What P:events:<id> holds and gets, each with its entry's id, so that
 * `Last-Event-ID` goes on where it broke off: events `stdout` and `stderr` with
 * {"data","offset"}, `state` with {"status"}, and last `end` with {"verdict"}.
 * A job that does not stream has only its `end`.
 *
 * Threads:  the loop's.
 */
#ifndef PRODUCER_GATEWAY_STREAM_H
#define PRODUCER_GATEWAY_STREAM_H

#include "producer/gateway/request.h"

#define STREAM_POLL_MS   100
#define STREAM_QUIET_MS  2000 /* nothing came: a quarter of it between looks */
#define STREAM_PING_MS   15000
#define STREAM_ENTRIES   100          /* read at a time */
#define STREAM_BYTES_MAX (256u << 10) /* unsent: then it is not read on */
#define STREAMS_MAX      1000

struct gateway;

void stream_open(struct request *r);

/* Reads on for all: once a turn. */
void streams_turn(struct gateway *g);

#endif
