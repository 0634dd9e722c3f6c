/* common/template.h -- what a sandbox is made like: templates and dynamic
 * specs.
 *
 * A template is a file templates/<id>.json; a spec is what one job gets: the
 * template with the job's requirements laid over it, checked against the
 * operator's ceilings (contract section 6).
 *
 * Memory:   template_set_load() makes, template_set_unref() frees. A set is
 *           counted, so a reload can swap it while jobs hold the old one.
 *           A spec borrows from its set; the set must outlive it.
 * Threads:  a loaded set is const; ref and unref from any thread.
 * Errors:   -EINVAL with a complaint; -ENOENT, -ENOMEM.
 */
#ifndef COMMON_TEMPLATE_H
#define COMMON_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/job.h"
#include "common/limits.h"
#include "common/settings.h"
#include "common/strbuf.h"

struct template_limits {
    int64_t timeout_ms;
    int64_t memory_bytes;
    int cpu_percent; /* of one core */
    int64_t disk_bytes;
    int64_t disk_inodes;
    int pids;
    int64_t output_bytes; /* of stdout, and the same again of stderr */
    bool network;
};

/* One way to run one language locally. */
struct template_runtime {
    enum language language;
    char *interpreter; /* absolute path, e.g. /usr/bin/python3 */
};

/* One size that E2B has this template built in: CPU and memory are fixed when
 * an E2B template is built. */
struct template_variant {
    char *template_id; /* id, alias or team/alias, maybe with :tag */
    int vcpu;
    int64_t memory_bytes; /* of the microVM; 0: not known (the job named it) */
};

struct template
{
    char id[JOB_NAME_MAX + 1];
    char *name, *description;
    enum language languages[LANGUAGE_COUNT]; /* in order of preference */
    size_t nlanguages;
    struct template_limits limits;
    char **packages;     /* NULL-terminated import or distribution names */
    char **task_types;   /* NULL-terminated */
    char *template_name; /* E2B's template id */
    /* e2b.variants, smallest first; at least one. */
    struct template_variant variants[TEMPLATE_VARIANTS_MAX];
    size_t nvariants;
    struct template_runtime runtimes[LANGUAGE_COUNT];
    size_t nruntimes;
    char **preload; /* NULL-terminated modules its zygote imports, or NULL */
    bool cold;      /* isolation: "cold": never from a zygote */
};

struct packages;

struct template_set {
    struct template **items; /* sorted by id */
    size_t count;
    struct packages *packages; /* of its Pythons: packages_probe(), or NULL */
    int refs;
};

/* Called for each bad file; the others still load. line is 0 if unknown. */
typedef void template_bad_fn(void *ctx, const char *file, int line,
                             const struct complaint *why);

/* Loads every *.json of dir (hidden files are passed over). A bad file is
 * reported and left out. -ENOENT if there is no folder, -EINVAL if no file was
 * good or `default` is missing. */
int template_set_load(const char *dir, template_bad_fn *bad, void *bad_ctx,
                      struct template_set **set_out);
struct template_set *template_set_ref(struct template_set *set);
void template_set_unref(struct template_set *set);

/* Lays the numbers (and network) that were given over limits. The number of
 * inodes follows the disk's size. */
void template_limits_overlay(struct template_limits *limits,
                             const struct job_wants *wants);

/* What runs this language, or NULL. Borrowed. */
const char *template_interpreter(const struct template *tpl,
                                 enum language language);

/* The smallest E2B variant with at least this memory and CPU, or NULL. */
const struct template_variant *
template_variant(const struct template *tpl,
                 const struct template_limits *limits);

const struct template *template_find(const struct template_set *set,
                                     const char *id);

/* "a, b" of all templates' task types, with "…" if not all have room. False if
 * task_type is among them: then nothing was written. */
bool template_list_task_types(const struct template_set *set,
                              const char *task_type, char *out, size_t size);

/* What one job gets. */
struct spec {
    const struct template *tpl;
    char template_used[JOB_NAME_MAX + 1]; /* the template's id */
    enum language language;
    const char *interpreter;   /* borrowed from tpl */
    const char *template_name; /* E2B's, borrowed from job or tpl */
    char **packages;           /* borrowed, NULL-terminated or NULL */
    char **more_packages;      /* the job's own on top, borrowed; may repeat */
    const struct packages *installed; /* the set's, borrowed; may be NULL */
    struct template_limits limits;
    bool dynamic; /* came by task_type or requirements */
};

/* The i-th of all its packages, each once; NULL behind the last. */
const char *spec_package(const struct spec *spec, size_t i);

/* The job's spec, or a complaint (unknown template: lists those there are;
 * language not of the template: lists its own; over a ceiling: names it; a
 * template's own limits may be above the ceilings). It borrows from the job,
 * too.
 *
 * With a task_type, the base is `template` if given, else the template that
 * lists this task type, else `default`. Template "auto" picks by what the code
 * imports: the template whose packages cover the most of its imports, the
 * smallest on a tie, else `default`. */
int spec_resolve(const struct template_set *set,
                 const struct settings *settings, const struct job *job,
                 struct spec *spec_out, struct complaint *why);

/* {"id","name","description","supported_languages","task_types",
 * "config":{timeout,memory_limit_mb,cpu_limit_percent,template_name,packages,
 * disk_limit_mb,pids_limit,output_limit_kb,network}} appended. */
void template_to_json(const struct template *tpl, struct strbuf *out);

/* {timeout,memory_limit_mb,cpu_limit_percent,template_name,packages,
 * disk_limit_mb,pids_limit,output_limit_kb,network} of a spec appended, as in a
 * result's sandbox_info.config. */
void spec_config_to_json(const struct spec *spec, struct strbuf *out);

#endif
