/* producer/verb_fleet.c -- queues, workers. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "producer/exits.h"
#include "producer/fleet.h"
#include "producer/text.h"
#include "producer/verbs.h"

static void queues_table(const struct fleet *f)
{
    struct grid g = {.columns = 4};
    char age[TEXT_SHORT];

    grid_cell(&g, "QUEUE");
    grid_cell(&g, "WAITING");
    grid_cell(&g, "OLDEST");
    grid_cell(&g, "WORKERS");
    for (int i = 0; i < f->nqueues; i++) {
        const struct fleet_queue *q = &f->queues[i];

        grid_cell(&g, "%s", q->name);
        grid_cell(&g, "%lld", (long long)q->depth);
        grid_cell(&g, "%s",
                  q->depth == 0     ? "-"
                  : q->oldest_s < 0 ? "unknown"
                                    : text_seconds(age, q->oldest_s));
        grid_cell(&g, "%d%s", q->served,
                  q->depth > 0 && q->served == 0 ? " (nobody serves it)" : "");
    }
    grid_print(&g, stdout);
    printf("\ndelayed %lld, dead %lld\n", (long long)f->delayed,
           (long long)f->dead);
}

static void queues_json(const struct fleet *f)
{
    printf("{\"queues\":[");
    for (int i = 0; i < f->nqueues; i++) {
        const struct fleet_queue *q = &f->queues[i];

        printf("%s{\"name\":\"%s\",\"depth\":%lld,\"workers\":%d,"
               "\"oldest_seconds\":",
               i ? "," : "", q->name, (long long)q->depth, q->served);
        if (q->oldest_s < 0)
            printf("null}");
        else
            printf("%.3f}", q->oldest_s);
    }
    printf("],\"delayed\":%lld,\"dead\":%lld,\"paused\":%s}\n",
           (long long)f->delayed, (long long)f->dead,
           f->paused ? "true" : "false");
}

/* Names only; the mark of a suspect is no job. */
static void running(const struct fleet_worker *w, struct strbuf *out, bool json)
{
    for (size_t i = 0; w->runs && i + 1 < w->runs->elements; i += 2) {
        const redisReply *id = w->runs->element[i + 1];

        if (!strcmp(w->runs->element[i]->str, "!"))
            continue;
        if (out->len > 0)
            strbuf_adds(out, json ? "," : " ");
        if (json)
            strbuf_add_json(out, id->str, (size_t)id->len);
        else
            strbuf_adds(out, id->str);
    }
}

static void worker_row(struct grid *g, const struct fleet *f,
                       const struct fleet_worker *w)
{
    AUTO_STRBUF struct strbuf jobs = STRBUF_INIT;
    char up[TEXT_SHORT], beat[TEXT_SHORT];
    double started = strtod(fleet_field(w->card, "started_at"), NULL);
    double last = strtod(fleet_field(w->card, "heartbeat"), NULL);

    running(w, &jobs, false);
    grid_cell(g, "%s", w->id);
    grid_cell(g, "%s", fleet_field(w->card, "host"));
    grid_cell(g, "%s", fleet_field(w->card, "pid"));
    grid_cell(g, "%s", fleet_field(w->card, "backend"));
    grid_cell(g, "%s", w->lease_s < 0 ? "lost" : fleet_field(w->card, "state"));
    grid_cell(g, "%s/%s", fleet_field(w->card, "active"),
              fleet_field(w->card, "concurrency"));
    grid_cell(g, "%s", started > 0 ? text_seconds(up, f->now - started) : "?");
    grid_cell(g, "%s",
              last > 0 ? text_seconds(beat, f->now > last ? f->now - last : 0)
                       : "?");
    grid_cell(g, "%s", fleet_field(w->card, "queues"));
    grid_cell(g, "%s", jobs.text ? jobs.text : "-");
}

static void workers_table(const struct fleet *f)
{
    static const char *const heads[] = {
        "WORKER", "HOST",   "PID",      "BACKEND", "STATE",
        "BUSY",   "UP FOR", "SEEN AGO", "QUEUES",  "RUNNING"};
    struct grid g = {.columns = 10};
    char trouble[FLEET_TROUBLE_MAX];

    if (f->nworkers == 0) {
        puts("no worker is alive");
        return;
    }
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        grid_cell(&g, "%s", heads[i]);
    for (int i = 0; i < f->nworkers; i++)
        worker_row(&g, f, &f->workers[i]);
    grid_print(&g, stdout);
    for (int i = 0; i < f->nworkers; i++)
        if (*fleet_trouble(&f->workers[i], trouble)) {
            printf("%s: ", f->workers[i].id);
            text_put(stdout, trouble, -1);
            putchar('\n');
        }
}

/* Numbers where the card has numbers. */
static void add_value(struct strbuf *out, const char *name, const char *value)
{
    static const char *const numbers[] = {"pid", "concurrency", "active",
                                          "started_at", "heartbeat"};
    char *end;
    double number = strtod(value, &end);

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!strcmp(name, numbers[i]) && *value && !*end && number >= 0) {
            strbuf_addf(out, "%.15g", number);
            return;
        }
    strbuf_add_json(out, value, strlen(value));
}

static void add_json(struct strbuf *out, const char *text)
{
    if (*text && json_check(text, strlen(text), NULL, 0, NULL, NULL) == 0)
        strbuf_adds(out, text);
    else
        strbuf_adds(out, "null");
}

static void worker_json(struct strbuf *out, const struct fleet_worker *w)
{
    AUTO_STRBUF struct strbuf jobs = STRBUF_INIT;

    strbuf_adds(out, "{\"id\":");
    strbuf_add_json(out, w->id, strlen(w->id));
    strbuf_addf(out, ",\"lease_seconds\":%.3f", w->lease_s);
    for (size_t i = 0; w->card && i + 1 < w->card->elements; i += 2) {
        const char *name = w->card->element[i]->str;

        if (!strcmp(name, "id") || !strcmp(name, "running"))
            continue;
        strbuf_addc(out, ',');
        strbuf_add_json(out, name, strlen(name));
        strbuf_addc(out, ':');
        /* JSON of the worker's own, or nothing. */
        if (!strcmp(name, "more"))
            add_json(out, w->card->element[i + 1]->str);
        else
            add_value(out, name, w->card->element[i + 1]->str);
    }
    running(w, &jobs, true);
    strbuf_addf(out, ",\"running\":[%s]}", jobs.text ? jobs.text : "");
}

static void workers_json(const struct fleet *f)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    for (int i = 0; i < f->nworkers; i++) {
        if (i > 0)
            strbuf_addc(&out, ',');
        worker_json(&out, &f->workers[i]);
    }
    printf("{\"workers\":[%s],\"paused\":%s}\n",
           out.text && !out.failed ? out.text : "",
           f->paused ? "true" : "false");
}

static int with_fleet(const struct settings *s, bool queues,
                      void (*show)(const struct fleet *f))
{
    struct fleet *f = calloc(1, sizeof(*f));
    struct client c = {0};
    int rc = f ? client_open(&c, s) : -1;

    if (rc == 0)
        rc = fleet_load_workers(f, &c);
    if (rc == 0 && queues)
        rc = fleet_load_queues(f, &c);
    if (rc == 0)
        show(f);
    if (rc == 0 && f->paused && !s->json)
        printf(FLEET_PAUSED "\n", s->prefix);
    if (rc < 0)
        text_say("%s", f ? c.why : "out of memory");
    if (f)
        fleet_fini(f);
    free(f);
    client_close(&c);
    return rc == 0 ? EXITS_OK : EXITS_CAPIBOX;
}

int verb_queues(const struct settings *s, const struct options *o)
{
    (void)o;
    return with_fleet(s, true, s->json ? queues_json : queues_table);
}

int verb_workers(const struct settings *s, const struct options *o)
{
    (void)o;
    return with_fleet(s, false, s->json ? workers_json : workers_table);
}
