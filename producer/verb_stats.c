/* producer/verb_stats.c -- stats. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/template.h"
#include "producer/client.h"
#include "producer/exits.h"
#include "producer/fleet.h"
#include "producer/interrupt.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define WATCH_S 1

/* Which counters people see, in this order; the JSON has them all. */
static const struct {
    const char *field, *words;
} shown[] = {
    {"total_executions", "jobs run"},
    {"successful_executions", "succeeded"},
    {"failed_executions", "failed"},
    {"rejected", "rejected"},
    {"dead", "dead"},
    {"retries", "retries"},
    {"duplicates", "duplicates"},
    {"recovered", "recovered from lost workers"},
    {"late", "late results refused"},
    {"cache_hits", "cache hits"},
    {"sandbox_created", "sandboxes made"},
    {"sandbox_destroyed", "sandboxes removed"},
};

static double number(const redisReply *hash, const char *field)
{
    return strtod(fleet_field(hash, field), NULL);
}

static double average(const redisReply *hash)
{
    double runs = number(hash, "total_executions");

    return runs > 0 ? number(hash, "total_execution_time") / runs : 0;
}

static double rate(const redisReply *hash)
{
    double runs = number(hash, "total_executions");

    return runs > 0 ? 100 * number(hash, "successful_executions") / runs : 0;
}

static int ask_hash(struct client *c, const char *kind, const char *name,
                    redisReply **out)
{
    char key[KEY_MAX];
    const char *argv[] = {"HGETALL",
                          protocol_key(&c->protocol, key, kind, name)};

    return client_ask(c, out, 2, argv);
}

static void totals_table(const redisReply *all)
{
    struct grid g = {.columns = 2};
    char text[TEXT_SHORT];

    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        double value = number(all, shown[i].field);

        if (i > 2 && value == 0)
            continue;
        grid_cell(&g, "%s", shown[i].words);
        grid_cell(&g, "%.0f", value);
    }
    grid_cell(&g, "success rate");
    grid_cell(&g, "%.1f %%", rate(all));
    grid_cell(&g, "average time");
    grid_cell(&g, "%s", text_seconds(text, average(all)));
    grid_print(&g, stdout);
}

static void verdicts_table(const redisReply *all)
{
    struct grid g = {.columns = 2};

    for (size_t i = 0; i + 1 < all->elements; i += 2) {
        const char *name = all->element[i]->str;

        if (strncmp(name, "verdict:", 8) != 0)
            continue;
        if (g.count == 0) {
            grid_cell(&g, "VERDICT");
            grid_cell(&g, "JOBS");
            putchar('\n');
        }
        grid_cell(&g, "%s", name + 8);
        grid_cell(&g, "%s", all->element[i + 1]->str);
    }
    grid_print(&g, stdout);
}

static void template_row(struct grid *g, const char *id, const redisReply *hash)
{
    char text[TEXT_SHORT];

    if (hash->elements == 0)
        return;
    if (g->count == 0) {
        static const char *const heads[] = {"TEMPLATE", "RUN", "SUCCEEDED",
                                            "FAILED", "AVERAGE"};

        for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
            grid_cell(g, "%s", heads[i]);
        putchar('\n');
    }
    grid_cell(g, "%s", id);
    grid_cell(g, "%.0f", number(hash, "total_executions"));
    grid_cell(g, "%.0f", number(hash, "successful_executions"));
    grid_cell(g, "%.0f", number(hash, "failed_executions"));
    grid_cell(g, "%s", text_seconds(text, average(hash)));
}

static void hash_json(struct strbuf *out, const redisReply *hash)
{
    strbuf_addc(out, '{');
    for (size_t i = 0; i + 1 < hash->elements; i += 2) {
        const redisReply *name = hash->element[i];

        if (i > 0)
            strbuf_addc(out, ',');
        strbuf_add_json(out, name->str, (size_t)name->len);
        strbuf_addf(out, ":%.15g", strtod(hash->element[i + 1]->str, NULL));
    }
    strbuf_addc(out, '}');
}

static void ignore_bad(void *ctx, const char *file, int line,
                       const struct complaint *why)
{
    (void)ctx;
    (void)file;
    (void)line;
    (void)why;
}

/* Their counters are asked for by name; NULL where there is no folder. */
static struct template_set *load_templates(const struct settings *s)
{
    struct template_set *set = NULL;
    char *dir = NULL;

    if (settings_find_templates(s, &dir) == 0 &&
        template_set_load(dir, ignore_bad, NULL, &set) < 0)
        set = NULL;
    free(dir);
    return set;
}

static int per_template(struct client *c, const struct template_set *set,
                        struct grid *g, struct strbuf *json)
{
    for (size_t i = 0; set && i < set->count; i++) {
        const char *id = set->items[i]->id;
        redisReply *hash = NULL;
        int rc = ask_hash(c, "stats:template", id, &hash);

        if (rc < 0)
            return rc;
        if (hash->elements > 0) {
            if (json->len > 0)
                strbuf_addc(json, ',');
            strbuf_add_json(json, id, strlen(id));
            strbuf_addc(json, ':');
            hash_json(json, hash);
        }
        if (g)
            template_row(g, id, hash);
        freeReplyObject(hash);
    }
    return 0;
}

/* Backends that are not well. A worker that cannot be read is no reason to show
 * no counters. */
static void print_troubles(struct client *c)
{
    struct fleet *f = calloc(1, sizeof(*f));
    char trouble[FLEET_TROUBLE_MAX];

    if (f && fleet_load_workers(f, c) == 0) {
        if (f->paused)
            printf(FLEET_PAUSED "\n", c->protocol.prefix);
        for (int i = 0; i < f->nworkers; i++)
            if (*fleet_trouble(&f->workers[i], trouble)) {
                printf("%s: ", f->workers[i].id);
                text_put(stdout, trouble, -1);
                putchar('\n');
            }
    }
    if (f)
        fleet_fini(f);
    free(f);
}

static int print_stats(struct client *c, const struct settings *s,
                       const struct template_set *set)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    AUTO_STRBUF struct strbuf totals = STRBUF_INIT;
    struct grid g = {.columns = 5};
    redisReply *all = NULL;
    int rc = ask_hash(c, "stats", NULL, &all);

    if (rc < 0)
        return rc;
    if (!s->json) {
        totals_table(all);
        verdicts_table(all);
    }
    rc = per_template(c, set, s->json ? NULL : &g, &json);
    grid_print(&g, stdout);
    if (rc == 0 && !s->json)
        print_troubles(c);
    hash_json(&totals, all);
    if (rc == 0 && s->json)
        printf("{\"stats\":%s,\"average_execution_time\":%.6f,"
               "\"success_rate\":%.3f,\"templates\":{%s}}\n",
               totals.text, average(all), rate(all),
               json.text ? json.text : "");
    freeReplyObject(all);
    return rc;
}

static int audit(struct client *c, const struct settings *s)
{
    struct audit a;
    int rc = protocol_audit(&c->protocol, c->redis,
                            clock_ms() + REDIS_CALL_TIMEOUT_MS, s->queues,
                            s->nqueues, &a);
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"accepted", a.accepted},     {"queued", a.queued},
        {"delayed", a.delayed},       {"running", a.running},
        {"private", a.private_},      {"terminal", a.terminal},
        {"duplicates", a.duplicates}, {"claims", a.claims},
        {"given_back", a.given_back}, {"enqueued", a.enqueued},
    };
    struct grid g = {.columns = 2};

    if (rc < 0) {
        snprintf(c->why, sizeof(c->why), "%s", redis_error(c->redis));
        return rc;
    }
    if (s->json)
        printf("{");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (s->json)
            printf("\"%s\":%lld,", rows[i].name, (long long)rows[i].value);
        grid_cell(&g, "%s", rows[i].name);
        grid_cell(&g, "%lld", (long long)rows[i].value);
    }
    if (s->json)
        printf("\"balanced\":%s}\n", a.balanced ? "true" : "false");
    else
        grid_print(&g, stdout);
    grid_fini(&g);
    if (!s->json)
        puts(a.balanced
                 ? "the books balance: accepted = queued + delayed + running "
                   "+ private + terminal + duplicates"
                 : "the books do NOT balance: accepted differs from "
                   "queued + delayed + running + private + terminal + "
                   "duplicates");
    return a.balanced ? EXITS_OK : EXITS_CAPIBOX;
}

static int watch(struct client *c, const struct settings *s,
                 const struct template_set *set)
{
    interrupt_says("stopped watching");
    for (;;) {
        int rc;

        if (!s->json && isatty(STDOUT_FILENO))
            fputs("\033[H\033[2J", stdout);
        rc = print_stats(c, s, set);
        if (rc < 0)
            return rc;
        if (!s->json)
            putchar('\n');
        if (fflush(stdout) != 0)
            return EXITS_OK;
        sleep(WATCH_S);
    }
}

int verb_stats(const struct settings *s, const struct options *o)
{
    struct client c = {0};
    struct template_set *set = o->audit ? NULL : load_templates(s);
    int rc = client_open(&c, s);

    if (rc == 0 && o->audit)
        rc = audit(&c, s);
    else if (rc == 0)
        rc = o->watch ? watch(&c, s, set) : print_stats(&c, s, set);
    if (rc < 0) {
        text_say("%s", c.why);
        rc = EXITS_CAPIBOX;
    }
    template_set_unref(set);
    client_close(&c);
    return rc;
}
