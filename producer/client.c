#include "producer/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "producer/done.h"

static int explain(struct client *c, const struct redis *redis, int rc)
{
    /* A connection that still stands means that Redis answered, and how. */
    const char *words = redis_connected(redis) ? protocol_error() : "";

    snprintf(c->why, sizeof(c->why), "%s%s", *words ? "Redis says: " : "",
             *words ? words : redis_error(redis));
    return rc;
}

int client_open(struct client *c, const struct settings *settings)
{
    struct complaint why = {0};
    int rc;

    *c = (struct client){.settings = settings};
    rc = protocol_init(&c->protocol, settings->prefix, settings->result_ttl_s,
                       settings->lease_ms);
    if (rc < 0) {
        snprintf(c->why, sizeof(c->why), "the prefix will not do: %s",
                 strerror(-rc));
        return rc;
    }
    rc = redis_target_parse(settings->redis_url, settings, &c->target, &why);
    if (rc < 0) {
        complaint_print(&why, c->why, sizeof(c->why));
        return rc;
    }
    return client_second(c, &c->redis);
}

void client_close(struct client *c)
{
    redis_destroy(c->redis);
    redis_target_fini(&c->target);
    c->redis = NULL;
}

int client_second(struct client *c, struct redis **redis_out)
{
    struct redis *redis = NULL;
    int rc = redis_create(&c->target, "capibox-cli", &redis);

    if (rc < 0) {
        snprintf(c->why, sizeof(c->why), "%s", strerror(-rc));
        return rc;
    }
    rc = redis_connect(redis, clock_ms() + REDIS_CONNECT_TIMEOUT_MS);
    if (rc < 0) {
        explain(c, redis, rc);
        redis_destroy(redis);
        return rc;
    }
    *redis_out = redis;
    return 0;
}

/* Is it worth another try? Waits as long as the backoff says, then reconnects.
 */
static bool again(struct client *c, int rc, int64_t give_up_ms,
                  struct backoff *backoff)
{
    int wait;

    if (rc == -EACCES || rc == -EKEYREJECTED || rc == -ENOMEM ||
        rc == -EPROTO || rc == -ENOSPC)
        return false;
    wait = backoff_next_ms(backoff);
    if (clock_ms() + wait >= give_up_ms)
        return false;
    poll(NULL, 0, wait);
    if (!redis_connected(c->redis))
        redis_connect(c->redis, clock_ms() + REDIS_CONNECT_TIMEOUT_MS);
    return true;
}

/* An error reply as an errno, its words in why. */
static int check_reply(struct client *c, const redisReply *reply)
{
    enum redis_kind kind = redis_kind(reply);

    if (kind == REDIS_FINE)
        return 0;
    snprintf(c->why, sizeof(c->why), "Redis says: %.*s", (int)reply->len,
             reply->str);
    if (kind == REDIS_MOVED)
        redis_close(c->redis);
    return kind == REDIS_LATER || kind == REDIS_MOVED ? -EAGAIN : -EPROTO;
}

int client_ask(struct client *c, redisReply **reply_out, int argc,
               const char **argv)
{
    int64_t give_up = clock_ms() + CLIENT_RETRY_MS;
    struct backoff backoff = {0};
    int rc;

    do {
        redisReply *reply = NULL;

        rc = redis_call(c->redis, clock_ms() + REDIS_CALL_TIMEOUT_MS, &reply,
                        argc, argv, NULL);
        if (rc < 0) {
            explain(c, c->redis, rc);
            continue;
        }
        rc = check_reply(c, reply);
        if (rc == 0) {
            *reply_out = reply;
            return 0;
        }
        freeReplyObject(reply);
    } while (again(c, rc, give_up, &backoff));
    return rc;
}

static int append_each(struct client *c, const char *const *ids, size_t count,
                       const char *field, const char *field2)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        char key[KEY_MAX];
        const char *argv[] = {"HMGET",
                              protocol_key(&c->protocol, key, "job", ids[i]),
                              field, field2};

        rc = redis_append(c->redis, field2 ? 4 : 3, argv, NULL);
    }
    return rc;
}

/* One pipeline. *taken_io counts what take() has had: a repeat after a lost
 * connection goes on from there. */
static int ask_some(struct client *c, const char *const *ids, size_t count,
                    const char *field, const char *field2, size_t *taken_io,
                    client_take_fn *take, void *ctx)
{
    int64_t deadline = clock_ms() + REDIS_CALL_TIMEOUT_MS;
    size_t from = *taken_io;
    size_t n = count - from;
    int rc;

    if (n > CLIENT_PIPELINE_MAX)
        n = CLIENT_PIPELINE_MAX;
    rc = append_each(c, ids + from, n, field, field2);
    if (rc == 0)
        rc = redis_flush(c->redis, deadline);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        redisReply *reply = NULL;

        rc = redis_reply(c->redis, deadline, &reply);
        if (rc < 0)
            break;
        rc = check_reply(c, reply);
        if (rc == 0)
            take(ctx, (*taken_io)++, reply);
        else
            redis_close(c->redis); /* the other replies belong to nobody */
        freeReplyObject(reply);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? explain(c, c->redis, rc) : 0;
}

int client_ask_each(struct client *c, const char *const *ids, size_t count,
                    const char *field, const char *field2, client_take_fn *take,
                    void *ctx)
{
    int64_t give_up = clock_ms() + CLIENT_RETRY_MS;
    struct backoff backoff = {0};
    size_t taken = 0;

    while (taken < count) {
        int rc = ask_some(c, ids, count, field, field2, &taken, take, ctx);

        if (rc < 0 && !again(c, rc, give_up, &backoff))
            return rc;
        if (rc == 0)
            give_up = clock_ms() + CLIENT_RETRY_MS;
    }
    return 0;
}

int client_enqueue(struct client *c, const struct enqueue *e,
                   enum enqueue_answer *answer_out)
{
    int64_t give_up = clock_ms() + CLIENT_RETRY_MS;
    struct backoff backoff = {0};
    int rc;

    do {
        rc =
            protocol_enqueue(&c->protocol, c->redis,
                             clock_ms() + REDIS_CALL_TIMEOUT_MS, e, answer_out);
        if (rc == 0)
            return 0;
        explain(c, c->redis, rc);
    } while (again(c, rc, give_up, &backoff));
    return rc;
}

/* All replies are read, also behind a bad one. */
static int read_answers(struct client *c, int64_t deadline, int count,
                        enum enqueue_answer *answers)
{
    int first = 0;

    for (int i = 0; i < count; i++) {
        redisReply *reply = NULL;
        int rc = redis_reply(c->redis, deadline, &reply);

        if (rc < 0)
            return rc;
        rc = protocol_enqueue_parse(reply, &answers[i]);
        freeReplyObject(reply);
        first = first ? first : rc;
    }
    return first;
}

static int enqueue_once(struct client *c, const struct enqueue *list, int count,
                        bool by_text, enum enqueue_answer *answers)
{
    int64_t deadline = clock_ms() + CLIENT_RETRY_MS;
    int rc = 0;

    for (int i = 0; rc == 0 && i < count; i++)
        rc = protocol_enqueue_append(&c->protocol, c->redis, &list[i], by_text);
    if (rc == 0)
        rc = redis_flush(c->redis, deadline);
    if (rc == 0)
        rc = read_answers(c, deadline, count, answers);
    return rc;
}

int client_enqueue_all(struct client *c, const struct enqueue *list, int count,
                       enum enqueue_answer *answers_out)
{
    int64_t give_up = clock_ms() + CLIENT_RETRY_MS;
    struct backoff backoff = {0};
    int rc;

    do {
        rc = enqueue_once(c, list, count, false, answers_out);
        if (rc == -ESTALE)
            rc = enqueue_once(c, list, count, true, answers_out);
        if (rc == 0)
            return 0;
        explain(c, c->redis, rc);
    } while (again(c, rc, give_up, &backoff));
    return rc;
}

int client_cancel(struct client *c, const char *id, struct cancel *cancel_out)
{
    int64_t give_up = clock_ms() + CLIENT_RETRY_MS;
    struct backoff backoff = {0};
    int rc;

    do {
        rc = protocol_cancel(
            &c->protocol, c->redis, clock_ms() + REDIS_CALL_TIMEOUT_MS, id,
            c->settings->queues, c->settings->nqueues, cancel_out);
        if (rc == 0)
            return 0;
        explain(c, c->redis, rc);
    } while (again(c, rc, give_up, &backoff));
    return rc;
}

bool client_ended(const char *status)
{
    static const char *const finals[] = {"succeeded", "failed", "cancelled",
                                         "expired", "dead"};

    for (size_t i = 0; i < sizeof(finals) / sizeof(finals[0]); i++)
        if (!strcmp(status, finals[i]))
            return true;
    return false;
}

static int take_job(const redisReply *reply, struct client_job *job)
{
    const redisReply *status, *due, *result;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return -EPROTO;
    status = reply->element[0];
    due = reply->element[1];
    if (status->type != REDIS_REPLY_STRING)
        return 0;
    job->found = true;
    snprintf(job->status, sizeof(job->status), "%s", status->str);
    job->ended = client_ended(job->status);
    if (due->type == REDIS_REPLY_STRING && !strcmp(job->status, "delayed"))
        job->due_at = strtod(due->str, NULL);
    result = reply->elements > 2 ? reply->element[2] : NULL;
    if (!job->ended || !result || result->type != REDIS_REPLY_STRING)
        return 0;
    job->result = strndup(result->str, (size_t)result->len);
    return job->result ? 0 : -ENOMEM;
}

int client_job(struct client *c, const char *id, bool with_result,
               struct client_job *job_out)
{
    char key[KEY_MAX];
    const char *argv[] = {"HMGET", protocol_key(&c->protocol, key, "job", id),
                          "status", "due_at", "result"};
    redisReply *reply = NULL;
    int rc = client_ask(c, &reply, with_result ? 5 : 4, argv);

    *job_out = (struct client_job){0};
    if (rc < 0)
        return rc;
    rc = take_job(reply, job_out);
    freeReplyObject(reply);
    return rc;
}

void client_job_fini(struct client_job *job)
{
    free(job->result);
    *job = (struct client_job){0};
}

double client_now(struct client *c)
{
    const char *argv[] = {"TIME"};
    redisReply *reply = NULL;
    double now = -1;

    if (client_ask(c, &reply, 1, argv) < 0)
        return -1;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2)
        now = strtod(reply->element[0]->str, NULL) +
              strtod(reply->element[1]->str, NULL) / 1e6;
    freeReplyObject(reply);
    return now;
}

int64_t client_workers(struct client *c)
{
    char key[KEY_MAX];
    const char *argv[] = {"ZCARD", protocol_key(&c->protocol, key, "wk", NULL)};
    redisReply *reply = NULL;
    int64_t count = -1;

    if (client_ask(c, &reply, 2, argv) < 0)
        return -1;
    if (reply->type == REDIS_REPLY_INTEGER)
        count = reply->integer;
    freeReplyObject(reply);
    return count;
}

static bool passed(int64_t deadline_ms)
{
    return deadline_ms > 0 && clock_ms() >= deadline_ms;
}

/* Looks; 1: it has ended. Else *job_out is empty again. */
static int look(struct client *c, const char *id, int64_t deadline_ms,
                struct client_job *job_out)
{
    bool found;
    int rc = client_job(c, id, true, job_out);

    if (rc < 0)
        return rc;
    if (job_out->ended)
        return 1;
    found = job_out->found;
    client_job_fini(job_out);
    if (!found && (deadline_ms == 0 || passed(deadline_ms))) {
        snprintf(c->why, sizeof(c->why), "no such job: %s", id);
        return -ENOENT;
    }
    if (passed(deadline_ms)) {
        snprintf(c->why, sizeof(c->why), "%s has not ended yet", id);
        return -ETIMEDOUT;
    }
    return 0;
}

/* Until a message names the id, or it is time to look without one. */
static void doze(struct done *done, struct client *c, const char *id,
                 int64_t deadline_ms)
{
    int64_t until = clock_ms() + CLIENT_RECHECK_MS;
    char ended[JOB_ID_MAX + 1];

    if (deadline_ms > 0 && deadline_ms < until)
        until = deadline_ms;
    while (done_next(done, c, until, ended) > 0)
        if (!strcmp(ended, id))
            return;
    if (!redis_connected(done->redis))
        done_next(done, c, until, ended);
}

int client_wait(struct client *c, const char *id, int64_t deadline_ms,
                struct client_job *job_out)
{
    struct done done;
    int rc = look(c, id, deadline_ms, job_out);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = done_open(&done, c);
    /* The second look, after subscribing, is what no message can be missed
     * before. */
    while (rc == 0) {
        rc = look(c, id, deadline_ms, job_out);
        if (rc == 0)
            doze(&done, c, id, deadline_ms);
    }
    done_close(&done);
    return rc < 0 ? rc : 0;
}
