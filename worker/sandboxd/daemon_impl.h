/* worker/sandboxd/daemon_impl.h -- inside of the daemon; nobody else's
 * business.
 *
 * daemon.c has the loop, request.c what a worker asked for, pool.c the
 * sandboxes that wait for a request.
 */
#ifndef WORKER_SANDBOXD_DAEMON_IMPL_H
#define WORKER_SANDBOXD_DAEMON_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/sandboxd/box.h"
#include "worker/sandboxd/idmap.h"
#include "worker/sandboxd/nursery.h"

#define POOL_MOST 64 /* unless the worker says otherwise */

/* One job socket. */
struct request {
    struct daemon *daemon;
    struct request *next;
    struct watch socket;
    struct box *box;
    struct box_spec spec;
    char *message; /* the CREATE message */
    size_t size;
    int input_fd;
    bool asked;   /* CREATE came */
    bool retried; /* after its box was lost */
    bool leaving, gone;
    int32_t start; /* enum wire_start */
    char trouble[160];
};

struct daemon {
    const struct host *host;
    int epoll_fd;
    struct watch control;
    struct nursery nursery;
    struct box *boxes;
    struct request *requests;
    bool slots[IDMAP_SLOTS];
    int64_t busy_ms;    /* of the last request */
    int pool_most;      /* of a kind that wait */
    int64_t give_up_ms; /* 0: still serving */
    int64_t reaped_ms;
    int64_t memory_ms; /* when memory_bytes was read */
    int64_t memory_bytes;
};

/* A new box of this kind; NULL and *why. */
struct box *daemon_box(struct daemon *d, struct kind *kind, struct step *why);

/* Takes job_fd in every case. */
void request_make(struct daemon *d, int job_fd);
/* The worker is gone, or its process. */
void request_abandon(struct request *r);
void request_free(struct request *r);

/* A waiting box, no longer the pool's; NULL if there is none. Notes demand. */
struct box *pool_take(struct daemon *d, struct kind *kind);
/* Makes and drops boxes, by demand, age and memory. */
void pool_tick(struct daemon *d, int64_t now_ms);
/* When pool_tick() wants to be called next, at the latest. */
int64_t pool_wake_ms(const struct daemon *d, int64_t now_ms);

#endif
