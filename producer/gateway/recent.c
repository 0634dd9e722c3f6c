#include "producer/gateway/recent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/protocol_call.h"
#include "producer/gateway/gateway.h"

/* ---- noting ------------------------------------------------------------- */

static void ignore(void *ctx, int rc, redisReply **reply)
{
    (void)ctx;
    (void)rc;
    (void)reply;
}

static void trim(struct recent *set, const char *key)
{
    const char *argv[] = {"ZREMRANGEBYRANK", key, "0", "-1001"};

    _Static_assert(RECENT_MAX == 1000, "as the last word says");
    set->writes += set->count;
    if (set->writes < RECENT_MAX / 10)
        return;
    set->writes = 0;
    link_ask(&set->gateway->link, ignore, NULL, 4, argv);
}

/* Of two that ended in one turn the later one has the later time. */
static int64_t next_us(struct recent *set, int64_t now_us)
{
    int64_t next_us = set->last_us + 1;

    return set->last_us = now_us > next_us ? now_us : next_us;
}

void recent_flush(struct recent *set)
{
    const char *argv[2 + 2 * RECENT_PENDING];
    char key[KEY_MAX], times[RECENT_PENDING][32];
    int64_t now_us = (int64_t)(clock_unix_s() * 1e6);

    if (set->count == 0)
        return;
    argv[0] = "ZADD";
    argv[1] = protocol_key(&set->gateway->protocol, key, "recent", NULL);
    for (size_t i = 0; i < set->count; i++) {
        int64_t us = next_us(set, now_us);

        snprintf(times[i], sizeof(times[i]), "%" PRId64 ".%06" PRId64,
                 us / 1000000, us % 1000000);
        argv[2 + 2 * i] = times[i];
        argv[3 + 2 * i] = set->ids[i];
    }
    /* Without Redis there is nothing that could have ended. */
    link_ask(&set->gateway->link, ignore, NULL, (int)(2 + 2 * set->count),
             argv);
    trim(set, key);
    set->count = 0;
}

void recent_note(struct recent *set, const char *id, size_t size)
{
    if (size == 0 || size > JOB_ID_MAX)
        return;
    if (set->count == RECENT_PENDING)
        recent_flush(set);
    memcpy(set->ids[set->count], id, size);
    set->ids[set->count++][size] = '\0';
}

/* ---- listing ------------------------------------------------------------ */

static const struct {
    const char *name;
    bool number;
} shown[] = {
    {"status", false},        {"tenant", false},     {"verdict", false},
    {"template_used", false}, {"task_type", false},  {"language", false},
    {"backend", false},       {"worker", false},     {"enqueued_at", true},
    {"started_at", true},     {"finished_at", true}, {"execution_time", true},
    {"error", false},         {"batch_id", false},
};
#define SHOWN  (sizeof shown / sizeof *shown)
#define STATUS 0
#define TENANT 1

struct listing {
    struct request *request;
    struct snapshot_reader reader;
    size_t limit, shown;
    struct strbuf json;
    char ids[SNAPSHOT_RUNS_MAX + RECENT_MAX][JOB_ID_MAX + 1];
    size_t count, at; /* ids, and how many were asked about */
    size_t running;   /* of them, at the front */
    size_t pending;
    int failure;
    size_t asked;
    struct listed {
        struct listing *listing;
        const char *id;
        redisReply *job;
    } wave[RECENT_WAVE];
};

static void free_listing(void *state)
{
    struct listing *x = state;

    strbuf_fini(&x->json);
    free(x);
}

static void add_job(struct strbuf *json, const struct listed *one)
{
    strbuf_adds(json, "{\"job_id\":");
    strbuf_add_json(json, one->id, strlen(one->id));
    for (size_t i = 0; i < SHOWN; i++) {
        const redisReply *value = one->job->element[i];

        if (i == TENANT || value->type != REDIS_REPLY_STRING)
            continue;
        strbuf_addf(json, ",\"%s\":", shown[i].name);
        if (shown[i].number)
            strbuf_addf(json, "%.17g", strtod(value->str, NULL));
        else
            strbuf_add_json(json, value->str, (size_t)value->len);
    }
    strbuf_addc(json, '}');
}

/* Of a job that is there, and theirs. */
static bool is_visible(const struct request *r, const struct listed *one)
{
    return one->job && reply_is_array(one->job, SHOWN) &&
           one->job->element[STATUS]->type == REDIS_REPLY_STRING &&
           request_may_see(r, one->job->element[TENANT]);
}

static void end_wave(struct listing *x);

static void on_job(void *ctx, int rc, redisReply **reply)
{
    struct listed *one = ctx;
    struct listing *x = one->listing;

    if (rc < 0)
        x->failure = rc;
    one->job = *reply;
    *reply = NULL;
    if (--x->pending == 0)
        end_wave(x);
}

static void ask_wave(struct listing *x)
{
    struct gateway *g = x->request->gateway;
    const char *argv[SHOWN + 2];
    char key[KEY_MAX];

    for (size_t i = 0; i < SHOWN; i++)
        argv[i + 2] = shown[i].name;
    x->pending = 1;
    for (x->asked = 0; x->asked < RECENT_WAVE && x->at < x->count; x->asked++) {
        struct listed *one = &x->wave[x->asked];

        *one = (struct listed){.listing = x, .id = x->ids[x->at++]};
        argv[0] = "HMGET";
        argv[1] = protocol_key(&g->protocol, key, "job", one->id);
        if (link_ask(&g->link, on_job, one, SHOWN + 2, argv) == 0)
            x->pending++;
        else
            x->failure = -ENOTCONN;
    }
    if (--x->pending == 0)
        end_wave(x);
}

static void add_visible(struct listing *x)
{
    for (size_t i = 0; i < x->asked; i++) {
        struct listed *one = &x->wave[i];

        if (x->shown < x->limit && is_visible(x->request, one)) {
            strbuf_adds(&x->json, x->shown++ > 0 ? "," : "");
            add_job(&x->json, one);
        }
        if (one->job)
            freeReplyObject(one->job);
    }
}

static void end_wave(struct listing *x)
{
    add_visible(x);
    if (x->failure == 0 && x->shown < x->limit && x->at < x->count) {
        ask_wave(x);
    } else if (x->failure < 0) {
        request_answer_redis(x->request, x->failure);
    } else {
        strbuf_adds(&x->json, "]}\n");
        request_answer_json(x->request, 200, &x->json);
    }
}

static void add_id(struct listing *x, const char *id)
{
    if (x->count == sizeof(x->ids) / sizeof(*x->ids) || strlen(id) > JOB_ID_MAX)
        return;
    for (size_t i = 0; i < x->running; i++)
        if (!strcmp(x->ids[i], id))
            return;
    strcpy(x->ids[x->count++], id);
}

static void on_ids(void *ctx, int rc, redisReply **reply)
{
    struct listing *x = ctx;

    if (rc == 0)
        rc = reply_failure(*reply);
    if (rc < 0 || (*reply)->type != REDIS_REPLY_ARRAY) {
        request_answer_redis(x->request, rc < 0 ? rc : -EPROTO);
        return;
    }
    for (size_t i = 0; i < (*reply)->elements; i++)
        add_id(x, (*reply)->element[i]->str);
    strbuf_adds(&x->json, "{\"jobs\":[");
    ask_wave(x);
}

/* Those that run come first. */
static void on_view(struct snapshot_reader *reader, int rc, struct view *view)
{
    struct listing *x = reader->ctx;
    struct gateway *g = x->request->gateway;
    char key[KEY_MAX], last[24];
    const char *argv[] = {"ZREVRANGE",
                          protocol_key(&g->protocol, key, "recent", NULL), "0",
                          last};

    for (int i = 0; rc == 0 && i < view->nruns; i++)
        add_id(x, view->runs[i].job_id);
    x->running = x->count;
    /* Of all of them a key may be shown but the oldest. */
    snprintf(last, sizeof(last), "%zu", (g->keyed ? RECENT_MAX : x->limit) - 1);
    if (rc == 0)
        rc = link_ask(&g->link, on_ids, x, 4, argv);
    if (rc < 0)
        request_answer_redis(x->request, rc);
}

void recent_get(struct request *r)
{
    const char *limit = request_query(r, "limit");
    char *end = NULL;
    long number = limit ? strtol(limit, &end, 10) : RECENT_PAGE;
    struct listing *x;

    if (limit &&
        (end == limit || *end || number < 1 || number > RECENT_PAGE_MAX)) {
        request_answer_error(r, 400, "invalid_query", "limit", "give 1 to %d",
                             RECENT_PAGE_MAX);
        return;
    }
    x = calloc(1, sizeof(*x));
    if (!x) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    x->request = r;
    x->limit = (size_t)number;
    r->state = x;
    r->free_state = free_listing;
    x->reader = (struct snapshot_reader){.done = on_view, .ctx = x};
    snapshot_read(&r->gateway->snapshot, &x->reader);
}
