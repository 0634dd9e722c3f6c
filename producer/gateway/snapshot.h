/* producer/gateway/snapshot.h -- what the hashes in Redis say, all at once.
 *
 * Nothing is counted here. Whoever asks gets a view that was read after they
 * asked; those who ask meanwhile share the next one, so that any number of
 * readers costs Redis one pipeline at a time. Minutes that are over are kept
 * for SNAPSHOT_OLD_MS: nobody writes them any more but after an outage.
 *
 * Memory:   a view belongs to the snapshot and lives during done().
 * Threads:  the loop's.
 * Errors:   done() gets 0 and the view, or a negated errno and NULL.
 */
#ifndef PRODUCER_GATEWAY_SNAPSHOT_H
#define PRODUCER_GATEWAY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/protocol.h"

#define SNAPSHOT_MINUTES     60
#define SNAPSHOT_OLD_MS      5000
#define SNAPSHOT_QUEUES_MAX  256
#define SNAPSHOT_WORKERS_MAX 1024
#define SNAPSHOT_RUNS_MAX    1024
#define SNAPSHOT_SCAN_MS     1000 /* between two looks for unserved queues */

struct view_template {
    const char *id;
    redisReply *hash;
};

struct view_minute {
    int64_t minute; /* unix / 60 */
    redisReply *hash;
};

struct view_queue {
    char name[JOB_NAME_MAX + 1];
    redisReply *depth, *oldest; /* LLEN, LINDEX -1; NULL: not asked */
    int served;                 /* by how many workers */
};

struct view_worker {
    char id[WORKER_ID_MAX + 1];
    redisReply *card, *runs; /* HGETALL of P:worker and P:run */
    double lease_until;      /* unix s, by Redis' clock */
};

/* Places in the reply. */
enum {
    VIEW_RUN_LANGUAGE,
    VIEW_RUN_TEMPLATE,
    VIEW_RUN_STARTED,
    VIEW_RUN_TENANT,
    VIEW_RUN_FIELDS
};

struct view_run {
    char job_id[JOB_ID_MAX + 1];
    int worker;      /* its place */
    redisReply *job; /* HMGET of VIEW_RUN_* */
};

struct view_text {
    struct blob *blob;
    const struct holder *holder; /* for whom it was printed */
};

struct view {
    double now; /* Redis' clock, unix s */
    redisReply *time, *stats, *leases, *delayed, *dead, *paused;
    struct view_template *templates;
    size_t ntemplates;
    struct view_minute minutes[SNAPSHOT_MINUTES]; /* the newest first */
    struct view_queue queues[SNAPSHOT_QUEUES_MAX];
    int nqueues;
    struct view_worker workers[SNAPSHOT_WORKERS_MAX];
    int nworkers;
    struct view_run runs[SNAPSHOT_RUNS_MAX];
    int nruns;
    struct view_text cache[2]; /* what was made of it: stats.c, metrics.c */
};

struct gateway;
struct snapshot_reader;
typedef void snapshot_done_fn(struct snapshot_reader *reader, int rc,
                              struct view *view);
struct snapshot_reader {
    struct snapshot_reader *next;
    snapshot_done_fn *done;
    void *ctx;
};

struct snapshot {
    struct gateway *gateway;
    struct view view;
    struct snapshot_reader *now, *later; /* of this load, of the next */
    struct fetch *fetches;               /* room for one stage */
    size_t pending;
    int stage, failure;
    bool loading;
    int64_t olds_read_ms; /* 0: not since Redis came back */
    int64_t scanned_ms;
    char cursor[32];
    char known[SNAPSHOT_QUEUES_MAX][JOB_NAME_MAX + 1]; /* found by scanning */
    int nknown;
};

/* -ENOMEM. */
int snapshot_init(struct snapshot *s, struct gateway *g);
void snapshot_fini(struct snapshot *s);

/* done() comes once, maybe before this returns. */
void snapshot_read(struct snapshot *s, struct snapshot_reader *reader);
/* After Redis was away nothing kept may be trusted. */
void snapshot_forget(struct snapshot *s);

/* Has an operator paused the queues? (P:conf, as heartbeats read it) */
bool view_paused(const struct view *v);

/* A field of a HGETALL reply as a number (0 if there is none). */
double view_number(const redisReply *hash, const char *field);

/* The q-th quantile (0..1) in seconds of the `bucket:` fields of a hash,
 * interpolated; negative if there are none. What is above the last bound counts
 * as that bound. */
double view_quantile(const redisReply *hash, double q);

/* The bounds of the buckets, in order; the last one is "inf". */
#define VIEW_BUCKETS 16
extern const char *const view_buckets[VIEW_BUCKETS];

#endif
