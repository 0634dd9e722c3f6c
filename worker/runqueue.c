#include "worker/runqueue.h"

#include <errno.h>

#include "common/clock.h"
#include "common/must.h"
#include "worker/delivery.h"

int runqueue_init(struct runqueue *rq)
{
    int rc;

    *rq = (struct runqueue){.first = NULL};
    rq->last = &rq->first;
    rq->cleared_last = &rq->cleared;
    rc = -pthread_mutex_init(&rq->lock, NULL);
    if (rc < 0)
        return rc;
    rc = -pthread_cond_init(&rq->changed, NULL);
    if (rc < 0)
        pthread_mutex_destroy(&rq->lock);
    return rc;
}

void runqueue_fini(struct runqueue *rq)
{
    if (!rq->last)
        return;
    pthread_cond_destroy(&rq->changed);
    pthread_mutex_destroy(&rq->lock);
}

static void append_locked(struct runqueue *rq, struct delivery *d,
                          int64_t now_us)
{
    struct delivery ***last =
        d->stage == DELIVERY_CLEARED ? &rq->cleared_last : &rq->last;

    d->next = NULL;
    d->queued_us = now_us;
    **last = d;
    *last = &d->next;
    rq->len++;
}

void runqueue_put(struct runqueue *rq, struct delivery *d)
{
    d->next = NULL;
    runqueue_put_chain(rq, d);
}

void runqueue_put_chain(struct runqueue *rq, struct delivery *first)
{
    int64_t now_us = clock_us();
    size_t added = 0;

    MUST0(pthread_mutex_lock(&rq->lock));
    while (first) {
        struct delivery *next = first->next;

        append_locked(rq, first, now_us);
        added++;
        first = next;
    }
    for (; added > 0 && rq->idle > 0; added--)
        MUST0(pthread_cond_signal(&rq->changed));
    MUST0(pthread_mutex_unlock(&rq->lock));
}

static struct delivery *pop_locked(struct delivery **first,
                                   struct delivery ***last)
{
    struct delivery *d = *first;

    if (!d)
        return NULL;
    *first = d->next;
    if (!*first)
        *last = first;
    d->next = NULL;
    return d;
}

struct delivery *runqueue_take(struct runqueue *rq)
{
    struct delivery *d;

    MUST0(pthread_mutex_lock(&rq->lock));
    rq->idle++;
    while (rq->len == 0 && !rq->closed)
        MUST0(pthread_cond_wait(&rq->changed, &rq->lock));
    rq->idle--;
    d = pop_locked(&rq->cleared, &rq->cleared_last);
    if (!d)
        d = pop_locked(&rq->first, &rq->last);
    if (d)
        rq->len--;
    MUST0(pthread_mutex_unlock(&rq->lock));
    return d;
}

static bool waits_since(const struct delivery *d, int64_t before_us)
{
    return d && d->queued_us < before_us;
}

struct delivery *runqueue_drain(struct runqueue *rq, int64_t before_us)
{
    struct delivery *out = NULL;

    MUST0(pthread_mutex_lock(&rq->lock));
    if (waits_since(rq->cleared, before_us) ||
        waits_since(rq->first, before_us)) {
        *rq->cleared_last = rq->first;
        out = rq->cleared;
        rq->first = rq->cleared = NULL;
        rq->last = &rq->first;
        rq->cleared_last = &rq->cleared;
        rq->len = 0;
    }
    MUST0(pthread_mutex_unlock(&rq->lock));
    return out;
}

struct delivery *runqueue_drain_fresh(struct runqueue *rq)
{
    struct delivery *out;

    MUST0(pthread_mutex_lock(&rq->lock));
    out = rq->first;
    rq->first = NULL;
    rq->last = &rq->first;
    for (const struct delivery *d = out; d; d = d->next)
        rq->len--;
    MUST0(pthread_mutex_unlock(&rq->lock));
    return out;
}

/* Only what has its start mark can be cancelled here: the cleared ones. */
struct delivery *runqueue_drain_cancelled(struct runqueue *rq)
{
    struct delivery *out = NULL, **last = &out;

    MUST0(pthread_mutex_lock(&rq->lock));
    for (struct delivery **at = &rq->cleared; *at;) {
        struct delivery *d = *at;

        if (!atomic_load(&d->cancel.cancelled)) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        if (!*at)
            rq->cleared_last = at;
        d->next = NULL;
        *last = d;
        last = &d->next;
        rq->len--;
    }
    MUST0(pthread_mutex_unlock(&rq->lock));
    return out;
}

size_t runqueue_idle(struct runqueue *rq)
{
    size_t idle;

    MUST0(pthread_mutex_lock(&rq->lock));
    idle = rq->idle;
    MUST0(pthread_mutex_unlock(&rq->lock));
    return idle;
}

void runqueue_close(struct runqueue *rq)
{
    MUST0(pthread_mutex_lock(&rq->lock));
    rq->closed = true;
    MUST0(pthread_cond_broadcast(&rq->changed));
    MUST0(pthread_mutex_unlock(&rq->lock));
}
