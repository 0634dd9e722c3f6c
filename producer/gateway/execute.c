#include "producer/gateway/execute.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/protocol_call.h"
#include "common/scope.h"
#include "producer/client.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/cancel.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/slots.h"
#include "producer/gateway/submit.h"

struct execution {
    struct request *request;
    struct apijob job;
    struct submission submission;
    struct waiter waiter;
    struct slot *slot;
    int64_t answer_by_ms; /* then 202; 0: at once */
    bool duplicate;       /* there was a job with this id before */
    bool code_differs;    /* from its, as far as that was kept */
    char id[JOB_ID_MAX + 1];
};

static void free_execution(void *state)
{
    struct execution *x = state;

    waiters_remove(&x->waiter);
    apijob_fini(&x->job);
    free(x);
}

/* ---- Prefer (RFC 7240) -------------------------------------------------- */

#define PREFER_VALUE_MAX 32 /* of those that mean something here */

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t");
}

/* A token or a quoted string, without its quotes and as far as there is room.
 * Returns what is behind it. */
static const char *take_word(const char *s, char out[PREFER_VALUE_MAX])
{
    bool quoted = *s == '"';
    size_t n = 0;

    for (s += quoted; *s && (quoted ? *s != '"' : !strchr(" \t,;", *s)); s++) {
        s += quoted && *s == '\\' && s[1];
        if (n < PREFER_VALUE_MAX - 1)
            out[n++] = *s;
    }
    out[n] = '\0';
    return quoted && *s ? s + 1 : s;
}

/* Over parameters and whatever else, to the comma or the end. */
static const char *skip_rest(const char *s)
{
    char word[PREFER_VALUE_MAX];

    while (*s && *s != ',')
        s = *s == '"' ? take_word(s, word) : s + 1;
    return s;
}

/* -1: no number of seconds. */
static double read_seconds(const char *text)
{
    size_t whole = strspn(text, "0123456789");
    size_t part =
        text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    double seconds;

    if (whole == 0 || text[whole + (part > 0 ? part + 1 : 0)])
        return -1;
    seconds = strtod(text, NULL);
    return seconds < EXECUTE_WAIT_S ? seconds : EXECUTE_WAIT_S;
}

static bool is_word(const char *s, size_t size, const char *word)
{
    return size == strlen(word) && !strncasecmp(s, word, size);
}

double execute_prefer(const char *header)
{
    bool async = false, waits = false;
    double wait = -1;

    while (header && *header) {
        char value[PREFER_VALUE_MAX] = "";
        const char *name = header + strspn(header, " \t,");
        size_t size = strcspn(name, " \t,;=");

        header = skip_blanks(name + size);
        if (*header == '=')
            header = take_word(skip_blanks(header + 1), value);
        header = skip_rest(header);
        async = async || (is_word(name, size, "respond-async") && !*value);
        /* Of several the first one counts. */
        if (!waits && is_word(name, size, "wait")) {
            waits = true;
            wait = read_seconds(value);
        }
    }
    return wait < 0 && async ? 0 : wait;
}

/* ---- answers ------------------------------------------------------------ */

void execute_answer_id(struct request *r, unsigned status, const char *id,
                       const char *job_status, const char *more)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    strbuf_addf(&json,
                "{\"job_id\":\"%s\",\"status\":\"%s\",\"status_url\":"
                "\"/api/v1/e2b/jobs/%s\"%s}\n",
                id, job_status, id, more);
    request_answer_json(r, status, &json);
}

/* The job goes on, but nobody will be told. */
static void answer_unfinished(struct request *r, const char *id,
                              const char *code, const char *message)
{
    AUTO_STRBUF struct strbuf more = STRBUF_INIT;

    strbuf_addf(&more, ",\"error\":{\"code\":\"%s\",\"message\":\"%s\"}", code,
                message);
    r->retry_after_s = REQUEST_RETRY_S;
    execute_answer_id(r, 503, id, "unknown", more.text ? more.text : "");
}

/* Members of an answer that may be about other code than was sent. */
static const char *said_of(const struct execution *x)
{
    return x->code_differs ? ",\"duplicate\":true,\"code_differs\":true"
           : x->duplicate  ? ",\"duplicate\":true"
                           : "";
}

/* The result as it was written, but for what is said behind its last member. */
static void answer_result(const struct execution *x, const redisReply *fields)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    const redisReply *result = fields->element[WAITERS_RESULT];
    const char *status = fields->element[WAITERS_STATUS]->str;
    size_t size = (size_t)result->len;

    if (result->type != REDIS_REPLY_STRING)
        strbuf_addf(&json,
                    "{\"job_id\":\"%s\",\"success\":false,\"status\":\"%s\","
                    "\"verdict\":\"%s\",\"error\":\"%s before it ran\"%s}",
                    x->id, status, status, status, said_of(x));
    else if (size > 1 && result->str[size - 1] == '}') {
        strbuf_add(&json, result->str, size - 1);
        strbuf_addf(&json, "%s}", said_of(x));
    } else {
        strbuf_add(&json, result->str, size);
    }
    strbuf_addc(&json, '\n');
    request_answer_json(x->request, 200, &json);
}

/* ---- while it waits ----------------------------------------------------- */

static void on_end(struct waiter *w, int rc, const redisReply *fields)
{
    struct execution *x = w->ctx;
    struct request *r = x->request;

    if (rc == -ENOENT)
        answer_unfinished(r, x->id, "job_lost",
                          "Redis no longer knows this job");
    else if (rc < 0)
        answer_unfinished(r, x->id, "redis_unavailable",
                          "Redis cannot be reached; the job may still run");
    else if (!request_may_see(r, fields->element[WAITERS_TENANT]))
        request_answer_error(r, 409, "id_taken", "id",
                             "there is another job with this id");
    else
        answer_result(x, fields);
}

/* Another one's job is theirs to cancel. */
static void leave(struct execution *x)
{
    if (x->job.cancel_on_disconnect && !x->duplicate)
        cancel_quietly(x->request->gateway, x->id);
    request_drop(x->request);
}

static void on_abandon(struct request *r, enum abandon why)
{
    struct execution *x = r->state;

    waiters_remove(&x->waiter);
    if (why == ABANDON_GONE)
        leave(x);
    else
        answer_unfinished(r, x->id, "shutting_down",
                          "the gateway is ending; the job goes on");
}

enum { LOOK_CODE = WAITERS_FIELDS, LOOK_FIELDS };

static int ask_hash(struct execution *x, link_done_fn *done)
{
    struct gateway *g = x->request->gateway;
    char key[KEY_MAX];
    const char *argv[] = {
        "HMGET",  protocol_key(&g->protocol, key, "job", x->id),
        "status", "result",
        "tenant", "verdict",
        "code"};

    return link_ask(&g->link, done, x, 2 + LOOK_FIELDS, argv);
}

static const char *status_in(const redisReply *fields)
{
    const redisReply *status = fields->element[WAITERS_STATUS];

    return status->type == REDIS_REPLY_STRING ? status->str : "unknown";
}

/* It has waited for as long as was said. */
static void on_overdue(void *ctx, int rc, redisReply **reply)
{
    struct execution *x = ctx;
    bool known = rc == 0 && reply_failure(*reply) == 0 &&
                 reply_is_array(*reply, LOOK_FIELDS);
    const char *status = known ? status_in(*reply) : "unknown";

    if (client_ended(status))
        answer_result(x, *reply);
    else if (x->request->gone)
        leave(x);
    else
        execute_answer_id(x->request, 202, x->id, status, said_of(x));
}

static void on_tick(struct request *r, int64_t now_ms)
{
    struct execution *x = r->state;
    int rc;

    if (now_ms < x->answer_by_ms || !x->waiter.job)
        return;
    waiters_remove(&x->waiter);
    /* It must live to see the reply. */
    r->abandon = NULL;
    r->tick = NULL;
    rc = ask_hash(x, on_overdue);
    if (rc < 0)
        on_overdue(x, rc, &(redisReply *){NULL});
}

static void begin_waiting(struct execution *x)
{
    struct request *r = x->request;

    strbuf_fini(&x->job.text);
    job_destroy(TAKE(x->job.job));
    request_release_body(r);
    r->abandon = on_abandon;
    r->tick = on_tick;
    request_watch(r);
}

/* ---- submitting --------------------------------------------------------- */

/* Its code is kept up to a size, and of jobs that were not just pushed. */
static bool has_other_code(const struct execution *x, const redisReply *kept)
{
    const struct job *job = x->job.job;

    return kept->type == REDIS_REPLY_STRING &&
           ((size_t)kept->len != job->code_bytes ||
            memcmp(kept->str, job->code, job->code_bytes) != 0);
}

/* There was a job with this id before. */
static void on_look(void *ctx, int rc, redisReply **reply)
{
    struct execution *x = ctx;
    struct request *r = x->request;
    const redisReply *fields = *reply;

    if (rc == 0)
        rc = reply_failure(fields);
    if (rc < 0 || !reply_is_array(fields, LOOK_FIELDS)) {
        request_answer_redis(r, rc < 0 ? rc : -EPROTO);
        return;
    }
    x->duplicate = true;
    x->code_differs = has_other_code(x, fields->element[LOOK_CODE]);
    if (!request_may_see(r, fields->element[WAITERS_TENANT])) {
        request_answer_error(r, 409, "id_taken", "id",
                             "there is another job with this id");
    } else if (x->answer_by_ms == 0) {
        execute_answer_id(r, 202, x->id, status_in(fields), said_of(x));
    } else {
        begin_waiting(x);
        waiters_look(&x->waiter);
    }
}

static void look_at_other(struct execution *x)
{
    int rc = ask_hash(x, on_look);

    if (rc < 0)
        request_answer_redis(x->request, rc);
}

/* Whoever takes it will put it aside until then. */
static bool is_for_later(const struct job *job)
{
    return job->delay_s > 0 || job->run_at > clock_unix_s();
}

static void on_accepted(struct execution *x)
{
    slot_keep(x->slot);
    if (x->answer_by_ms == 0) {
        execute_answer_id(x->request, 202, x->id,
                          is_for_later(x->job.job) ? "delayed" : "queued", "");
        return;
    }
    waiters_there(&x->waiter);
    begin_waiting(x);
}

static void on_submitted(struct submission *s, int rc,
                         enum enqueue_answer answer)
{
    struct execution *x = s->ctx;

    if (rc == 0 && answer == ENQUEUE_ACCEPTED) {
        on_accepted(x);
        return;
    }
    slot_drop(TAKE(x->slot));
    if (rc == 0 && answer == ENQUEUE_DUPLICATE) {
        look_at_other(x);
        return;
    }
    waiters_remove(&x->waiter);
    if (answer != ENQUEUE_NOT_THEIRS)
        x->request->retry_after_s = REQUEST_RETRY_S;
    if (rc < 0)
        request_answer_redis(x->request, rc);
    else if (answer == ENQUEUE_NOT_THEIRS)
        request_answer_error(x->request, 409, "batch_taken", "batch_id",
                             "there is another batch with this id");
    else
        request_answer_error(
            x->request, 503, "queue_full", "queue",
            "queue %s holds %lld jobs; try again later", x->job.queue,
            (long long)x->request->gateway->settings->api_queue_max);
}

/* Waits before it asks, so that no message comes too early; held, as another
 * one's look at this id may come back before Redis said whose it is. */
static int submit(struct execution *x)
{
    struct request *r = x->request;
    struct gateway *g = r->gateway;
    int rc = slot_take(&g->waiters, r->holder, g->settings->api_jobs_per_key,
                       x->id, &x->slot);

    if (rc < 0)
        return rc;
    x->waiter = (struct waiter){.done = on_end, .ctx = x, .held = true};
    if (x->answer_by_ms > 0)
        rc = waiters_add(&g->waiters, x->id, &x->waiter);
    x->submission = (struct submission){
        .gateway = g,
        .job = &x->job,
        .tenant = r->holder ? r->holder->name : NULL,
        .done = on_submitted,
        .ctx = x,
    };
    if (rc == 0)
        rc = submit_send(&x->submission);
    if (rc < 0)
        slot_drop(TAKE(x->slot));
    return rc;
}

static enum MHD_Result add_line(void *cls, enum MHD_ValueKind kind,
                                const char *name, const char *value)
{
    struct strbuf *list = cls;

    (void)kind;
    if (!strcasecmp(name, "Prefer"))
        strbuf_addf(list, "%s, ", value ? value : "");
    return MHD_YES;
}

/* Several lines are one list. */
static double preferred_wait(const struct request *r)
{
    AUTO_STRBUF struct strbuf list = STRBUF_INIT;

    if (!request_header(r, "Prefer"))
        return -1;
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, add_line, &list);
    return execute_prefer(list.text);
}

static void choose_wait(struct execution *x)
{
    double wait = preferred_wait(x->request);

    if (x->job.async || wait == 0)
        return;
    if (wait < 0)
        wait = EXECUTE_WAIT_S;
    x->answer_by_ms = clock_ms() + (int64_t)(wait * 1000);
}

static void answer_failure(struct request *r, int rc)
{
    if (rc != -EAGAIN) {
        request_answer_redis(r, rc);
        return;
    }
    r->retry_after_s = REQUEST_RETRY_S;
    request_answer_error(r, 429, "too_many_jobs", NULL,
                         "%lld jobs of this key have not ended yet",
                         (long long)r->gateway->settings->api_jobs_per_key);
}

static void execute(struct request *r, bool dynamic)
{
    struct apijob_rules rules = {.tenant = r->holder ? r->holder->name : NULL,
                                 .dynamic = dynamic,
                                 .settings = r->gateway->settings};
    struct execution *x = calloc(1, sizeof(*x));
    struct complaint why = {0};
    int rc;

    if (!x) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    x->request = r;
    r->state = x;
    r->free_state = free_execution;
    rc = apijob_build(r->body.text ? r->body.text : "", r->body.len, &rules,
                      &x->job, &why);
    strbuf_fini(&r->body);
    if (rc < 0) {
        request_answer_complaint(r, rc, &why);
        return;
    }
    strcpy(x->id, x->job.job->id);
    choose_wait(x);
    rc = submit(x);
    if (rc < 0)
        answer_failure(r, rc);
}

void execute_job(struct request *r)
{
    execute(r, false);
}

void execute_dynamic(struct request *r)
{
    execute(r, true);
}
