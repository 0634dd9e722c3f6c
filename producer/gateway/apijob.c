#include "producer/gateway/apijob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/protocol.h"
#include "common/scope.h"

struct span {
    const char *at;
    size_t size;
};

/* ---- over JSON that json_check() let pass -------------------------------- */

static const char *skip_space(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r'))
        s++;
    return s;
}

/* From its opening quote to behind its closing one. */
static const char *skip_string(const char *s, const char *end)
{
    for (s++; s < end && *s != '"'; s++)
        if (*s == '\\')
            s++;
    return s < end ? s + 1 : end;
}

/* Over one value, whatever it is. */
static const char *skip_value(const char *s, const char *end)
{
    int depth = 0;

    while (s < end) {
        if (*s == '"') {
            s = skip_string(s, end);
            if (depth == 0)
                return s;
            continue;
        }
        if (depth == 0 && strchr(",]} \t\n\r", *s))
            return s;
        if (*s == '{' || *s == '[')
            depth++;
        if ((*s == '}' || *s == ']') && --depth == 0)
            return s + 1;
        s++;
    }
    return end;
}

/* The next member (key NULL: element) behind s; false at the closing bracket.
 * The key is as it stands, in its quotes. */
static bool next_item(const char **s_io, const char *end, struct span *key,
                      struct span *value)
{
    const char *s = skip_space(*s_io, end);

    if (s < end && *s == ',')
        s = skip_space(s + 1, end);
    if (s >= end || *s == '}' || *s == ']')
        return false;
    if (key) {
        const char *close = skip_string(s, end);

        key->at = s;
        key->size = (size_t)(close - s);
        s = skip_space(close, end);
        s = skip_space(s < end ? s + 1 : s, end);
    }
    value->at = s;
    s = skip_value(s, end);
    value->size = (size_t)(s - value->at);
    *s_io = s;
    return true;
}

static bool is(const struct span *span, const char *text)
{
    return span->size == strlen(text) &&
           memcmp(span->at, text, span->size) == 0;
}

/* Is it the string `text`, however it is escaped? */
static bool is_string(const struct span *span, const char *text)
{
    cJSON *string;
    bool same;

    if (span->size < 2 || span->at[0] != '"')
        return false;
    if (!memchr(span->at, '\\', span->size))
        return span->size == strlen(text) + 2 &&
               memcmp(span->at + 1, text, span->size - 2) == 0;
    string = json_parse(span->at, span->size);
    same = cJSON_IsString(string) && !strcmp(string->valuestring, text);
    cJSON_Delete(string);
    return same;
}

/* Where the brackets' content begins; NULL if the text is no such thing. */
static const char *inside(const char *text, size_t size, char bracket)
{
    const char *end = text + size;

    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    text = skip_space(text, end);
    return text < end && *text == bracket ? text + 1 : NULL;
}

/* ---- the gateway's own members ------------------------------------------ */

static int take_bool(const struct span *value, const char *field, bool *out,
                     struct complaint *why)
{
    if (is(value, "true"))
        *out = true;
    else if (is(value, "false") || is(value, "null"))
        *out = false;
    else
        return complain(why, field, "is no truth value; give true or false");
    return 0;
}

static int take_queue(const struct span *value,
                      const struct apijob_rules *rules, struct apijob *out,
                      struct complaint *why)
{
    AUTO_STRBUF struct strbuf names = STRBUF_INIT;

    if (is(value, "null"))
        return 0;
    for (int i = 0; i < rules->settings->nqueues; i++) {
        const char *name = rules->settings->queues[i].name;

        if (is_string(value, name)) {
            out->queue = name;
            return 0;
        }
        strbuf_addf(&names, "%s%s", i > 0 ? ", " : "", name);
    }
    return complain(why, "queue", "is none of those served here; give %.300s",
                    names.text ? names.text : "default");
}

struct members {
    struct span id, tenant, batch_id, task_type;
};

/* Is it the gateway's own? Then it is read and does not go on. 1: it goes on.
 */
static int take_member(const struct span *key, const struct span *value,
                       const struct apijob_rules *rules, struct apijob *out,
                       struct complaint *why)
{
    if (is_string(key, "async"))
        return take_bool(value, "async", &out->async, why);
    if (is_string(key, "cancel_on_disconnect"))
        return take_bool(value, "cancel_on_disconnect",
                         &out->cancel_on_disconnect, why);
    if (is_string(key, "queue"))
        return take_queue(value, rules, out, why);
    return 1;
}

/* A null counts as not given, here as in job_parse(). */
static void note(struct span *span, const struct span *value, bool *dropped)
{
    *dropped = is(value, "null");
    if (!*dropped)
        *span = *value;
}

/* What is ours to set does not go on either: it is added at the front. */
static bool stays(const struct span *key, const struct span *value,
                  const struct apijob_rules *rules, struct members *found)
{
    bool dropped = false;

    if (is_string(key, "id"))
        note(&found->id, value, &dropped);
    else if (is_string(key, "task_type"))
        note(&found->task_type, value, &dropped);
    else if (is_string(key, "tenant"))
        dropped = rules->tenant != NULL;
    else if (is_string(key, "batch_id"))
        dropped = rules->batch_id != NULL;
    return !dropped;
}

/* At most: JOB_TEXT_BYTES_MAX has room for it. */
#define ADDED                                                       \
    ",\"id\":\"\",\"tenant\":\"\",\"batch_id\":\"\",\"task_type\":" \
    "\"general\""
_Static_assert(sizeof(ADDED) + JOB_ID_MAX + 2 * JOB_NAME_MAX <=
                   JOB_ADDED_BYTES_MAX,
               "the gateway adds more than a worker takes");

static int add_front(struct apijob *out, const struct apijob_rules *rules,
                     const struct members *found)
{
    char id[JOB_ID_MAX + 1];
    int rc = 0;

    if (!found->id.at) {
        rc = protocol_make_job_id(id);
        if (rc == 0)
            strbuf_addf(&out->text, ",\"id\":\"%s\"", id);
    }
    if (rules->tenant)
        strbuf_addf(&out->text, ",\"tenant\":\"%s\"", rules->tenant);
    if (rules->batch_id)
        strbuf_addf(&out->text, ",\"batch_id\":\"%s\"", rules->batch_id);
    if (rules->dynamic && !found->task_type.at)
        strbuf_adds(&out->text, ",\"task_type\":\"general\"");
    strbuf_addc(&out->text, '}');
    out->text.text[0] = '{';
    return rc < 0 ? rc : out->text.failed ? -ENOMEM : 0;
}

/* Copies the members that go on, each behind a comma (the first becomes the
 * brace). */
static int rewrite(const char *s, const char *end,
                   const struct apijob_rules *rules, struct apijob *out,
                   struct complaint *why)
{
    struct members found = {0};
    struct span key, value;

    while (next_item(&s, end, &key, &value)) {
        int rc = take_member(&key, &value, rules, out, why);

        if (rc < 0)
            return rc;
        if (rc == 0 || !stays(&key, &value, rules, &found))
            continue;
        strbuf_addc(&out->text, ',');
        strbuf_add(&out->text, key.at, key.size);
        strbuf_addc(&out->text, ':');
        strbuf_add(&out->text, value.at, value.size);
    }
    if (out->text.len == 0)
        strbuf_addc(&out->text, ',');
    if (out->text.failed)
        return -ENOMEM;
    if (out->text.len > 1)
        return add_front(out, rules, &found);
    /* Nothing at all: job_parse() says what is missing. */
    strbuf_clear(&out->text);
    strbuf_adds(&out->text, "{}");
    return 0;
}

/* One that was checked. */
static int build(const char *body, size_t size,
                 const struct apijob_rules *rules, struct apijob *out,
                 struct complaint *why)
{
    const char *start = inside(body, size, '{');
    char id[JOB_ID_MAX + 1];
    int rc;

    *out = (struct apijob){.queue = "default"};
    if (size > JOB_BYTES_MAX) {
        complain(why, NULL, "a job of %zu bytes; give at most %u (4 MiB)", size,
                 JOB_BYTES_MAX);
        return -EFBIG;
    }
    if (!start)
        return complain(why, NULL,
                        "a job is a JSON object; give {\"code\": \"…\"}");
    rc = rewrite(start, body + size, rules, out, why);
    if (rc == 0)
        rc = job_parse(out->text.text, out->text.len, &out->job, id, why);
    if (rc < 0)
        apijob_fini(out);
    return rc;
}

int apijob_build(const char *body, size_t size,
                 const struct apijob_rules *rules, struct apijob *out,
                 struct complaint *why)
{
    int rc = json_check(body, size, NULL, 0, why, NULL);

    *out = (struct apijob){0};
    return rc < 0 ? rc : build(body, size, rules, out, why);
}

void apijob_fini(struct apijob *job)
{
    strbuf_fini(&job->text);
    job_destroy(job->job);
    *job = (struct apijob){0};
}

/* ---- batches ------------------------------------------------------------ */

static bool find_jobs(const char *s, const char *end, struct span *jobs)
{
    struct span key, value;

    while (s && next_item(&s, end, &key, &value))
        if (is_string(&key, "jobs")) {
            *jobs = value;
            return true;
        }
    return false;
}

/* "jobs[3].code" */
static void name_place(struct complaint *why, size_t i)
{
    char field[sizeof(why->field)];

    snprintf(field, sizeof(field), "jobs[%zu]%s%.100s", i,
             why->field[0] ? "." : "", why->field);
    memcpy(why->field, field, sizeof(field));
}

static size_t count_items(const char *s, const char *end)
{
    struct span value;
    size_t n = 0;

    while (next_item(&s, end, NULL, &value))
        n++;
    return n;
}

static int build_each(const char *s, const char *end,
                      const struct apijob_rules *rules, struct apijob *jobs,
                      struct complaint *why)
{
    struct span value;

    for (size_t i = 0; next_item(&s, end, NULL, &value); i++) {
        int rc = build(value.at, value.size, rules, &jobs[i], why);

        if (rc == -EINVAL || rc == -EBADMSG || rc == -EFBIG)
            name_place(why, i);
        if (rc < 0)
            return rc == -EBADMSG ? -EINVAL : rc;
    }
    return 0;
}

int apijob_build_batch(const char *body, size_t size,
                       const struct apijob_rules *rules, struct apijob **out,
                       size_t *count_out, struct complaint *why)
{
    struct span value = {0};
    const char *list;
    struct apijob *jobs;
    size_t count;
    int rc = json_check(body, size, NULL, 0, why, NULL);

    if (rc < 0)
        return rc;
    if (!find_jobs(inside(body, size, '{'), body + size, &value))
        return complain(why, "jobs", "is missing; give {\"jobs\": [job…]}");
    list = inside(value.at, value.size, '[');
    count = list ? count_items(list, value.at + value.size) : 0;
    if (count == 0 || count > APIJOB_BATCH_MAX)
        return complain(why, "jobs", "holds %zu jobs; give an array of 1 to %d",
                        count, APIJOB_BATCH_MAX);
    jobs = calloc(count, sizeof(*jobs));
    if (!jobs)
        return -ENOMEM;
    rc = build_each(list, value.at + value.size, rules, jobs, why);
    if (rc < 0) {
        apijob_free_batch(jobs, count);
        return rc;
    }
    *out = jobs;
    *count_out = count;
    return 0;
}

void apijob_free_batch(struct apijob *jobs, size_t count)
{
    for (size_t i = 0; jobs && i < count; i++)
        apijob_fini(&jobs[i]);
    free(jobs);
}
