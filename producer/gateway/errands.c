#include "producer/gateway/errands.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"

/* Nothing is asked between errands: what can be read is the connection's end.
 */
static bool is_stale(struct redis *redis)
{
    struct pollfd fd = {.fd = redis_fd(redis), .events = POLLIN};

    return poll(&fd, 1, 0) != 0;
}

static bool connect_again(struct errands *set)
{
    if (redis_connected(set->redis) && is_stale(set->redis))
        redis_close(set->redis);
    if (redis_connected(set->redis) ||
        redis_connect(set->redis, clock_ms() + ERRANDS_CONNECT_MS) == 0)
        return true;
    redis_close(set->redis);
    return false;
}

static void finish_locked(struct errands *set, struct errand *e)
{
    e->next = set->finished;
    set->finished = e;
    io_wake(set->wake.fd);
}

static void append_locked(struct errands *set, struct errand *e)
{
    e->next = NULL;
    *set->todo_end = e;
    set->todo_end = &e->next;
}

/* Redis was tried for them, too: each in its turn would be told the same, and
 * the last one after a try for each. */
static void fail_waiting_locked(struct errands *set)
{
    struct errand *e = set->todo, *next;

    set->todo = NULL;
    set->todo_end = &set->todo;
    for (; e; e = next) {
        next = e->next;
        if (e->patient) {
            append_locked(set, e);
            continue;
        }
        set->waiting--;
        e->rc = -ENOTCONN;
        finish_locked(set, e);
    }
}

static void run(struct errands *set, struct errand *e)
{
    e->rc = e->run(e, set->protocol, set->redis);
    if (e->rc == -EPROTO || e->rc == -EACCES)
        snprintf(e->refusal, sizeof(e->refusal), "%s", protocol_error());
}

static void *worker(void *arg)
{
    struct errands *set = arg;
    bool there;

    MUST0(pthread_mutex_lock(&set->lock));
    while (!set->stopping) {
        struct errand *e = set->todo;

        if (!e) {
            MUST0(pthread_cond_wait(&set->changed, &set->lock));
            continue;
        }
        set->todo = e->next;
        if (!set->todo)
            set->todo_end = &set->todo;
        set->waiting--;
        MUST0(pthread_mutex_unlock(&set->lock));
        there = connect_again(set);
        if (there)
            run(set, e);
        else
            e->rc = -ENOTCONN;
        MUST0(pthread_mutex_lock(&set->lock));
        finish_locked(set, e);
        if (!there)
            fail_waiting_locked(set);
    }
    MUST0(pthread_mutex_unlock(&set->lock));
    return NULL;
}

static void done_all(struct errands *set, struct errand *e)
{
    while (e) {
        struct errand *next = e->next;

        if (set->refused && e->refusal[0])
            set->refused(set->ctx, e->refusal);
        e->done(e);
        e = next;
    }
}

static void on_wake(void *ctx, uint32_t events)
{
    struct errands *set = ctx;
    struct errand *e;
    uint64_t count;

    (void)events;
    if (read(set->wake.fd, &count, sizeof(count)) < 0)
        return;
    MUST0(pthread_mutex_lock(&set->lock));
    e = set->finished;
    set->finished = NULL;
    MUST0(pthread_mutex_unlock(&set->lock));
    done_all(set, e);
}

static int start_thread(struct errands *set)
{
    int rc = -pthread_mutex_init(&set->lock, NULL);

    if (rc < 0)
        return rc;
    rc = -pthread_cond_init(&set->changed, NULL);
    if (rc < 0)
        goto undo_lock;
    rc = -pthread_create(&set->thread, NULL, worker, set);
    if (rc < 0)
        goto undo_changed;
    set->has_thread = true;
    return 0;

undo_changed:
    pthread_cond_destroy(&set->changed);
undo_lock:
    pthread_mutex_destroy(&set->lock);
    return rc;
}

int errands_init(struct errands *set, struct loop *loop,
                 const struct protocol *protocol,
                 const struct redis_target *target)
{
    int rc;

    *set = (struct errands){.loop = loop, .protocol = protocol};
    set->todo_end = &set->todo;
    set->wake = (struct loop_watch){.act = on_wake, .ctx = set};
    set->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (set->wake.fd < 0)
        return -errno;
    rc = redis_create(target, "capibox-api-errands", &set->redis);
    if (rc == 0)
        rc = loop_add(loop, &set->wake, EPOLLIN);
    if (rc == 0)
        rc = start_thread(set);
    if (rc < 0)
        errands_fini(set);
    return rc;
}

static void stop_thread(struct errands *set)
{
    MUST0(pthread_mutex_lock(&set->lock));
    set->stopping = true;
    MUST0(pthread_cond_broadcast(&set->changed));
    MUST0(pthread_mutex_unlock(&set->lock));
    MUST0(pthread_join(set->thread, NULL));
    pthread_cond_destroy(&set->changed);
    pthread_mutex_destroy(&set->lock);
    set->has_thread = false;
}

void errands_fini(struct errands *set)
{
    if (!set->loop)
        return;
    if (set->has_thread)
        stop_thread(set);
    for (struct errand *e = set->todo; e; e = e->next)
        e->rc = -ECANCELED;
    done_all(set, set->finished);
    done_all(set, set->todo);
    loop_remove(set->loop, &set->wake);
    redis_destroy(set->redis);
    if (set->wake.fd >= 0)
        close(set->wake.fd);
    *set = (struct errands){0};
}

int errands_add(struct errands *set, struct errand *e)
{
    int rc = 0;

    if (!set->has_thread) /* its lock went with it */
        return -ENOTCONN;
    e->rc = 0;
    e->refusal[0] = '\0';
    MUST0(pthread_mutex_lock(&set->lock));
    if (set->waiting >= ERRANDS_MAX) {
        rc = -EBUSY;
    } else {
        append_locked(set, e);
        set->waiting++;
        MUST0(pthread_cond_broadcast(&set->changed));
    }
    MUST0(pthread_mutex_unlock(&set->lock));
    return rc;
}
