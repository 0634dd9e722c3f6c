#include "worker/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"

#define CONNECT_MS 2000

struct control {
    struct worker *w;
    pthread_t thread;
    _Atomic bool quit;
    struct redis *redis;
    struct backoff backoff;
    int64_t retry_at_ms;
    int wake_fd; /* eventfd: look at quit */
};

static void lost(struct control *ct)
{
    redis_close(ct->redis);
    ct->retry_at_ms = clock_ms() + backoff_next_ms(&ct->backoff);
}

static int subscribe(struct control *ct)
{
    const char *argv[2] = {"SUBSCRIBE"};
    char key[KEY_MAX];
    int rc = redis_connect(ct->redis, clock_ms() + CONNECT_MS);

    argv[1] = protocol_key(&ct->w->protocol, key, "control", NULL);
    if (rc == 0)
        rc = redis_append(ct->redis, 2, argv, NULL);
    return rc;
}

/* ["message", channel, job id]; ["subscribe", …] says that all is well. */
static int hear(struct control *ct, const redisReply *reply)
{
    const redisReply *id;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return -EPROTO; /* an error reply: its ACL knows no channel */
    backoff_reset(&ct->backoff);
    id = reply->element[2];
    if (strcasecmp(reply->element[0]->str, "message") != 0 ||
        id->type != REDIS_REPLY_STRING)
        return 0;
    if (cancels_notice(&ct->w->cancels, id->str)) {
        admission_poke(&ct->w->admission);
        log_info("job is to be cancelled", LOG_S("job", id->str), LOG_END);
    }
    return 0;
}

static int listen_on(struct control *ct)
{
    redisReply *reply = NULL;
    int got;

    while ((got = redis_step(ct->redis, &reply)) == 1) {
        int rc = hear(ct, reply);

        freeReplyObject(reply);
        if (rc < 0)
            return rc;
    }
    return got;
}

static void turn(struct control *ct)
{
    struct pollfd fds[2] = {{.fd = ct->wake_fd, .events = POLLIN}};
    int timeout = -1;

    if (!redis_connected(ct->redis) && clock_ms() >= ct->retry_at_ms &&
        subscribe(ct) < 0)
        lost(ct);
    if (redis_connected(ct->redis) && listen_on(ct) < 0)
        lost(ct);
    fds[1] = (struct pollfd){.fd = redis_fd(ct->redis), .events = POLLIN};
    if (redis_wants_write(ct->redis))
        fds[1].events |= POLLOUT;
    if (!redis_connected(ct->redis))
        timeout = clock_left_ms(ct->retry_at_ms);
    poll(fds, 2, timeout);
}

static void *control_main(void *arg)
{
    struct control *ct = arg;

    while (!atomic_load(&ct->quit))
        turn(ct);
    return NULL;
}

static void destroy(struct control *ct)
{
    redis_destroy(ct->redis);
    if (ct->wake_fd >= 0)
        close(ct->wake_fd);
    free(ct);
}

int control_start(struct worker *w, struct control **control_out)
{
    struct control *ct = calloc(1, sizeof(*ct));
    int rc;

    if (!ct)
        return -ENOMEM;
    ct->w = w;
    ct->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = ct->wake_fd < 0 ? -errno : 0;
    if (rc == 0)
        rc = redis_create(w->target, "capibox-control", &ct->redis);
    if (rc == 0)
        rc = -pthread_create(&ct->thread, NULL, control_main, ct);
    if (rc < 0) {
        destroy(ct);
        return rc;
    }
    *control_out = ct;
    return 0;
}

void control_join(struct control *ct)
{
    if (!ct)
        return;
    atomic_store(&ct->quit, true);
    wake_fd(ct->wake_fd);
    MUST0(pthread_join(ct->thread, NULL));
    destroy(ct);
}
