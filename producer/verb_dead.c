/* producer/verb_dead.c -- dead. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/job.h"
#include "common/json.h"
#include "producer/begin.h"
#include "producer/exits.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define ERROR_BYTES 124 /* of a row, its "…" and NUL with it */

struct dead {
    struct client *client;
    const struct settings *settings;
    struct grid grid;
    char (*ids)[JOB_ID_MAX + 1]; /* for --all */
    size_t nids, cap;
};

static int64_t soon(void)
{
    return clock_ms() + REDIS_CALL_TIMEOUT_MS;
}

static int failed(const struct dead *d)
{
    const struct redis *redis = d->client->redis;

    text_say("%s",
             redis_connected(redis) ? protocol_error() : redis_error(redis));
    return EXITS_CAPIBOX;
}

static int all_pages(struct dead *d, protocol_dead_fn *take)
{
    int64_t from = 0;
    int got;

    do {
        got = protocol_dead_list(&d->client->protocol, d->client->redis, soon(),
                                 from, DEAD_PAGE_MAX, take, d, NULL);
        from += got;
    } while (got == DEAD_PAGE_MAX);
    return got < 0 ? got : 0;
}

/* ---- list -------------------------------------------------------------- */

static const char *text_of(const cJSON *about, const char *name)
{
    const char *text = json_member(about, name);

    return text ? text : "?";
}

static double number_of(const cJSON *about, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(about, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void list_line(void *ctx, const struct dead_entry *entry)
{
    (void)ctx;
    fwrite(entry->about, 1, entry->about_len, stdout);
    putchar('\n');
}

static void list_row(void *ctx, const struct dead_entry *entry)
{
    struct dead *d = ctx;
    cJSON *about = cJSON_ParseWithLength(entry->about, entry->about_len);
    double age = clock_unix_s() - number_of(about, "at");
    char ago[TEXT_SHORT], error[ERROR_BYTES];

    grid_cell(&d->grid, "%s", text_of(about, "job_id"));
    grid_cell(&d->grid, "%s", text_of(about, "verdict"));
    grid_cell(&d->grid, "%s", text_of(about, "queue"));
    grid_cell(&d->grid, "%s", text_seconds(ago, age > 0 ? age : 0));
    text_cut(error, sizeof(error), text_of(about, "error"));
    grid_cell(&d->grid, "%s", error);
    cJSON_Delete(about);
}

static int list(struct dead *d, const struct options *o)
{
    static const char *const heading[] = {"JOB", "VERDICT", "QUEUE", "AGE",
                                          "ERROR"};
    int rc;

    (void)o;
    d->grid.columns = 5;
    for (int i = 0; i < 5; i++)
        grid_cell(&d->grid, "%s", heading[i]);
    rc = all_pages(d, d->settings->json ? list_line : list_row);
    if (rc < 0)
        rc = failed(d);
    else if (!d->settings->json && d->grid.count == 5)
        text_say("the dead list is empty");
    else if (!d->settings->json)
        grid_print(&d->grid, stdout);
    grid_fini(&d->grid);
    return rc;
}

/* ---- show -------------------------------------------------------------- */

static void show_json(const struct dead_entry *entry)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT;

    strbuf_adds(&line, "{\"about\":");
    strbuf_add(&line, entry->about, entry->about_len);
    strbuf_adds(&line, ",\"job\":");
    strbuf_add_json(&line, entry->body ? entry->body : "", entry->body_len);
    strbuf_addc(&line, '}');
    puts(line.failed ? "{}" : line.text);
}

static void show_about(const struct dead_entry *entry)
{
    cJSON *about = cJSON_ParseWithLength(entry->about, entry->about_len);
    const cJSON *item;

    cJSON_ArrayForEach(item, about)
    {
        if (cJSON_IsString(item))
            text_say("%s: %.1000s", item->string, item->valuestring);
        else
            text_say("%s: %.15g", item->string, item->valuedouble);
    }
    cJSON_Delete(about);
}

/* The job itself on stdout: byte for byte into a file, tame on a terminal. */
static void show_entry(void *ctx, const struct dead_entry *entry)
{
    const struct dead *d = ctx;
    AUTO_STRBUF struct strbuf tame = STRBUF_INIT;

    if (d->settings->json) {
        show_json(entry);
        return;
    }
    show_about(entry);
    if (!entry->body)
        return;
    if (!isatty(STDOUT_FILENO)) {
        fwrite(entry->body, 1, entry->body_len, stdout);
        return;
    }
    text_escape(&tame, entry->body, entry->body_len);
    puts(tame.text ? tame.text : "");
}

static int not_there(const char *id)
{
    text_say("%s is not in the dead list", id);
    return EXITS_NO_JOB;
}

static int show(struct dead *d, const struct options *o)
{
    int rc = protocol_dead_show(&d->client->protocol, d->client->redis, soon(),
                                o->words[1], NULL, show_entry, d);

    if (rc == -ENOENT)
        return not_there(o->words[1]);
    return rc < 0 ? failed(d) : EXITS_OK;
}

/* ---- retry, drop ------------------------------------------------------- */

static void say_done(const struct dead *d, const char *id, const char *what)
{
    if (d->settings->json)
        printf("{\"job_id\":\"%s\",\"%s\":true}\n", id, what);
    else
        printf("%s %s\n", id, what);
}

static int retry_one(struct dead *d, const char *id)
{
    enum dead_answer answer;
    char now[JOB_ID_MAX + 1] = "";
    int rc = protocol_dead_retry(&d->client->protocol, d->client->redis, soon(),
                                 id, NULL, &answer, now);

    if (rc == -ENOSPC)
        text_say("%s stays where it is: Redis is full", id);
    if (rc < 0)
        return rc == -ENOSPC ? EXITS_CAPIBOX : failed(d);
    if (answer == DEAD_NONE)
        return not_there(id);
    if (answer == DEAD_TAKEN)
        text_say("%s stays where it is: another job has the id %s by now", id,
                 now);
    if (answer == DEAD_CUT)
        text_say("%s stays where it is: only the first part of it was kept",
                 id);
    if (answer != DEAD_DONE)
        return EXITS_CAPIBOX;
    say_done(d, now, "queued");
    return EXITS_OK;
}

static int drop_one(struct dead *d, const char *id)
{
    enum dead_answer answer;

    if (protocol_dead_drop(&d->client->protocol, d->client->redis, soon(), id,
                           NULL, &answer) < 0)
        return failed(d);
    if (answer == DEAD_NONE)
        return not_there(id);
    say_done(d, id, "dropped");
    return EXITS_OK;
}

static void note_id(void *ctx, const struct dead_entry *entry)
{
    struct dead *d = ctx;
    cJSON *about = cJSON_ParseWithLength(entry->about, entry->about_len);
    const char *id = text_of(about, "job_id");

    if (job_id_valid(id) && d->nids < d->cap)
        strcpy(d->ids[d->nids++], id);
    cJSON_Delete(about);
}

/* Those that are there now: one that dies again meanwhile is not tried again.
 * Newest first, as they are found soonest. */
static int retry_all(struct dead *d)
{
    int rc, code = EXITS_OK;

    d->cap = DEAD_LIST_MAX;
    d->ids = calloc(d->cap, sizeof(*d->ids));
    rc = d->ids ? all_pages(d, note_id) : -ENOMEM;
    if (rc < 0)
        code = failed(d);
    for (size_t i = 0; rc == 0 && i < d->nids; i++)
        code = (int)exits_worst((enum exits)code,
                                (enum exits)retry_one(d, d->ids[i]));
    free(d->ids);
    return code;
}

static int drop_all(struct dead *d)
{
    int64_t total = 0, gone = 0;
    int got = protocol_dead_list(&d->client->protocol, d->client->redis, soon(),
                                 0, 0, note_id, d, &total);

    while (got >= 0 && gone < total) {
        int64_t left = total - gone;

        got = protocol_dead_drop_oldest(
            &d->client->protocol, d->client->redis, soon(),
            left < DEAD_PAGE_MAX ? (int)left : DEAD_PAGE_MAX);
        if (got == 0)
            break;
        gone += got > 0 ? got : 0;
    }
    if (got < 0)
        return failed(d);
    if (d->settings->json)
        printf("{\"dropped\":%lld}\n", (long long)gone);
    else
        printf("%lld dropped\n", (long long)gone);
    return EXITS_OK;
}

static int each(struct dead *d, const struct options *o,
                int (*act)(struct dead *d, const char *id))
{
    int code = EXITS_OK;

    for (int i = 1; i < o->nwords; i++)
        code =
            (int)exits_worst((enum exits)code, (enum exits)act(d, o->words[i]));
    return code;
}

static int retry(struct dead *d, const struct options *o)
{
    return o->all ? retry_all(d) : each(d, o, retry_one);
}

static int drop(struct dead *d, const struct options *o)
{
    return o->all ? drop_all(d) : each(d, o, drop_one);
}

/* ---- the verb ---------------------------------------------------------- */

static const struct {
    const char *name;
    int ids_min, ids_max;
    bool takes_all;
    int (*act)(struct dead *d, const struct options *o);
} ACTS[] = {
    {"list", 0, 0, false, list},
    {"show", 1, 1, false, show},
    {"retry", 1, OPTIONS_WORDS_MAX, true, retry},
    {"drop", 1, OPTIONS_WORDS_MAX, true, drop},
};
#define NACTS (sizeof(ACTS) / sizeof(ACTS[0]))

/* Index of the row, or -1 after saying what is wrong. */
static int choose(const struct options *o)
{
    int ids = o->nwords - 1;
    size_t i = 0;

    while (i < NACTS && strcmp(ACTS[i].name, o->words[0]) != 0)
        i++;
    if (i == NACTS)
        text_say("dead: \"%.40s\" is none of list, show, retry, drop",
                 o->words[0]);
    else if (o->all && (!ACTS[i].takes_all || ids > 0))
        text_say("dead %s: --all goes with retry and drop, without an ID",
                 ACTS[i].name);
    else if (!o->all && (ids < ACTS[i].ids_min || ids > ACTS[i].ids_max))
        text_say("dead: usage: capibox dead list | show ID | retry ID... | "
                 "drop ID... (retry and drop also --all)");
    else
        return (int)i;
    return -1;
}

int verb_dead(const struct settings *s, const struct options *o)
{
    struct client c;
    struct dead d = {.client = &c, .settings = s};
    int act = choose(o), rc;

    if (act < 0)
        return EXITS_USAGE;
    rc = begin_ids(o, 1);
    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    rc = ACTS[act].act(&d, o);
    client_close(&c);
    return rc;
}
