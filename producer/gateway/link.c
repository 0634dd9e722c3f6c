#include "producer/gateway/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/io.h"
#include "common/must.h"

/* ---- the connector ------------------------------------------------------ */

static int subscribe(struct link *link)
{
    redisReply *reply = NULL;
    int rc = redis_callv(link->redis, clock_ms() + LINK_CONNECT_MS, &reply,
                         "SUBSCRIBE", link->channel, NULL);

    if (rc == 0 && reply->type == REDIS_REPLY_ERROR)
        rc = -EACCES;
    if (reply)
        freeReplyObject(reply);
    return rc;
}

static int connect_once(struct link *link)
{
    int rc = redis_connect(link->redis, clock_ms() + LINK_CONNECT_MS);

    if (rc == 0 && link->channel)
        rc = subscribe(link);
    return rc;
}

static void tell_locked(struct link *link, int rc)
{
    link->trouble_rc = rc;
    if (rc == 0)
        link->turn = LINK_MADE;
    else
        snprintf(link->trouble, sizeof(link->trouble), "%s",
                 redis_error(link->redis));
    io_wake(link->wake.fd);
}

static void *connector(void *arg)
{
    struct link *link = arg;
    struct backoff backoff = {0};

    MUST0(pthread_mutex_lock(&link->lock));
    while (!link->stopping) {
        int rc;

        if (link->turn != LINK_WANTED) {
            MUST0(pthread_cond_wait(&link->changed, &link->lock));
            continue;
        }
        MUST0(pthread_mutex_unlock(&link->lock));
        rc = connect_once(link);
        if (rc < 0)
            redis_close(link->redis);
        MUST0(pthread_mutex_lock(&link->lock));
        tell_locked(link, rc);
        if (rc == 0)
            backoff_reset(&backoff);
        else if (!link->stopping)
            cond_wait_until(&link->changed, &link->lock,
                            clock_ms() + backoff_next_ms(&backoff));
    }
    MUST0(pthread_mutex_unlock(&link->lock));
    return NULL;
}

static void want_connection(struct link *link)
{
    MUST0(pthread_mutex_lock(&link->lock));
    link->turn = LINK_WANTED;
    MUST0(pthread_cond_broadcast(&link->changed));
    MUST0(pthread_mutex_unlock(&link->lock));
}

/* ---- commands under way ------------------------------------------------- */

static struct link_op pop(struct link *link)
{
    struct link_op op = link->ops[link->head];

    link->head = (link->head + 1) % LINK_OPS_MAX;
    link->count--;
    return op;
}

static void fail_all(struct link *link, int rc)
{
    /* Not those that the callbacks add: the link is away by then. */
    while (link->count > 0) {
        struct link_op op = pop(link);
        redisReply *none = NULL;

        op.done(op.ctx, rc, &none);
    }
}

static void tell_away(struct link *link)
{
    if (!link->told)
        link->hooks.turned(link->hooks.ctx, false);
    link->told = true;
}

static void lose(struct link *link, int rc, const char *why)
{
    if (!link->up)
        return;
    snprintf(link->why, sizeof(link->why), "%s", why);
    loop_remove(link->loop, &link->io);
    redis_close(link->redis);
    link->up = false;
    link->cause = rc;
    link->away_since_ms = clock_ms();
    fail_all(link, rc);
    tell_away(link);
    want_connection(link);
}

static void take_message(struct link *link, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
        reply->element[0]->type == REDIS_REPLY_STRING &&
        !strcasecmp(reply->element[0]->str, "message") &&
        reply->element[2]->type == REDIS_REPLY_STRING)
        link->hooks.message(link->hooks.ctx, reply->element[2]->str,
                            (size_t)reply->element[2]->len);
}

static void note_refusal(struct link *link, const redisReply *reply)
{
    enum redis_kind kind = redis_kind(reply);

    if (link->hooks.refused && (kind == REDIS_WRONG || kind == REDIS_AUTH))
        link->hooks.refused(link->hooks.ctx, reply->str);
}

static void deliver(struct link *link, redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        note_refusal(link, reply);
    if (link->channel) {
        take_message(link, reply);
    } else if (link->count > 0) {
        struct link_op op = pop(link);

        op.done(op.ctx, 0, &reply);
    }
    if (reply)
        freeReplyObject(reply);
}

void link_turn(struct link *link)
{
    int rc = 0;

    while (link->up) {
        redisReply *reply = NULL;

        rc = redis_step(link->redis, &reply);
        if (rc <= 0)
            break;
        deliver(link, reply);
    }
    if (link->up && rc < 0)
        lose(link, rc, redis_error(link->redis));
    if (link->up)
        loop_change(link->loop, &link->io,
                    EPOLLIN | (redis_wants_write(link->redis) ? EPOLLOUT : 0u));
}

static void on_io(void *ctx, uint32_t events)
{
    (void)events;
    link_turn(ctx);
}

/* The connector has news: a connection, or why there is none. */
static void on_wake(void *ctx, uint32_t events)
{
    struct link *link = ctx;
    uint64_t count;
    bool made;

    (void)events;
    if (read(link->wake.fd, &count, sizeof(count)) < 0)
        return;
    MUST0(pthread_mutex_lock(&link->lock));
    made = link->turn == LINK_MADE;
    if (made)
        link->turn = LINK_OURS;
    snprintf(link->why, sizeof(link->why), "%s", made ? "" : link->trouble);
    link->cause = link->trouble_rc;
    MUST0(pthread_mutex_unlock(&link->lock));
    if (!made) {
        if (!link->up) /* else this is old: it was made meanwhile */
            tell_away(link);
        return;
    }
    link->io.fd = redis_fd(link->redis);
    link->up = true;
    link->told = false;
    if (loop_add(link->loop, &link->io, EPOLLIN) < 0) {
        lose(link, -ENOMEM, strerror(ENOMEM));
        return;
    }
    link->hooks.turned(link->hooks.ctx, true);
    link_turn(link); /* TLS may hold bytes already */
}

/* ---- life --------------------------------------------------------------- */

static int start_connector(struct link *link)
{
    int rc = -pthread_mutex_init(&link->lock, NULL);

    if (rc < 0)
        return rc;
    cond_init(&link->changed);
    link->turn = LINK_WANTED;
    rc = -pthread_create(&link->connector, NULL, connector, link);
    if (rc < 0)
        goto undo;
    link->has_connector = true;
    return 0;

undo:
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    return rc;
}

int link_init(struct link *link, struct loop *loop,
              const struct redis_target *target, const char *channel,
              const struct link_hooks *hooks)
{
    int rc;

    *link = (struct link){.loop = loop, .hooks = *hooks, .channel = channel};
    link->away_since_ms = clock_ms();
    link->io = (struct loop_watch){.fd = -1, .act = on_io, .ctx = link};
    link->wake = (struct loop_watch){.act = on_wake, .ctx = link};
    snprintf(link->why, sizeof(link->why), "not connected yet");
    link->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->wake.fd < 0)
        return -errno;
    link->ops = calloc(LINK_OPS_MAX, sizeof(*link->ops));
    rc =
        link->ops ? redis_create(target, "capibox-api", &link->redis) : -ENOMEM;
    if (rc == 0)
        rc = loop_add(loop, &link->wake, EPOLLIN);
    if (rc == 0)
        rc = start_connector(link);
    if (rc < 0)
        link_fini(link);
    return rc;
}

static void stop_connector(struct link *link)
{
    if (!link->has_connector)
        return;
    MUST0(pthread_mutex_lock(&link->lock));
    link->stopping = true;
    MUST0(pthread_cond_broadcast(&link->changed));
    MUST0(pthread_mutex_unlock(&link->lock));
    MUST0(pthread_join(link->connector, NULL));
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    link->has_connector = false;
}

void link_fini(struct link *link)
{
    if (!link->loop)
        return;
    stop_connector(link);
    link->up = false;
    fail_all(link, -ECANCELED);
    loop_remove(link->loop, &link->io);
    loop_remove(link->loop, &link->wake);
    redis_destroy(link->redis);
    if (link->wake.fd >= 0)
        close(link->wake.fd);
    free(link->ops);
    *link = (struct link){0};
}

/* ---- asking ------------------------------------------------------------- */

struct redis *link_redis(struct link *link)
{
    if (!link->up || link->count >= LINK_OPS_MAX)
        return NULL;
    return link->redis;
}

void link_expect(struct link *link, link_done_fn *done, void *ctx)
{
    size_t at = (link->head + link->count) % LINK_OPS_MAX;

    MUST(link->count < LINK_OPS_MAX);
    link->ops[at] = (struct link_op){done, ctx, clock_ms()};
    link->count++;
}

int link_ask(struct link *link, link_done_fn *done, void *ctx, int argc,
             const char **argv)
{
    struct redis *redis = link_redis(link);
    int rc;

    if (!redis)
        return -ENOTCONN;
    rc = redis_append(redis, argc, argv, NULL);
    if (rc == 0)
        link_expect(link, done, ctx);
    return rc;
}

void link_check(struct link *link)
{
    char why[64];

    if (!link->up || link->count == 0 ||
        clock_ms() - link->ops[link->head].since_ms <= LINK_CALL_MS)
        return;
    snprintf(why, sizeof(why), "no answer for %d s", LINK_CALL_MS / 1000);
    lose(link, -ETIMEDOUT, why);
}

void link_hurry(struct link *link)
{
    if (link->up || !link->has_connector)
        return;
    MUST0(pthread_mutex_lock(&link->lock));
    MUST0(pthread_cond_broadcast(&link->changed));
    MUST0(pthread_mutex_unlock(&link->lock));
}

const char *link_why(struct link *link)
{
    return link->why;
}

const char *link_kind(const struct link *link)
{
    static const struct {
        int cause;
        const char *kind;
    } kinds[] = {
        {-ECONNREFUSED, "the connection is refused"},
        {-ENOENT, "the connection is refused"},
        {-ENETUNREACH, "its host is not found or not reachable"},
        {-EHOSTUNREACH, "its host is not found or not reachable"},
        {-EACCES, "it refuses the user name, the password or a permission"},
        {-EKEYREJECTED, "its certificate does not fit"},
        {-EINVAL, "it does not have the database"},
        {-EAGAIN, "it is not ready yet"},
        {-ETIMEDOUT, "it does not answer in time"},
    };

    for (size_t i = 0; !link->up && i < sizeof(kinds) / sizeof(*kinds); i++)
        if (kinds[i].cause == link->cause)
            return kinds[i].kind;
    return "";
}
