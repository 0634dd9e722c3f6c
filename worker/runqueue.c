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

/* Moves what waits since before_us to the end of a chain. Returns its end. */
static struct delivery **drain_locked(struct runqueue *rq, int64_t before_us,
                                      struct delivery **first,
                                      struct delivery ***last,
                                      struct delivery **out_last)
{
    while (*first && (*first)->queued_us < before_us) {
        struct delivery *d = pop_locked(first, last);

        rq->len--;
        *out_last = d;
        out_last = &d->next;
    }
    return out_last;
}

struct delivery *runqueue_drain(struct runqueue *rq, int64_t before_us)
{
    struct delivery *out = NULL, **out_last = &out;

    MUST0(pthread_mutex_lock(&rq->lock));
    out_last = drain_locked(rq, before_us, &rq->first, &rq->last, out_last);
    drain_locked(rq, before_us, &rq->cleared, &rq->cleared_last, out_last);
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
