/* common/replies.h -- from bytes to Redis replies, in order.
 *
 * hiredis' reader does the parsing; this adds what it lacks: bounds, a queue of
 * finished replies, and a cost that stays linear however many replies arrive at
 * once (the reader moves all that is left after each reply, so it is given
 * small slices).
 *
 * Memory:   the struct is the caller's. A taken reply is the caller's and is
 *           freed with freeReplyObject().
 * Threads:  one thread at a time.
 * Errors:   -EPROTO (`why` says it in words), -ENOMEM. After an error nothing
 *           more can be fed.
 */
#ifndef COMMON_REPLIES_H
#define COMMON_REPLIES_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#define REPLIES_ELEMENTS_MAX (16 << 20) /* of one array */

struct replies {
    redisReader *reader;
    redisReplyObjectFunctions functions;
    void *(*make_array)(const redisReadTask *, int);
    size_t bytes_max;  /* of one reply */
    size_t unfinished; /* bytes fed since the last finished reply */
    size_t largest;    /* bytes of one reply since the reader was made */
    redisReply **ring; /* finished, not taken */
    size_t cap, head, len;
    const char *why;
};

/* bytes_max bounds one reply as it comes over the wire. -ENOMEM. */
int replies_init(struct replies *rs, size_t bytes_max);

/* Harmless on a zeroed struct. */
void replies_fini(struct replies *rs);

int replies_feed(struct replies *rs, const char *data, size_t size);

/* The oldest finished reply, or NULL. */
redisReply *replies_take(struct replies *rs);

#endif
