#include "producer/gateway/dead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/job.h"
#include "common/json.h"
#include "producer/gateway/execute.h"
#include "producer/gateway/gateway.h"

#define DEAD_MS       5000
#define DEAD_FROM_MAX 1000000
#define DEAD_BODY_MAX 65536 /* bytes of a job's text that are shown */

struct deed {
    struct errand errand;
    struct request *request;
    int64_t from, total;
    int limit;
    const char *comma;
    struct strbuf json;
    char id[JOB_ID_MAX + 1];
    struct dead_filter filter;
    enum dead_answer answer;
};

static void free_deed(void *state)
{
    struct deed *d = state;

    strbuf_fini(&d->json);
    free(d);
}

/* ---- whose is it -------------------------------------------------------- */

/* The tenant is in the job's text, which only its own entry shows; a text cut
 * short or that is no JSON has none. */
static bool is_theirs(void *ctx, const struct dead_entry *entry)
{
    const struct deed *d = ctx;
    const struct holder *holder = d->request->holder;
    const char *body =
        entry->body ? memchr(entry->body, '{', entry->body_len) : NULL;
    const cJSON *tenant;
    cJSON *job;
    bool fits;

    if (!holder || !body)
        return true;
    job = cJSON_ParseWithLength(body,
                                entry->body_len - (size_t)(body - entry->body));
    tenant = cJSON_GetObjectItemCaseSensitive(job, "tenant");
    fits =
        !cJSON_IsString(tenant) || !strcmp(tenant->valuestring, holder->name);
    cJSON_Delete(job);
    return fits;
}

/* ---- in the errands' thread --------------------------------------------- */

static void take_entry(void *ctx, const struct dead_entry *entry)
{
    struct deed *d = ctx;

    strbuf_adds(&d->json, d->comma);
    strbuf_add(&d->json, entry->about, entry->about_len);
    d->comma = ",";
}

/* Who may see an entry is in its text. */
static void take_theirs(void *ctx, const struct dead_entry *entry)
{
    struct deed *d = ctx;

    if (is_theirs(d, entry))
        take_entry(d, entry);
}

static int run_list(struct errand *e, const struct protocol *p, struct redis *r)
{
    struct deed *d = e->ctx;

    if (d->request->holder)
        return protocol_dead_walk(p, r, clock_ms() + DEAD_MS, d->from, d->limit,
                                  take_theirs, d, &d->total);
    return protocol_dead_list(p, r, clock_ms() + DEAD_MS, d->from, d->limit,
                              take_entry, d, &d->total);
}

static void take_whole(void *ctx, const struct dead_entry *entry)
{
    struct deed *d = ctx;
    size_t size =
        entry->body_len < DEAD_BODY_MAX ? entry->body_len : DEAD_BODY_MAX;

    strbuf_adds(&d->json, "{\"about\":");
    strbuf_add(&d->json, entry->about, entry->about_len);
    strbuf_adds(&d->json, ",\"text\":");
    strbuf_add_json(&d->json, entry->body ? entry->body : "", size);
    strbuf_adds(&d->json, "}\n");
}

static int run_show(struct errand *e, const struct protocol *p, struct redis *r)
{
    struct deed *d = e->ctx;

    return protocol_dead_show(p, r, clock_ms() + DEAD_MS, d->id, &d->filter,
                              take_whole, d);
}

static int run_retry(struct errand *e, const struct protocol *p,
                     struct redis *r)
{
    struct deed *d = e->ctx;

    return protocol_dead_retry(p, r, clock_ms() + DEAD_MS, d->id, &d->filter,
                               &d->answer, NULL);
}

static int run_drop(struct errand *e, const struct protocol *p, struct redis *r)
{
    struct deed *d = e->ctx;

    return protocol_dead_drop(p, r, clock_ms() + DEAD_MS, d->id, &d->filter,
                              &d->answer);
}

/* ---- answers ------------------------------------------------------------ */

static void answer_none(struct deed *d)
{
    request_answer_error(d->request, 404, "no_such_job", NULL,
                         "the dead list has no job %s", d->id);
}

static void done_list(struct errand *e)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    struct deed *d = e->ctx;

    if (e->rc < 0) {
        request_answer_redis(d->request, e->rc);
        return;
    }
    strbuf_addf(&json, "{\"total\":%lld,\"from\":%lld,\"dead\":[",
                (long long)d->total, (long long)d->from);
    strbuf_add(&json, d->json.text ? d->json.text : "", d->json.len);
    strbuf_adds(&json, "]}\n");
    request_answer_json(d->request, 200, &json);
}

static void done_show(struct errand *e)
{
    struct deed *d = e->ctx;

    if (e->rc < 0 && e->rc != -ENOENT)
        request_answer_redis(d->request, e->rc);
    else if (d->json.len == 0)
        answer_none(d);
    else
        request_answer_json(d->request, 200, &d->json);
}

static void done_deed(struct errand *e)
{
    struct deed *d = e->ctx;
    bool retry = e->run == run_retry;

    if (e->rc < 0)
        request_answer_redis(d->request, e->rc);
    else if (d->answer == DEAD_NONE)
        answer_none(d);
    else if (d->answer == DEAD_TAKEN)
        request_answer_error(d->request, 409, "id_taken", NULL,
                             "job %s is queued, running or has ended", d->id);
    else if (d->answer == DEAD_CUT)
        request_answer_error(d->request, 409, "text_cut", NULL,
                             "only a part of the text of %s was kept", d->id);
    else
        execute_answer_id(d->request, 200, d->id, retry ? "queued" : "dropped",
                          "");
}

/* ---- beginning ---------------------------------------------------------- */

static struct deed *begin(struct request *r)
{
    struct deed *d = calloc(1, sizeof(*d));

    if (!d) {
        request_answer_redis(r, -ENOMEM);
        return NULL;
    }
    d->request = r;
    d->comma = "";
    d->answer = DEAD_NONE;
    d->filter = (struct dead_filter){.fits = is_theirs, .ctx = d};
    r->state = d;
    r->free_state = free_deed;
    return d;
}

static void send_off(struct deed *d,
                     int (*run)(struct errand *e, const struct protocol *p,
                                struct redis *r),
                     void (*done)(struct errand *e))
{
    int rc;

    d->errand = (struct errand){.run = run, .done = done, .ctx = d};
    rc = errands_add(&d->request->gateway->errands, &d->errand);
    if (rc < 0)
        request_answer_redis(d->request, rc);
}

static void with_id(struct request *r,
                    int (*run)(struct errand *e, const struct protocol *p,
                               struct redis *r),
                    void (*done)(struct errand *e))
{
    struct deed *d;

    if (!job_id_valid(r->match.id)) {
        request_answer_error(r, 404, "no_such_job", NULL, "no such job");
        return;
    }
    d = begin(r);
    if (!d)
        return;
    strcpy(d->id, r->match.id);
    send_off(d, run, done);
}

/* False: answered. */
static bool take_number(struct request *r, const char *name, long least,
                        long most, long *io)
{
    const char *text = request_query(r, name);
    char *end;
    long number;

    if (!text)
        return true;
    number = strtol(text, &end, 10);
    if (end == text || *end || number < least || number > most) {
        request_answer_error(r, 400, "invalid_query", name, "give %ld to %ld",
                             least, most);
        return false;
    }
    *io = number;
    return true;
}

void dead_list(struct request *r)
{
    long from = 0, limit = DEAD_PAGE;
    struct deed *d;

    if (!take_number(r, "from", 0, DEAD_FROM_MAX, &from) ||
        !take_number(r, "limit", 1, DEAD_PAGE_MAX, &limit))
        return;
    d = begin(r);
    if (!d)
        return;
    d->from = from;
    d->limit = (int)limit;
    send_off(d, run_list, done_list);
}

void dead_show(struct request *r)
{
    with_id(r, run_show, done_show);
}

void dead_retry(struct request *r)
{
    with_id(r, run_retry, done_deed);
}

void dead_drop(struct request *r)
{
    with_id(r, run_drop, done_deed);
}
