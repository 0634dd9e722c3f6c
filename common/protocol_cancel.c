/* Cancelling: asking for a job's end, and ending one where it waits. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/job.h"
#include "common/protocol_call.h"
#include "common/result.h"
#include "common/scope.h"

#define SETTLE_FIELDS_MAX 12

enum found {
    FOUND_ENDED,
    FOUND_RUNNING,
    FOUND_WAITING,
    FOUND_NOTHING,
    FOUND_FOREIGN,
};

/* What cancel.lua told; the texts are "" if it did not. */
struct finding {
    enum found found;
    int64_t now_ms;
    const char *token, *queue, *score;
};

/* A queue or the delayed set (or that part of it with one score). */
struct place {
    bool delayed;
    const char *queue;
    const char *from, *to; /* scores */
};

/* Where a job was seen waiting. element is borrowed from look.lua's answer. */
struct spot {
    bool delayed;
    const char *queue;
    const char *element;
    size_t element_len;
};

/* A look for a job through all places where it may wait. */
struct search {
    const struct protocol *p;
    struct redis *r;
    const char *job_id, *token;
    int64_t deadline_ms, until_ms; /* of each call; of going on */
    int64_t left;                  /* entries */
};

/* A job that is taken out of where it waits. */
struct settling {
    const char *job_id;
    int64_t now_ms;
    const struct spot *at;
    struct envelope envelope;
    struct job *job;
    struct outcome outcome;
    struct strbuf result;
    char token[TOKEN_MAX + 1];
    struct {
        const char *name;
        char value[JOB_NAME_MAX + 1];
    } fields[SETTLE_FIELDS_MAX];
    int nfields;
};

/* *reply_out keeps what *finding points to. */
static int ask(const struct protocol *p, struct redis *r, int64_t deadline_ms,
               const char *job_id, const struct cancel_by *by,
               struct finding *finding, struct cancel *cancel,
               redisReply **reply_out)
{
    AUTO_WORDS struct words w = {0};
    const redisReply *reply;
    int rc;

    words_script(&w, p, SCRIPT_CANCEL, false);
    words_key(&w, p, "cx", NULL);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_adds(&w, job_id);
    words_addi(&w, TOMBSTONES_MAX);
    words_adds(&w, by ? by->tenant : "");
    words_adds(&w, !by || by->insist ? "k" : "");
    rc = words_call(&w, p, r, deadline_ms, reply_out);
    reply = *reply_out;
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 7) || reply_int(reply, 0) < 0 ||
        reply_int(reply, 0) > FOUND_FOREIGN)
        return -EPROTO;
    *finding = (struct finding){
        .found = (enum found)reply_int(reply, 0),
        .now_ms = reply_int(reply, 3),
        .token = reply_text(reply, 4),
        .queue = reply_text(reply, 5),
        .score = reply_text(reply, 6),
    };
    snprintf(cancel->status, sizeof(cancel->status), "%s",
             reply_text(reply, 1));
    snprintf(cancel->verdict, sizeof(cancel->verdict), "%s",
             reply_text(reply, 2));
    return 0;
}

/* ---- where it waits ------------------------------------------------------ */

static void place_key(struct words *w, const struct protocol *p, bool delayed,
                      const char *queue)
{
    words_key(w, p, delayed ? "delayed" : "queue", delayed ? NULL : queue);
}

static int look_words(const struct search *x, const struct place *place,
                      int64_t at, redisReply **reply_out)
{
    AUTO_WORDS struct words w = {0};
    int64_t n = x->left < CANCEL_LOOK_ENTRIES ? x->left : CANCEL_LOOK_ENTRIES;

    words_script(&w, x->p, SCRIPT_LOOK, false);
    place_key(&w, x->p, place->delayed, place->queue);
    words_keys_end(&w);
    words_adds(&w, x->job_id);
    words_adds(&w, x->token);
    words_addi(&w, at);
    words_addi(&w, n);
    words_addi(&w, CANCEL_LOOK_BYTES);
    if (place->delayed) {
        words_adds(&w, place->from);
        words_adds(&w, place->to);
    }
    return words_call(&w, x->p, x->r, x->deadline_ms, reply_out);
}

/* Piece by piece, so that Redis serves others in between. What is pushed
 * meanwhile moves a queue's entries back, towards where is still to be looked;
 * if one is missed all the same, its start mark is refused.
 * 1: *spot_out is where it waits. 0: not seen. */
static int search_place(struct search *x, const struct place *place,
                        struct spot *spot_out, redisReply **reply_out)
{
    int64_t at = 0;
    bool more = true;

    while (more && x->left > 0 && clock_ms() < x->until_ms) {
        AUTO_REPLY redisReply *reply = NULL;
        int rc = look_words(x, place, at, &reply);

        if (rc < 0)
            return rc;
        if (!reply_is_array(reply, 2) || reply_int(reply, 0) < 0)
            return -EPROTO;
        at += reply_int(reply, 0);
        x->left -= reply_int(reply, 0);
        more = reply_int(reply, 1) == 1;
        if (reply->elements > 2) {
            *spot_out = (struct spot){
                .delayed = place->delayed,
                .queue = place->queue,
                .element = reply_text(reply, 2),
                .element_len = (size_t)reply->element[2]->len,
            };
            *reply_out = TAKE(reply);
            return 1;
        }
    }
    return 0;
}

static int search_queue(struct search *x, const char *name,
                        struct spot *spot_out, redisReply **reply_out)
{
    struct place queue = {.queue = name};

    return search_place(x, &queue, spot_out, reply_out);
}

/* First where it should be. As search_place(). */
static int search(struct search *x, const struct finding *finding,
                  const struct queue_share *queues, int nqueues,
                  struct spot *spot_out, redisReply **reply_out)
{
    struct place due = {true, NULL, finding->score, finding->score};
    struct place all = {true, NULL, "-inf", "+inf"};
    int rc = 0;

    if (finding->score[0])
        rc = search_place(x, &due, spot_out, reply_out);
    if (rc == 0 && finding->queue[0])
        rc = search_queue(x, finding->queue, spot_out, reply_out);
    for (int i = 0; rc == 0 && !finding->queue[0] && i < nqueues; i++)
        rc = search_queue(x, queues[i].name, spot_out, reply_out);
    return rc == 0 ? search_place(x, &all, spot_out, reply_out) : rc;
}

/* ---- ending it there ----------------------------------------------------- */

/* A member of the delayed set is "<queue> <token> <job id or -> <entry>". */
static const char *entry_of(const struct spot *at)
{
    const char *entry = at->element;

    for (int i = 0; at->delayed && i < 3; i++) {
        const char *space = strchr(entry, ' ');

        if (!space)
            return NULL;
        entry = space + 1;
    }
    return entry;
}

/* 1: it is this job. 0: another one, or none that can be read: a worker will
 * say what it is. */
static int read_entry(struct settling *s)
{
    const char *entry = entry_of(s->at), *id;
    char own_id[JOB_ID_MAX + 1];
    struct complaint why;
    size_t len, body;
    int rc;

    if (!entry)
        return 0;
    len = s->at->element_len - (size_t)(entry - s->at->element);
    body = envelope_parse(entry, len, &s->envelope);
    rc = job_parse(entry + body, len - body, &s->job, own_id, &why);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 0;
    id = own_id[0] ? own_id : s->envelope.id;
    return strcmp(id, s->job_id) == 0;
}

static void add_field(struct settling *s, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    s->fields[s->nfields].name = name;
    snprintf(s->fields[s->nfields].value, sizeof(s->fields[0].value), "%s",
             value);
    s->nfields++;
}

static void add_time(struct settling *s, const char *name, double unix_s)
{
    char text[32];

    snprintf(text, sizeof(text), "%.6f", unix_s);
    add_field(s, name, text);
}

static int make_result(struct settling *s)
{
    double now = (double)s->now_ms / 1000;
    double since =
        s->envelope.enqueued_ms ? (double)s->envelope.enqueued_ms / 1000 : now;
    struct result_context context = {
        .job_id = s->job_id,
        .attempt = s->envelope.attempts + 1,
        .enqueued_at = since,
        .finished_at = now,
        .queue_time = now > since ? now - since : 0,
    };

    s->outcome.verdict = VERDICT_CANCELLED;
    s->outcome.timings.queue = context.queue_time;
    outcome_error(&s->outcome, "cancelled before it started");
    add_field(s, "status", verdict_status(VERDICT_CANCELLED));
    add_field(s, "verdict", verdict_name(VERDICT_CANCELLED));
    add_field(s, "success", "0");
    add_time(s, "enqueued_at", since);
    add_time(s, "finished_at", now);
    add_field(s, "error", s->outcome.error);
    add_field(s, "task_type", s->job->task_type);
    add_field(s, "batch_id", s->job->batch_id);
    add_field(s, "tenant", s->job->tenant);
    return result_encode(&context, s->job, NULL, &s->outcome, &s->result);
}

static void settle_keys(struct words *w, const struct protocol *p,
                        const struct settling *s)
{
    const char *batch = s->job->batch_id;

    words_key(w, p, "cx", NULL);
    place_key(w, p, s->at->delayed, s->at->queue);
    words_key(w, p, "job", s->job_id);
    words_key(w, p, "stats", NULL);
    words_minute_key(w, p);
    words_key(w, p, "batch", batch ? batch : "");
    words_key(w, p, "events", s->job_id);
}

static void settle_hash(struct words *w, const struct settling *s)
{
    for (int i = 0; i < s->nfields; i++) {
        words_adds(w, s->fields[i].name);
        words_adds(w, s->fields[i].value);
    }
    words_adds(w, "result");
    words_add(w, s->result.text, s->result.len);
}

static void settle_words(struct words *w, const struct protocol *p,
                         const struct settling *s)
{
    const struct job *job = s->job;

    words_script(w, p, SCRIPT_SETTLE, false);
    settle_keys(w, p, s);
    words_keys_end(w);
    words_adds(w, s->at->delayed ? "d" : "q");
    words_add(w, s->at->element, s->at->element_len);
    words_adds(w, s->envelope.parent);
    words_adds(w, s->token);
    words_adds(w, s->job_id);
    words_adds(w, verdict_name(VERDICT_CANCELLED));
    words_addi(w, p->result_ttl_s * 1000);
    words_key(w, p, "done", NULL);
    words_addi(w, MINUTE_TTL_S);
    words_addf(w, "%s%s", job->batch_id ? "b" : "", job->stream ? "e" : "");
    settle_hash(w, s);
}

/* 1: the job has ended. 0: it is no longer there, or not to be ended here. */
static int settle_read(struct settling *s, const struct protocol *p,
                       struct redis *r, int64_t deadline_ms)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;
    char nonce[JOB_ID_MAX + 1];
    int rc = protocol_make_job_id(nonce);

    if (rc == 0)
        rc = make_result(s);
    if (rc < 0)
        return rc;
    snprintf(s->token, sizeof(s->token), "c.%s", nonce);
    settle_words(&w, p, s);
    rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    return reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
}

/* What has no hash yet says by itself whose it is. */
static bool is_foreign(const struct job *job, const struct cancel_by *by)
{
    return by && job->tenant && strcmp(job->tenant, by->tenant) != 0;
}

/* As settle_read(). -EPERM: it is another tenant's. */
static int settle(const struct search *x, const struct finding *finding,
                  const struct spot *at, const struct cancel_by *by)
{
    struct settling s = {
        .job_id = x->job_id, .now_ms = finding->now_ms, .at = at};
    int rc = outcome_init(&s.outcome, 0);

    if (rc == 0)
        rc = read_entry(&s);
    if (rc == 1)
        rc = is_foreign(s.job, by)
                 ? -EPERM
                 : settle_read(&s, x->p, x->r, x->deadline_ms);
    job_destroy(s.job);
    outcome_fini(&s.outcome);
    strbuf_fini(&s.result);
    return rc;
}

/* It may wait somewhere. */
static int end_it(struct search *x, const struct finding *finding,
                  const struct queue_share *queues, int nqueues,
                  const struct cancel_by *by, enum cancel_answer *answer_io)
{
    AUTO_REPLY redisReply *reply = NULL;
    struct spot spot;
    int rc = search(x, finding, queues, nqueues, &spot, &reply);

    if (rc <= 0)
        return rc;
    rc = settle(x, finding, &spot, by);
    if (rc == 1)
        *answer_io = CANCEL_DONE;
    else if (rc == -EPERM)
        *answer_io = CANCEL_NOT_THEIRS;
    else if (rc == 0 && !by)
        *answer_io = CANCEL_WAITS; /* it was there a moment ago */
    return rc < 0 && rc != -EPERM ? rc : 0;
}

int protocol_cancel(const struct protocol *p, struct redis *r,
                    int64_t deadline_ms, const char *job_id,
                    const struct queue_share *queues, int nqueues,
                    struct cancel *cancel_out)
{
    return protocol_cancel_by(p, r, deadline_ms, job_id, queues, nqueues, NULL,
                              cancel_out);
}

int protocol_cancel_by(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct queue_share *queues, int nqueues,
                       const struct cancel_by *by, struct cancel *cancel_out)
{
    static const enum cancel_answer answers[] = {
        [FOUND_ENDED] = CANCEL_FINISHED,     [FOUND_RUNNING] = CANCEL_SENT,
        [FOUND_WAITING] = CANCEL_WAITS,      [FOUND_NOTHING] = CANCEL_UNKNOWN,
        [FOUND_FOREIGN] = CANCEL_NOT_THEIRS,
    };
    AUTO_REPLY redisReply *reply = NULL;
    struct finding at;
    int rc;

    *cancel_out = (struct cancel){.answer = CANCEL_UNKNOWN};
    if (!job_id_valid(job_id))
        return 0;
    rc = ask(p, r, deadline_ms, job_id, by, &at, cancel_out, &reply);
    if (rc < 0)
        return rc;
    cancel_out->answer = answers[at.found];
    if (at.found != FOUND_WAITING &&
        (at.found != FOUND_NOTHING || (by && by->insist)))
        return 0;

    struct search x = {
        .p = p,
        .r = r,
        .job_id = job_id,
        .token = at.token,
        .deadline_ms = deadline_ms,
        .until_ms = clock_ms() + CANCEL_LOOK_MS,
        .left = at.found == FOUND_WAITING ? INT64_MAX : CANCEL_STRAY_ENTRIES,
    };
    return end_it(&x, &at, queues, nqueues, by, &cancel_out->answer);
}
