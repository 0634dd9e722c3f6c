/* common/replies.c -- bounds and a queue around hiredis' reader. */
#include "common/replies.h"

#include <errno.h>
#include <stdlib.h>

#define SLICE_BYTES 16384u     /* what the reader may have to move per reply */
#define KEEP_BYTES  (1u << 20) /* a reader that grew larger is replaced */

/* hiredis takes memory for as many elements as the server announces. */
static void *make_bounded_array(const redisReadTask *task, int elements)
{
    struct replies *rs = task->privdata;

    if (elements > REPLIES_ELEMENTS_MAX) {
        rs->why = "an array with too many elements";
        return NULL;
    }
    return rs->make_array(task, elements);
}

static int make_reader(struct replies *rs)
{
    redisReader *reader = redisReaderCreate();

    if (!reader)
        return -ENOMEM;
    rs->functions = *reader->fn;
    rs->make_array = rs->functions.createArray;
    rs->functions.createArray = make_bounded_array;
    reader->fn = &rs->functions;
    reader->privdata = rs;
    reader->maxbuf = KEEP_BYTES;
    rs->reader = reader;
    rs->largest = 0;
    return 0;
}

int replies_init(struct replies *rs, size_t bytes_max)
{
    *rs = (struct replies){.bytes_max = bytes_max};
    return make_reader(rs);
}

void replies_fini(struct replies *rs)
{
    redisReply *reply;

    while ((reply = replies_take(rs)))
        freeReplyObject(reply);
    free(rs->ring);
    if (rs->reader)
        redisReaderFree(rs->reader);
    *rs = (struct replies){0};
}

static int grow(struct replies *rs)
{
    size_t cap = rs->cap ? rs->cap * 2 : 16;
    redisReply **ring = malloc(cap * sizeof(*ring));

    if (!ring)
        return -ENOMEM;
    for (size_t i = 0; i < rs->len; i++)
        ring[i] = rs->ring[(rs->head + i) & (rs->cap - 1)];
    free(rs->ring);
    rs->ring = ring;
    rs->cap = cap;
    rs->head = 0;
    return 0;
}

static int put(struct replies *rs, redisReply *reply)
{
    if (rs->len == rs->cap && grow(rs) < 0) {
        freeReplyObject(reply);
        return -ENOMEM;
    }
    rs->ring[(rs->head + rs->len++) & (rs->cap - 1)] = reply;
    return 0;
}

redisReply *replies_take(struct replies *rs)
{
    redisReply *reply;

    if (rs->len == 0)
        return NULL;
    reply = rs->ring[rs->head];
    rs->head = (rs->head + 1) & (rs->cap - 1);
    rs->len--;
    return reply;
}

/* A reader keeps the room its largest reply needed: let a huge one go. */
static int slim(struct replies *rs)
{
    redisReader *old = rs->reader;
    int rc;

    if (rs->largest <= KEEP_BYTES || old->len != old->pos)
        return 0;
    rc = make_reader(rs);
    if (rc < 0)
        return rc;
    redisReaderFree(old);
    return 0;
}

static int broken(struct replies *rs)
{
    if (rs->reader->err == REDIS_ERR_OOM && !rs->why)
        return -ENOMEM;
    if (!rs->why)
        rs->why = rs->reader->errstr;
    return -EPROTO;
}

static int parse(struct replies *rs)
{
    void *reply = NULL;
    int rc;

    for (;;) {
        if (redisReaderGetReply(rs->reader, &reply) != REDIS_OK)
            return broken(rs);
        if (!reply)
            return 0;
        if (rs->unfinished > rs->largest)
            rs->largest = rs->unfinished;
        rs->unfinished = 0;
        rc = put(rs, reply);
        if (rc < 0)
            return rc;
    }
}

int replies_feed(struct replies *rs, const char *data, size_t size)
{
    int rc = 0;

    while (size > 0 && rc == 0) {
        size_t slice = size < SLICE_BYTES ? size : SLICE_BYTES;

        if (rs->unfinished + slice > rs->bytes_max) {
            rs->why = "a reply larger than the limit";
            return -EPROTO;
        }
        rs->unfinished += slice;
        if (redisReaderFeed(rs->reader, data, slice) != REDIS_OK)
            return broken(rs);
        rc = parse(rs);
        data += slice;
        size -= slice;
    }
    return rc < 0 ? rc : slim(rs);
}
