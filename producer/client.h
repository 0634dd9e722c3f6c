/* producer/client.h -- talking to Redis for the verbs.
 *
 * Reads and enqueues ride out a short absence of Redis (restart, failover):
 * they reconnect and repeat for up to CLIENT_RETRY_MS. The first connect does
 * not: someone who mistyped an address wants to know at once.
 *
 * Threads:  one.
 * Errors:   negated errno; client->why says it in words for text_say().
 */
#ifndef PRODUCER_CLIENT_H
#define PRODUCER_CLIENT_H

#include "common/protocol.h"
#include "common/settings.h"

#define CLIENT_RETRY_MS   15000
#define CLIENT_RECHECK_MS 2000 /* between looks at a hash while waiting */

struct client {
    const struct settings *settings;
    struct protocol protocol;
    struct redis_target target;
    struct redis *redis;
    char why[600];
};

/* What a job's hash says. */
struct client_job {
    bool found, ended;
    char status[24];
    double due_at; /* unix s, of one that is delayed; else 0 */
    char *result;  /* JSON text or NULL; free with client_job_fini() */
};

/* Parses the address and connects. */
int client_open(struct client *c, const struct settings *settings);
void client_close(struct client *c);

/* Another connection to the same Redis, connected. */
int client_second(struct client *c, struct redis **redis_out);

/* One read-only command with retries; an error reply is -EPROTO and in why.
 * Arguments as for redis_callv(). */
int client_ask(struct client *c, redisReply **reply_out, int argc,
               const char **argv);

/* HMGET <hash of each id> field [field2], pipelined, CLIENT_PIPELINE_MAX at a
 * time; take() gets each reply once, in order. */
#define CLIENT_PIPELINE_MAX 256
typedef void client_take_fn(void *ctx, size_t i, const redisReply *reply);
int client_ask_each(struct client *c, const char *const *ids, size_t count,
                    const char *field, const char *field2, client_take_fn *take,
                    void *ctx);

int client_enqueue(struct client *c, const struct enqueue *e,
                   enum enqueue_answer *answer_out);

/* The same for many in one go, each with a nonce. All of them are answered, or
 * none may be relied on. */
int client_enqueue_all(struct client *c, const struct enqueue *list, int count,
                       enum enqueue_answer *answers_out);

/* protocol_cancel() through the queues of the settings, with retries. */
int client_cancel(struct client *c, const char *id, struct cancel *cancel_out);

/* The hash of one job; its result only when asked for and ended. */
int client_job(struct client *c, const char *id, bool with_result,
               struct client_job *job_out);
void client_job_fini(struct client_job *job);

/* Is this one of the final statuses? */
bool client_ended(const char *status);

/* How many workers hold a lease; negative: not known. */
int64_t client_workers(struct client *c);
/* Redis' clock, unix s; -1: not told. */
double client_now(struct client *c);

/* Waits until the job has ended. deadline_ms 0: for ever. -ETIMEDOUT; -ENOENT
 * if there is no such job (with a deadline, one may still appear until then).
 * job_out has the result. */
int client_wait(struct client *c, const char *id, int64_t deadline_ms,
                struct client_job *job_out);

#endif
