/* common/redis.c -- calls, pipelines and event-loop steps on one connection. */
#include "common/redis.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/redis_private.h"

#define CALLV_WORDS_MAX 64
#define OUTPUT_BYTES_MAX \
    (1u << 30) /* Redis cuts off a client that sends more */
#define OUTPUT_KEEP_BYTES \
    (1u << 20) /* a larger buffer is given back once sent */

int redis_create(const struct redis_target *target, const char *client_name,
                 struct redis **redis_out)
{
    struct redis *r = calloc(1, sizeof(*r));
    int rc;

    if (!r)
        return -ENOMEM;
    r->target = target;
    r->transport = (struct transport)TRANSPORT_INIT;
    snprintf(r->error, sizeof(r->error), "%s: not connected", target->shown);
    rc = redis_set_name(r, client_name);
    MUST0(rc);
    *redis_out = r;
    return 0;
}

void redis_destroy(struct redis *redis)
{
    if (!redis)
        return;
    redis_close(redis);
    free(redis);
}

/* Redis takes visible ASCII only. */
int redis_set_name(struct redis *redis, const char *client_name)
{
    size_t len = 0;

    for (; client_name && client_name[len] && len < REDIS_NAME_MAX; len++) {
        char c = client_name[len];

        redis->name[len] = c > ' ' && c <= '~' ? c : '_';
    }
    redis->name[len] = '\0';
    return 0;
}

void redis_close(struct redis *redis)
{
    transport_close(&redis->transport);
    replies_fini(&redis->replies);
    strbuf_fini(&redis->out);
    redis->sent = 0;
    redis->outstanding = 0;
    redis->drained = false;
    redis->client_id = 0;
}

bool redis_connected(const struct redis *redis)
{
    return redis->transport.fd >= 0;
}

int64_t redis_client_id(const struct redis *redis)
{
    return redis->client_id;
}

const char *redis_run_id(const struct redis *redis)
{
    return redis->run_id;
}

const char *redis_error(const struct redis *redis)
{
    return redis->error;
}

int redis_fail(struct redis *r, int rc, const char *words)
{
    if (!words && r->transport.why[0])
        words = r->transport.why;
    if (!words)
        words = rc == -ETIMEDOUT ? "no answer in time" : strerror(-rc);
    snprintf(r->error, sizeof(r->error), "%s%.200s: %s",
             r->connecting ? "connect to " : "", r->target->shown, words);
    redis_close(r);
    return rc;
}

static size_t unsent(const struct redis *r)
{
    return r->out.len - r->sent;
}

static void forget_output(struct redis *r)
{
    r->sent = 0;
    if (r->out.cap > OUTPUT_KEEP_BYTES)
        strbuf_fini(&r->out);
    else
        strbuf_clear(&r->out);
}

/* One read. -EAGAIN: nothing there. Anything else: the caller fails. */
static int receive(struct redis *r)
{
    ssize_t got = transport_read(&r->transport, r->in, sizeof(r->in));
    int rc;

    if (got == 0) {
        snprintf(r->transport.why, sizeof(r->transport.why), "%s",
                 "closed by the server");
        return -ECONNRESET;
    }
    if (got < 0)
        return (int)got;
    /* A TLS layer may hold more than the socket shows. */
    r->drained = !r->transport.tls && (size_t)got < sizeof(r->in);
    rc = replies_feed(&r->replies, r->in, (size_t)got);
    if (rc == -EPROTO)
        snprintf(r->transport.why, sizeof(r->transport.why),
                 "not a Redis reply: %s", r->replies.why);
    return rc;
}

/* What the server said before it hung up (an alert, "max number of clients
 * reached") tells more than a broken pipe does. */
static int lost_write(struct redis *r, int rc)
{
    int read_rc;

    forget_output(r);
    do
        read_rc = receive(r);
    while (read_rc == 0 && !r->drained);
    if (r->replies.len > 0)
        return 0; /* the next read meets the end */
    if (read_rc < 0 && read_rc != -EAGAIN && r->transport.why[0])
        rc = read_rc;
    return redis_fail(r, rc, NULL);
}

/* 0: all sent. -EAGAIN: some left. */
static int send_some(struct redis *r)
{
    while (unsent(r) > 0) {
        ssize_t sent =
            transport_write(&r->transport, r->out.text + r->sent, unsent(r));

        if (sent == -EAGAIN)
            return -EAGAIN;
        if (sent < 0)
            return lost_write(r, (int)sent);
        r->sent += (size_t)sent;
        if (unsent(r) == 0)
            forget_output(r);
    }
    return 0;
}

static int read_some(struct redis *r)
{
    int rc = receive(r);

    if (rc < 0 && rc != -EAGAIN)
        return redis_fail(r, rc, NULL);
    return rc;
}

/* After the deadline one more look is allowed: a process that was stopped, or
 * waited for its turn, finds the answer that came in time. */
static int wait_for_bytes(struct redis *r, int64_t deadline_ms, bool *late)
{
    struct pollfd pfd = {.fd = r->transport.fd,
                         .events = r->transport.read_needs};
    int ready = 0;

    if (unsent(r) > 0)
        pfd.events |= r->transport.write_needs;
    if (!*late) {
        *late = clock_left_ms(deadline_ms) == 0;
        do
            ready = poll(&pfd, 1, clock_left_ms(deadline_ms));
        while (ready < 0 && errno == EINTR);
    }
    if (ready < 0)
        return redis_fail(r, -errno, NULL);
    return ready == 0 ? redis_fail(r, -ETIMEDOUT, NULL) : 0;
}

/* One look at what has come. 1: the wanted reply is there. 0: look again.
 * -EAGAIN: wait first. */
static int look(struct redis *r, bool want_reply)
{
    int rc = read_some(r);

    if (rc < 0)
        return rc;
    if (want_reply && r->replies.len > 0)
        return 1;
    return r->drained ? -EAGAIN : 0;
}

/* The same in both directions. 1 also: all is sent and no reply is wanted. */
static int turn(struct redis *r, bool want_reply)
{
    bool fresh = unsent(r) > 0 && !r->transport.tls;
    int rc = send_some(r);

    if (rc < 0)
        return rc == -EAGAIN ? look(r, want_reply) : rc;
    if (!want_reply || r->replies.len > 0)
        return 1;
    if (fresh)
        return -EAGAIN; /* the answer to what just left cannot be here yet */
    return look(r, want_reply);
}

/* Sends everything, and reads until there is a reply if one is wanted. Reads
 * also while it can only send: a server that waits for us to read its replies
 * stops reading our commands. */
static int move(struct redis *r, int64_t deadline_ms, bool want_reply)
{
    bool late = false;
    int rc = want_reply && r->replies.len > 0;

    while (rc == 0) {
        rc = turn(r, want_reply);
        if (rc == 0 && !late)
            late = clock_left_ms(deadline_ms) == 0;
        else if (rc == 0 || rc == -EAGAIN)
            rc = wait_for_bytes(r, deadline_ms, &late);
    }
    return rc < 0 ? rc : 0;
}

static redisReply *take(struct redis *r)
{
    if (r->outstanding > 0)
        r->outstanding--;
    return replies_take(&r->replies);
}

/* Bytes already sent are cut off the front, at a cost that stays linear. */
static void compact(struct redis *r)
{
    if (r->sent < REDIS_IN_BYTES || r->sent < r->out.len / 2)
        return;
    memmove(r->out.text, r->out.text + r->sent, unsent(r));
    r->out.len -= r->sent;
    r->sent = 0;
}

int redis_append(struct redis *redis, int argc, const char **argv,
                 const size_t *lens)
{
    if (!redis_connected(redis))
        return -ENOTCONN;
    if (unsent(redis) > OUTPUT_BYTES_MAX)
        return redis_fail(redis, -ENOBUFS, "too many commands in one pipeline");
    compact(redis);
    if (!redis_format(&redis->out, argc, argv, lens))
        return redis_fail(redis, -ENOMEM, NULL);
    redis->outstanding++;
    return 0;
}

int redis_flush(struct redis *redis, int64_t deadline_ms)
{
    if (!redis_connected(redis))
        return -ENOTCONN;
    return move(redis, deadline_ms, false);
}

int redis_reply(struct redis *redis, int64_t deadline_ms,
                redisReply **reply_out)
{
    int rc;

    if (!redis_connected(redis))
        return -ENOTCONN;
    rc = move(redis, deadline_ms, true);
    if (rc == 0)
        *reply_out = take(redis);
    return rc;
}

int redis_call(struct redis *redis, int64_t deadline_ms, redisReply **reply_out,
               int argc, const char **argv, const size_t *lens)
{
    int rc;

    /* Its reply would be taken for an earlier command's. */
    if (redis->outstanding > 0 || redis->replies.len > 0)
        return redis_fail(redis, -EBUSY, "a pipeline's replies were not taken");
    rc = redis_append(redis, argc, argv, lens);
    if (rc < 0)
        return rc;
    return redis_reply(redis, deadline_ms, reply_out);
}

int redis_callv(struct redis *redis, int64_t deadline_ms,
                redisReply **reply_out, ...)
{
    const char *argv[CALLV_WORDS_MAX];
    int argc = 0;
    va_list args;

    va_start(args, reply_out);
    for (;;) {
        const char *word = va_arg(args, const char *);

        if (!word)
            break;
        MUST(argc < CALLV_WORDS_MAX);
        argv[argc++] = word;
    }
    va_end(args);
    return redis_call(redis, deadline_ms, reply_out, argc, argv, NULL);
}

int redis_fd(const struct redis *redis)
{
    return redis->transport.fd;
}

bool redis_wants_write(const struct redis *redis)
{
    short events = redis->transport.read_needs;

    if (unsent(redis) > 0)
        events |= redis->transport.write_needs;
    return events & POLLOUT;
}

int redis_step(struct redis *redis, redisReply **reply_out)
{
    int rc;

    if (!redis_connected(redis))
        return -ENOTCONN;
    rc = send_some(redis);
    if (rc < 0 && rc != -EAGAIN)
        return rc;
    while (redis->replies.len == 0) {
        if (redis->drained) {
            redis->drained = false;
            return 0;
        }
        rc = read_some(redis);
        if (rc < 0)
            return rc == -EAGAIN ? 0 : rc;
    }
    *reply_out = take(redis);
    return 1;
}
