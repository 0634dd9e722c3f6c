#include "worker/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"

#define CONNECT_MS 2000

struct listener {
    struct worker *w;
    pthread_t thread;
    _Atomic bool quit;
    struct redis *redis;
    struct backoff backoff;
    int64_t retry_at_ms;
    int wake_fd; /* eventfd: look at quit */
};

static void lost(struct listener *l)
{
    redis_close(l->redis);
    l->retry_at_ms = clock_ms() + backoff_next_ms(&l->backoff);
}

static int subscribe(struct listener *l)
{
    const char *argv[2] = {"SUBSCRIBE"};
    char key[KEY_MAX];
    int rc = redis_connect(l->redis, clock_ms() + CONNECT_MS);

    argv[1] = protocol_key(&l->w->protocol, key, "control", NULL);
    if (rc == 0)
        rc = redis_append(l->redis, 2, argv, NULL);
    return rc;
}

/* ["message", channel, job id]; ["subscribe", …] says that all is well. */
static int hear(struct listener *l, const redisReply *reply)
{
    const redisReply *id;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return -EPROTO; /* an error reply: its ACL knows no channel */
    backoff_reset(&l->backoff);
    id = reply->element[2];
    if (strcasecmp(reply->element[0]->str, "message") != 0 ||
        id->type != REDIS_REPLY_STRING)
        return 0;
    if (cancels_notice(&l->w->cancels, id->str)) {
        admission_poke(&l->w->admission);
        log_info("job is to be cancelled", LOG_S("job", id->str), LOG_END);
    }
    return 0;
}

static int listen_on(struct listener *l)
{
    redisReply *reply = NULL;
    int got;

    while ((got = redis_step(l->redis, &reply)) == 1) {
        int rc = hear(l, reply);

        freeReplyObject(reply);
        if (rc < 0)
            return rc;
    }
    return got;
}

static void turn(struct listener *l)
{
    struct pollfd fds[2] = {{.fd = l->wake_fd, .events = POLLIN}};
    int timeout = -1;

    if (!redis_connected(l->redis) && clock_ms() >= l->retry_at_ms &&
        subscribe(l) < 0)
        lost(l);
    if (redis_connected(l->redis) && listen_on(l) < 0)
        lost(l);
    fds[1] = (struct pollfd){.fd = redis_fd(l->redis), .events = POLLIN};
    if (redis_wants_write(l->redis))
        fds[1].events |= POLLOUT;
    if (!redis_connected(l->redis))
        timeout = clock_left_ms(l->retry_at_ms);
    poll(fds, 2, timeout);
}

static void *listener_main(void *arg)
{
    struct listener *l = arg;

    while (!atomic_load(&l->quit))
        turn(l);
    return NULL;
}

static void destroy(struct listener *l)
{
    redis_destroy(l->redis);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    free(l);
}

int listener_start(struct worker *w, struct listener **listener_out)
{
    struct listener *l = calloc(1, sizeof(*l));
    int rc;

    if (!l)
        return -ENOMEM;
    l->w = w;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = l->wake_fd < 0 ? -errno : 0;
    if (rc == 0)
        rc = redis_create(w->target, "capibox-control", &l->redis);
    if (rc == 0)
        rc = -pthread_create(&l->thread, NULL, listener_main, l);
    if (rc < 0) {
        destroy(l);
        return rc;
    }
    *listener_out = l;
    return 0;
}

void listener_join(struct listener *l)
{
    if (!l)
        return;
    atomic_store(&l->quit, true);
    io_wake(l->wake_fd);
    MUST0(pthread_join(l->thread, NULL));
    destroy(l);
}
