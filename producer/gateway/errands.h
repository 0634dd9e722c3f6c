/* producer/gateway/errands.h -- rare Redis work that may take its time.
 *
 * A thread with a connection of its own does one errand after the other, with
 * the blocking calls of protocol.h; the loop is told when each is done. When
 * Redis cannot be reached for one, those behind it are told so at once.
 *
 * Memory:   an errand is its owner's until its done() was called.
 * Threads:  run() is called in the errands' thread, all else in the loop's.
 * Errors:   run()'s answer is passed to done(); -ENOTCONN: Redis is away. Why
 *           Redis refused one is told to refused() before that.
 */
#ifndef PRODUCER_GATEWAY_ERRANDS_H
#define PRODUCER_GATEWAY_ERRANDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/protocol.h"
#include "producer/gateway/loop.h"

#define ERRANDS_MAX         4096 /* that wait their turn */
#define ERRANDS_CONNECT_MS  1000
#define ERRANDS_REFUSAL_MAX 256

struct errand {
    struct errand *next;
    int (*run)(struct errand *e, const struct protocol *p, struct redis *r);
    void (*done)(struct errand *e);
    void *ctx;
    bool patient; /* nobody waits for it: it keeps its turn without Redis */
    int rc;
    char refusal[ERRANDS_REFUSAL_MAX]; /* of rc; "": none, or not by Redis */
};

struct errands {
    struct loop *loop;
    const struct protocol *protocol;
    /* May be NULL, and set at any time by the loop's thread. */
    void (*refused)(void *ctx, const char *text);
    void *ctx;
    struct redis *redis;
    struct loop_watch wake;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed after writing any of these. */
    struct errand *todo, **todo_end, *finished;
    size_t waiting;
    bool stopping;
};

int errands_init(struct errands *set, struct loop *loop,
                 const struct protocol *protocol,
                 const struct redis_target *target);
/* Ends what is under way; the rest is done() with -ECANCELED. */
void errands_fini(struct errands *set);

/* -EBUSY: too many wait already. -ENOTCONN: after errands_fini(). */
int errands_add(struct errands *set, struct errand *e);

#endif
