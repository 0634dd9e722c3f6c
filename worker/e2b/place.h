/* worker/e2b/place.h -- how many sandboxes this worker may have, and when.
 *
 * Four things say no: the breakers of the API and of the sandboxes' hosts (E2B
 * is away; a sandbox that cannot be reached is paid for, too), the account's
 * limit (other sandboxes of the team use it up: we stay below what worked, and
 * feel our way up again), the pause that E2B asked for (Retry-After), and the
 * worker's own concurrency.
 *
 * A sandbox that was made but never answered ("missed") is paid for all the
 * same. Whether it is its job's doing or E2B's, only other jobs can tell:
 *
 *   - What one job misses again and again is news once; more of it counts while
 *     others miss theirs, too.
 *   - Jobs that name a template themselves speak for that template alone, and
 *     all of them with one voice. What they miss closes nothing for anybody;
 *     they are let through to see whether the hosts are back only when nobody
 *     else came for PLACE_OWN_LAST_MS.
 *   - A job waits, and no attempt is used up, if another one (of another
 *     template, where it names one) missed a sandbox since one last answered,
 *     if the API is away, or if nothing got through to its sandbox at all
 *     (FAULT_AWAY). Else it spends an attempt: so of the jobs that meet hosts
 *     that fail them, the first spends its attempts, those after it wait.
 *   - No job waits for more than PLACE_MISSED_MAX sandboxes of its own on one
 *     worker: each that is missed after these spends an attempt again.
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
/* What one job may cost during an outage; its waits double up to the breaker's
 * longest pause, so this lasts for a while. */
#define PLACE_MISSED_MAX   50
#define PLACE_MISSERS      128 /* jobs that are known to have missed some */
#define PLACE_OWN_LAST_MS  5000
#define PLACE_MISS_WAIT_MS 2000 /* after the first of a job, then doubled */

/* One job whose sandboxes did not answer. */
struct place_misser {
    uint64_t job;  /* a hash of its id */
    uint64_t kind; /* the same, or a hash of the template that it names */
    int count;     /* of its sandboxes; 0: a free entry */
    int64_t row;   /* in which it missed its last */
};

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
    int64_t row;            /* of misses without an answer between; from 1 */
    struct place_misser missers[PLACE_MISSERS];
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

/* A job's sandbox was missed, by a fault that is_outage. own: the template that
 * the job names, or NULL. True: the job is to wait for *again_ms_out; false: it
 * spends an attempt. */
bool place_missed(struct place *p, const char *job_id, const char *own,
                  enum fault fault, const char *text, int64_t *again_ms_out);
/* The job's sandbox answered: what it missed is forgotten. */
void place_answered(struct place *p, const char *job_id);

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
