#include "producer/gateway/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/protocol_call.h"
#include "producer/fleet.h"
#include "producer/gateway/gateway.h"

/* A counter as it stands, if it is a number. */
static void add_number(struct strbuf *json, const char *name, size_t size,
                       const char *value)
{
    char *end;
    double number = strtod(value, &end);

    strbuf_add_json(json, name, size);
    if (end == value || *end)
        number = 0;
    strbuf_addf(json, ":%.15g", number);
}

static void add_figure(struct strbuf *json, const redisReply *hash,
                       const char *name)
{
    add_number(json, name, strlen(name), fleet_field(hash, name));
}

/* The members of a hash whose names begin with prefix (without it), or, for
 * "", those without a colon. */
static void add_members(struct strbuf *json, const redisReply *hash,
                        const char *prefix)
{
    size_t skip = strlen(prefix);
    const char *comma = "";

    for (size_t i = 0; hash && i + 1 < hash->elements; i += 2) {
        const redisReply *name = hash->element[i];

        if (skip > 0 ? strncmp(name->str, prefix, skip) != 0
                     : strchr(name->str, ':') != NULL)
            continue;
        strbuf_adds(json, comma);
        add_number(json, name->str + skip, (size_t)name->len - skip,
                   hash->element[i + 1]->str);
        comma = ",";
    }
}

static double average(const redisReply *hash)
{
    double runs = view_number(hash, "total_executions");

    return runs > 0 ? view_number(hash, "total_execution_time") / runs : 0;
}

static double rate(const redisReply *hash)
{
    double runs = view_number(hash, "total_executions");

    return runs > 0 ? 100 * view_number(hash, "successful_executions") / runs
                    : 0;
}

/* "latency":{"p50":…}, null where nothing ran. */
static void add_latency(struct strbuf *json, const redisReply *hash)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}};

    strbuf_adds(json, "\"latency\":{");
    for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
        double value = view_quantile(hash, points[i].q);

        strbuf_addf(json, "%s\"%s\":", i > 0 ? "," : "", points[i].name);
        if (value < 0)
            strbuf_adds(json, "null");
        else
            strbuf_addf(json, "%.6g", value);
    }
    strbuf_addc(json, '}');
}

/* ,"name":{counters, average, rate, verdicts, latency} of one hash */
static void add_summary(struct strbuf *json, const redisReply *hash)
{
    add_members(json, hash, "");
    if (hash && hash->elements > 0)
        strbuf_addc(json, ',');
    strbuf_addf(json,
                "\"average_execution_time\":%.6f,\"success_rate\":%.3f,"
                "\"verdicts\":{",
                average(hash), rate(hash));
    add_members(json, hash, "verdict:");
    strbuf_adds(json, "},");
    add_latency(json, hash);
}

static void add_templates(struct strbuf *json, const struct view *v)
{
    const char *comma = "";

    strbuf_adds(json, ",\"templates_available\":[");
    for (size_t i = 0; i < v->ntemplates; i++)
        strbuf_addf(json, "%s\"%s\"", i > 0 ? "," : "", v->templates[i].id);
    strbuf_adds(json, "],\"per_template\":{");
    for (size_t i = 0; i < v->ntemplates; i++) {
        const redisReply *hash = v->templates[i].hash;

        if (!hash || hash->elements == 0)
            continue;
        strbuf_addf(json, "%s\"%s\":{", comma, v->templates[i].id);
        add_summary(json, hash);
        strbuf_addc(json, '}');
        comma = ",";
    }
    strbuf_addc(json, '}');
}

/* The oldest first; minutes in which nothing ended are left out. */
static void add_minutes(struct strbuf *json, const struct view *v)
{
    const char *comma = "";

    strbuf_adds(json, ",\"per_minute\":[");
    for (int i = SNAPSHOT_MINUTES - 1; i >= 0; i--) {
        const struct view_minute *m = &v->minutes[i];

        if (!m->hash || m->hash->elements == 0)
            continue;
        strbuf_addf(json, "%s{\"minute\":%lld,", comma,
                    (long long)m->minute * 60);
        add_summary(json, m->hash);
        strbuf_addc(json, '}');
        comma = ",";
    }
    strbuf_addc(json, ']');
}

static double integer(const redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_INTEGER ? (double)reply->integer
                                                       : 0;
}

double stats_oldest(const struct view *view, const struct view_queue *queue)
{
    struct envelope e;
    double age;

    if (!queue->oldest || queue->oldest->type != REDIS_REPLY_STRING)
        return -1;
    envelope_parse(queue->oldest->str, (size_t)queue->oldest->len, &e);
    if (e.enqueued_ms == 0)
        return -1;
    age = view->now - (double)e.enqueued_ms / 1000;
    return age > 0 ? age : 0;
}

static void add_queues(struct strbuf *json, const struct view *v)
{
    strbuf_adds(json, ",\"queues\":[");
    for (int i = 0; i < v->nqueues; i++) {
        const struct view_queue *q = &v->queues[i];
        double age = stats_oldest(v, q);

        strbuf_addf(json, "%s{\"name\":\"%s\",\"depth\":%.0f,\"oldest_age\":",
                    i > 0 ? "," : "", q->name, integer(q->depth));
        if (age < 0)
            strbuf_adds(json, "null");
        else
            strbuf_addf(json, "%.3f", age);
        strbuf_addf(json, ",\"served_by\":%d}", q->served);
    }
    strbuf_addf(json, "],\"delayed\":%.0f,\"dead\":%.0f,\"paused\":%s",
                integer(v->delayed), integer(v->dead),
                view_paused(v) ? "true" : "false");
}

static bool alive(const struct view *v, const struct view_worker *w)
{
    return w->card && w->card->elements > 0 && w->lease_until > v->now;
}

void stats_sandboxes(const struct view *view, double *active_out,
                     double *most_out)
{
    *active_out = *most_out = 0;
    for (int i = 0; i < view->nworkers; i++)
        if (alive(view, &view->workers[i])) {
            *active_out += view_number(view->workers[i].card, "active");
            *most_out += view_number(view->workers[i].card, "concurrency");
        }
}

static void add_text(struct strbuf *json, const char *name, const char *text)
{
    strbuf_addf(json, ",\"%s\":", name);
    strbuf_add_json(json, text, strlen(text));
}

/* A field of HMGET's answer, "" for nil. */
static const char *run_field(const struct view_run *run, size_t i)
{
    const redisReply *fields = run->job;

    if (!fields || fields->type != REDIS_REPLY_ARRAY || fields->elements <= i ||
        fields->element[i]->type != REDIS_REPLY_STRING)
        return "";
    return fields->element[i]->str;
}

/* What is not known to be there is shown to nobody with a key. */
static bool is_visible(const struct request *r, const struct view_run *run)
{
    const redisReply *job = run->job;

    return !r->holder ||
           (job && reply_is_array(job, VIEW_RUN_FIELDS) &&
            job->element[VIEW_RUN_STARTED]->type == REDIS_REPLY_STRING &&
            request_may_see(r, job->element[VIEW_RUN_TENANT]));
}

static void add_runs(struct strbuf *json, const struct view *v, int worker,
                     const struct request *r)
{
    const char *comma = "";

    strbuf_adds(json, ",\"running\":[");
    for (int i = 0; i < v->nruns; i++) {
        const struct view_run *run = &v->runs[i];

        if (run->worker != worker || !is_visible(r, run))
            continue;
        strbuf_addf(json, "%s{\"job_id\":", comma);
        strbuf_add_json(json, run->job_id, strlen(run->job_id));
        add_text(json, "language", run_field(run, VIEW_RUN_LANGUAGE));
        add_text(json, "template_used", run_field(run, VIEW_RUN_TEMPLATE));
        strbuf_addf(json, ",\"started_at\":%.15g}",
                    strtod(run_field(run, VIEW_RUN_STARTED), NULL));
        comma = ",";
    }
    strbuf_addc(json, ']');
}

static void add_worker(struct strbuf *json, const struct view *v, int i,
                       const struct request *r)
{
    static const char *const texts[] = {"host", "backend", "version", "state",
                                        "queues"};
    static const char *const numbers[] = {"pid", "concurrency", "active",
                                          "started_at", "heartbeat"};
    const struct view_worker *w = &v->workers[i];

    strbuf_adds(json, "{\"id\":");
    strbuf_add_json(json, w->id, strlen(w->id));
    strbuf_addf(json, ",\"alive\":%s,\"lease\":%.3f",
                alive(v, w) ? "true" : "false",
                w->lease_until > v->now ? w->lease_until - v->now : 0);
    for (size_t k = 0; k < sizeof(texts) / sizeof(*texts); k++)
        add_text(json, texts[k], fleet_field(w->card, texts[k]));
    for (size_t k = 0; k < sizeof(numbers) / sizeof(*numbers); k++) {
        strbuf_addc(json, ',');
        add_figure(json, w->card, numbers[k]);
    }
    add_runs(json, v, i, r);
    strbuf_addc(json, '}');
}

static void add_workers(struct strbuf *json, const struct view *v,
                        const struct request *r)
{
    double active, most;

    stats_sandboxes(v, &active, &most);
    strbuf_addf(json,
                ",\"active_sandboxes\":%.0f,\"max_concurrent_sandboxes\":%.0f,"
                "\"workers\":[",
                active, most);
    for (int i = 0; i < v->nworkers; i++) {
        if (i > 0)
            strbuf_addc(json, ',');
        add_worker(json, v, i, r);
    }
    strbuf_addc(json, ']');
}

/* What is always there comes first, also before the first job. */
static void add_totals(struct strbuf *json, const redisReply *all)
{
    static const char *const always[] = {
        "total_executions",  "successful_executions",
        "failed_executions", "total_execution_time",
        "sandbox_created",   "sandbox_destroyed",
        "retries",           "dead",
        "rejected",          "cache_hits"};

    strbuf_adds(json, "{\"stats\":{");
    for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++) {
        if (i > 0)
            strbuf_addc(json, ',');
        add_figure(json, all, always[i]);
    }
    for (size_t i = 0; all && i + 1 < all->elements; i += 2) {
        const redisReply *name = all->element[i];
        bool shown = strchr(name->str, ':') != NULL;

        for (size_t k = 0; k < sizeof(always) / sizeof(*always); k++)
            shown = shown || !strcmp(always[k], name->str);
        if (shown)
            continue;
        strbuf_addc(json, ',');
        add_number(json, name->str, (size_t)name->len,
                   all->element[i + 1]->str);
    }
    strbuf_addc(json, '}');
}

void stats_print(struct strbuf *json, const struct request *r,
                 struct view *view)
{
    add_totals(json, view->stats);
    strbuf_addf(json, ",\"average_execution_time\":%.6f,\"success_rate\":%.3f,",
                average(view->stats), rate(view->stats));
    add_latency(json, view->stats);
    strbuf_adds(json, ",\"verdicts\":{");
    add_members(json, view->stats, "verdict:");
    strbuf_addc(json, '}');
    add_workers(json, view, r);
    add_queues(json, view);
    add_templates(json, view);
    add_minutes(json, view);
    strbuf_addf(json, ",\"now\":%.3f}", view->now);
}

/* ---- answering ---------------------------------------------------------- */

struct reading {
    struct snapshot_reader reader;
    struct request *request;
    int slot;
    const char *type;
    stats_make_fn *make;
};

static struct blob *blob_of(const struct reading *x, struct view *view)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;
    struct view_text *kept = &view->cache[x->slot];

    if (!kept->blob || kept->holder != x->request->holder) {
        blob_unref(kept->blob);
        x->make(&text, x->request, view);
        kept->blob = text.failed ? NULL : blob_make(text.text, text.len);
        kept->holder = x->request->holder;
    }
    return kept->blob;
}

static void on_view(struct snapshot_reader *reader, int rc, struct view *view)
{
    struct reading *x = reader->ctx;
    struct blob *blob = rc == 0 ? blob_of(x, view) : NULL;
    struct MHD_Response *response = blob ? blob_response(blob, x->type) : NULL;

    if (response)
        request_answer(x->request, 200, response, NULL);
    else
        request_answer_redis(x->request, rc < 0 ? rc : -ENOMEM);
}

void stats_answer_view(struct request *r, int slot, const char *type,
                       stats_make_fn *make)
{
    struct reading *x = calloc(1, sizeof(*x));

    if (!x) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    *x = (struct reading){{.done = on_view, .ctx = x}, r, slot, type, make};
    r->state = x;
    r->free_state = free;
    snapshot_read(&r->gateway->snapshot, &x->reader);
}

static void make_stats(struct strbuf *text, const struct request *r,
                       struct view *view)
{
    stats_print(text, r, view);
    strbuf_addc(text, '\n');
}

void stats_get(struct request *r)
{
    stats_answer_view(r, 0, "application/json", make_stats);
}

void stats_templates(struct request *r)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    const struct template_set *set = r->gateway->templates;

    strbuf_addc(&json, '[');
    for (size_t i = 0; set && i < set->count; i++) {
        if (i > 0)
            strbuf_addc(&json, ',');
        template_to_json(set->items[i], &json);
    }
    strbuf_adds(&json, "]\n");
    request_answer_json(r, 200, &json);
}

static void on_pong(void *ctx, int rc, redisReply **reply)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    if (rc < 0 || (*reply)->type == REDIS_REPLY_ERROR) {
        request_answer_redis(ctx, rc);
        return;
    }
    strbuf_adds(&json,
                "{\"status\":\"ok\",\"version\":\"" CAPIBOX_VERSION "\"}\n");
    request_answer_json(ctx, 200, &json);
}

void stats_alive(struct request *r)
{
    const char *argv[] = {"PING"};
    int rc = link_ask(&r->gateway->link, on_pong, r, 1, argv);

    if (rc < 0)
        request_answer_redis(r, rc);
}
