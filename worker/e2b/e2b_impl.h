/* worker/e2b/e2b_impl.h -- inside of the E2B backend; nobody else's business.
 *
 *   e2b.c      the backend's calls, from open to close
 *   placing.c  from a job to a sandbox: which, when, and what a refusal means
 */
#ifndef WORKER_E2B_E2B_IMPL_H
#define WORKER_E2B_E2B_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/backend.h"
#include "worker/e2b/guest.h"
#include "worker/e2b/janitor.h"
#include "worker/e2b/place.h"

enum interruption { NOT_INTERRUPTED, CANCELLED, ABANDONED };

struct backend {
    struct http *http;
    struct control control;
    struct guest_route route;
    struct place place;
    struct janitor *janitor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed when a sandbox leaves. */
    struct sandbox *sandboxes;
    bool closed; /* kill_all() until resume() */
    char fleet[CONTROL_VALUE_MAX + 1], wid[WORKER_ID_MAX + 1];
};

struct sandbox {
    struct backend *backend;
    const struct job *job; /* borrowed */
    const struct spec *spec;
    struct guest guest;
    bool exists;            /* create said so */
    int64_t dies_at_ms;     /* by E2B's hand */
    atomic_int interrupted; /* enum interruption; only ever grows */
    struct sandbox *next;   /* guarded by the backend's lock */
};

/* Our failure (negative, as rc), or nobody's when the run was given up. */
int e2b_fail(struct sandbox *sb, struct outcome *o, int rc);
/* The run was given up: its verdict, or nobody's failure. */
int e2b_cancelled(struct sandbox *sb, struct outcome *o);

#endif
