/* worker/runqueue.h -- claimed jobs waiting for an executor.
 *
 * Memory:   put() moves a delivery in, take() and the others move it out.
 * Threads:  any thread may call anything, except init and fini.
 * Errors:   none, but for init: 0 or a negated errno.
 */
#ifndef WORKER_RUNQUEUE_H
#define WORKER_RUNQUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct delivery;

struct runqueue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    struct delivery *first, **last;
    struct delivery *cleared, **cleared_last; /* may run: taken before others */
    size_t len;
    size_t idle; /* takers asleep */
    bool closed; /* goes true once, never back */
};

int runqueue_init(struct runqueue *rq);
/* Does not free what is still inside: runqueue_drain() first. */
void runqueue_fini(struct runqueue *rq);

void runqueue_put(struct runqueue *rq, struct delivery *d);
/* A whole chain (through ->next), with one wake-up. */
void runqueue_put_chain(struct runqueue *rq, struct delivery *first);
/* Waits for a delivery: cleared ones first, then oldest first. NULL once closed
 * and empty. */
struct delivery *runqueue_take(struct runqueue *rq);
/* Once one has waited since before_us: takes out all, as a chain, cleared ones
 * first. Else NULL. */
struct delivery *runqueue_drain(struct runqueue *rq, int64_t before_us);
/* Takes out, as a chain, those nobody looked at yet. */
struct delivery *runqueue_drain_fresh(struct runqueue *rq);
/* Takes out, as a chain, those that were cancelled while they waited. */
struct delivery *runqueue_drain_cancelled(struct runqueue *rq);
size_t runqueue_idle(struct runqueue *rq);
void runqueue_close(struct runqueue *rq);

#endif
