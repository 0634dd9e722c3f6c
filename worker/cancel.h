/* worker/cancel.h -- which jobs may be cancelled here, and how far they are.
 *
 * A job is listed from the moment its start mark is sent: a cancel that Redis
 * saw before the mark is answered with the mark; one that comes later finds the
 * job on this list, by the channel (listener.h) or with a heartbeat.
 *
 * Memory:   struct cancellable lies in the delivery it belongs to.
 * Threads:  any, but for init and fini. The lock is held over ops->interrupt()
 *           and ops->interrupt_create(), which only wake whoever has the
 *           sandbox; the backend's own locks come after it.
 * Errors:   none.
 */
#ifndef WORKER_CANCEL_H
#define WORKER_CANCEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct backend;
struct backend_ops;
struct job;
struct sandbox;

struct cancellable {
    _Atomic bool cancelled; /* goes true once, never back */
    /* Guarded by the list's lock. */
    struct cancellable *before, *after;
    const char *job_id;      /* NULL: not listed */
    const struct job *made;  /* while its sandbox is being made */
    struct sandbox *sandbox; /* while it runs */
};

struct cancels {
    pthread_mutex_t lock;
    struct cancellable *first; /* guarded by lock */
    const struct backend_ops *ops;
    struct backend *backend;
};

int cancels_init(struct cancels *cs, const struct backend_ops *ops,
                 struct backend *backend);
void cancels_fini(struct cancels *cs);

/* job_id must stay as it is until the removal. Both may be repeated. */
void cancels_add(struct cancels *cs, struct cancellable *c, const char *job_id);
void cancels_remove(struct cancels *cs, struct cancellable *c);

/* Marks this one, and ends its create or its run if there is one. */
void cancels_mark(struct cancels *cs, struct cancellable *c);
/* The same for whatever is listed under this id. True if there was one. */
bool cancels_notice(struct cancels *cs, const char *job_id);

/* From here to cancels_run() or cancels_run_over() the create of this job may
 * be interrupted, by each that is told of the cancel: the first may come before
 * the create has begun. False if it is cancelled already. */
bool cancels_make(struct cancels *cs, struct cancellable *c,
                  const struct job *job);
/* From here to cancels_run_over() the sandbox may be interrupted. False if it
 * is too late to run: cancelled already. */
bool cancels_run(struct cancels *cs, struct cancellable *c,
                 struct sandbox *sandbox);
void cancels_run_over(struct cancels *cs, struct cancellable *c);

#endif
