#include "producer/done.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/clock.h"

static int subscribe(struct done *d, struct client *c)
{
    int64_t deadline = clock_ms() + REDIS_CALL_TIMEOUT_MS;
    char key[KEY_MAX];
    redisReply *reply = NULL;
    int rc = redis_connect(d->redis, deadline);

    if (rc < 0)
        return rc;
    rc = redis_callv(d->redis, deadline, &reply, "SUBSCRIBE",
                     protocol_key(&c->protocol, key, "done", NULL), NULL);
    if (rc < 0)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = -EPROTO;
    freeReplyObject(reply);
    return rc;
}

int done_open(struct done *d, struct client *c)
{
    int rc;

    *d = (struct done){0};
    rc = client_second(c, &d->redis);
    if (rc < 0)
        return rc;
    rc = subscribe(d, c);
    if (rc < 0)
        snprintf(c->why, sizeof(c->why), "subscribe: %s",
                 redis_error(d->redis));
    return rc;
}

void done_close(struct done *d)
{
    redis_destroy(d->redis);
    *d = (struct done){0};
}

static bool take_id(const redisReply *reply, char id_out[JOB_ID_MAX + 1])
{
    const redisReply *id;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        strcasecmp(reply->element[0]->str, "message") != 0)
        return false;
    id = reply->element[2];
    if (id->type != REDIS_REPLY_STRING || (size_t)id->len > JOB_ID_MAX)
        return false;
    memcpy(id_out, id->str, (size_t)id->len);
    id_out[id->len] = '\0';
    return true;
}

/* Sleeps out the time until the next try, or tries. */
static int revive(struct done *d, struct client *c, int64_t deadline_ms)
{
    int64_t until = d->retry_at_ms < deadline_ms ? d->retry_at_ms : deadline_ms;

    poll(NULL, 0, clock_left_ms(until));
    if (clock_ms() >= d->retry_at_ms) {
        if (subscribe(d, c) == 0)
            backoff_reset(&d->backoff);
        else
            redis_close(d->redis);
        d->retry_at_ms = clock_ms() + backoff_next_ms(&d->backoff);
    }
    return 0;
}

int done_next(struct done *d, struct client *c, int64_t deadline_ms,
              char id_out[JOB_ID_MAX + 1])
{
    if (!redis_connected(d->redis))
        return revive(d, c, deadline_ms);
    for (;;) {
        redisReply *reply = NULL;
        struct pollfd fd;
        int rc = redis_step(d->redis, &reply);
        bool taken;

        if (rc < 0)
            return 0;
        if (rc > 0) {
            taken = take_id(reply, id_out);
            freeReplyObject(reply);
            if (taken)
                return 1;
            continue;
        }
        if (clock_left_ms(deadline_ms) == 0)
            return 0;
        fd = (struct pollfd){.fd = redis_fd(d->redis), .events = POLLIN};
        poll(&fd, 1, clock_left_ms(deadline_ms));
    }
}
