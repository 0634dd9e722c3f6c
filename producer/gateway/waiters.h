/* producer/gateway/waiters.h -- who waits for the end of which job.
 *
 * A message of P:done is a hint: the hash is read before anybody is told. It is
 * also read when somebody begins to wait for a job that is there already, after
 * either connection to Redis came back, and now and then without a reason, so
 * that no message can be missed for good.
 *
 * Memory:   a waiter is its owner's, and stays where it is from waiters_add()
 *           to its done() or waiters_remove().
 * Threads:  the loop's.
 * Errors:   done() gets 0 and HMGET's reply of the fields named in WAITERS_*,
 *           or -ENOENT (Redis no longer knows the job), or -ENOTCONN (Redis was
 *           away for too long), or -ECANCELED (the end). It is called once,
 *           after which the waiter is not waiting.
 */
#ifndef PRODUCER_GATEWAY_WAITERS_H
#define PRODUCER_GATEWAY_WAITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/protocol.h"
#include "producer/gateway/link.h"

#define WAITERS_RECHECK_MS 15000 /* a look without a message */
#define WAITERS_AWAY_MS    5000  /* Redis may be gone for so long */
#define WAITERS_BUCKETS    16384

/* Places in the reply. */
enum {
    WAITERS_STATUS,
    WAITERS_RESULT,
    WAITERS_TENANT,
    WAITERS_VERDICT,
    WAITERS_FIELDS
};

struct waiter;
typedef void waiter_done_fn(struct waiter *w, int rc, const redisReply *fields);

struct waiter {
    struct waiter *next;
    struct awaited *job; /* NULL: not waiting */
    waiter_done_fn *done;
    void *ctx;
    bool patient; /* not told that Redis is away */
    /* Told nothing until waiters_there() or waiters_look(): its owner does not
     * know yet whether the job is its own, or there is an answer to come that
     * it must live to see. */
    bool held;
};

struct awaited {
    struct awaited *next;
    struct waiters *set;
    struct waiter *waiters;
    char id[JOB_ID_MAX + 1];
    bool there;   /* its hash is known to be */
    bool looking; /* a look is under way */
    bool again;   /* and another is to follow */
    int64_t looked_ms;
};

struct waiters {
    const struct protocol *protocol;
    struct link *link;
    struct awaited **buckets;
    size_t count; /* jobs */
};

/* -ENOMEM. */
int waiters_init(struct waiters *set, const struct protocol *protocol,
                 struct link *link);
/* Who still waits gets -ECANCELED: nobody may be held, and no look under way.
 */
void waiters_fini(struct waiters *set);

/* Begins to wait for a job, which need not be there yet. -ENOMEM. */
int waiters_add(struct waiters *set, const char *id, struct waiter *w);
/* Its done() will not be called. Harmless if it is not waiting. */
void waiters_remove(struct waiter *w);

/* The job was accepted: from now on a missing hash means that it is lost. */
void waiters_there(struct waiter *w);
/* Reads the hash of the waiter's job. */
void waiters_look(struct waiter *w);

/* A message: the job has ended. */
void waiters_ended(struct waiters *set, const char *id, size_t size);
/* Reads the hashes of all: a connection came back. */
void waiters_look_all(struct waiters *set);
/* Once a second or so: looks without a reason (at all, if deaf: no messages
 * come for now), and at who has waited for Redis for too long (away_ms: how
 * long it has been away, 0: it is there). */
void waiters_check(struct waiters *set, int64_t away_ms, bool deaf);

#endif
