/* worker/delivery.h -- one claimed job on its way through the worker.
 *
 *   claimed -> checked (parsed, spec made) -> [started] -> run -> finish
 *
 * Memory:   made by the exchange thread from a claim, destroyed by it once
 * Redis has confirmed the finish (or the claim was lost). Threads:  owned by
 * whoever holds it: exchange thread, then runqueue, executor, outbox, exchange
 * thread again. Only the _Atomic fields are read by the exchange thread while
 * an executor owns it.
 */
#ifndef WORKER_DELIVERY_H
#define WORKER_DELIVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/envelope.h"
#include "common/job.h"
#include "common/outcome.h"
#include "common/protocol.h"
#include "common/settings.h"
#include "common/template.h"
#include "worker/cache.h"
#include "worker/cancel.h"

#define DELIVERY_FIELDS_MAX 20

enum delivery_stage {
    DELIVERY_CLAIMED,   /* only the entry is known */
    DELIVERY_CHECKED,   /* parsed; waits for its start mark */
    DELIVERY_CLEARED,   /* may run */
    DELIVERY_FINISHED,  /* `finish` is filled */
    DELIVERY_ABANDONED, /* the claim is lost: nothing may be written */
};

/* What the exchange thread may see of a job that an executor has. It moves
 * RUNNING to MARKED when it sends the start mark of a job that runs for a
 * while. */
enum delivery_phase { PHASE_WAITING, PHASE_RUNNING, PHASE_MARKED, PHASE_DONE };

struct delivery {
    struct delivery *next;            /* in runqueue or outbox */
    struct delivery *older, *younger; /* exchange's list of what it holds */

    char wid[WORKER_ID_MAX + 1];
    uint64_t generation;
    int64_t number;
    const char *queue; /* from settings */
    char *entry;       /* as it came from Redis */
    size_t entry_len;
    struct envelope envelope;
    const char *body; /* inside entry */
    size_t body_len;
    int64_t claimed_us;  /* CLOCK_MONOTONIC */
    double claimed_unix; /* unix s, Redis' clock once it is known */
    int64_t queued_us;   /* when it was last put into the runqueue */

    enum delivery_stage stage;
    struct template_set *templates;
    struct job *job;  /* NULL: rejected before it was one */
    struct spec spec; /* valid if job && !rejected */
    char job_id[JOB_ID_MAX + 1];
    bool rejected;
    struct complaint why; /* of the rejection */
    enum verdict early;   /* decided without running: rejected, expired, lost,
                             cancelled */
    char batch[JOB_NAME_MAX + 1]; /* of a rejected job, as far as it says */
    bool streams;                 /* it asks for live output */
    struct cancellable cancel;

    /* Start marks: exchange thread only. */
    bool must_start; /* not before START_OK */
    bool suspect;    /* runs one at a time */
    bool started;    /* Redis knows that it runs, under its id */
    bool seated;     /* holds the suspect's mark */
    _Atomic int
        phase; /* enum delivery_phase: what the exchange thread may see */
    _Atomic int64_t running_since_us;
    int64_t took_us; /* from create to destroyed; 0: it did not run */

    /* Filled by delivery_end() and its kin. */
    struct finish finish;
    char parent[TOKEN_MAX + 1]; /* of a delay without a start mark */
    struct strbuf text;         /* values, one after the other */
    const char *names[DELIVERY_FIELDS_MAX], *values[DELIVERY_FIELDS_MAX];
    size_t lens[DELIVERY_FIELDS_MAX];
    struct strbuf dead;
    struct strbuf new_entry;

    char cache_key[CACHE_KEY_MAX + 1]; /* "": it did not ask for the cache */
    char *kept;                        /* the cached result, or NULL */
    size_t kept_len;
};

/* Takes the claim's entry over. NULL: no memory (the claim keeps its entry). */
struct delivery *delivery_create(struct claim *claim, const char *wid,
                                 uint64_t generation, const char *queue);
void delivery_destroy(struct delivery *d);

/* Parses the job, makes its spec, decides what needs no sandbox (rejected,
 * expired, lost) and whether a start mark must come first. Sets stage CHECKED.
 * Takes its own reference of templates. -ENOMEM. */
int delivery_check(struct delivery *d, struct template_set *templates,
                   const struct settings *settings);

/* Its `expires_in` is over now. */
bool delivery_expired(const struct delivery *d);

/* Attempts used before this one. */
int delivery_attempts_used(const struct delivery *d);

/* "delay"/"run_at" not over: when it is due on Redis' clock (ms), else 0. */
int64_t delivery_due_ms(const struct delivery *d, int64_t redis_now_ms);

/* Fills `finish` with a terminal result. worker/backend for the result.
 * -ENOMEM: the delivery is then released instead. */
int delivery_end(struct delivery *d, struct outcome *o, const char *backend);

/* The same for what is decided without a sandbox: d->early. */
int delivery_end_early(struct delivery *d, const char *backend);

/* Fills `finish` from d->kept. -EINVAL if that is not a result: run the job. */
int delivery_end_cached(struct delivery *d, const char *backend);

/* Fills `finish`: another try after capibox's own failure, due in delay_ms. */
int delivery_retry(struct delivery *d, const struct outcome *o,
                   int64_t redis_now_ms, int64_t delay_ms);
/* Not before due_ms. */
int delivery_delay(struct delivery *d, int64_t due_ms);
/* Back to its queue, nothing used up. */
int delivery_release(struct delivery *d);
/* Its id is taken. */
void delivery_duplicate(struct delivery *d);

#endif
