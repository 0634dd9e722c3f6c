#include "producer/gateway/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/slots.h"
#include "producer/gateway/submit.h"

#define BATCH_MS 5000

struct entry {
    struct submission submission;
    struct batch *batch;
    struct slot *slot;
    int rc;
    enum enqueue_answer answer;
};

struct batch {
    struct request *request;
    struct errand errand;
    struct apijob *jobs;
    struct entry *entries;
    size_t count, pending, accepted;
    int first_rc;
    char id[JOB_ID_MAX + 1];
};

static void free_batch(void *state)
{
    struct batch *b = state;

    apijob_free_batch(b->jobs, b->count);
    free(b->entries);
    free(b);
}

static bool is_there(const struct entry *e)
{
    return e->rc == 0 &&
           (e->answer == ENQUEUE_ACCEPTED || e->answer == ENQUEUE_DUPLICATE);
}

static bool is_duplicate(const struct entry *e)
{
    return e->rc == 0 && e->answer == ENQUEUE_DUPLICATE;
}

static bool is_rejected(const struct entry *e)
{
    return !is_there(e);
}

/* ,"duplicates":["id"…] */
static void add_ids(const struct batch *b, struct strbuf *json,
                    const char *name, bool (*takes)(const struct entry *))
{
    const char *comma = "";

    strbuf_addf(json, ",\"%s\":[", name);
    for (size_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];

        if (!takes(e))
            continue;
        strbuf_addf(json, "%s\"%s\"", comma, b->jobs[i].job->id);
        comma = ",";
    }
    strbuf_addc(json, ']');
}

static void answer(struct batch *b)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    strbuf_addf(&json,
                "{\"batch_id\":\"%s\",\"status\":\"%s\",\"total\":%zu,"
                "\"status_url\":\"/api/v1/e2b/batch/%s\"",
                b->id, b->accepted > 0 ? "queued" : "completed", b->accepted,
                b->id);
    add_ids(b, &json, "job_ids", is_there);
    add_ids(b, &json, "duplicates", is_duplicate);
    add_ids(b, &json, "rejected", is_rejected);
    strbuf_adds(&json, "}\n");
    request_answer_json(b->request, 202, &json);
}

static int create(struct errand *e, const struct protocol *p, struct redis *r)
{
    const struct batch *b = e->ctx;

    return protocol_batch_create(p, r, clock_ms() + BATCH_MS, b->id,
                                 (int64_t)b->accepted);
}

static void created(struct errand *e)
{
    struct batch *b = e->ctx;

    if (e->rc < 0)
        request_answer_redis(b->request, e->rc);
    else
        answer(b);
}

static void finish(struct batch *b)
{
    int rc = b->first_rc;

    if (rc == 0 && b->accepted == 0 && b->entries[0].answer == ENQUEUE_FULL) {
        b->request->retry_after_s = REQUEST_RETRY_S;
        request_answer_error(b->request, 503, "queue_full", "jobs[0].queue",
                             "the queue is full; try again later");
        return;
    }
    b->errand = (struct errand){.run = create, .done = created, .ctx = b};
    if (rc == 0)
        rc = errands_add(&b->request->gateway->errands, &b->errand);
    if (rc < 0)
        request_answer_redis(b->request, rc);
}

static void on_submitted(struct submission *s, int rc,
                         enum enqueue_answer answered)
{
    struct entry *e = s->ctx;
    struct batch *b = e->batch;

    e->rc = rc;
    e->answer = answered;
    if (rc < 0 && b->first_rc == 0)
        b->first_rc = rc;
    if (rc == 0 && answered == ENQUEUE_ACCEPTED) {
        b->accepted++;
        slot_keep(e->slot);
    } else {
        slot_drop(e->slot);
    }
    if (--b->pending == 0)
        finish(b);
}

/* One that cannot be sent ends as if it had been refused. */
static void send_all(struct batch *b)
{
    struct request *r = b->request;
    struct gateway *g = r->gateway;

    b->pending = b->count;
    for (size_t i = 0; i < b->count; i++) {
        struct entry *e = &b->entries[i];
        int rc;

        e->batch = b;
        e->submission = (struct submission){
            .gateway = g,
            .job = &b->jobs[i],
            .tenant = r->holder ? r->holder->name : NULL,
            .counted = true,
            .done = on_submitted,
            .ctx = e,
        };
        rc = slot_take(&g->waiters, r->holder, 0, b->jobs[i].job->id, &e->slot);
        if (rc == 0)
            rc = submit_send(&e->submission);
        if (rc < 0)
            on_submitted(&e->submission, rc, ENQUEUE_FULL);
    }
}

/* False: answered. One that is too large by itself never fits. */
static bool fits_key(struct batch *b)
{
    struct request *r = b->request;
    int64_t most = r->gateway->settings->api_jobs_per_key;

    if (!r->holder || most == 0 || r->holder->jobs + (int64_t)b->count <= most)
        return true;
    if ((int64_t)b->count > most) {
        request_answer_error(r, 413, "batch_too_large", "jobs",
                             "%zu jobs; this key may have %lld that have not "
                             "ended: send no more than that in a batch",
                             b->count, (long long)most);
        return false;
    }
    r->retry_after_s = REQUEST_RETRY_S;
    request_answer_error(r, 429, "too_many_jobs", "jobs",
                         "%zu jobs on top of %lld that have not ended; this "
                         "key may have %lld",
                         b->count, (long long)r->holder->jobs, (long long)most);
    return false;
}

static int read_jobs(struct batch *b, struct complaint *why)
{
    struct request *r = b->request;
    struct apijob_rules rules = {.tenant = r->holder ? r->holder->name : NULL,
                                 .batch_id = b->id,
                                 .settings = r->gateway->settings};
    int rc = protocol_make_job_id(b->id);

    if (rc < 0)
        return rc;
    b->id[0] = 'b';
    rc = apijob_build_batch(r->body.text ? r->body.text : "", r->body.len,
                            &rules, &b->jobs, &b->count, why);
    if (rc < 0)
        return rc;
    b->entries = calloc(b->count, sizeof(*b->entries));
    return b->entries ? 0 : -ENOMEM;
}

void batch_submit(struct request *r)
{
    struct batch *b = calloc(1, sizeof(*b));
    struct complaint why = {0};
    int rc;

    if (!b) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    b->request = r;
    r->state = b;
    r->free_state = free_batch;
    rc = read_jobs(b, &why);
    strbuf_fini(&r->body);
    if (rc < 0)
        request_answer_complaint(r, rc, &why);
    else if (fits_key(b))
        send_all(b);
}
