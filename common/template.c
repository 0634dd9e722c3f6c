/* common/template.c -- template files and the set of them. */
#include "common/template.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/json.h"
#include "common/packages.h"
#include "common/scope.h"

#define MB          1048576.0
#define DISK_MB_MAX 512.0 /* of what a template gets that names no disk */
#define PIDS        64
/* E2B's code-interpreter-v1, as E2B builds it. */
#define E2B_STOCK_VCPU      2
#define E2B_STOCK_MEMORY_MB 2048
#define OUTPUT_KB           1024.0

/* A tmpfs inode costs the kernel about a KB that counts as the job's memory. */
#define INODES_PER_MB 64
#define INODES_MIN    1024

static const char *const interpreters[LANGUAGE_COUNT] = {
    [LANGUAGE_PYTHON] = "/usr/bin/python3",
    [LANGUAGE_JAVASCRIPT] = "/usr/bin/node",
    [LANGUAGE_BASH] = "/bin/bash",
};

/* ---- limits ----------------------------------------------------------- */

static void set_if(int64_t *limit, double wanted, double scale)
{
    if (wanted > 0)
        *limit = llround(wanted * scale);
}

void template_limits_overlay(struct template_limits *limits,
                             const struct job_wants *wants)
{
    set_if(&limits->timeout_ms, wants->timeout_s, 1000);
    set_if(&limits->memory_bytes, wants->memory_mb, MB);
    set_if(&limits->disk_bytes, wants->disk_mb, MB);
    set_if(&limits->output_bytes, wants->output_kb, 1024);
    if (wants->cpu_percent > 0)
        limits->cpu_percent = (int)wants->cpu_percent;
    if (wants->pids > 0)
        limits->pids = (int)wants->pids;
    if (wants->network >= 0)
        limits->network = wants->network > 0;
    limits->disk_inodes = limits->disk_bytes / (int64_t)MB * INODES_PER_MB;
    if (limits->disk_inodes < INODES_MIN)
        limits->disk_inodes = INODES_MIN;
}

/* ---- one file --------------------------------------------------------- */

static int take_limits(struct template *tpl, cJSON *item, struct complaint *why)
{
    struct job_wants wants = {.network = 0};
    char field[JSON_FIELD_MAX];
    cJSON *each;
    int rc;

    if (!cJSON_IsObject(item))
        return json_wrong_type(item, "limits", "an object", why);
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "limits.%.100s", each->string);
        rc = job_wants_limit(each, field, &wants, why);
        if (rc > 0)
            return complain(why, field,
                            "is no limit; there are timeout, memory_limit_mb, "
                            "cpu_limit_percent, disk_limit_mb, pids_limit, "
                            "output_limit_kb, network");
        if (rc < 0)
            return rc;
    }
    if (!(wants.timeout_s > 0 && wants.memory_mb > 0 && wants.cpu_percent > 0))
        return complain(why, "limits",
                        "lacks one of timeout, memory_limit_mb and "
                        "cpu_limit_percent; give all three");
    if (!(wants.disk_mb > 0))
        wants.disk_mb = fmin(wants.memory_mb / 2, DISK_MB_MAX);
    if (!(wants.pids > 0))
        wants.pids = PIDS;
    if (!(wants.output_kb > 0))
        wants.output_kb = OUTPUT_KB;
    template_limits_overlay(&tpl->limits, &wants);
    return 0;
}

static int take_id(struct template *tpl, cJSON *item, struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (!cJSON_IsString(item))
        return json_wrong_type(item, "id", "text in double quotes", why);
    if (!job_name_valid(item->valuestring, false) ||
        strcmp(item->valuestring, "auto") == 0)
        return complain(why, "id",
                        "%s cannot be an id; give 1 to 64 characters of A-Z "
                        "a-z 0-9 . _ - other than auto",
                        json_show(item, shown));
    strcpy(tpl->id, item->valuestring);
    return 0;
}

static int take_name(struct template *tpl, cJSON *item, struct complaint *why)
{
    return json_text(item, "name", TEMPLATE_TEXT_MAX, &tpl->name, why);
}

static int take_description(struct template *tpl, cJSON *item,
                            struct complaint *why)
{
    return json_text(item, "description", TEMPLATE_TEXT_MAX, &tpl->description,
                     why);
}

static int take_template_name(struct template *tpl, cJSON *item,
                              struct complaint *why)
{
    return json_text(item, "template_name", JOB_NAME_MAX, &tpl->template_name,
                     why);
}

static int check_task_type(char **text, const char *field,
                           struct complaint *why)
{
    size_t len = strlen(*text);

    if (len >= 1 && len <= JOB_NAME_MAX)
        return 0;
    return complain(why, field, "is %zu bytes long; give 1 to %d", len,
                    JOB_NAME_MAX);
}

static int take_task_types(struct template *tpl, cJSON *item,
                           struct complaint *why)
{
    return json_texts(item, "task_types", TEMPLATE_TASK_TYPES_MAX,
                      TEMPLATE_BYTES_MAX, check_task_type, &tpl->task_types,
                      why);
}

static int check_package(char **text, const char *field, struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (job_name_valid(*text, false))
        return 0;
    return complain(why, field, "%s is no package name; give the name alone",
                    json_show_text(*text, shown));
}

static int take_packages(struct template *tpl, cJSON *item,
                         struct complaint *why)
{
    return json_texts(item, "packages", JOB_PACKAGES_MAX, TEMPLATE_BYTES_MAX,
                      check_package, &tpl->packages, why);
}

static int get_language(const char *name, const char *field, enum language *out,
                        struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    *out = language_from_name(name);
    if (*out == LANGUAGE_NONE)
        return complain(why, field,
                        "%s is unknown; give python, javascript or bash",
                        json_show_text(name, shown));
    return 0;
}

static bool has_language(const struct template *tpl, enum language language)
{
    for (size_t i = 0; i < tpl->nlanguages; i++)
        if (tpl->languages[i] == language)
            return true;
    return false;
}

static int take_languages(struct template *tpl, cJSON *item,
                          struct complaint *why)
{
    char field[JSON_FIELD_MAX];
    enum language language;
    cJSON *each;
    int rc;

    if (!cJSON_IsArray(item) || !item->child)
        return json_wrong_type(item, "languages",
                               "a list of at least one language", why);
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "languages[%zu]", tpl->nlanguages);
        if (!cJSON_IsString(each))
            return json_wrong_type(each, field, "text in double quotes", why);
        rc = get_language(each->valuestring, field, &language, why);
        if (rc < 0)
            return rc;
        if (has_language(tpl, language))
            return complain(why, field, "\"%s\" is given twice; give it once",
                            each->valuestring);
        tpl->languages[tpl->nlanguages++] = language;
    }
    return 0;
}

static char **runtime_of(struct template *tpl, enum language language)
{
    for (size_t i = 0; i < tpl->nruntimes; i++)
        if (tpl->runtimes[i].language == language)
            return &tpl->runtimes[i].interpreter;
    tpl->runtimes[tpl->nruntimes].language = language;
    return &tpl->runtimes[tpl->nruntimes++].interpreter;
}

/* A dotted name, as behind `import`. */
static int check_module(char **text, const char *field, struct complaint *why)
{
    char shown[JSON_SHOW_MAX];
    const char *at = *text;
    bool starts = true;

    for (; *at; at++) {
        bool letter = isalpha((unsigned char)*at) || *at == '_';

        if (!letter && (starts || (!isdigit((unsigned char)*at) && *at != '.')))
            break;
        starts = *at == '.';
    }
    if (!*at && !starts && at - *text <= JOB_NAME_MAX)
        return 0;
    return complain(why, field, "%s is no module name, such as \"pandas\"",
                    json_show_text(*text, shown));
}

static int take_preload(struct template *tpl, cJSON *item,
                        struct complaint *why)
{
    if (tpl->preload)
        return complain(why, "local.preload", "is given twice; give it once");
    return json_texts(item, "local.preload", TEMPLATE_PRELOAD_MAX,
                      TEMPLATE_BYTES_MAX, check_module, &tpl->preload, why);
}

static int take_local(struct template *tpl, cJSON *item, struct complaint *why)
{
    char field[JSON_FIELD_MAX], shown[JSON_SHOW_MAX], **interpreter;
    enum language language;
    cJSON *each;
    int rc;

    if (!cJSON_IsObject(item))
        return json_wrong_type(
            item, "local", "an object, such as {\"bash\": \"/bin/bash\"}", why);
    cJSON_ArrayForEach(each, item)
    {
        if (strcmp(each->string, "preload") == 0) {
            rc = take_preload(tpl, each, why);
            if (rc < 0)
                return rc;
            continue;
        }
        snprintf(field, sizeof field, "local.%.100s", each->string);
        rc = get_language(each->string, field, &language, why);
        if (rc < 0)
            return complain(why, field,
                            "is not known; there are python, javascript, bash "
                            "and preload");
        interpreter = runtime_of(tpl, language);
        if (*interpreter)
            return complain(why, field, "is given twice; give it once");
        rc = json_text(each, field, TEMPLATE_TEXT_MAX, interpreter, why);
        if (rc < 0)
            return rc;
        if (**interpreter != '/')
            return complain(why, field, "%s is relative; give an absolute path",
                            json_show_text(*interpreter, shown));
    }
    return 0;
}

static int take_isolation(struct template *tpl, cJSON *item,
                          struct complaint *why)
{
    if (!cJSON_IsString(item) || strcmp(item->valuestring, "cold") != 0)
        return json_wrong_type(item, "isolation", "\"cold\", or leave it out",
                               why);
    tpl->cold = true;
    return 0;
}

/* ---- e2b.variants ------------------------------------------------------ */

static int take_variant_field(struct template_variant *v, cJSON *item,
                              const char *field, struct complaint *why)
{
    static const struct json_range cpus = {"vCPU", 1, 32, true};
    static const struct json_range memory = {"MB", 128, 1 << 20, true};
    double number;
    int rc;

    if (strcmp(item->string, "template") == 0)
        return v->template_id
                   ? complain(why, field, "is given twice; give it once")
                   : json_text(item, field, JOB_NAME_MAX, &v->template_id, why);
    if (strcmp(item->string, "vcpu") == 0) {
        rc = json_number(item, field, &cpus, &number, why);
        if (rc == 0)
            v->vcpu = (int)number;
        return rc;
    }
    if (strcmp(item->string, "memory_mb") == 0) {
        rc = json_number(item, field, &memory, &number, why);
        if (rc == 0)
            v->memory_bytes = (int64_t)number * MB;
        return rc;
    }
    return complain(why, field,
                    "is no field of a variant; there are template, vcpu, "
                    "memory_mb");
}

static int take_variant(struct template *tpl, cJSON *item, int i,
                        struct complaint *why)
{
    struct template_variant *v = &tpl->variants[tpl->nvariants];
    char field[JSON_FIELD_MAX];
    cJSON *each;
    int rc;

    snprintf(field, sizeof field, "e2b.variants[%d]", i);
    if (!cJSON_IsObject(item))
        return json_wrong_type(item, field,
                               "an object of template, vcpu, memory_mb", why);
    tpl->nvariants++;
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "e2b.variants[%d].%.80s", i,
                 each->string);
        rc = take_variant_field(v, each, field, why);
        if (rc < 0)
            return rc;
    }
    snprintf(field, sizeof field, "e2b.variants[%d]", i);
    if (!v->template_id || v->vcpu == 0 || v->memory_bytes == 0)
        return complain(why, field,
                        "lacks one of template, vcpu and memory_mb; give all "
                        "three");
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const struct template_variant *x = a, *y = b;

    if (x->memory_bytes != y->memory_bytes)
        return x->memory_bytes < y->memory_bytes ? -1 : 1;
    return x->vcpu - y->vcpu;
}

static int take_variants(struct template *tpl, cJSON *list,
                         struct complaint *why)
{
    cJSON *item;
    int i = 0, rc;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < 1)
        return json_wrong_type(list, "e2b.variants",
                               "a list of at least one variant", why);
    if (cJSON_GetArraySize(list) > TEMPLATE_VARIANTS_MAX)
        return complain(why, "e2b.variants", "has %d entries; give at most %d",
                        cJSON_GetArraySize(list), TEMPLATE_VARIANTS_MAX);
    cJSON_ArrayForEach(item, list)
    {
        rc = take_variant(tpl, item, i++, why);
        if (rc < 0)
            return rc;
    }
    qsort(tpl->variants, tpl->nvariants, sizeof(tpl->variants[0]), by_size);
    return 0;
}

static int take_e2b(struct template *tpl, cJSON *item, struct complaint *why)
{
    char field[JSON_FIELD_MAX];
    cJSON *each;

    if (!cJSON_IsObject(item))
        return json_wrong_type(item, "e2b", "an object with variants", why);
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "e2b.%.100s", each->string);
        if (strcmp(each->string, "variants") != 0)
            return complain(why, field, "is not known; there is variants");
        if (tpl->nvariants > 0)
            return complain(why, field, "is given twice; give it once");
        int rc = take_variants(tpl, each, why);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Without a list: E2B's own template, as it is built. */
static int default_variant(struct template *tpl)
{
    if (tpl->nvariants > 0)
        return 0;
    tpl->variants[0] =
        (struct template_variant){.template_id = strdup(tpl->template_name),
                                  .vcpu = E2B_STOCK_VCPU,
                                  .memory_bytes = E2B_STOCK_MEMORY_MB * MB};
    tpl->nvariants = 1;
    return tpl->variants[0].template_id ? 0 : -ENOMEM;
}

const struct template_variant *
template_variant(const struct template *tpl,
                 const struct template_limits *limits)
{
    for (size_t i = 0; i < tpl->nvariants; i++) {
        const struct template_variant *v = &tpl->variants[i];

        if (v->memory_bytes >= limits->memory_bytes &&
            v->vcpu * 100 >= limits->cpu_percent)
            return v;
    }
    return NULL;
}

static const struct row {
    const char *name;
    int (*take)(struct template *tpl, cJSON *item, struct complaint *why);
} rows[] = {
    {"id", take_id},
    {"name", take_name},
    {"description", take_description},
    {"task_types", take_task_types},
    {"languages", take_languages},
    {"limits", take_limits},
    {"packages", take_packages},
    {"template_name", take_template_name},
    {"local", take_local},
    {"isolation", take_isolation},
    {"e2b", take_e2b},
};

#define ROWS (sizeof rows / sizeof *rows)

static int take_field(struct template *tpl, cJSON *item, unsigned *seen,
                      struct complaint *why)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(item->string, rows[i].name) != 0)
            continue;
        if (*seen & (1u << i))
            return complain(why, rows[i].name, "is given twice; give it once");
        *seen |= 1u << i;
        return rows[i].take(tpl, item, why);
    }
    return complain(why, item->string,
                    "is no field of a template; there are id, name, "
                    "description, task_types, languages, limits, packages, "
                    "template_name, local, isolation, e2b");
}

static int set_default(char **text, const char *value)
{
    if (!*text)
        *text = strdup(value);
    return *text ? 0 : -ENOMEM;
}

/* Each language gets an interpreter; one without a language is a mistake. */
static int check_runtimes(struct template *tpl, struct complaint *why)
{
    char field[JSON_FIELD_MAX];
    int rc = 0;

    for (size_t i = 0; i < tpl->nruntimes; i++) {
        if (has_language(tpl, tpl->runtimes[i].language))
            continue;
        snprintf(field, sizeof field, "local.%s",
                 language_name(tpl->runtimes[i].language));
        return complain(why, field,
                        "is not among languages; add it there or leave it out");
    }
    for (size_t i = 0; i < tpl->nlanguages && rc == 0; i++)
        rc = set_default(runtime_of(tpl, tpl->languages[i]),
                         interpreters[tpl->languages[i]]);
    return rc;
}

static int check_template(struct template *tpl, const char *stem,
                          struct complaint *why)
{
    int rc;

    if (!tpl->id[0])
        return complain(why, "id", "is missing; give \"%.64s\"", stem);
    if (strcmp(tpl->id, stem) != 0)
        return complain(why, "id",
                        "\"%s\" is not the file's name; give \"%.64s\" or "
                        "rename the file",
                        tpl->id, stem);
    if (tpl->nlanguages == 0)
        return complain(why, "languages", "is missing; give at least one");
    if (tpl->limits.timeout_ms == 0)
        return complain(why, "limits",
                        "is missing; give timeout, memory_limit_mb and "
                        "cpu_limit_percent");
    rc = check_runtimes(tpl, why);
    if (rc == 0)
        rc = set_default(&tpl->name, tpl->id);
    if (rc == 0)
        rc = set_default(&tpl->description, "");
    if (rc == 0)
        rc = set_default(&tpl->template_name, "code-interpreter-v1");
    if (rc == 0)
        rc = default_variant(tpl);
    return rc;
}

static void template_destroy(struct template *tpl)
{
    if (!tpl)
        return;
    free(tpl->name);
    free(tpl->description);
    free(tpl->template_name);
    json_texts_free(tpl->packages);
    json_texts_free(tpl->task_types);
    json_texts_free(tpl->preload);
    for (size_t i = 0; i < tpl->nruntimes; i++)
        free(tpl->runtimes[i].interpreter);
    for (size_t i = 0; i < tpl->nvariants; i++)
        free(tpl->variants[i].template_id);
    free(tpl);
}

static int take_fields(struct template *tpl, cJSON *root, const char *stem,
                       struct complaint *why)
{
    unsigned seen = 0;
    cJSON *item;
    int rc;

    if (!cJSON_IsObject(root))
        return complain(why, NULL, "is no template; give one JSON object");
    cJSON_ArrayForEach(item, root)
    {
        rc = take_field(tpl, item, &seen, why);
        if (rc < 0)
            return rc;
    }
    return check_template(tpl, stem, why);
}

/* Where the field of a complaint stands; 0 if it is not there. */
static int line_of(const char *text, size_t size, const char *field)
{
    struct json_want want = {.path = field};

    if (json_check(text, size, &want, 1, NULL, NULL) < 0 || want.size == 0)
        return 0;
    return json_line(text, want.at);
}

static int template_parse(const char *text, size_t size, const char *stem,
                          struct template **tpl_out, int *line_out,
                          struct complaint *why)
{
    struct template *tpl;
    size_t at;
    cJSON *root;
    int rc = json_check(text, size, NULL, 0, why, &at);

    if (rc < 0) {
        *line_out = json_line(text, at);
        return -EINVAL;
    }
    root = json_parse(text, size);
    tpl = root ? calloc(1, sizeof *tpl) : NULL;
    rc = tpl ? take_fields(tpl, root, stem, why) : -ENOMEM;
    cJSON_Delete(root);
    if (rc < 0) {
        template_destroy(tpl);
        if (rc == -EINVAL && why->field[0])
            *line_out = line_of(text, size, why->field);
        return rc;
    }
    *tpl_out = tpl;
    return 0;
}

/* ---- the set ---------------------------------------------------------- */

struct loading {
    int dir_fd;
    struct template_set *set;
    template_bad_fn *bad;
    void *bad_ctx;
};

static const char *task_owner(const struct template_set *set, const char *type)
{
    for (size_t i = 0; i < set->count; i++)
        for (char **t = set->items[i]->task_types; t && *t; t++)
            if (strcmp(*t, type) == 0)
                return set->items[i]->id;
    return NULL;
}

/* A task type leads to one template. */
static int check_task_types(const struct template_set *set,
                            const struct template *tpl, char *field,
                            struct complaint *why)
{
    char shown[JSON_SHOW_MAX];
    const char *owner;

    for (size_t i = 0; tpl->task_types && tpl->task_types[i]; i++) {
        owner = task_owner(set, tpl->task_types[i]);
        if (!owner)
            continue;
        snprintf(field, JSON_FIELD_MAX, "task_types[%zu]", i);
        return complain(why, field,
                        "%s is template %s's already; give it to one of them",
                        json_show_text(tpl->task_types[i], shown), owner);
    }
    return 0;
}

static int load_file(struct loading *l, const char *file, int *line_out,
                     struct complaint *why)
{
    AUTO_FREE char *text = NULL;
    char stem[NAME_MAX + 1], field[JSON_FIELD_MAX];
    struct template *tpl = NULL;
    size_t size = 0;
    int rc = io_read_file_at(l->dir_fd, file, TEMPLATE_BYTES_MAX, &text, &size);

    if (rc == -EFBIG)
        return complain(why, NULL, "is too long; a template has at most %u KB",
                        TEMPLATE_BYTES_MAX >> 10);
    if (rc == -ENOMEM)
        return rc;
    if (rc < 0)
        return complain(why, NULL, "cannot be read: %s", strerror(-rc));
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(file) - strlen(".json")),
             file);
    rc = template_parse(text, size, stem, &tpl, line_out, why);
    if (rc < 0)
        return rc;
    rc = check_task_types(l->set, tpl, field, why);
    if (rc < 0) {
        *line_out = line_of(text, size, field);
        template_destroy(tpl);
        return rc;
    }
    l->set->items[l->set->count++] = tpl;
    return 0;
}

static int is_template_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > strlen(".json") &&
           strcmp(entry->d_name + len - strlen(".json"), ".json") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int by_id(const void *a, const void *b)
{
    const struct template *const *x = a, *const *y = b;

    return strcmp((*x)->id, (*y)->id);
}

static int load_files(struct loading *l, struct dirent **entries, int count)
{
    struct complaint why;
    int rc, line;

    for (int i = 0; i < count; i++) {
        line = 0;
        rc = i < TEMPLATES_MAX
                 ? load_file(l, entries[i]->d_name, &line, &why)
                 : complain(&why, NULL, "is one too many; at most %d load",
                            TEMPLATES_MAX);
        if (rc == -EINVAL && l->bad)
            l->bad(l->bad_ctx, entries[i]->d_name, line, &why);
        if (rc < 0 && rc != -EINVAL)
            return rc;
    }
    qsort(l->set->items, l->set->count, sizeof *l->set->items, by_id);
    if (template_find(l->set, "default"))
        return 0;
    complain(&why, NULL, "is missing or bad; without it nothing can run");
    if (l->bad)
        l->bad(l->bad_ctx, "default.json", 0, &why);
    return -EINVAL;
}

int template_set_load(const char *dir, template_bad_fn *bad, void *bad_ctx,
                      struct template_set **set_out)
{
    AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct loading l = {.dir_fd = fd, .bad = bad, .bad_ctx = bad_ctx};
    struct dirent **entries = NULL;
    int count, rc;

    if (fd < 0)
        return -errno;
    count = scandirat(fd, ".", &entries, is_template_file, by_name);
    if (count < 0)
        return -errno;
    l.set = calloc(1, sizeof *l.set);
    if (l.set) {
        l.set->refs = 1;
        l.set->items = calloc((size_t)count + 1, sizeof *l.set->items);
    }
    rc = l.set && l.set->items ? load_files(&l, entries, count) : -ENOMEM;
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    if (rc < 0) {
        template_set_unref(l.set);
        return rc;
    }
    *set_out = l.set;
    return 0;
}

struct template_set *template_set_ref(struct template_set *set)
{
    __atomic_add_fetch(&set->refs, 1, __ATOMIC_RELAXED);
    return set;
}

void template_set_unref(struct template_set *set)
{
    if (!set || __atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < set->count; i++)
        template_destroy(set->items[i]);
    packages_destroy(set->packages);
    free(set->items);
    free(set);
}

const char *template_interpreter(const struct template *tpl,
                                 enum language language)
{
    for (size_t i = 0; i < tpl->nruntimes; i++)
        if (tpl->runtimes[i].language == language)
            return tpl->runtimes[i].interpreter;
    return NULL;
}

const struct template *template_find(const struct template_set *set,
                                     const char *id)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(id, set->items[middle]->id);

        if (order == 0)
            return set->items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- for people ------------------------------------------------------- */

static void add_texts(struct strbuf *out, char **texts)
{
    json_add_lit(out, "[");
    for (size_t i = 0; texts && texts[i]; i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        json_add_text(out, texts[i]);
    }
    json_add_lit(out, "]");
}

static void add_languages(const struct template *tpl, struct strbuf *out)
{
    json_add_lit(out, "[");
    for (size_t i = 0; i < tpl->nlanguages; i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        json_add_text(out, language_name(tpl->languages[i]));
    }
    json_add_lit(out, "]");
}

void template_to_json(const struct template *tpl, struct strbuf *out)
{
    const struct template_limits *limits = &tpl->limits;

    json_add_lit(out, "{\"id\":");
    json_add_text(out, tpl->id);
    json_add_lit(out, ",\"name\":");
    json_add_text(out, tpl->name);
    json_add_lit(out, ",\"description\":");
    strbuf_add_json(out, tpl->description, strlen(tpl->description));
    json_add_lit(out, ",\"supported_languages\":");
    add_languages(tpl, out);
    json_add_lit(out, ",\"task_types\":");
    add_texts(out, tpl->task_types);
    json_add_lit(out, ",\"config\":{\"timeout\":");
    json_add_number(out, (double)limits->timeout_ms / 1000, 3);
    json_add_lit(out, ",\"memory_limit_mb\":");
    json_add_number(out, (double)limits->memory_bytes / MB, 3);
    json_add_lit(out, ",\"cpu_limit_percent\":");
    json_add_int(out, limits->cpu_percent);
    json_add_lit(out, ",\"template_name\":");
    json_add_text(out, tpl->template_name);
    json_add_lit(out, ",\"packages\":");
    add_texts(out, tpl->packages);
    json_add_lit(out, ",\"disk_limit_mb\":");
    json_add_number(out, (double)limits->disk_bytes / MB, 3);
    json_add_lit(out, ",\"pids_limit\":");
    json_add_int(out, limits->pids);
    json_add_lit(out, ",\"output_limit_kb\":");
    json_add_number(out, (double)limits->output_bytes / 1024, 3);
    json_add_lit(out, ",\"network\":");
    json_add_bool(out, limits->network);
    json_add_lit(out, "}}");
}
