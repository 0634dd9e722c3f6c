#include "producer/gateway/health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "producer/client.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/cancel.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/stats.h"
#include "producer/gateway/submit.h"

/* Not started in time, it is not started at all. */
static const char JOB[] = "{\"code\":\"print('capibox')\",\"language\":"
                          "\"python\",\"timeout\":5,\"expires_in\":10}";

struct asker {
    struct asker *next;
    struct request *request;
    struct snapshot_reader reader;
};

struct health {
    struct gateway *gateway;
    struct apijob job;
    struct submission submission;
    struct waiter waiter;
    bool running;
    int64_t began_ms;
    struct asker *askers;
    char id[JOB_ID_MAX + 1];
    struct strbuf test; /* JSON of how it went */
    bool healthy;
};

int health_create(struct gateway *g, struct health **out)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return -ENOMEM;
    (*out)->gateway = g;
    return 0;
}

void health_destroy(struct health *h)
{
    if (!h)
        return;
    waiters_remove(&h->waiter);
    apijob_fini(&h->job);
    strbuf_fini(&h->test);
    free(h);
}

/* ---- the answer --------------------------------------------------------- */

static void on_view(struct snapshot_reader *reader, int rc, struct view *view)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    struct asker *a = reader->ctx;
    const struct health *h = a->request->gateway->health;

    strbuf_addf(&json, "{\"status\":\"%s\",\"test_execution\":%s,\"stats\":",
                h->healthy ? "healthy" : "unhealthy", h->test.text);
    if (rc == 0)
        stats_print(&json, a->request, view);
    else
        strbuf_adds(&json, "null");
    strbuf_adds(&json, ",\"timestamp\":");
    json_add_time(&json, clock_unix_s());
    strbuf_adds(&json, "}\n");
    if (!h->healthy)
        a->request->retry_after_s = REQUEST_RETRY_S;
    request_answer_json(a->request, h->healthy ? 200 : 503, &json);
}

/* All who asked are answered with what h->test says. */
static void finish(struct health *h)
{
    struct asker *a = h->askers, *next;

    apijob_fini(&h->job);
    h->running = false;
    h->askers = NULL;
    for (; a; a = next) {
        next = a->next;
        a->reader = (struct snapshot_reader){.done = on_view, .ctx = a};
        snapshot_read(&h->gateway->snapshot, &a->reader);
    }
}

static void finish_bad(struct health *h, const char *why)
{
    h->healthy = false;
    strbuf_clear(&h->test);
    strbuf_addf(&h->test,
                "{\"success\":false,\"job_id\":\"%s\",\"error\":\"%s\"}", h->id,
                why);
    finish(h);
}

/* ---- the job ------------------------------------------------------------ */

static void print_outcome(struct health *h, const cJSON *result)
{
    static const char *const shown[] = {
        "success", "status",  "verdict", "execution_time", "queue_time",
        "error",   "backend", "worker",  "template_used"};
    cJSON *test = cJSON_CreateObject();
    char *text;

    cJSON_AddStringToObject(test, "job_id", h->id);
    for (size_t i = 0; i < sizeof(shown) / sizeof(*shown); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(result, shown[i]);

        if (item)
            cJSON_AddItemToObject(test, shown[i], cJSON_Duplicate(item, 0));
    }
    text = cJSON_PrintUnformatted(test);
    cJSON_Delete(test);
    strbuf_clear(&h->test);
    strbuf_adds(&h->test, text ? text : "{\"success\":false}");
    free(text);
}

static void on_end(struct waiter *w, int rc, const redisReply *fields)
{
    struct health *h = w->ctx;
    const redisReply *text = rc == 0 ? fields->element[WAITERS_RESULT] : NULL;
    cJSON *result;

    if (rc < 0) {
        finish_bad(h, rc == -ENOENT ? "Redis no longer knows the job"
                                    : "Redis cannot be reached");
        return;
    }
    result = text->type == REDIS_REPLY_STRING
                 ? cJSON_ParseWithLength(text->str, (size_t)text->len)
                 : NULL;
    h->healthy =
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "success"));
    print_outcome(h, result);
    cJSON_Delete(result);
    finish(h);
}

static void on_submitted(struct submission *s, int rc,
                         enum enqueue_answer answer)
{
    struct health *h = s->ctx;

    if (rc == 0 && answer == ENQUEUE_ACCEPTED) {
        waiters_there(&h->waiter);
        return;
    }
    waiters_remove(&h->waiter);
    finish_bad(h, rc < 0 ? "Redis did not take the job" : "the queue is full");
}

static int begin(struct health *h)
{
    struct gateway *g = h->gateway;
    struct apijob_rules rules = {.settings = g->settings};
    struct complaint why = {0};
    int rc = apijob_build(JOB, sizeof(JOB) - 1, &rules, &h->job, &why);

    if (rc < 0)
        return rc;
    h->job.queue = g->settings->queues[0].name;
    strcpy(h->id, h->job.job->id);
    h->began_ms = clock_ms();
    h->waiter = (struct waiter){.done = on_end, .ctx = h};
    h->submission = (struct submission){
        .gateway = g, .job = &h->job, .done = on_submitted, .ctx = h};
    rc = waiters_add(&g->waiters, h->id, &h->waiter);
    if (rc == 0)
        rc = submit_send(&h->submission);
    if (rc < 0) {
        waiters_remove(&h->waiter);
        apijob_fini(&h->job);
        return rc;
    }
    h->running = true;
    return 0;
}

static void on_tick(struct request *r, int64_t now_ms)
{
    struct health *h = r->gateway->health;

    if (!h->running || !h->waiter.job ||
        now_ms - h->began_ms < HEALTH_WAIT_S * 1000)
        return;
    waiters_remove(&h->waiter);
    cancel_quietly(h->gateway, h->id);
    finish_bad(h, "no worker ran the job in time");
}

void health_get(struct request *r)
{
    struct health *h = r->gateway->health;
    struct asker *a = calloc(1, sizeof(*a));

    if (!a) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    a->request = r;
    a->next = h->askers;
    h->askers = a;
    r->state = a;
    r->free_state = free;
    r->tick = on_tick;
    if (!h->running && begin(h) < 0)
        finish_bad(h, "Redis cannot be reached");
}
