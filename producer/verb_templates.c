/* producer/verb_templates.c -- templates. */
#include <stdlib.h>
#include <string.h>

#include "common/template.h"
#include "producer/exits.h"
#include "producer/text.h"
#include "producer/verbs.h"

static void say_bad(void *ctx, const char *file, int line,
                    const struct complaint *why)
{
    char text[700];

    (void)ctx;
    complaint_print(why, text, sizeof(text));
    if (line > 0)
        text_say("%s, line %d: %s", file, line, text);
    else
        text_say("%s: %s", file, text);
}

static void join(struct strbuf *out, char *const *words)
{
    for (size_t i = 0; words && words[i]; i++)
        strbuf_addf(out, "%s%s", i ? " " : "", words[i]);
}

static void languages(struct strbuf *out, const struct template *t)
{
    for (size_t i = 0; i < t->nlanguages; i++)
        strbuf_addf(out, "%s%s", i ? " " : "", language_name(t->languages[i]));
}

static void row(struct grid *g, const struct template *t)
{
    AUTO_STRBUF struct strbuf speaks = STRBUF_INIT;
    AUTO_STRBUF struct strbuf packages = STRBUF_INIT;
    char text[TEXT_SHORT];

    languages(&speaks, t);
    join(&packages, t->packages);
    grid_cell(g, "%s", t->id);
    grid_cell(g, "%s", text_seconds(text, (double)t->limits.timeout_ms / 1e3));
    grid_cell(g, "%s", text_bytes(text, (double)t->limits.memory_bytes));
    grid_cell(g, "%d %%", t->limits.cpu_percent);
    grid_cell(g, "%s", speaks.text ? speaks.text : "-");
    grid_cell(g, "%s", packages.len ? packages.text : "-");
}

static void table(const struct template_set *set)
{
    static const char *const heads[] = {"TEMPLATE", "TIMEOUT",   "MEMORY",
                                        "CPU",      "LANGUAGES", "PACKAGES"};
    struct grid g = {.columns = 6};

    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        grid_cell(&g, "%s", heads[i]);
    for (size_t i = 0; i < set->count; i++)
        row(&g, set->items[i]);
    grid_print(&g, stdout);
}

static void pair(struct grid *g, const char *name, const char *value)
{
    grid_cell(g, "%s", name);
    grid_cell(g, "%s", value && *value ? value : "-");
}

static void one(const struct template *t)
{
    AUTO_STRBUF struct strbuf speaks = STRBUF_INIT;
    AUTO_STRBUF struct strbuf packages = STRBUF_INIT;
    AUTO_STRBUF struct strbuf tasks = STRBUF_INIT;
    struct grid g = {.columns = 2};
    char text[TEXT_SHORT];

    languages(&speaks, t);
    join(&packages, t->packages);
    join(&tasks, t->task_types);
    pair(&g, "id", t->id);
    pair(&g, "name", t->name);
    pair(&g, "description", t->description);
    pair(&g, "timeout", text_seconds(text, (double)t->limits.timeout_ms / 1e3));
    pair(&g, "memory", text_bytes(text, (double)t->limits.memory_bytes));
    grid_cell(&g, "cpu");
    grid_cell(&g, "%d %% of one core", t->limits.cpu_percent);
    pair(&g, "disk", text_bytes(text, (double)t->limits.disk_bytes));
    grid_cell(&g, "processes");
    grid_cell(&g, "%d", t->limits.pids);
    pair(&g, "output", text_bytes(text, (double)t->limits.output_bytes));
    pair(&g, "network", t->limits.network ? "yes" : "no");
    pair(&g, "languages", speaks.text);
    pair(&g, "packages", packages.text);
    pair(&g, "task types", tasks.text);
    pair(&g, "E2B template", t->template_name);
    for (size_t i = 0; i < t->nruntimes; i++) {
        grid_cell(&g, "%s", language_name(t->runtimes[i].language));
        grid_cell(&g, "%s", t->runtimes[i].interpreter);
    }
    grid_print(&g, stdout);
}

static void json(const struct template_set *set, const struct template *only)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    if (only) {
        template_to_json(only, &out);
    } else {
        strbuf_addc(&out, '[');
        for (size_t i = 0; i < set->count; i++) {
            if (i > 0)
                strbuf_addc(&out, ',');
            template_to_json(set->items[i], &out);
        }
        strbuf_addc(&out, ']');
    }
    puts(out.failed ? "[]" : out.text);
}

static int show(const struct settings *s, const struct options *o,
                const struct template_set *set)
{
    const struct template *only = NULL;
    AUTO_STRBUF struct strbuf known = STRBUF_INIT;

    if (o->nwords > 0) {
        only = template_find(set, o->words[0]);
        for (size_t i = 0; i < set->count; i++)
            strbuf_addf(&known, "%s%s", i ? ", " : "", set->items[i]->id);
        if (!only) {
            text_say("no template \"%.64s\"; there are %s", o->words[0],
                     known.text ? known.text : "none");
            return EXITS_USAGE;
        }
    }
    if (s->json)
        json(set, only);
    else if (only)
        one(only);
    else
        table(set);
    return EXITS_OK;
}

int verb_templates(const struct settings *s, const struct options *o)
{
    struct template_set *set = NULL;
    char *dir = NULL;
    int rc = settings_find_templates(s, &dir);

    if (rc < 0) {
        text_say("no folder of templates; name it in CAPIBOX_TEMPLATES");
        return EXITS_CAPIBOX;
    }
    rc = template_set_load(dir, say_bad, NULL, &set);
    if (rc < 0)
        text_say("%s: no usable templates: %s", dir, strerror(-rc));
    rc = rc < 0 ? EXITS_CAPIBOX : show(s, o, set);
    template_set_unref(set);
    free(dir);
    return rc;
}
