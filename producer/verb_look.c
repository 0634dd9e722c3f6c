/* producer/verb_look.c -- wait, result, status. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "producer/begin.h"
#include "producer/exits.h"
#include "producer/interrupt.h"
#include "producer/show.h"
#include "producer/text.h"
#include "producer/verbs.h"

/* Several jobs must not write over each other's files. */
static char *save_folder(const struct options *o, const char *id)
{
    char *folder = NULL;

    if (!o->save)
        return NULL;
    if (o->nwords == 1)
        return strdup(o->save);
    if (mkdir(o->save, 0777) < 0 && errno != EEXIST)
        text_say("%s: %s", o->save, strerror(errno));
    if (asprintf(&folder, "%s/%s", o->save, id) < 0)
        return NULL;
    return folder;
}

/* "2026-01-31 12:00:00" by the clock on the wall; false: no such time. */
static bool wall_time(char out[64], double unix_s)
{
    time_t at = (time_t)unix_s;
    struct tm parts;

    return at > 0 && localtime_r(&at, &parts) &&
           strftime(out, 64, "%Y-%m-%d %H:%M:%S", &parts) > 0;
}

/* A wait may be a long one: says until when at least. */
static void note_delay(struct client *c, const char *id)
{
    struct client_job job;
    char when[64];

    if (client_job(c, id, false, &job) == 0 && wall_time(when, job.due_at))
        text_say("%s is delayed until %s", id, when);
}

static int wait_one(struct client *c, const struct settings *s,
                    const struct options *o, const char *id, int64_t deadline,
                    bool logs)
{
    struct client_job job = {0};
    struct follow f;
    char *folder;
    int rc;

    note_delay(c, id);
    rc = client_wait(c, id, deadline, &job);
    if (rc < 0) {
        text_say("%s", c->why);
        return rc == -ENOENT ? EXITS_NO_JOB : EXITS_CAPIBOX;
    }
    folder = save_folder(o, id);
    follow_init(&f, stdout, stderr);
    rc = show_job(s, o, folder, logs ? &f : NULL, &job, id);
    free(folder);
    client_job_fini(&job);
    return rc;
}

int verb_wait(const struct settings *s, const struct options *o)
{
    int64_t deadline = begin_deadline(o);
    struct client c;
    int rc = begin_ids(o, 0);

    if (rc == EXITS_OK)
        rc = begin_save(o);
    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    interrupt_says("interrupted; nothing was cancelled");
    for (int i = 0; i < o->nwords; i++)
        rc = (int)exits_worst(
            (enum exits)rc,
            (enum exits)wait_one(&c, s, o, o->words[i], deadline, false));
    client_close(&c);
    return rc;
}

/* Without --timeout it does not wait: what is not there yet is said. */
static int result_now(struct client *c, const char *id)
{
    struct client_job job;
    char when[64];
    int rc = client_job(c, id, false, &job);

    if (rc < 0) {
        text_say("%s", c->why);
        return EXITS_CAPIBOX;
    }
    if (!job.found) {
        text_say("no such job: %s", id);
        return EXITS_NO_JOB;
    }
    if (job.ended)
        return EXITS_OK;
    if (wall_time(when, job.due_at))
        text_say("%s is delayed until %s; capibox wait %s waits for its end",
                 id, when, id);
    else
        text_say("%s is still %s; capibox wait %s waits for its end", id,
                 job.status, id);
    return EXITS_CAPIBOX;
}

int verb_result(const struct settings *s, const struct options *o)
{
    struct client c;
    int rc = begin_ids(o, 0);

    if (rc == EXITS_OK)
        rc = begin_save(o);
    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    interrupt_says("interrupted; nothing was cancelled");
    if (o->wait_s <= 0)
        rc = result_now(&c, o->words[0]);
    if (rc == EXITS_OK)
        rc = wait_one(&c, s, o, o->words[0], begin_deadline(o), true);
    client_close(&c);
    return rc;
}

static void status_json(const redisReply *reply)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    strbuf_addc(&out, '{');
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *name = reply->element[i];
        const redisReply *value = reply->element[i + 1];

        if (i > 0)
            strbuf_addc(&out, ',');
        strbuf_add_json(&out, name->str, (size_t)name->len);
        strbuf_addc(&out, ':');
        if (!strcmp(name->str, "result"))
            strbuf_add(&out, value->str, (size_t)value->len);
        else
            strbuf_add_json(&out, value->str, (size_t)value->len);
    }
    strbuf_addc(&out, '}');
    puts(out.failed ? "{}" : out.text);
}

/* Internal or too long for a table. */
static bool is_hidden(const char *name)
{
    return !strcmp(name, "result") || !strcmp(name, "token") ||
           !strcmp(name, "nonce");
}

static void status_cell(struct grid *g, const char *name, const char *value)
{
    char when[64];
    size_t len = strlen(name);

    grid_cell(g, "%s", name);
    if (len > 3 && !strcmp(name + len - 3, "_at") &&
        wall_time(when, strtod(value, NULL)))
        grid_cell(g, "%s (%s)", when, value);
    else
        grid_cell(g, "%.400s", value);
}

static void status_table(const char *id, const redisReply *reply)
{
    struct grid g = {.columns = 2};

    grid_cell(&g, "job");
    grid_cell(&g, "%s", id);
    for (size_t i = 0; i + 1 < reply->elements; i += 2)
        if (!is_hidden(reply->element[i]->str))
            status_cell(&g, reply->element[i]->str, reply->element[i + 1]->str);
    grid_print(&g, stdout);
}

static int status(struct client *c, const struct settings *s, const char *id)
{
    char key[KEY_MAX];
    const char *argv[] = {"HGETALL",
                          protocol_key(&c->protocol, key, "job", id)};
    redisReply *reply = NULL;
    int rc = EXITS_OK;

    if (client_ask(c, &reply, 2, argv) < 0) {
        text_say("%s", c->why);
        return EXITS_CAPIBOX;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {
        text_say("no such job: %s (one pushed by a bare LPUSH shows when a "
                 "worker takes it)",
                 id);
        rc = EXITS_NO_JOB;
    } else if (s->json) {
        status_json(reply);
    } else {
        status_table(id, reply);
    }
    freeReplyObject(reply);
    return rc;
}

int verb_status(const struct settings *s, const struct options *o)
{
    struct client c;
    int rc = begin_ids(o, 0);

    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    rc = status(&c, s, o->words[0]);
    client_close(&c);
    return rc;
}
