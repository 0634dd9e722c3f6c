/* worker/e2b/place.h -- how many sandboxes this worker may have, and when.
 *
 * Four things say no: the breakers of the API and of the sandboxes' hosts (E2B
 * is away; a sandbox that cannot be reached is paid for, too), the account's
 * limit (other sandboxes of the team use it up: we stay below what worked, and
 * feel our way up again), the pause that E2B asked for (Retry-After), and the
 * worker's own concurrency.
 *
 * Threads:  any; place has its own lock, which is never held across a wait.
 * Errors:   none.
 */
#ifndef WORKER_E2B_PLACE_H
#define WORKER_E2B_PLACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/strbuf.h"
#include "worker/e2b/breaker.h"
#include "worker/e2b/fault.h"

#define PLACE_LOWERED_MS 30000 /* after the account was full: stay so low */
#define PLACE_GROW_MS    5000  /* then one step up each */
/* Of what E2B asks for, then one tries. */
#define PLACE_PAUSE_MAX_MS (HTTP_RETRY_AFTER_MAX_S * INT64_C(1000))
/* So many failures in a row, nobody's call succeeding in between: it is E2B,
 * not the job. */
#define PLACE_AWAY_FAILURES 3
/* A job that names its template itself is let through to see whether the
 * sandboxes' hosts are back only when nobody else came for so long: of what
 * happens to it, others learn nothing unless it is good. */
#define PLACE_OWN_LAST_MS 5000

struct place {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed when one leaves. */
    struct breaker api, guests;
    int concurrency, limit;
    int alive;              /* created, not yet killed */
    int64_t departures;     /* how many were killed so far */
    int waiting;            /* in place_wait() */
    int tickets;            /* how many of them may go on: one a departure */
    int64_t grows_at_ms;    /* 0: at full concurrency */
    int64_t paused_till_ms; /* as E2B asked for; 0: it did not */
    int watcher;            /* eventfd; -1: nobody watches */
};

void place_init(struct place *p, int concurrency);
void place_fini(struct place *p);

/* How many sandboxes there may be now, those that are alive among them; 0 while
 * E2B is away or wants a pause.
 * *grows_at_ms_out: when time alone may make it larger; 0: nothing but the end
 * of a call will, and that is told to who watches. */
int place_room(struct place *p, int64_t *grows_at_ms_out);
/* Where to say that the end of a call made room: an eventfd, or -1. */
void place_watch(struct place *p, int wake_fd);

/* May a sandbox be asked for? own: for a template that its job names. Then how
 * that ended must be noted for both planes (FAULT_ABORTED: nothing is known),
 * as others wait for it when E2B was away. False: *again_ms_out is how long to
 * stay away. */
bool place_admits(struct place *p, bool own, int64_t *again_ms_out);
/* Is it E2B that is away, rather than one job's sandbox? Changes nothing.
 * *again_ms_out as above, if it is. */
bool place_is_away(struct place *p, int64_t *again_ms_out);
/* No sandbox is to be asked for in the next ms (PLACE_PAUSE_MAX_MS at most). */
void place_pause(struct place *p, int64_t ms);
/* A sandbox is there; it is gone. */
void place_entered(struct place *p);
void place_left(struct place *p);

int place_alive(struct place *p);

/* How a call to the API or to a sandbox ended. */
void place_note(struct place *p, enum fault_plane plane, enum fault fault,
                const char *text);
/* The account is full: stay at what we have. */
void place_lower(struct place *p);
/* How many of ours have left so far: to be asked before a create that may find
 * the account full. */
int64_t place_departures(struct place *p);
/* Waits until one more than `seen` has left, at most until deadline_ms; each
 * that leaves lets one waiter go on. False: none of ours is alive, or none
 * left.
 */
bool place_wait(struct place *p, int64_t seen, int64_t deadline_ms);

/* {"api":{"state","why","failures"},"sandboxes":{…},"limit","alive"} */
void place_to_json(struct place *p, struct strbuf *out);

#endif
