/* common/protocol.h -- the queue on Redis: keys, scripts, fencing.
 *
 * All keys and all Lua in one place; protocol.md beside this file is their
 * manual. The Lua lives in common/lua/NAME.lua and is compiled in.
 *
 * The rules, in short:
 * - A job is one list entry. Claiming moves it to inf:<wid>, a hash of this
 * worker incarnation, under a field "<n>@<queue>"; n counts up in the field
 * "_", the sentinel. Deleting that field is finishing; only who deletes it may
 * write.
 * - Reaping a dead incarnation deletes the sentinel first: from then on its
 * claims answer "fenced" and its results are refused.
 * - Entries that go back to a queue or to the delayed set carry an envelope
 *   (envelope.h); the "p" in it lets only the heir take over the job's hash.
 * - Redis' TIME decides leases and delays.
 *
 * Memory:   replies are parsed into structs the caller frees as said.
 * Threads:  a struct protocol is const after init and shared; a connection
 *           (struct redis) belongs to its thread.
 * Errors:   negated errno of the transport; -EAGAIN when Redis said "later"
 *           (loading, busy…), -ENOSPC when it is full, -EACCES for its ACL,
 *           -EPROTO for a reply that makes no sense; redis_error()
 *           (transport) or protocol_error() (a reply) says it in words. Every
 * call may be repeated after a lost reply.
 */
#ifndef COMMON_PROTOCOL_H
#define COMMON_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/outcome.h"
#include "common/redis.h"

#define PROTOCOL_VERSION       1
#define PROTOCOL_BLOCK_S       4 /* server-side bound of one blocking move */
#define PROTOCOL_REAP_CHUNK    100
#define PROTOCOL_PROMOTE_CHUNK 100
#define PROTOCOL_GRAVE_S       86400
#define PROTOCOL_EVENTS_MAX    10000 /* entries of one job's event stream */
#define PROTOCOL_TOMBSTONE_S   3600  /* a cancel of what nobody knows, kept */

struct script {
    const char *name, *text;
    char sha[41];
};

enum script_id {
    SCRIPT_EXCHANGE,
    SCRIPT_START,
    SCRIPT_REGISTER,
    SCRIPT_HEARTBEAT,
    SCRIPT_FENCE,
    SCRIPT_REAP,
    SCRIPT_PROMOTE,
    SCRIPT_ENQUEUE,
    SCRIPT_LEAVE,
    SCRIPT_AUDIT,
    SCRIPT_GRAVES,
    SCRIPT_BATCH,
    SCRIPT_CANCEL,
    SCRIPT_LOOK,
    SCRIPT_SETTLE,
    SCRIPT_DEAD,
    SCRIPT_DEAD_RETRY,
    SCRIPT_DEAD_DROP,
    SCRIPT_COUNT,
};

struct protocol {
    char prefix[64]; /* "{capibox}" */
    struct script scripts[SCRIPT_COUNT];
    int64_t result_ttl_s, lease_ms;
};

/* -EINVAL if the prefix is empty, too long or holds a control character. */
int protocol_init(struct protocol *p, const char *prefix, int64_t result_ttl_s,
                  int64_t lease_ms);
/* Names the scripts anew after a text was replaced: for tests that take a guard
 * out. */
int protocol_rehash(struct protocol *p);

/* The last error reply this thread got from a call of this header, as Redis
 * worded it: "VERSION workers on this Redis use protocol 2, this one speaks 1".
 */
const char *protocol_error(void);

/* "P:<kind>:<name>" (name may be NULL: "P:<kind>") into out; returns out. */
#define KEY_MAX 256
char *protocol_key(const struct protocol *p, char out[KEY_MAX],
                   const char *kind, const char *name);

/* Makes a new incarnation id: <host>-<pid>-<16 hex of random>, host cut so that
 * it fits WORKER_ID_MAX; characters of a job id only. */
int protocol_make_worker_id(char out[WORKER_ID_MAX + 1]);
/* A random job id for producers: "j-" and 26 lower-case base32 characters. */
int protocol_make_job_id(char out[JOB_ID_MAX + 1]);

/* ---- a worker's life -------------------------------------------------- */

#define CARD_IDS 4

struct worker_card { /* P:worker:<wid>, for people and dashboards */
    const char *wid, *host, *backend, *version;
    int64_t pid, concurrency, active;
    double started_at;
    const char *queues;           /* "high,default,low", in order */
    int64_t client_ids[CARD_IDS]; /* CLIENT IDs of its connections, 0-padded:
                              peers probe these to see it die */
    const char *state;            /* "running", "draining" */
    const char *more;             /* further JSON for dashboards, or "" */
};

/* Makes the incarnation known: sentinel, lease, queues, card. -EPROTO with
 * protocol_error() naming both versions if another protocol version is in use,
 * or saying that this incarnation was given up already. */
int protocol_register(const struct protocol *p, struct redis *r,
                      int64_t deadline_ms, const struct worker_card *card);

#define HEARTBEAT_CANCELS_MAX 64 /* the next heartbeat tells the rest */

struct heartbeat {
    bool fenced;       /* we were reaped: kill everything, become someone new */
    int64_t redis_ms;  /* Redis' clock */
    int64_t in_flight; /* entries Redis thinks we hold */
    int64_t peers;     /* other incarnations registered */
    char expired[WORKER_ID_MAX + 1]; /* one whose lease is over, or "" */
    int64_t next_due_ms; /* earliest delayed entry (Redis' clock), or 0 */
    bool paused;
    /* Jobs this incarnation has started and that are to be cancelled. */
    char cancels[HEARTBEAT_CANCELS_MAX][JOB_ID_MAX + 1];
    int ncancels;
};

/* Renews the lease, rewrites the card, and says what there is to do. */
int protocol_heartbeat(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const struct worker_card *card,
                       struct heartbeat *beat_out);

/* The name of all workers of this Redis and prefix (P:conf fleet), made by the
 * first who asks: what a backend marks its sandboxes with. */
int protocol_fleet(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, char out[FLEET_ID_MAX + 1]);

/* Which of these incarnations hold a place in P:wk and are not fenced. */
int protocol_alive(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, char (*wids)[WORKER_ID_MAX + 1],
                   int count, bool *alive_out);

/* Leaves for good: only when nothing is in flight (else -EBUSY). */
int protocol_leave(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, const char *wid);

/* Fences wid (if its lease is over, or force says it is known to be dead) and
 * moves all it held back to the queues, suspects marked, until nothing is left.
 * Also ends its connections (CLIENT KILL ID). *moved_out: how many entries.
 * -EBUSY if its lease is not over and force is false. Idempotent. */
int protocol_reap(const struct protocol *p, struct redis *r,
                  int64_t deadline_ms, const char *wid, bool force,
                  int64_t *moved_out);

/* Looks into the private lists of the reaped once more (a blocked move may have
 * landed there after reaping) and brings back what it finds. */
int protocol_visit_graves(const struct protocol *p, struct redis *r,
                          int64_t deadline_ms, int64_t *moved_out);

/* Moves due entries to their queues. *next_due_ms_out: 0 if none waits. */
int protocol_promote(const struct protocol *p, struct redis *r,
                     int64_t deadline_ms, int64_t *moved_out,
                     int64_t *next_due_ms_out);

/* A worker, and what its card said are its connections. */
struct silent_worker {
    char wid[WORKER_ID_MAX + 1];
    char ids[CARD_IDS * 21 + 1]; /* decimal, commas between them */
};

/* Which registered workers have no connection left: asks CLIENT LIST ID for the
 * ids on their cards. Fills silent_out (max of them), excluding `self`.
 * -ENOTSUP where the ACL forbids it. Call twice, PROBE_GAP_MS apart, and reap
 * (force) only who is missing both times with unchanged ids. */
#define PROTOCOL_PROBE_GAP_MS 250
int protocol_probe_peers(const struct protocol *p, struct redis *r,
                         int64_t deadline_ms, const char *self,
                         struct silent_worker *silent_out, int max,
                         int *count_out);

/* ---- the hot path ------------------------------------------------------ */

enum finish_kind {
    FINISH_END,       /* a terminal result: hash, counters, done, batch */
    FINISH_RETRY,     /* capibox failed: to the delayed set, one attempt used */
    FINISH_DELAY,     /* not before due: to the delayed set, nothing used */
    FINISH_RELEASE,   /* back to its queue, first in line, nothing used */
    FINISH_DUPLICATE, /* its id is taken: the entry is dropped */
};

/* The token of a claim, "<wid>.<number>": the `token` of the job's hash, the
 * envelope's `p`, and the id of a job that brought none. Returns out. */
char *protocol_token(char out[TOKEN_MAX + 1], const char *wid, int64_t number);

struct finish {
    enum finish_kind kind;
    int64_t number;    /* of the claim */
    const char *queue; /* its queue's name */
    const char *job_id;
    bool started; /* protocol_start_* answered START_OK for this claim (with
                     a job id: not mark_only) */
    bool suspect; /* it holds the suspect's mark, which is taken off */

    /* Hash fields (name, value, value bytes). END: the script adds "token" and
     * the TTL. An END that is not `started` writes the hash unasked: only right
     * for a job whose id is this claim's token or one never given to a start.
     * RETRY, DELAY, RELEASE of a `started` job: they are written too, and the
     * script sets `status` ("delayed" or "queued"). */
    const char **names, **values;
    const size_t *value_lens;
    int nfields;
    enum verdict verdict;
    bool code_started, success;
    bool cached; /* taken from an identical job's result */
    bool sandbox_created, sandbox_destroyed; /* for every kind */
    double execution_time;
    const char *template_id; /* NULL: no template counters */
    const char *language;    /* NULL: no language counters */
    const char *batch_id;    /* NULL: none */
    bool events;             /* append to P:events:<id> the end marker, or the
                                state of a `started` job that goes back */
    const char *dead_entry;  /* pushed to P:dead, or NULL */
    size_t dead_entry_len;

    /* FINISH_RETRY, DELAY, RELEASE: the whole entry with its envelope. Its p
     * must be this claim's token if `started`, else what it was before (the
     * hash still belongs to that ancestor), but for `parent` below. */
    const char *entry;
    size_t entry_len;
    int64_t due_ms; /* Redis' clock: RETRY, DELAY */

    /* DELAY of a claim that is not `started`: the entry's p, which is this
     * claim's token if the entry came without. The hash is written as for a
     * started one if it is free (it then has this token) or that ancestor's.
     * NULL: the hash is left alone, and p is what it was. */
    const char *parent;
};

enum ack {
    ACK_LATE,  /* refused: the claim was lost */
    ACK_DONE,  /* committed now */
    ACK_AGAIN, /* had been committed by the same call before (lost reply) */
};

/* Redis does each sequence number of an incarnation exactly once: a repeat gets
 * the stored acks (DONE as AGAIN) and the same claims again. So an incarnation
 * has one exchange under way at a time, and resends it unchanged until it is
 * answered (an error reply is no answer). A number that skips
 * one is fenced: Redis forgot what it had answered (a crash, a failover), so
 * whoever is fenced had better also reap its own old wid by force: nobody else
 * may know yet. */
struct exchange_request {
    const char *wid;
    int64_t sequence; /* 1, 2, 3… per incarnation; a resend keeps it */
    const struct queue_share *queues; /* in the order to be served this time */
    int nqueues;
    const struct finish *finishes;
    int nfinishes; /* <= FINISH_MAX */
    int claim;     /* <= CLAIM_MAX */
};

struct claim {
    int64_t number;
    int queue;   /* index into the request's queues */
    char *entry; /* caller frees */
    size_t entry_len;
};

struct exchange_reply {
    bool fenced;
    enum ack acks[FINISH_MAX];
    int nacks;
    struct claim claims[CLAIM_MAX];
    int nclaims;
    char trouble[128]; /* why a queue could not be read (a key of a wrong
                          type), or "": for the log */
};

/* Appends the call to the connection's pipeline (EVALSHA; by_text: EVAL, after
 * REDIS_NOSCRIPT). The request must be resent unchanged after a lost reply.
 * -EINVAL for a request that makes no sense (no id, no queue, nothing to give
 * back, over a bound). */
int protocol_exchange_append(const struct protocol *p, struct redis *r,
                             const struct exchange_request *request,
                             bool by_text);
/* Reads the reply. -EAGAIN/-ENOSPC/… as above, -ESTALE for NOSCRIPT. Takes the
 * entries out of *reply (it still has to be freed by the caller). */
int protocol_exchange_parse(redisReply *reply,
                            const struct exchange_request *request,
                            struct exchange_reply *out);

/* Start marks: before a job with an id of its own may run (its id must be free
 * or inherited), before a suspect runs, and when any job has run for a while
 * (so that `running` shows). Writes the hash, P:run:<wid>. */
struct start {
    int64_t number;
    const char *queue, *job_id;
    const char *parent; /* envelope p, or "" */
    bool suspect;       /* takes the suspect's mark of this incarnation */
    bool mark_only;     /* just the suspect mark / its removal */
    bool unsuspect;     /* gives the mark back (probation passed) */
    bool events;        /* append a "running" state event */
    const char **names, **values; /* hash fields */
    int nfields;
};

enum start_answer {
    START_OK,
    START_DUPLICATE, /* the id is queued, running or finished elsewhere */
    START_FENCED,    /* the claim is no longer ours */
    START_CANCELLED, /* it must not run: finish it with that verdict, started */
};

int protocol_start_append(const struct protocol *p, struct redis *r,
                          const char *wid, const struct start *start,
                          bool by_text);
int protocol_start_parse(redisReply *reply, enum start_answer *answer_out);

/* P:cache:<key>: GET, and SET with the result TTL. */
int protocol_cache_get_append(const struct protocol *p, struct redis *r,
                              const char *key);
int protocol_cache_set_append(const struct protocol *p, struct redis *r,
                              const char *key, const char *result, size_t size);

/* BLMOVE queue -> P:p:<wid>:<queue>, PROTOCOL_BLOCK_S: a wake-up. What it moved
 * is claimed by the next exchange, which serves the private lists first. */
int protocol_block_append(const struct protocol *p, struct redis *r,
                          const char *wid, const char *queue);

/* Live output of a job that asked for it: XADD P:events:<id> with fields
 * type (stdout|stderr|state), data, offset (bytes before it). */
int protocol_event_append(const struct protocol *p, struct redis *r,
                          const char *job_id, const char *type,
                          const char *data, size_t size, uint64_t offset);

/* ---- producers --------------------------------------------------------- */

struct enqueue {
    const char *queue, *job_id;
    const char *body; /* job JSON */
    size_t body_len;
    int64_t delay_ms;     /* 0: now */
    const char *batch_id; /* or NULL */
    /* Whose the batch is from its first job on; NULL: whosever it is. */
    const char *batch_tenant;
    /* The batch's total grows by it. Not for those that who creates the batch
     * counts: protocol_batch_create(). */
    bool batch_grows;
    const char **names,
        **values; /* hash fields known now (template, language…) */
    int nfields;
    int64_t queue_max; /* 0: no bound; longer: ENQUEUE_FULL */
    const char *nonce; /* of this submission (protocol_make_job_id() will do),
                          or NULL. A call repeated with it answers ACCEPTED
                          again, where without it is a DUPLICATE of itself */
    bool stream;       /* it asks for live output: the first state event */
};

enum enqueue_answer {
    ENQUEUE_ACCEPTED,
    ENQUEUE_DUPLICATE,
    ENQUEUE_FULL,
    ENQUEUE_NOT_THEIRS, /* the batch is another tenant's */
};

int protocol_enqueue(const struct protocol *p, struct redis *r,
                     int64_t deadline_ms, const struct enqueue *e,
                     enum enqueue_answer *answer_out);

/* The same, pipelined: any number appended, then as many replies parsed.
 * -ESTALE from parse: append them again by_text. Repeats need the nonce. */
int protocol_enqueue_append(const struct protocol *p, struct redis *r,
                            const struct enqueue *e, bool by_text);
int protocol_enqueue_parse(redisReply *reply, enum enqueue_answer *answer_out);

/* Creates P:batch:<id>: total of its jobs, besides those that joined it one by
 * one (batch_grows). */
int protocol_batch_create(const struct protocol *p, struct redis *r,
                          int64_t deadline_ms, const char *batch_id,
                          int64_t total);

/* The books, read-only and O(workers + queues), exact at any moment.
 *
 * accepted: every entry that was ever pushed, told from where it went: waiting
 * ones, claims that were not given back, and settled ones. terminal is told
 * from the counters that results are written with. balanced: accepted == queued
 * + private + delayed + running + terminal + duplicates. */
struct audit {
    int64_t queued, delayed, running, private_; /* private_: in P:p lists */
    int64_t terminal, duplicates;
    int64_t claims, given_back; /* released, retried, delayed, recovered */
    int64_t settled;            /* ended while they waited, without a claim */
    int64_t accepted;
    int64_t enqueued; /* of these through protocol_enqueue(), not a bare push */
    bool balanced;
};
int protocol_audit(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, const struct queue_share *queues,
                   int nqueues, struct audit *audit_out);

/* ---- cancelling -------------------------------------------------------- */

enum cancel_answer {
    CANCEL_DONE,     /* it waited; its result `cancelled` is written */
    CANCEL_SENT,     /* a worker has it, and will end it in a moment */
    CANCEL_WAITS,    /* it waits where we did not find it, or was claimed just
                        now: it will not run, `cancelled` comes in its turn */
    CANCEL_FINISHED, /* it had ended: status and verdict say how */
    CANCEL_UNKNOWN,  /* nobody knows it. Should it wait unseen (a bare push far
                        back in its queue), it will not run either */
    CANCEL_NOT_THEIRS, /* of protocol_cancel_by(): nothing was done */
};

struct cancel {
    enum cancel_answer answer;
    char status[24], verdict[24]; /* FINISHED */
};

/* Leaves a tombstone, tells the workers, and ends the job at once if it is
 * found waiting: in its queue or in the delayed set, looked through in pieces
 * of CANCEL_LOOK_ENTRIES / _BYTES for CANCEL_LOOK_MS at most. A job without a
 * hash is looked for in these queues, among CANCEL_STRAY_ENTRIES. A repeat
 * after a lost reply may find its own work: FINISHED as cancelled. */
#define CANCEL_LOOK_ENTRIES  500
#define CANCEL_LOOK_BYTES    (512 << 10)
#define CANCEL_LOOK_MS       1000
#define CANCEL_STRAY_ENTRIES 2000
int protocol_cancel(const struct protocol *p, struct redis *r,
                    int64_t deadline_ms, const char *job_id,
                    const struct queue_share *queues, int nqueues,
                    struct cancel *cancel_out);

/* The same for somebody whose word counts for less: a tenant's jobs and those
 * of nobody, and no tombstone for an id that is UNKNOWN, as anybody could make
 * up any number of them. insist: a tombstone all the same, after such an
 * answer and without another look for the job. */
struct cancel_by {
    const char *tenant;
    bool insist;
};
int protocol_cancel_by(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct queue_share *queues, int nqueues,
                       const struct cancel_by *by, struct cancel *cancel_out);

/* ---- live output ------------------------------------------------------- */

#define EVENT_ID_MAX 41 /* "<ms>-<n>" of an entry: where to go on */

/* Lives during the call of the taker; texts end in a NUL. */
struct event {
    const char *id;
    const char *type; /* "stdout", "stderr", "state", "end" */
    const char *data; /* output; state: "queued", "delayed", "running"; end: the
                         verdict */
    size_t size;
    uint64_t offset; /* of output: bytes of that stream before it */
};
typedef void protocol_event_fn(void *ctx, const struct event *event);

/* Is this the id of an entry: "<ms>" or "<ms>-<n>" */
bool protocol_event_id_valid(const char *id);

/* Hands over what comes after the entry `after` ("0": all), at most most of
 * them, and waits for up to block_ms (0: does not) if there is none. Returns
 * how many. Blocks the connection. */
int protocol_events_read(const struct protocol *p, struct redis *r,
                         int64_t deadline_ms, const char *job_id,
                         const char *after, int most, int block_ms,
                         protocol_event_fn *take, void *ctx);

/* ---- the dead list ----------------------------------------------------- */

/* One entry. `about` is its line of JSON (job_id, verdict, queue, error,
 * attempts, deliveries, worker, at, bytes, kept); body the job as it came, NULL
 * of protocol_dead_list(). Both belong to the call of the taker. */
struct dead_entry {
    const char *about, *body;
    size_t about_len, body_len;
};
typedef void protocol_dead_fn(void *ctx, const struct dead_entry *entry);

/* What one call looks at, or a little more: Redis must not be kept from others
 * by a long list, or a large one. */
#define DEAD_LOOK_ENTRIES 250
#define DEAD_LOOK_BYTES   (256 << 10)

/* Newest first: `count` (<= DEAD_PAGE_MAX) of them, after the first `from`.
 * Returns how many. *total_out (may be NULL): all there are. */
#define DEAD_PAGE_MAX 500
int protocol_dead_list(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, int64_t from, int count,
                       protocol_dead_fn *take, void *ctx, int64_t *total_out);

/* The same, with their bodies: a call for each. */
int protocol_dead_walk(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, int64_t from, int count,
                       protocol_dead_fn *take, void *ctx, int64_t *total_out);

/* Which of a job's entries will do (NULL: any): the others are passed over. */
struct dead_filter {
    bool (*fits)(void *ctx, const struct dead_entry *entry);
    void *ctx;
};

/* The newest entry of one job, with its body. -ENOENT: none. To look for it,
 * here and below, takes as many short calls as the list is long. */
int protocol_dead_show(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct dead_filter *filter, protocol_dead_fn *take,
                       void *ctx);

enum dead_answer {
    DEAD_DONE,
    DEAD_NONE,  /* no such entry, or somebody was faster */
    DEAD_TAKEN, /* its id is queued, running or ended otherwise by now */
    DEAD_CUT,   /* only a part of its text was kept */
};

/* The newest entry of one job back to its queue, as if it had come just now:
 * attempts, hash and events begin anew, its batch counts it again. One step: it
 * is in the one list or in the other. id_out (may be NULL): what the job is
 * called (its own id, else the entry's). */
int protocol_dead_retry(const struct protocol *p, struct redis *r,
                        int64_t deadline_ms, const char *job_id,
                        const struct dead_filter *filter,
                        enum dead_answer *answer_out,
                        char id_out[JOB_ID_MAX + 1]);

/* For good. */
int protocol_dead_drop(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct dead_filter *filter,
                       enum dead_answer *answer_out);
/* Up to `count` of the oldest; returns how many. */
int protocol_dead_drop_oldest(const struct protocol *p, struct redis *r,
                              int64_t deadline_ms, int count);

#endif
