#include "producer/gateway/lookup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base64.h"
#include "common/job.h"
#include "common/json.h"
#include "common/protocol_call.h"
#include "common/scope.h"
#include "producer/client.h"
#include "producer/gateway/gateway.h"

#define POLICY_FILE                                                \
    "sandbox; default-src 'none'; img-src data:; font-src data:; " \
    "style-src 'unsafe-inline'; frame-ancestors 'self'"

/* ---- jobs --------------------------------------------------------------- */

/* Of the hash; the first four are looked at here. */
enum { STATUS, RESULT, TENANT, CODE, SHOWN };
static const struct {
    const char *name;
    bool number;
} fields[] = {
    {"status", false},        {"result", false},    {"tenant", false},
    {"code", false},          {"verdict", false},   {"template_used", false},
    {"task_type", false},     {"language", false},  {"backend", false},
    {"sandbox_id", false},    {"worker", false},    {"attempt", true},
    {"enqueued_at", true},    {"started_at", true}, {"finished_at", true},
    {"execution_time", true}, {"error", false},     {"batch_id", false},
    {"queue", false},
};
#define FIELDS (sizeof fields / sizeof *fields)

static void add_field(struct strbuf *json, const char *name, bool number,
                      const redisReply *value)
{
    if (value->type != REDIS_REPLY_STRING)
        return;
    strbuf_addf(json, ",\"%s\":", name);
    if (number)
        strbuf_addf(json, "%.17g", strtod(value->str, NULL));
    else
        strbuf_add_json(json, value->str, (size_t)value->len);
}

static void answer_state(struct request *r, const redisReply *reply)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    strbuf_addf(&json, "{\"job_id\":\"%s\"", r->match.id);
    for (size_t i = 0; i < FIELDS; i++)
        if (i != RESULT && i != TENANT)
            add_field(&json, fields[i].name, fields[i].number,
                      reply->element[i]);
    strbuf_adds(&json, "}\n");
    request_answer_json(r, 200, &json);
}

/* The result as it was written, and the code behind its last member. */
static void answer_result(struct request *r, const redisReply *result,
                          const redisReply *code)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    size_t size = (size_t)result->len;

    if (size > 1 && result->str[size - 1] == '}') {
        strbuf_add(&json, result->str, size - 1);
        add_field(&json, "code", false, code);
        strbuf_addc(&json, '}');
    } else {
        strbuf_add(&json, result->str, size);
    }
    strbuf_addc(&json, '\n');
    request_answer_json(r, 200, &json);
}

/* The fields of a job this client may see, or NULL: answered. */
static const redisReply *check(struct request *r, int rc,
                               const redisReply *reply, size_t count)
{
    if (rc == 0)
        rc = reply_failure(reply);
    if (rc < 0 || !reply_is_array(reply, count)) {
        request_answer_redis(r, rc < 0 ? rc : -EPROTO);
        return NULL;
    }
    if (reply->element[STATUS]->type != REDIS_REPLY_STRING ||
        !request_may_see(r, reply->element[TENANT])) {
        request_answer_error(r, 404, "no_such_job", NULL, "no job %s",
                             r->match.id);
        return NULL;
    }
    return reply;
}

static void on_job(void *ctx, int rc, redisReply **reply)
{
    struct request *r = ctx;
    const redisReply *found = check(r, rc, *reply, FIELDS);

    if (!found)
        return;
    if (found->element[RESULT]->type == REDIS_REPLY_STRING &&
        client_ended(found->element[STATUS]->str))
        answer_result(r, found->element[RESULT], found->element[CODE]);
    else
        answer_state(r, found);
}

static void ask_job(struct request *r, size_t count, link_done_fn *done)
{
    const char *argv[FIELDS + 2];
    char key[KEY_MAX];
    int rc;

    if (!job_id_valid(r->match.id)) {
        request_answer_error(r, 404, "no_such_job", NULL, "no such job");
        return;
    }
    argv[0] = "HMGET";
    argv[1] = protocol_key(&r->gateway->protocol, key, "job", r->match.id);
    for (size_t i = 0; i < count; i++)
        argv[i + 2] = fields[i].name;
    rc = link_ask(&r->gateway->link, done, r, (int)count + 2, argv);
    if (rc < 0)
        request_answer_redis(r, rc);
}

void lookup_job(struct request *r)
{
    ask_job(r, FIELDS, on_job);
}

/* ---- files -------------------------------------------------------------- */

static bool take_base64(const char *text, struct lookup_found *out)
{
    size_t bad;

    return text &&
           base64_decode(text, strlen(text), &out->data, &out->size, &bad) == 0;
}

/* A type in a header is the worker's word; anything odd is just bytes. */
static void take_type(const char *mime, struct lookup_found *out)
{
    static const char ok[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-";
    size_t kind = mime ? strspn(mime, ok) : 0;
    size_t rest =
        kind > 0 && mime[kind] == '/' ? strspn(mime + kind + 1, ok) : 0;
    bool text = mime && !strncasecmp(mime, "text/", 5);

    if (rest > 0 && kind + rest < 64 && !mime[kind + 1 + rest])
        snprintf(out->type, sizeof(out->type), "%.*s%s", (int)(kind + 1 + rest),
                 mime, text ? "; charset=utf-8" : "");
    else
        strcpy(out->type, "application/octet-stream");
}

static bool find_file(const cJSON *files, const char *path,
                      struct lookup_found *out)
{
    const cJSON *file;

    cJSON_ArrayForEach(file, files)
    {
        const char *name = json_member(file, "path");

        if (!name || strcmp(name, path) != 0)
            continue;
        out->skipped = json_member(file, "skipped");
        take_type(json_member(file, "mime"), out);
        return out->skipped ||
               take_base64(json_member(file, "content_base64"), out);
    }
    return false;
}

static bool copy_text(const char *text, struct lookup_found *out)
{
    out->size = strlen(text);
    out->data = malloc(out->size + 1);
    if (out->data)
        memcpy(out->data, text, out->size);
    return out->data != NULL;
}

/* Digits alone, as `capibox --save` writes them. 0: none, or beyond any
 * result. *end_out is behind them. */
static int read_number(const char *text, const char **end_out)
{
    int number = 0;

    *end_out = text + strspn(text, "0123456789");
    if (*text == '0')
        return 0;
    for (; text < *end_out && number <= RESULT_ITEMS_MAX; text++)
        number = 10 * number + (*text - '0');
    return number <= RESULT_ITEMS_MAX ? number : 0;
}

/* "result-3.png": a form of the third item. */
static bool find_displayed(const cJSON *results, const char *path,
                           struct lookup_found *out)
{
    static const struct {
        const char *ending, *form, *type;
        bool binary;
    } forms[] = {
        {".png", "png", "image/png", true},
        {".jpg", "jpeg", "image/jpeg", true},
        {".pdf", "pdf", "application/pdf", true},
        {".svg", "svg", "image/svg+xml", false},
        {".html", "html", "text/html", false},
    };
    const char *ending;
    int number;

    if (strncmp(path, "result-", 7) != 0)
        return false;
    number = read_number(path + 7, &ending);
    for (size_t i = 0; number > 0 && i < sizeof(forms) / sizeof(*forms); i++) {
        const char *data =
            json_member(cJSON_GetArrayItem(results, number - 1), forms[i].form);

        if (strcmp(ending, forms[i].ending) != 0 || !data)
            continue;
        take_type(forms[i].type, out);
        return forms[i].binary ? take_base64(data, out) : copy_text(data, out);
    }
    return false;
}

bool lookup_in_result(const cJSON *result, const char *path,
                      struct lookup_found *out)
{
    struct complaint why = {0};
    char clean[JOB_PATH_MAX + 1];

    *out = (struct lookup_found){0};
    if (job_path_normalise(path, clean, &why, "path") < 0)
        return false;
    return find_file(cJSON_GetObjectItemCaseSensitive(result, "files"), clean,
                     out) ||
           find_displayed(cJSON_GetObjectItemCaseSensitive(result, "results"),
                          clean, out);
}

/* A byte that a quoted file name may hold: never what ends or escapes it, nor
 * what some browsers undo. */
static bool is_plain(unsigned char c)
{
    return c > ' ' && c <= '~' && !strchr("\"\\%;", c);
}

/* The same in full, for those who know RFC 8187. */
static void add_utf8_name(struct strbuf *text, const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "!#$&+-.^_`|~";

    strbuf_adds(text, "; filename*=UTF-8''");
    for (; *name; name++)
        if (strchr(plain, *name))
            strbuf_addc(text, *name);
        else
            strbuf_addf(text, "%%%02X", (unsigned char)*name);
}

/* The last part of the path, as far as a header can say it. */
static void name_file(struct MHD_Response *response, const char *path)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    bool whole = true;

    strbuf_adds(&text, "inline; filename=\"");
    for (const char *s = name; *s; s++) {
        bool plain = is_plain((unsigned char)*s);

        strbuf_addc(&text, plain ? *s : '_');
        whole = whole && plain;
    }
    strbuf_addc(&text, '"');
    if (!whole)
        add_utf8_name(&text, name);
    if (!text.failed)
        MHD_add_response_header(response, "Content-Disposition", text.text);
}

static void answer_file(struct request *r, struct lookup_found *found)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        found->size, found->data, MHD_RESPMEM_MUST_FREE);

    if (response) {
        MHD_add_response_header(response, "Content-Type", found->type);
        MHD_add_response_header(response, "Cache-Control",
                                "private, max-age=3600");
        name_file(response, r->match.rest);
        found->data = NULL;
    }
    request_answer(r, 200, response, POLICY_FILE);
}

static void on_result(void *ctx, int rc, redisReply **reply)
{
    struct request *r = ctx;
    const redisReply *found = check(r, rc, *reply, SHOWN);
    struct lookup_found file = {0};
    const redisReply *text;
    cJSON *result;

    if (!found)
        return;
    text = found->element[RESULT];
    result = text->type == REDIS_REPLY_STRING
                 ? cJSON_ParseWithLength(text->str, (size_t)text->len)
                 : NULL;
    if (!result)
        request_answer_error(r, 404, "no_such_file", NULL,
                             "job %s is %s and has no files yet", r->match.id,
                             found->element[STATUS]->str);
    else if (!lookup_in_result(result, r->match.rest, &file))
        request_answer_error(r, 404, "no_such_file", NULL,
                             "the result has no file of this name");
    else if (file.skipped)
        request_answer_error(r, 404, "file_skipped", NULL,
                             "the file was not kept: %.200s", file.skipped);
    else
        answer_file(r, &file);
    free(file.data);
    cJSON_Delete(result);
}

void lookup_file(struct request *r)
{
    ask_job(r, SHOWN, on_result);
}

/* ---- batches ------------------------------------------------------------ */

/* Of the hash; the last one is looked at here. */
static const char *const batch_fields[] = {"total",  "done",   "succeeded",
                                           "failed", "status", "tenant"};
#define BATCH_FIELDS 6
#define BATCH_TOTAL  0
#define BATCH_DONE   1
#define BATCH_STATUS 4
#define BATCH_TENANT 5

/* Of jobs that were pushed bare alone nobody knows how many come: their batch
 * has no total. */
static bool is_batch(const redisReply *found)
{
    return found->element[BATCH_TOTAL]->type == REDIS_REPLY_STRING ||
           found->element[BATCH_DONE]->type == REDIS_REPLY_STRING;
}

static void on_batch(void *ctx, int rc, redisReply **reply)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    struct request *r = ctx;

    if (rc == 0)
        rc = reply_failure(*reply);
    if (rc < 0 || !reply_is_array(*reply, BATCH_FIELDS)) {
        request_answer_redis(r, rc < 0 ? rc : -EPROTO);
        return;
    }
    if (!is_batch(*reply) ||
        !request_may_see(r, (*reply)->element[BATCH_TENANT])) {
        request_answer_error(r, 404, "no_such_batch", NULL, "no batch %s",
                             r->match.id);
        return;
    }
    strbuf_addf(&json, "{\"batch_id\":\"%s\"", r->match.id);
    for (size_t i = 0; i < BATCH_TENANT; i++) {
        const redisReply *value = (*reply)->element[i];

        if (i < BATCH_STATUS && value->type != REDIS_REPLY_STRING)
            strbuf_addf(&json, ",\"%s\":%s", batch_fields[i],
                        i == BATCH_TOTAL ? "null" : "0");
        else if (value->type != REDIS_REPLY_STRING)
            strbuf_adds(&json, ",\"status\":\"running\"");
        else
            add_field(&json, batch_fields[i], i < BATCH_STATUS, value);
    }
    strbuf_adds(&json, "}\n");
    request_answer_json(r, 200, &json);
}

void lookup_batch(struct request *r)
{
    const char *argv[BATCH_FIELDS + 2];
    char key[KEY_MAX];
    int rc;

    if (!job_name_valid(r->match.id, true)) {
        request_answer_error(r, 404, "no_such_batch", NULL, "no such batch");
        return;
    }
    argv[0] = "HMGET";
    argv[1] = protocol_key(&r->gateway->protocol, key, "batch", r->match.id);
    for (size_t i = 0; i < BATCH_FIELDS; i++)
        argv[i + 2] = batch_fields[i];
    rc = link_ask(&r->gateway->link, on_batch, r, BATCH_FIELDS + 2, argv);
    if (rc < 0)
        request_answer_redis(r, rc);
}
