/* common/spec.c -- what one job gets: template, requirements, ceilings. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/imports.h"
#include "common/json.h"
#include "common/template.h"

#define MB 1048576.0

/* ---- which template --------------------------------------------------- */

static bool has_language(const struct template *tpl, enum language language)
{
    for (size_t i = 0; i < tpl->nlanguages; i++)
        if (tpl->languages[i] == language)
            return true;
    return false;
}

static size_t covered(const struct template *tpl, const struct imports *imports)
{
    size_t count = 0;

    for (char **package = tpl->packages; package && *package; package++)
        count += imports_package(imports, *package);
    return count;
}

static size_t texts_count(char **texts)
{
    size_t count = 0;

    while (texts && texts[count])
        count++;
    return count;
}

static bool is_smaller(const struct template *a, const struct template *b)
{
    if (a->limits.memory_bytes != b->limits.memory_bytes)
        return a->limits.memory_bytes < b->limits.memory_bytes;
    if (a->limits.timeout_ms != b->limits.timeout_ms)
        return a->limits.timeout_ms < b->limits.timeout_ms;
    return texts_count(a->packages) < texts_count(b->packages);
}

/* The one that covers the most, the smallest of equals. `default` when there is
 * nothing to cover, unless it lacks the language. */
static const struct template *choose_auto(const struct template_set *set,
                                          const struct job *job)
{
    enum language language = job->language ? job->language : LANGUAGE_PYTHON;
    const struct template *usual = template_find(set, "default"), *best = NULL;
    struct imports imports;
    size_t most = 0, count;

    imports.count = 0;
    if (language == LANGUAGE_PYTHON)
        imports_find(job->code, job->code_bytes, &imports);
    for (size_t i = 0; i < set->count; i++) {
        const struct template *tpl = set->items[i];

        if (!has_language(tpl, language))
            continue;
        count = covered(tpl, &imports);
        if (!best || count > most || (count == most && is_smaller(tpl, best))) {
            best = tpl;
            most = count;
        }
    }
    return !best || (most == 0 && has_language(usual, language)) ? usual : best;
}

static int complain_unknown(const struct template_set *set, const char *id,
                            struct complaint *why)
{
    char shown[JSON_SHOW_MAX], list[384] = "auto";
    size_t len = strlen(list);

    for (size_t i = 0; i < set->count && len < sizeof list; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, ", %s",
                                set->items[i]->id);
    return complain(why, "template", "%s is unknown; this worker has %s%s",
                    json_show_text(id, shown), list,
                    len < sizeof list ? "" : "…");
}

static const struct template *find_task_type(const struct template_set *set,
                                             const char *task_type)
{
    for (size_t i = 0; i < set->count; i++)
        for (char **type = set->items[i]->task_types; type && *type; type++)
            if (strcmp(*type, task_type) == 0)
                return set->items[i];
    return template_find(set, "default");
}

bool template_list_task_types(const struct template_set *set,
                              const char *task_type, char *out, size_t size)
{
    static const char more[] = ", …";
    size_t len = 0;

    for (size_t i = 0; i < set->count; i++)
        for (char **type = set->items[i]->task_types; type && *type; type++)
            if (strcmp(*type, task_type) == 0)
                return false;
    out[0] = '\0';
    for (size_t i = 0; i < set->count; i++)
        for (char **type = set->items[i]->task_types; type && *type; type++) {
            if (len + strlen(*type) + 2 + sizeof more > size) {
                snprintf(out + len, size - len, "%s", more);
                return true;
            }
            len += (size_t)snprintf(out + len, size - len, "%s%s",
                                    len ? ", " : "", *type);
        }
    return true;
}

static int choose_template(const struct template_set *set,
                           const struct job *job, const struct template **out,
                           struct complaint *why)
{
    if (!job->template_id)
        *out = job->task_type ? find_task_type(set, job->task_type)
                              : template_find(set, "default");
    else if (strcmp(job->template_id, "auto") == 0)
        *out = choose_auto(set, job);
    else
        *out = template_find(set, job->template_id);
    return *out ? 0 : complain_unknown(set, job->template_id, why);
}

/* ---- language and limits ---------------------------------------------- */

/* The templates that have it, "a, b"; what has no room is left out. */
static void list_speakers(const struct template_set *set,
                          enum language language, char *list, size_t size)
{
    size_t len = 0;

    list[0] = '\0';
    for (size_t i = 0; i < set->count; i++) {
        const struct template *tpl = set->items[i];

        if (has_language(tpl, language) && len + strlen(tpl->id) + 3 < size)
            len += (size_t)snprintf(list + len, size - len, "%s%s",
                                    len ? ", " : "", tpl->id);
    }
}

static int complain_language(const struct template_set *set,
                             const struct spec *spec, struct complaint *why)
{
    const struct template *tpl = spec->tpl;
    char own[64] = "", speakers[256];
    size_t len = 0;

    for (size_t i = 0; i < tpl->nlanguages; i++)
        len +=
            (size_t)snprintf(own + len, sizeof own - len, "%s%s", i ? ", " : "",
                             language_name(tpl->languages[i]));
    list_speakers(set, spec->language, speakers, sizeof speakers);
    if (!speakers[0])
        return complain(why, "language",
                        "\"%s\" is not of template %s, nor of another one; "
                        "give %s",
                        language_name(spec->language), tpl->id, own);
    return complain(why, "language",
                    "\"%s\" is not of template %s; give %s or a template that "
                    "has it: %s",
                    language_name(spec->language), tpl->id, own, speakers);
}

static int choose_language(const struct template_set *set,
                           const struct job *job, struct spec *spec,
                           struct complaint *why)
{
    const struct template *tpl = spec->tpl;

    spec->language = job->language ? job->language : tpl->languages[0];
    if (!has_language(tpl, spec->language))
        return complain_language(set, spec, why);
    spec->interpreter = template_interpreter(tpl, spec->language);
    return 0;
}

struct ceiling { /* in the units of job_limits */
    double most, own;
    const char *setting;
};

/* In the order of job_limits. */
static void list_ceilings(const struct settings *s,
                          const struct template_limits *own,
                          struct ceiling out[JOB_LIMITS])
{
    const struct ceiling rows[JOB_LIMITS] = {
        {(double)s->max_timeout_s, (double)own->timeout_ms / 1000,
         "CAPIBOX_MAX_TIMEOUT"},
        {(double)s->max_memory_mb, (double)own->memory_bytes / MB,
         "CAPIBOX_MAX_MEMORY_MB"},
        {(double)s->max_cpu_percent, own->cpu_percent,
         "CAPIBOX_MAX_CPU_PERCENT"},
        {(double)s->max_disk_mb, (double)own->disk_bytes / MB,
         "CAPIBOX_MAX_DISK_MB"},
        {(double)s->max_pids, own->pids, "CAPIBOX_MAX_PIDS"},
        {(double)s->max_output_kb, (double)own->output_bytes / 1024,
         "CAPIBOX_MAX_OUTPUT_KB"},
    };

    memcpy(out, rows, sizeof rows);
}

static double wanted(const struct job_wants *wants, size_t limit)
{
    return *(const double *)((const char *)wants + job_limits[limit].at);
}

static bool wants_a_limit(const struct job_wants *wants)
{
    for (size_t i = 0; i < JOB_LIMITS; i++)
        if (wanted(wants, i) > 0)
            return true;
    return wants->network >= 0;
}

static int check_ceilings(const struct settings *settings,
                          const struct template *tpl,
                          const struct job_wants *wants, struct complaint *why)
{
    struct ceiling ceilings[JOB_LIMITS];
    char field[JSON_FIELD_MAX];

    list_ceilings(settings, &tpl->limits, ceilings);
    for (size_t i = 0; i < JOB_LIMITS; i++) {
        const struct job_limit *limit = &job_limits[i];
        const struct ceiling *c = &ceilings[i];
        double most = c->most > c->own ? c->most : c->own;

        if (wanted(wants, i) <= most)
            continue;
        /* The timeout has two names; its short one is part of both. */
        snprintf(field, sizeof field, "%s%s", i == 0 ? "" : "requirements.",
                 limit->name);
        return complain(
            why, field,
            "%.10g is over this worker's ceiling; give at most %.10g %s "
            "(%s)",
            wanted(wants, i), most, limit->range.unit, c->setting);
    }
    return 0;
}

static void lay_over(const struct job_wants *wants,
                     struct template_limits *limits)
{
    struct job_wants w = *wants;

    /* A local disk lives in the job's memory: less memory is less disk, too. */
    if (w.memory_mb > 0 && !(w.disk_mb > 0) &&
        w.memory_mb * MB / 2 < (double)limits->disk_bytes)
        w.disk_mb = w.memory_mb / 2;
    template_limits_overlay(limits, &w);
}

int spec_resolve(const struct template_set *set,
                 const struct settings *settings, const struct job *job,
                 struct spec *spec_out, struct complaint *why)
{
    const struct job_wants *wants = &job->wants;
    struct spec spec = {0};
    bool limits;
    int rc = choose_template(set, job, &spec.tpl, why);

    if (rc == 0)
        rc = choose_language(set, job, &spec, why);
    if (rc < 0)
        return rc;
    strcpy(spec.template_used, spec.tpl->id);
    spec.packages = spec.tpl->packages;
    spec.installed = set->packages;
    spec.more_packages = wants->packages;
    spec.template_name =
        wants->template_name ? wants->template_name : spec.tpl->template_name;
    spec.limits = spec.tpl->limits;
    limits = wants_a_limit(wants);
    spec.dynamic =
        limits || job->task_type || wants->packages || wants->template_name;
    if (limits) {
        rc = check_ceilings(settings, spec.tpl, wants, why);
        if (rc < 0)
            return rc;
        lay_over(wants, &spec.limits);
    }
    *spec_out = spec;
    return 0;
}

/* ---- packages --------------------------------------------------------- */

static bool is_among(char *const *texts, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(texts[i], text) == 0)
            return true;
    return false;
}

const char *spec_package(const struct spec *spec, size_t i)
{
    size_t own = texts_count(spec->packages);

    if (i < own)
        return spec->packages[i];
    i -= own;
    for (size_t j = 0; spec->more_packages && spec->more_packages[j]; j++) {
        const char *name = spec->more_packages[j];

        if (is_among(spec->packages, own, name) ||
            is_among(spec->more_packages, j, name))
            continue;
        if (i-- == 0)
            return name;
    }
    return NULL;
}

void spec_config_to_json(const struct spec *spec, struct strbuf *out)
{
    const char *package;

    json_add_lit(out, "{\"timeout\":");
    json_add_number(out, (double)spec->limits.timeout_ms / 1000, 3);
    json_add_lit(out, ",\"memory_limit_mb\":");
    json_add_number(out, (double)spec->limits.memory_bytes / MB, 3);
    json_add_lit(out, ",\"cpu_limit_percent\":");
    json_add_int(out, spec->limits.cpu_percent);
    json_add_lit(out, ",\"template_name\":");
    json_add_text(out, spec->template_name);
    json_add_lit(out, ",\"packages\":[");
    for (size_t i = 0; (package = spec_package(spec, i)); i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        json_add_text(out, package);
    }
    json_add_lit(out, "],\"disk_limit_mb\":");
    json_add_number(out, (double)spec->limits.disk_bytes / MB, 3);
    json_add_lit(out, ",\"pids_limit\":");
    json_add_int(out, spec->limits.pids);
    json_add_lit(out, ",\"output_limit_kb\":");
    json_add_number(out, (double)spec->limits.output_bytes / 1024, 3);
    json_add_lit(out, ",\"network\":");
    json_add_bool(out, spec->limits.network);
    strbuf_addc(out, '}');
}
