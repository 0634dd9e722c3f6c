/* common/job.c -- a job as contract section 3 defines it, and its JSON. */
#include "common/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/clock.h"
#include "common/scope.h"
#include "common/strbuf.h"
#include "common/suggest.h"

#define HOME_PREFIX "/home/user/"
#define DELAY_S_MIN 0.001

static const struct json_range delay_range = {"seconds", 0, JOB_DELAY_S_MAX,
                                              false};
static const struct json_range expires_range = {"seconds", DELAY_S_MIN,
                                                JOB_DELAY_S_MAX, false};
static const struct json_range attempts_range = {NULL, 1, JOB_ATTEMPTS_MAX,
                                                 true};

const struct job_limit job_limits[JOB_LIMITS] = {
    {"timeout",
     {"seconds", 0.1, 86400, false},
     offsetof(struct job_wants, timeout_s)},
    {"memory_limit_mb",
     {"MB", 16, 1048576, false},
     offsetof(struct job_wants, memory_mb)},
    {"cpu_limit_percent",
     {"per cent of one core", 1, 12800, true},
     offsetof(struct job_wants, cpu_percent)},
    {"disk_limit_mb",
     {"MB", 1, 1048576, false},
     offsetof(struct job_wants, disk_mb)},
    {"pids_limit",
     {"processes", 1, 65536, true},
     offsetof(struct job_wants, pids)},
    {"output_limit_kb",
     {"KB", 1, 65536, false},
     offsetof(struct job_wants, output_kb)},
};

/* ---- names ------------------------------------------------------------ */

static const char *const language_names[LANGUAGE_COUNT] = {
    [LANGUAGE_NONE] = "",
    [LANGUAGE_PYTHON] = "python",
    [LANGUAGE_JAVASCRIPT] = "javascript",
    [LANGUAGE_BASH] = "bash",
};

const char *language_name(enum language language)
{
    return (unsigned)language < LANGUAGE_COUNT ? language_names[language] : "";
}

enum language language_from_name(const char *name)
{
    for (int i = LANGUAGE_NONE + 1; i < LANGUAGE_COUNT; i++)
        if (strcmp(name, language_names[i]) == 0)
            return (enum language)i;
    return LANGUAGE_NONE;
}

static bool is_name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static bool is_name(const char *name, size_t len, bool colon)
{
    for (size_t i = 0; i < len; i++)
        if (!is_name_char(name[i]) && !(colon && name[i] == ':'))
            return false;
    return len > 0 && len <= JOB_NAME_MAX;
}

bool job_name_valid(const char *name, bool colon)
{
    return is_name(name, strnlen(name, JOB_NAME_MAX + 1), colon);
}

bool job_id_valid(const char *id)
{
    return job_name_valid(id, true);
}

/* ---- paths ------------------------------------------------------------ */

static int bad_path(struct complaint *why, const char *field, const char *path,
                    const char *text)
{
    char shown[JSON_SHOW_MAX];

    return complain(why, field, "%s %s", json_show_text(path, shown), text);
}

static int check_path_start(const char *path, struct complaint *why,
                            const char *field)
{
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return bad_path(why, field, path,
                            "has a control character in it; leave it out");
    if (*path == '/')
        return bad_path(why, field, path,
                        "is absolute; give a relative path inside the work "
                        "folder (" HOME_PREFIX " may stand in front)");
    if (*path && path[strlen(path) - 1] == '/')
        return bad_path(why, field, path,
                        "names a folder; give a file's path inside the work "
                        "folder");
    return 0;
}

static bool part_is(const char *part, size_t len, const char *what)
{
    return len == strlen(what) && memcmp(part, what, len) == 0;
}

int job_path_normalise(const char *path, char *out, struct complaint *why,
                       const char *field)
{
    const char *at = path;
    size_t len = 0, part;
    int rc;

    if (strncmp(at, HOME_PREFIX, strlen(HOME_PREFIX)) == 0)
        at += strlen(HOME_PREFIX);
    rc = check_path_start(at, why, field);
    if (rc < 0)
        return rc;
    for (; *at; at += part + (at[part] == '/')) {
        part = strcspn(at, "/");
        if (part_is(at, part, ".."))
            return bad_path(why, field, path,
                            "climbs out of the work folder; give a relative "
                            "path inside it");
        if (part == 0 || part_is(at, part, "."))
            continue;
        if (len + (len > 0) + part > JOB_PATH_MAX)
            return complain(why, field,
                            "is too long a path; give at most %d bytes",
                            JOB_PATH_MAX);
        if (len > 0)
            out[len++] = '/';
        memcpy(out + len, at, part);
        len += part;
    }
    out[len] = '\0';
    if (len == 0)
        return bad_path(why, field, path,
                        "names no file; give a relative path inside the work "
                        "folder");
    return 0;
}

/* ---- reading ---------------------------------------------------------- */

struct reading {
    struct job *job;
    struct complaint *why;
    unsigned seen;    /* bit per row */
    size_t unknown;   /* fields we do not know */
    double timeout_s; /* the shorthand; 0: not given */
    bool delay_given, run_at_given;
};

struct row {
    const char *name;
    int (*take)(struct reading *r, cJSON *item, const struct row *row);
    size_t at; /* offset in struct job of what it fills, where one place is */
    const struct json_range *range;
};

/* The list is ours to bound, whatever the job holds. near: "" or what the
 * field's name may have meant. */
static void note_unknown(struct reading *r, const char *field, const char *near)
{
    struct job *job = r->job;
    char shown[JSON_SHOW_MAX], *text = NULL;
    int len;

    r->unknown++;
    if (job->nwarnings == JOB_WARNINGS_MAX) {
        free(job->warnings[--job->nwarnings]);
        len = asprintf(&text, "…and %zu more unknown fields were ignored",
                       r->unknown - JOB_WARNINGS_MAX + 1);
    } else {
        len = asprintf(&text, "unknown field %s was ignored%s%s%s",
                       json_show_text(field, shown),
                       *near ? "; did you mean " : "", near, *near ? "?" : "");
    }
    if (len >= 0)
        job->warnings[job->nwarnings++] = text;
}

static void *place(struct reading *r, const struct row *row)
{
    return (char *)r->job + row->at;
}

static int take_flag(struct reading *r, cJSON *item, const struct row *row)
{
    return json_bool(item, row->name, place(r, row), r->why);
}

static int take_seconds(struct reading *r, cJSON *item, const struct row *row)
{
    return json_number(item, row->name, row->range, place(r, row), r->why);
}

static int take_id(struct reading *r, cJSON *item, const struct row *row)
{
    static const char right[] = "1 to 64 characters of A-Z a-z 0-9 . _ : -";
    char shown[JSON_SHOW_MAX];

    if (!cJSON_IsString(item))
        return json_wrong_type(item, row->name, right, r->why);
    if (!job_id_valid(item->valuestring))
        return complain(r->why, row->name, "%s cannot be an id; give %s",
                        json_show(item, shown), right);
    strcpy(r->job->id, item->valuestring);
    return 0;
}

static int take_code(struct reading *r, cJSON *item, const struct row *row)
{
    int rc;

    if (cJSON_IsString(item) && !item->valuestring[0])
        return complain(r->why, row->name, "is empty; give the code to run");
    rc = json_text(item, row->name, JOB_CODE_BYTES_MAX, &r->job->code, r->why);
    if (rc == 0)
        r->job->code_bytes = strlen(r->job->code);
    return rc;
}

static int take_language(struct reading *r, cJSON *item, const struct row *row)
{
    static const char right[] = "python, javascript or bash";
    char shown[JSON_SHOW_MAX];

    if (!cJSON_IsString(item))
        return json_wrong_type(item, row->name, right, r->why);
    r->job->language = language_from_name(item->valuestring);
    if (r->job->language == LANGUAGE_NONE)
        return complain(r->why, row->name, "%s is unknown; give %s",
                        json_show(item, shown), right);
    return 0;
}

/* template and template_id: one field with two names. */
static int take_template(struct reading *r, cJSON *item, const struct row *row)
{
    char *id = NULL;
    int rc = json_text(item, row->name, JOB_NAME_MAX, &id, r->why);

    if (rc < 0)
        return rc;
    if (r->job->template_id && strcmp(r->job->template_id, id) != 0)
        rc = complain(r->why, row->name,
                      "template and template_id differ; give one of them");
    free(r->job->template_id);
    r->job->template_id = id;
    return rc;
}

static int take_task_type(struct reading *r, cJSON *item, const struct row *row)
{
    return json_text(item, row->name, JOB_NAME_MAX, place(r, row), r->why);
}

static int take_name(struct reading *r, cJSON *item, const struct row *row)
{
    static const char right[] = "1 to 64 characters of A-Z a-z 0-9 . _ : -";
    char shown[JSON_SHOW_MAX], **name = place(r, row);

    if (!cJSON_IsString(item))
        return json_wrong_type(item, row->name, right, r->why);
    if (!job_name_valid(item->valuestring, true))
        return complain(r->why, row->name, "%s cannot be a name; give %s",
                        json_show(item, shown), right);
    *name = TAKE(item->valuestring);
    return 0;
}

static int take_url(struct reading *r, cJSON *item, const struct row *row)
{
    char shown[JSON_SHOW_MAX], **url = place(r, row);
    const unsigned char *c;
    int rc = json_text(item, row->name, JOB_URL_MAX, url, r->why);

    if (rc < 0)
        return rc;
    c = (const unsigned char *)*url;
    while (*c > 0x20 && *c != 0x7f)
        c++;
    if (*c ||
        (strncmp(*url, "http://", 7) != 0 && strncmp(*url, "https://", 8) != 0))
        return complain(r->why, row->name,
                        "%s cannot be called; give an http:// or https:// "
                        "address without spaces",
                        json_show_text(*url, shown));
    return 0;
}

/* ---- requirements ----------------------------------------------------- */

int job_wants_limit(const cJSON *item, const char *field,
                    struct job_wants *wants, struct complaint *why)
{
    bool network;
    int rc;

    for (size_t i = 0; i < JOB_LIMITS; i++) {
        const struct job_limit *limit = &job_limits[i];

        if (strcmp(item->string, limit->name) == 0)
            return json_number(item, field, &limit->range,
                               (double *)((char *)wants + limit->at), why);
    }
    if (strcmp(item->string, "network") != 0)
        return 1;
    rc = json_bool(item, field, &network, why);
    if (rc == 0)
        wants->network = network;
    return rc;
}

static int check_package(char **text, const char *field, struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (job_name_valid(*text, false))
        return 0;
    return complain(why, field,
                    "%s is no package name; give the name alone, such as "
                    "\"pandas\"",
                    json_show_text(*text, shown));
}

static int take_e2b_template(struct reading *r, cJSON *item, const char *field)
{
    struct job_wants *wants = &r->job->wants;
    char shown[JSON_SHOW_MAX];
    int rc =
        json_text(item, field, JOB_NAME_MAX, &wants->template_name, r->why);

    if (rc < 0)
        return rc;
    for (const char *c = wants->template_name; *c; c++)
        if (!is_name_char(*c) && *c != ':' && *c != '/')
            return complain(r->why, field,
                            "%s cannot be an E2B template; give an id such as "
                            "\"code-interpreter-v1\"",
                            json_show_text(wants->template_name, shown));
    return 0;
}

static const char *const other_requirements[] = {"network", "packages",
                                                 "template_name"};

/* "requirements.<the nearest>" in out, or "". */
static const char *near_requirement(const char *word, char out[JSON_FIELD_MAX])
{
    const char *best = NULL;

    for (size_t i = 0; i < JOB_LIMITS; i++)
        suggest_offer(word, job_limits[i].name, &best);
    for (size_t i = 0;
         i < sizeof other_requirements / sizeof *other_requirements; i++)
        suggest_offer(word, other_requirements[i], &best);
    snprintf(out, JSON_FIELD_MAX, "%s%s", best ? "requirements." : "",
             best ? best : "");
    return out;
}

static int take_requirement(struct reading *r, cJSON *item)
{
    struct job_wants *wants = &r->job->wants;
    char field[JSON_FIELD_MAX], near[JSON_FIELD_MAX];
    int rc;

    snprintf(field, sizeof field, "requirements.%s", item->string);
    rc = job_wants_limit(item, field, wants, r->why);
    if (rc <= 0)
        return rc;
    if (strcmp(item->string, "packages") == 0)
        return json_texts(item, field, JOB_PACKAGES_MAX,
                          JOB_PACKAGES_MAX * (JOB_NAME_MAX + 1), check_package,
                          &wants->packages, r->why);
    if (strcmp(item->string, "template_name") == 0)
        return take_e2b_template(r, item, field);
    note_unknown(r, field, near_requirement(item->string, near));
    return 0;
}

/* Members of an object that are few: two of one name are found by looking. */
static int check_once(const cJSON *item, const char *prefix,
                      struct complaint *why)
{
    char field[JSON_FIELD_MAX];

    for (const cJSON *later = item->next; later; later = later->next) {
        if (strcmp(later->string, item->string) != 0)
            continue;
        snprintf(field, sizeof field, "%s.%s", prefix, item->string);
        return complain(why, field, "is given twice; give it once");
    }
    return 0;
}

/* Bounds the work of check_once(), which goes over all pairs. */
static int check_few(const cJSON *object, const char *field, int most,
                     const char *right, struct complaint *why)
{
    int count;

    if (!cJSON_IsObject(object))
        return json_wrong_type(object, field, right, why);
    count = cJSON_GetArraySize(object);
    if (count > most)
        return complain(why, field, "holds %d; give at most %d", count, most);
    return 0;
}

static int take_requirements(struct reading *r, cJSON *item,
                             const struct row *row)
{
    cJSON *each;
    int rc = check_few(item, row->name, JOB_ENV_MAX,
                       "an object, such as {\"timeout\": 10}", r->why);

    if (rc < 0)
        return rc;
    cJSON_ArrayForEach(each, item)
    {
        rc = check_once(each, row->name, r->why);
        if (rc == 0 && !cJSON_IsNull(each))
            rc = take_requirement(r, each);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take_timeout(struct reading *r, cJSON *item, const struct row *row)
{
    return json_number(item, row->name, &job_limits[0].range, &r->timeout_s,
                       r->why);
}

/* ---- files ------------------------------------------------------------ */

static int decode_file(cJSON *item, const char *field, struct job_file *file,
                       struct complaint *why)
{
    size_t len, bad_at = 0;
    int rc;

    if (!cJSON_IsString(item))
        return json_wrong_type(item, field, "base64 text", why);
    len = strlen(item->valuestring);
    rc = base64_decode(item->valuestring, len, &file->data, &file->size,
                       &bad_at);
    if (rc == -EINVAL && bad_at == len)
        return complain(why, field,
                        "is base64 that ends too early; give whole groups of "
                        "four characters");
    if (rc == -EINVAL)
        return complain(why, field,
                        "is not base64 at character %zu; give RFC 4648 base64",
                        bad_at + 1);
    return rc;
}

static int take_content(cJSON *item, const char *field, struct job_file *file,
                        struct complaint *why)
{
    if (!cJSON_IsString(item))
        return json_wrong_type(item, field, "the file's text", why);
    file->size = strlen(item->valuestring);
    file->data = (unsigned char *)TAKE(item->valuestring);
    return 0;
}

static int take_path(cJSON *item, const char *field, struct job_file *file,
                     struct complaint *why)
{
    char path[JOB_PATH_MAX + 1];
    int rc;

    if (!cJSON_IsString(item))
        return json_wrong_type(item, field, "the file's path as text", why);
    rc = job_path_normalise(item->valuestring, path, why, field);
    if (rc < 0)
        return rc;
    file->path = strdup(path);
    return file->path ? 0 : -ENOMEM;
}

static bool is_content(const char *member)
{
    return strcmp(member, "content") == 0 ||
           strcmp(member, "content_base64") == 0;
}

static const char *near_member(const char *word)
{
    const char *best = NULL;

    suggest_offer(word, "path", &best);
    suggest_offer(word, "content", &best);
    suggest_offer(word, "content_base64", &best);
    return best ? best : "";
}

static int take_file_member(struct reading *r, cJSON *item, const char *prefix,
                            struct job_file *file)
{
    char field[JSON_FIELD_MAX];
    int rc = check_once(item, prefix, r->why);

    snprintf(field, sizeof field, "%.32s.%.90s", prefix, item->string);
    if (rc < 0)
        return rc;
    if (cJSON_IsNull(item))
        return 0;
    if (strcmp(item->string, "path") == 0)
        return take_path(item, field, file, r->why);
    if (file->data && is_content(item->string))
        return complain(r->why, prefix,
                        "has content and content_base64; give one of them");
    if (strcmp(item->string, "content") == 0)
        return take_content(item, field, file, r->why);
    if (strcmp(item->string, "content_base64") == 0)
        return decode_file(item, field, file, r->why);
    note_unknown(r, field, near_member(item->string));
    return 0;
}

static int take_file(struct reading *r, cJSON *item, const char *field,
                     struct job_file *file)
{
    cJSON *each;
    int rc = check_few(item, field, JOB_FILES_MAX,
                       "an object {\"path\", \"content\"} or {\"path\", "
                       "\"content_base64\"}",
                       r->why);

    if (rc < 0)
        return rc;
    cJSON_ArrayForEach(each, item)
    {
        rc = take_file_member(r, each, field, file);
        if (rc < 0)
            return rc;
    }
    if (!file->path)
        return complain(r->why, field, "has no path; give one");
    if (!file->data)
        return complain(r->why, field,
                        "has no content; give content or content_base64");
    return 0;
}

/* One cannot be made when the other is: the same path, or a file where the
 * other needs a folder. */
static bool paths_clash(const char *a, const char *b)
{
    size_t len = strlen(a) < strlen(b) ? strlen(a) : strlen(b);

    return memcmp(a, b, len) == 0 && (a[len] == '\0' || a[len] == '/') &&
           (b[len] == '\0' || b[len] == '/');
}

static int check_clashes(const struct job *job, size_t new,
                         struct complaint *why)
{
    char field[JSON_FIELD_MAX], shown[JSON_SHOW_MAX];
    const char *path = job->files[new].path;

    for (size_t i = 0; i < new; i++) {
        if (!paths_clash(job->files[i].path, path))
            continue;
        snprintf(field, sizeof field, "files[%zu].path", new);
        json_show_text(path, shown);
        if (strcmp(job->files[i].path, path) == 0)
            return complain(why, field,
                            "%s is given twice (also files[%zu]); give it once",
                            shown, i);
        return complain(why, field,
                        "%s and files[%zu] need one name as a file and as a "
                        "folder; rename one",
                        shown, i);
    }
    return 0;
}

/* So all files together need no check of their own. */
_Static_assert(JOB_BYTES_MAX <= JOB_FILES_BYTES_MAX,
               "a job's text bounds its files");

static int take_files(struct reading *r, cJSON *item, const struct row *row)
{
    struct job *job = r->job;
    char field[JSON_FIELD_MAX];
    cJSON *each;
    int rc, count;

    if (!cJSON_IsArray(item))
        return json_wrong_type(item, row->name, "a list of files", r->why);
    count = cJSON_GetArraySize(item);
    if (count > JOB_FILES_MAX)
        return complain(r->why, row->name, "holds %d files; give at most %d",
                        count, JOB_FILES_MAX);
    job->files = calloc((size_t)count + 1, sizeof *job->files);
    if (!job->files)
        return -ENOMEM;
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "%s[%zu]", row->name, job->nfiles);
        rc = take_file(r, each, field, &job->files[job->nfiles++]);
        if (rc == 0)
            rc = check_clashes(job, job->nfiles - 1, r->why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int normalise_glob(char **text, const char *field, struct complaint *why)
{
    char path[JOB_PATH_MAX + 1], *copy;
    int rc = job_path_normalise(*text, path, why, field);

    if (rc < 0)
        return rc;
    copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

static int take_output_files(struct reading *r, cJSON *item,
                             const struct row *row)
{
    return json_texts(item, row->name, JOB_OUTPUT_GLOBS_MAX,
                      JOB_OUTPUT_GLOBS_MAX * (JOB_PATH_MAX + 1), normalise_glob,
                      place(r, row), r->why);
}

/* ---- env, args, stdin ------------------------------------------------- */

/* Would it act on the interpreter's start, before the code has the word? */
static bool env_is_reserved(const char *name)
{
    static const char *const refused[] = {"BASH_ENV", "SHELLOPTS", "BASHOPTS",
                                          "NODE_OPTIONS", "GLIBC_TUNABLES"};
    /* Functions, of any name: of a builtin's, too. */
    static const char bash_function[] = "BASH_FUNC_";
    static const char *const allowed[] = {"PYTHONUNBUFFERED", "PYTHONHASHSEED",
                                          "PYTHONDONTWRITEBYTECODE"};

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(name, refused[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(name, allowed[i]) == 0)
            return false;
    return strncmp(name, "LD_", 3) == 0 || strncmp(name, "PYTHON", 6) == 0 ||
           strncmp(name, bash_function, strlen(bash_function)) == 0;
}

static int check_env_name(const char *name, const char *field,
                          struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (!name[0])
        return complain(why, "env", "has a variable without a name; name it");
    if (strchr(name, '='))
        return complain(why, "env",
                        "%s cannot be a variable's name; leave out the =",
                        json_show_text(name, shown));
    if (env_is_reserved(name))
        return complain(why, field,
                        "is reserved: it would act on capibox's own driver "
                        "before the code starts; set it inside the code");
    return 0;
}

static int take_env(struct reading *r, cJSON *item, const struct row *row)
{
    struct job *job = r->job;
    char field[JSON_FIELD_MAX];
    size_t bytes = 0;
    cJSON *each;
    int rc =
        check_few(item, row->name, JOB_ENV_MAX,
                  "an object of texts, such as {\"NAME\": \"value\"}", r->why);

    if (rc < 0)
        return rc;
    job->env = calloc((size_t)cJSON_GetArraySize(item) + 1, sizeof *job->env);
    if (!job->env)
        return -ENOMEM;
    cJSON_ArrayForEach(each, item)
    {
        snprintf(field, sizeof field, "env.%s", each->string);
        rc = check_env_name(each->string, field, r->why);
        if (rc == 0)
            rc = check_once(each, row->name, r->why);
        if (rc < 0)
            return rc;
        if (!cJSON_IsString(each))
            return json_wrong_type(each, field, "text in double quotes",
                                   r->why);
        bytes += strlen(each->string) + strlen(each->valuestring) + 2;
        if (bytes > JOB_ENV_BYTES_MAX)
            return complain(r->why, row->name,
                            "holds more than %u bytes together; give less",
                            JOB_ENV_BYTES_MAX);
        job->env[job->nenv].value = TAKE(each->valuestring);
        job->env[job->nenv++].name = strdup(each->string);
        if (!job->env[job->nenv - 1].name)
            return -ENOMEM;
    }
    return 0;
}

static int take_args(struct reading *r, cJSON *item, const struct row *row)
{
    return json_texts(item, row->name, JOB_ARGS_MAX, JOB_ARGS_BYTES_MAX, NULL,
                      place(r, row), r->why);
}

static int take_stdin(struct reading *r, cJSON *item, const struct row *row)
{
    if (!cJSON_IsString(item))
        return json_wrong_type(item, row->name, "text in double quotes",
                               r->why);
    r->job->stdin_bytes = strlen(item->valuestring);
    r->job->stdin_text = TAKE(item->valuestring);
    return 0;
}

/* ---- delivery --------------------------------------------------------- */

/* Its text is kept from the source: printing it again would round numbers. */
static int take_metadata(struct reading *r, cJSON *item, const struct row *row)
{
    if (!cJSON_IsObject(item))
        return json_wrong_type(item, row->name, "an object", r->why);
    if (r->job->metadata)
        return 0;
    /* Its name was written with JSON escapes: nobody found the source. */
    r->job->metadata = cJSON_PrintUnformatted(item);
    return r->job->metadata ? 0 : -ENOMEM;
}

static int take_attempts(struct reading *r, cJSON *item, const struct row *row)
{
    double attempts;
    int rc = json_number(item, row->name, row->range, &attempts, r->why);

    if (rc == 0)
        r->job->max_attempts = (int)attempts;
    return rc;
}

static int take_delay(struct reading *r, cJSON *item, const struct row *row)
{
    r->delay_given = true;
    return take_seconds(r, item, row);
}

static int take_run_at(struct reading *r, cJSON *item, const struct row *row)
{
    char shown[JSON_SHOW_MAX];
    double horizon = clock_unix_s() + JOB_DELAY_S_MAX;

    r->run_at_given = true;
    if (!cJSON_IsNumber(item))
        return json_wrong_type(item, row->name, "unix time in seconds", r->why);
    if (!(item->valuedouble >= 0 && item->valuedouble <= horizon))
        return complain(r->why, row->name,
                        "%s is out of range; give unix time in seconds, at "
                        "most %.0f days ahead",
                        json_show(item, shown), JOB_DELAY_S_MAX / 86400);
    r->job->run_at = item->valuedouble;
    return 0;
}

/* ---- the whole -------------------------------------------------------- */

#define AT(member) offsetof(struct job, member)

static const struct row rows[] = {
    {"code", take_code, 0, NULL},
    {"id", take_id, 0, NULL},
    {"language", take_language, 0, NULL},
    {"template", take_template, 0, NULL},
    {"template_id", take_template, 0, NULL},
    {"task_type", take_task_type, AT(task_type), NULL},
    {"requirements", take_requirements, 0, NULL},
    {"timeout", take_timeout, 0, NULL},
    {"files", take_files, 0, NULL},
    {"output_files", take_output_files, AT(output_files), NULL},
    {"env", take_env, 0, NULL},
    {"args", take_args, AT(args), NULL},
    {"stdin", take_stdin, 0, NULL},
    {"metadata", take_metadata, 0, NULL},
    {"max_attempts", take_attempts, 0, &attempts_range},
    {"delay", take_delay, AT(delay_s), &delay_range},
    {"run_at", take_run_at, 0, NULL},
    {"expires_in", take_seconds, AT(expires_in_s), &expires_range},
    {"batch_id", take_name, AT(batch_id), NULL},
    {"cache", take_flag, AT(cache), NULL},
    {"stream", take_flag, AT(stream), NULL},
    {"callback_url", take_url, AT(callback_url), NULL},
    {"tenant", take_name, AT(tenant), NULL},
};

#define ROWS (sizeof rows / sizeof *rows)
_Static_assert(ROWS <= 32, "a bit of `seen` for each");

/* A requirement's name beside `requirements` is another slip. */
static void note_unknown_field(struct reading *r, const char *name)
{
    char near[JSON_FIELD_MAX];
    const char *best = NULL;

    for (size_t i = 0; i < ROWS; i++)
        suggest_offer(name, rows[i].name, &best);
    near_requirement(name, near);
    if (*near && (!best || suggest_distance(name, strchr(near, '.') + 1) <
                               suggest_distance(name, best)))
        best = near;
    note_unknown(r, name, best ? best : "");
}

static int take_field(struct reading *r, cJSON *item)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(item->string, rows[i].name) != 0)
            continue;
        if (r->seen & (1u << i))
            return complain(r->why, rows[i].name,
                            "is given twice; give it once");
        r->seen |= 1u << i;
        return cJSON_IsNull(item) ? 0 : rows[i].take(r, item, &rows[i]);
    }
    note_unknown_field(r, item->string);
    return 0;
}

static int check_together(struct reading *r)
{
    struct job *job = r->job;

    if (!job->code)
        return complain(r->why, "code", "is missing; give the code to run");
    if (r->delay_given && r->run_at_given)
        return complain(r->why, "run_at",
                        "delay and run_at are both given; give one of them");
    if (r->timeout_s > 0) {
        if (job->wants.timeout_s > 0 && job->wants.timeout_s != r->timeout_s)
            return complain(r->why, "timeout",
                            "differs from requirements.timeout; give one of "
                            "them");
        job->wants.timeout_s = r->timeout_s;
    }
    job->network_given = job->wants.network >= 0;
    return 0;
}

static int take_fields(struct job *job, cJSON *root, struct complaint *why)
{
    struct reading r = {.job = job, .why = why};
    char shown[JSON_SHOW_MAX];
    cJSON *item;
    int rc;

    if (!cJSON_IsObject(root))
        return complain(why, NULL,
                        "%s is no job; give one JSON object, such as "
                        "{\"code\": \"print(1)\"}",
                        json_show(root, shown));
    cJSON_ArrayForEach(item, root)
    {
        rc = take_field(&r, item);
        if (rc < 0)
            return rc;
    }
    return check_together(&r);
}

/* The id in the source text, if it is one as it stands. */
static void copy_id(const char *text, const struct json_want *want,
                    char *id_out)
{
    size_t len = want->size;

    if (len < 3 || text[want->at] != '"' ||
        !is_name(text + want->at + 1, len - 2, true))
        return;
    memcpy(id_out, text + want->at + 1, len - 2);
    id_out[len - 2] = '\0';
}

void job_glean(const char *text, size_t size, char id_out[JOB_ID_MAX + 1],
               char batch_out[JOB_NAME_MAX + 1], bool *stream_out)
{
    struct json_want wants[] = {
        {.path = "id"}, {.path = "batch_id"}, {.path = "stream"}};
    struct complaint why;

    id_out[0] = batch_out[0] = '\0';
    *stream_out = false;
    if (json_check(text, size, wants, 3, &why, NULL) == -EBADMSG)
        return;
    copy_id(text, &wants[0], id_out);
    copy_id(text, &wants[1], batch_out);
    *stream_out =
        wants[2].size == 4 && memcmp(text + wants[2].at, "true", 4) == 0;
}

static int copy_metadata(const char *text, const struct json_want *want,
                         char **out)
{
    struct strbuf sb = STRBUF_INIT;

    if (want->size == 0 || text[want->at] != '{')
        return 0;
    json_minify(text + want->at, want->size, &sb);
    *out = strbuf_take(&sb);
    return *out ? 0 : -ENOMEM;
}

static int too_large(size_t size, struct complaint *why)
{
    return complain(why, NULL,
                    "the job is %zu bytes long; give at most %u (4 MiB)", size,
                    JOB_BYTES_MAX);
}

int job_check_bare(size_t size, struct complaint *why)
{
    return size > JOB_BYTES_MAX ? too_large(size, why) : 0;
}

static int check_text(const char *text, size_t size, struct json_want wants[2],
                      char *id_out, struct complaint *why)
{
    int rc = json_check(text, size, wants, 2, why, NULL);

    if (rc != -EBADMSG)
        copy_id(text, &wants[0], id_out);
    if (size > JOB_TEXT_BYTES_MAX)
        return too_large(size, why);
    return rc < 0 ? -EINVAL : 0;
}

int job_parse(const char *text, size_t size, struct job **job_out, char *id_out,
              struct complaint *why)
{
    struct json_want wants[2] = {{.path = "id"}, {.path = "metadata"}};
    struct job *job;
    cJSON *root;
    int rc;

    id_out[0] = '\0';
    rc = check_text(text, size, wants, id_out, why);
    if (rc < 0)
        return rc;
    root = json_parse(text, size);
    job = root ? calloc(1, sizeof *job) : NULL;
    rc = job ? 0 : -ENOMEM;
    if (rc == 0) {
        job->max_attempts = JOB_ATTEMPTS_DEFAULT;
        job->wants.network = -1;
        rc = copy_metadata(text, &wants[1], &job->metadata);
    }
    if (rc == 0)
        rc = take_fields(job, root, why);
    cJSON_Delete(root);
    if (job && job->id[0]) /* also one that was written with escapes */
        strcpy(id_out, job->id);
    if (rc < 0) {
        job_destroy(job);
        return rc;
    }
    *job_out = job;
    return 0;
}

void job_warn(struct job *job, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    if (job->nwarnings == JOB_WARNINGS_MAX)
        return;
    va_start(args, fmt);
    len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len >= 0)
        job->warnings[job->nwarnings++] = text;
}

void job_destroy(struct job *job)
{
    if (!job)
        return;
    free(job->code);
    free(job->template_id);
    free(job->task_type);
    json_texts_free(job->wants.packages);
    free(job->wants.template_name);
    for (size_t i = 0; i < job->nfiles; i++) {
        free(job->files[i].path);
        free(job->files[i].data);
    }
    free(job->files);
    json_texts_free(job->output_files);
    for (size_t i = 0; i < job->nenv; i++) {
        free(job->env[i].name);
        free(job->env[i].value);
    }
    free(job->env);
    json_texts_free(job->args);
    free(job->stdin_text);
    free(job->metadata);
    free(job->batch_id);
    free(job->callback_url);
    free(job->tenant);
    for (size_t i = 0; i < job->nwarnings; i++)
        free(job->warnings[i]);
    free(job);
}
