/* The dead list: looking at it, giving a job another start, dropping it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/job.h"
#include "common/json.h"
#include "common/protocol_call.h"
#include "common/scope.h"

static int ask(const struct protocol *p, struct redis *r, int64_t deadline_ms,
               int64_t from, int64_t count, const char *job_id,
               redisReply **reply_out)
{
    AUTO_WORDS struct words w = {0};
    int rc;

    words_script(&w, p, SCRIPT_DEAD, false);
    words_key(&w, p, "dead", NULL);
    words_keys_end(&w);
    words_addi(&w, from);
    words_addi(&w, count);
    words_adds(&w, job_id);
    words_addi(&w, DEAD_LOOK_BYTES);
    rc = words_call(&w, p, r, deadline_ms, reply_out);
    if (rc == 0 && !reply_is_array(*reply_out, 1))
        rc = -EPROTO;
    return rc;
}

static void split(const redisReply *item, struct dead_entry *entry_out)
{
    const char *text = item->str;
    const char *end = memchr(text, '\n', (size_t)item->len);

    *entry_out = (struct dead_entry){.about = text};
    entry_out->about_len = end ? (size_t)(end - text) : (size_t)item->len;
    if (end) {
        entry_out->body = end + 1;
        entry_out->body_len = (size_t)item->len - entry_out->about_len - 1;
    }
}

/* The first ones of a page; how many. */
static int list_some(const struct protocol *p, struct redis *r,
                     int64_t deadline_ms, int64_t from, int64_t count,
                     protocol_dead_fn *take, void *ctx, int64_t *total_out)
{
    AUTO_REPLY redisReply *reply = NULL;
    int rc = ask(p, r, deadline_ms, from, count, "", &reply);

    if (rc < 0)
        return rc;
    for (size_t i = 1; i < reply->elements; i++) {
        struct dead_entry entry;

        if (reply->element[i]->type != REDIS_REPLY_STRING)
            return -EPROTO;
        split(reply->element[i], &entry);
        take(ctx, &entry);
    }
    if (total_out)
        *total_out = reply_int(reply, 0);
    return (int)reply->elements - 1;
}

int protocol_dead_list(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, int64_t from, int count,
                       protocol_dead_fn *take, void *ctx, int64_t *total_out)
{
    int n = 0, got;

    if (from < 0 || count < 0 || count > DEAD_PAGE_MAX)
        return -EINVAL;
    do {
        int some =
            count - n < DEAD_LOOK_ENTRIES ? count - n : DEAD_LOOK_ENTRIES;

        got =
            list_some(p, r, deadline_ms, from + n, some, take, ctx, total_out);
        n += got;
    } while (got > 0 && n < count);
    return got < 0 ? got : n;
}

/* 1: it was there. */
static int walk_one(const struct protocol *p, struct redis *r,
                    int64_t deadline_ms, int64_t at, protocol_dead_fn *take,
                    void *ctx)
{
    AUTO_REPLY redisReply *reply = NULL;
    char key[KEY_MAX], index[24];
    struct dead_entry entry;
    int rc;

    snprintf(index, sizeof(index), "%lld", (long long)at);
    rc = redis_callv(r, deadline_ms, &reply, "LRANGE",
                     protocol_key(p, key, "dead", NULL), index, index, NULL);
    if (rc == 0)
        rc = reply_failure(reply);
    if (rc < 0 || !reply_is_array(reply, 1))
        return rc;
    if (reply->element[0]->type != REDIS_REPLY_STRING)
        return -EPROTO;
    split(reply->element[0], &entry);
    take(ctx, &entry);
    return 1;
}

int protocol_dead_walk(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, int64_t from, int count,
                       protocol_dead_fn *take, void *ctx, int64_t *total_out)
{
    int rc =
        protocol_dead_list(p, r, deadline_ms, from, 0, take, ctx, total_out);
    int n = 0;

    if (rc == 0 && count > DEAD_PAGE_MAX)
        rc = -EINVAL;
    while (rc >= 0 && n < count) {
        rc = walk_one(p, r, deadline_ms, from + n, take, ctx);
        if (rc == 0)
            break;
        n += rc == 1;
    }
    return rc < 0 ? rc : n;
}

/* One piece of the list. 1: this is it, as it stands there. 0: not in it;
 * *left_io are to be looked at. */
static int look(const struct protocol *p, struct redis *r, int64_t deadline_ms,
                const char *job_id, const struct dead_filter *filter,
                int64_t *left_io, redisReply **reply_out)
{
    AUTO_REPLY redisReply *reply = NULL;
    struct dead_entry entry;
    int rc =
        ask(p, r, deadline_ms, *left_io, DEAD_LOOK_ENTRIES, job_id, &reply);

    if (rc < 0)
        return rc;
    *left_io = reply_int(reply, 0);
    if (reply->elements < 2)
        return 0;
    if (reply->element[1]->type != REDIS_REPLY_STRING)
        return -EPROTO;
    split(reply->element[1], &entry);
    if (filter && !filter->fits(filter->ctx, &entry))
        return 0;
    *reply_out = TAKE(reply);
    return 1;
}

/* -ENOENT if it has none that fits. The reply's second element holds it. */
static int find(const struct protocol *p, struct redis *r, int64_t deadline_ms,
                const char *job_id, const struct dead_filter *filter,
                redisReply **reply_out)
{
    int64_t left = -1;
    int rc = 0;

    if (!job_id_valid(job_id))
        return -ENOENT;
    while (rc == 0 && left != 0)
        rc = look(p, r, deadline_ms, job_id, filter, &left, reply_out);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

int protocol_dead_show(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct dead_filter *filter, protocol_dead_fn *take,
                       void *ctx)
{
    AUTO_REPLY redisReply *reply = NULL;
    struct dead_entry entry;
    int rc = find(p, r, deadline_ms, job_id, filter, &reply);

    if (rc < 0)
        return rc;
    split(reply->element[1], &entry);
    take(ctx, &entry);
    return 0;
}

/* ---- another start ----------------------------------------------------- */

struct revival {
    const redisReply *whole;
    struct dead_entry entry;
    char queue[JOB_NAME_MAX + 1];
    double bytes, kept;
    char id[JOB_ID_MAX + 1], batch[JOB_NAME_MAX + 1], tenant[JOB_NAME_MAX + 1];
    bool stream;
};

/* What the line about it says. */
static int read_about(struct revival *v)
{
    cJSON *about = cJSON_ParseWithLength(v->entry.about, v->entry.about_len);
    const char *queue =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(about, "queue"));
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(about, "bytes");
    const cJSON *kept = cJSON_GetObjectItemCaseSensitive(about, "kept");
    int rc = 0;

    if (queue && job_name_valid(queue, false) && cJSON_IsNumber(bytes) &&
        cJSON_IsNumber(kept)) {
        strcpy(v->queue, queue);
        v->bytes = bytes->valuedouble;
        v->kept = kept->valuedouble;
    } else {
        rc = -EPROTO;
    }
    cJSON_Delete(about);
    return rc;
}

/* The hash may be gone, and with it whose job this is. */
static void read_tenant(struct revival *v)
{
    cJSON *job = cJSON_ParseWithLength(v->entry.body, v->entry.body_len);
    const char *tenant =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(job, "tenant"));

    if (tenant && job_name_valid(tenant, true))
        strcpy(v->tenant, tenant);
    cJSON_Delete(job);
}

static int send_revival(const struct protocol *p, struct redis *r,
                        int64_t deadline_ms, const struct revival *v,
                        enum dead_answer *answer_out)
{
    static const enum dead_answer answers[] = {DEAD_DONE, DEAD_NONE,
                                               DEAD_TAKEN};
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;
    char nonce[JOB_ID_MAX + 1];
    int rc = protocol_make_job_id(nonce);

    if (rc < 0)
        return rc;
    words_script(&w, p, SCRIPT_DEAD_RETRY, false);
    words_key(&w, p, "dead", NULL);
    words_key(&w, p, "queue", v->queue);
    words_key(&w, p, "job", v->id);
    words_key(&w, p, "stats", NULL);
    words_key(&w, p, "cx", NULL);
    words_key(&w, p, "events", v->id);
    words_key(&w, p, "batch", v->batch);
    words_keys_end(&w);
    words_add(&w, v->whole->str, (size_t)v->whole->len);
    words_adds(&w, v->id);
    words_add(&w, v->entry.body, v->entry.body_len);
    words_adds(&w, nonce);
    words_adds(&w, v->queue);
    words_addf(&w, "%s%s", v->batch[0] ? "b" : "", v->stream ? "e" : "");
    words_adds(&w, v->tenant);
    rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0 ||
        reply->integer > 2)
        return -EPROTO;
    *answer_out = answers[reply->integer];
    return 0;
}

int protocol_dead_retry(const struct protocol *p, struct redis *r,
                        int64_t deadline_ms, const char *job_id,
                        const struct dead_filter *filter,
                        enum dead_answer *answer_out,
                        char id_out[JOB_ID_MAX + 1])
{
    AUTO_REPLY redisReply *reply = NULL;
    struct revival v = {.bytes = 0};
    int rc = find(p, r, deadline_ms, job_id, filter, &reply);

    *answer_out = DEAD_NONE;
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    v.whole = reply->element[1];
    split(v.whole, &v.entry);
    rc = read_about(&v);
    if (rc < 0)
        return rc;
    if (v.kept < v.bytes || !v.entry.body) {
        *answer_out = DEAD_CUT;
        return 0;
    }
    job_glean(v.entry.body, v.entry.body_len, v.id, v.batch, &v.stream);
    if (!v.id[0]) /* the worker knows it by the envelope's */
        strcpy(v.id, job_id);
    read_tenant(&v);
    if (id_out)
        strcpy(id_out, v.id);
    return send_revival(p, r, deadline_ms, &v, answer_out);
}

/* ---- dropping ---------------------------------------------------------- */

static int drop(const struct protocol *p, struct redis *r, int64_t deadline_ms,
                const redisReply *whole, int count)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;
    int rc;

    words_script(&w, p, SCRIPT_DEAD_DROP, false);
    words_key(&w, p, "dead", NULL);
    words_keys_end(&w);
    words_add(&w, whole ? whole->str : "", whole ? (size_t)whole->len : 0);
    words_addi(&w, count);
    rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    return reply->type == REDIS_REPLY_INTEGER ? (int)reply->integer : -EPROTO;
}

int protocol_dead_drop(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const char *job_id,
                       const struct dead_filter *filter,
                       enum dead_answer *answer_out)
{
    AUTO_REPLY redisReply *reply = NULL;
    int rc = find(p, r, deadline_ms, job_id, filter, &reply);

    if (rc == 0)
        rc = drop(p, r, deadline_ms, reply->element[1], 0);
    *answer_out = rc > 0 ? DEAD_DONE : DEAD_NONE;
    return rc < 0 && rc != -ENOENT ? rc : 0;
}

int protocol_dead_drop_oldest(const struct protocol *p, struct redis *r,
                              int64_t deadline_ms, int count)
{
    if (count < 1 || count > DEAD_PAGE_MAX)
        return -EINVAL;
    return drop(p, r, deadline_ms, NULL, count);
}
