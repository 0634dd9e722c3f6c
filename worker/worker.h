/* worker/worker.h -- what the threads of one worker process share.
 *
 *   main        parses, wires, waits for signals
 *   exchange    the only thread on the queue: claims, finishes, live output
 *   listener    hears of cancels
 *   keeper      lease, reaping of dead peers, due jobs, this worker's card
 *   executors   one sandbox each at a time: create, run, collect, destroy
 *
 * Locks are leaves, but for one order: the list of cancellable jobs
 * (cancel.h), or a backend's list of sandboxes, and then what a backend locks
 * to interrupt one sandbox.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/protocol.h"
#include "common/redis.h"
#include "common/settings.h"
#include "common/template.h"
#include "worker/admission.h"
#include "worker/backend.h"
#include "worker/cancel.h"
#include "worker/outbox.h"
#include "worker/runqueue.h"

/* How a worker stops: each step only forward. */
enum stopping {
    STOP_NOT,
    STOP_DRAIN, /* no new jobs; running ones go on */
    STOP_NOW,   /* running ones are killed and given back */
};

/* Who we are to Redis. A new identity is made whenever the old one was fenced
 * or could not be renewed in time. */
struct incarnation {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    char wid[WORKER_ID_MAX + 1];
    uint64_t generation; /* counts identities; 0: none yet */
    bool live;           /* registered, and the lease surely not over */
    /* Redis' clock minus CLOCK_MONOTONIC, ms, at least; and how much more it
     * may be, as an answer took its time. */
    _Atomic int64_t redis_offset_ms, redis_slack_ms;
    _Atomic uint64_t fenced; /* a generation: exchange saw it, keeper acts */
};

struct worker {
    const struct settings *settings;
    const struct redis_target *target;
    struct protocol protocol;
    const struct backend_ops *ops;
    struct backend *backend;
    int concurrency;
    double started_at; /* unix s */

    struct incarnation self;
    struct runqueue runqueue;
    struct outbox outbox;
    struct admission admission;
    struct cancels cancels;
    _Atomic int stopping; /* enum stopping */
    _Atomic bool paused;  /* by the operator: claim nothing */
    _Atomic int active;   /* sandboxes between create and destroy */
    /* CLIENT IDs of the exchange connections, for the card. */
    _Atomic int64_t exchange_client_id, blocked_client_id;
    int keeper_wake_fd; /* eventfd: something for the keeper to look at */
    int main_wake_fd;   /* eventfd: everything held is finished */
    int announce_fd;    /* a supervisor reads our identities here; -1: none */

    pthread_mutex_t templates_lock;
    struct template_set *templates; /* guarded; swapped by SIGHUP */
};

/* The set jobs are checked against now; unref it when done. */
struct template_set *worker_templates(struct worker *w);
/* Puts a newly loaded set in place. */
void worker_swap_templates(struct worker *w, struct template_set *set);

/* Copies the identity. False while there is none that may claim or finish. */
bool incarnation_get(struct incarnation *self, char wid[WORKER_ID_MAX + 1],
                     uint64_t *generation_out);
void incarnation_set(struct incarnation *self, const char *wid, bool live);
/* Is a job claimed under this generation still ours, as far as we know? */
bool incarnation_holds(struct incarnation *self, uint64_t generation);

#endif
