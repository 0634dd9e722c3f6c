#include "producer/jobjson.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/protocol.h"
#include "common/scope.h"
#include "common/utf8.h"

static void drop_json(cJSON **json)
{
    cJSON_Delete(*json);
}
#define AUTO_JSON __attribute__((cleanup(drop_json)))

enum language jobjson_language_of(const char *file)
{
    static const struct {
        const char *ending;
        enum language language;
    } endings[] = {
        {".py", LANGUAGE_PYTHON},      {".js", LANGUAGE_JAVASCRIPT},
        {".mjs", LANGUAGE_JAVASCRIPT}, {".cjs", LANGUAGE_JAVASCRIPT},
        {".sh", LANGUAGE_BASH},        {".bash", LANGUAGE_BASH},
    };
    const char *slash = strrchr(file, '/');
    const char *dot = strrchr(slash ? slash + 1 : file, '.');

    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (!strcmp(dot, endings[i].ending))
            return endings[i].language;
    return LANGUAGE_NONE;
}

static int read_stdin(size_t max, char **text_out, size_t *size_out)
{
    AUTO_FREE char *text = malloc(max + 1);
    ssize_t got;

    if (!text)
        return -ENOMEM;
    got = io_read_full(STDIN_FILENO, text, max + 1);
    if (got < 0)
        return (int)got;
    if ((size_t)got > max)
        return -EFBIG;
    text[got] = '\0';
    *text_out = TAKE(text);
    *size_out = (size_t)got;
    return 0;
}

static int read_source(const char *file, const char *field, size_t max,
                       char **text_out, size_t *size_out, struct complaint *why)
{
    int rc = strcmp(file, "-") ? io_read_file(file, max, text_out, size_out)
                               : read_stdin(max, text_out, size_out);

    if (rc == -EFBIG)
        return complain(why, field, "%.100s has over %zu bytes", file, max);
    if (rc < 0)
        return complain(why, field, "cannot read %.100s: %s", file,
                        strerror(-rc));
    return 0;
}

/* Here, as what is wrong in the job's JSON would be told by its place there. */
static int check_utf8(const char *text, const char *name, const char *field,
                      struct complaint *why)
{
    const char *line = text, *end = text + strlen(text);
    int number = 1;

    for (const char *at = text; at < end;) {
        uint32_t point = 0;
        size_t len = utf8_decode(at, (size_t)(end - at), &point);

        if (len == 0)
            return complain(why, field,
                            "%.100s is not UTF-8 (byte 0x%02x at line %d, "
                            "column %zu); encode it as UTF-8",
                            name, (unsigned char)*at, number,
                            (size_t)(at - line) + 1);
        at += len;
        if (point == '\n') {
            number++;
            line = at;
        }
    }
    return 0;
}

static int check_all_utf8(const char *const *texts, int count,
                          const char *field, struct complaint *why)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < count; i++)
        rc = check_utf8(texts[i], "the text", field, why);
    return rc;
}

/* Text for a JSON string: cJSON's strings end at a NUL. */
static int read_text(const char *file, const char *field, size_t max,
                     char **text_out, struct complaint *why)
{
    AUTO_FREE char *text = NULL;
    size_t size;
    int rc = read_source(file, field, max, &text, &size, why);

    if (rc < 0)
        return rc;
    if (memchr(text, '\0', size))
        return complain(why, field, "%.100s holds a NUL byte; text is wanted",
                        file);
    rc = check_utf8(text, file, field, why);
    if (rc < 0)
        return rc;
    *text_out = TAKE(text);
    return 0;
}

/* "K=V" into its halves; key_out is cut to size. */
static const char *split(const char *pair, char *key_out, size_t size)
{
    const char *equals = strchr(pair, '=');

    if (!equals || equals == pair || (size_t)(equals - pair) >= size)
        return NULL;
    memcpy(key_out, pair, (size_t)(equals - pair));
    key_out[equals - pair] = '\0';
    return equals + 1;
}

static int add_packages(cJSON *wants, const char *value)
{
    cJSON *list = cJSON_AddArrayToObject(wants, "packages");

    while (list && *value) {
        size_t len = strcspn(value, ",");
        AUTO_FREE char *name = strndup(value, len);

        if (!name)
            return -ENOMEM;
        if (len > 0)
            cJSON_AddItemToArray(list, cJSON_CreateString(name));
        value += len + (value[len] == ',');
    }
    return list ? 0 : -ENOMEM;
}

/* Text as it is, true and false, else a number. */
static int add_required(cJSON *wants, const char *key, const char *value,
                        struct complaint *why)
{
    bool truth = !strcmp(value, "true");
    double number;
    char *end;

    if (!strcmp(key, "packages"))
        return add_packages(wants, value);
    if (!strcmp(key, "template_name"))
        return cJSON_AddStringToObject(wants, key, value) ? 0 : -ENOMEM;
    if (truth || !strcmp(value, "false"))
        return cJSON_AddBoolToObject(wants, key, truth) ? 0 : -ENOMEM;
    number = strtod(value, &end);
    if (end == value || *end || !isfinite(number))
        return complain(why, "--require",
                        "%s=\"%.40s\" is no number, true or false", key, value);
    return cJSON_AddNumberToObject(wants, key, number) ? 0 : -ENOMEM;
}

static int require_one(cJSON *wants, const char *pair, struct complaint *why)
{
    char key[64];
    const char *value = split(pair, key, sizeof(key));

    if (!value)
        return complain(why, "--require", "\"%.60s\" is not KEY=VALUE", pair);
    if (cJSON_HasObjectItem(wants, key))
        return complain(why, "--require", "%s is given twice", key);
    return add_required(wants, key, value, why);
}

static int add_requirements(cJSON *job, const struct options *o,
                            struct complaint *why)
{
    const struct {
        const char *name;
        double value;
    } limits[] = {
        {"timeout", o->timeout_s},
        {"memory_limit_mb", o->memory_mb},
        {"cpu_limit_percent", o->cpu_percent},
    };
    cJSON *wants = cJSON_CreateObject();

    for (size_t i = 0; wants && i < sizeof(limits) / sizeof(limits[0]); i++)
        if (limits[i].value > 0)
            cJSON_AddNumberToObject(wants, limits[i].name, limits[i].value);
    for (int i = 0; wants && i < o->require.count; i++) {
        int rc = require_one(wants, o->require.items[i], why);

        if (rc < 0) {
            cJSON_Delete(wants);
            return rc;
        }
    }
    if (!wants)
        return -ENOMEM;
    if (!wants->child) {
        cJSON_Delete(wants);
        return 0;
    }
    return cJSON_AddItemToObject(job, "requirements", wants) ? 0 : -ENOMEM;
}

/* PATH[=NAME]; a file that is there under the whole word wins. */
static int split_file(const char *word, char **path_out, const char **name_out)
{
    struct stat st;
    const char *equals = strrchr(word, '=');
    const char *slash;
    char *path;

    if (!equals || equals == word || !equals[1] || stat(word, &st) == 0)
        equals = NULL;
    path = equals ? strndup(word, (size_t)(equals - word)) : strdup(word);
    if (!path)
        return -ENOMEM;
    slash = strrchr(word, '/');
    *name_out = equals ? equals + 1 : slash ? slash + 1 : word;
    *path_out = path;
    return 0;
}

static int add_file(cJSON *files, const char *word, struct complaint *why)
{
    AUTO_FREE char *path = NULL;
    AUTO_FREE char *data = NULL;
    AUTO_STRBUF struct strbuf encoded = STRBUF_INIT;
    const char *name;
    size_t size;
    cJSON *file;
    int rc = split_file(word, &path, &name);

    if (rc < 0)
        return rc;
    if (!strcmp(path, "-"))
        return complain(why, "--file", "standard input cannot be a file");
    rc = read_source(path, "--file", JOB_FILES_BYTES_MAX, &data, &size, why);
    if (rc < 0)
        return rc;
    strbuf_add_base64(&encoded, data, size);
    file = cJSON_CreateObject();
    if (encoded.failed || !file || !cJSON_AddItemToArray(files, file)) {
        cJSON_Delete(file);
        return -ENOMEM;
    }
    cJSON_AddStringToObject(file, "path", name);
    cJSON_AddStringToObject(file, "content_base64",
                            encoded.text ? encoded.text : "");
    return 0;
}

static int add_files(cJSON *job, const struct options *o, struct complaint *why)
{
    cJSON *files;
    int rc = 0;

    if (o->files.count == 0)
        return 0;
    files = cJSON_AddArrayToObject(job, "files");
    if (!files)
        return -ENOMEM;
    for (int i = 0; rc == 0 && i < o->files.count; i++)
        rc = add_file(files, o->files.items[i], why);
    return rc;
}

static int add_env(cJSON *job, const struct options *o, struct complaint *why)
{
    cJSON *env;

    if (o->env.count == 0)
        return 0;
    if (check_all_utf8(o->env.items, o->env.count, "--env", why) < 0)
        return -EINVAL;
    env = cJSON_AddObjectToObject(job, "env");
    for (int i = 0; env && i < o->env.count; i++) {
        char key[256];
        const char *value = split(o->env.items[i], key, sizeof(key));

        if (!value)
            return complain(why, "--env", "\"%.60s\" is not NAME=VALUE",
                            o->env.items[i]);
        if (cJSON_GetObjectItemCaseSensitive(env, key))
            return complain(why, "--env", "%.60s is given twice", key);
        cJSON_AddStringToObject(env, key, value);
    }
    return env ? 0 : -ENOMEM;
}

static int add_strings(cJSON *job, const char *name, const char *const *items,
                       int count)
{
    cJSON *list;

    if (count == 0)
        return 0;
    list = cJSON_CreateStringArray((void *)items, count);
    if (!list || !cJSON_AddItemToObject(job, name, list)) {
        cJSON_Delete(list);
        return -ENOMEM;
    }
    return 0;
}

static int add_outputs(cJSON *job, const struct options *o,
                       struct complaint *why)
{
    if (check_all_utf8(o->outputs.items, o->outputs.count, "--output", why) < 0)
        return -EINVAL;
    return add_strings(job, "output_files", o->outputs.items, o->outputs.count);
}

static int add_args(cJSON *job, const struct options *o, struct complaint *why)
{
    if (check_all_utf8(o->rest, o->nrest, "args", why) < 0)
        return -EINVAL;
    return add_strings(job, "args", o->rest, o->nrest);
}

/* As text, so that numbers come back with every digit they had. */
static int add_metadata(cJSON *job, const struct options *o,
                        struct complaint *why)
{
    AUTO_JSON cJSON *read = NULL;

    if (!o->metadata)
        return 0;
    if (check_all_utf8(&o->metadata, 1, "--metadata", why) < 0)
        return -EINVAL;
    read = cJSON_ParseWithOpts(o->metadata, NULL, 1);
    if (!cJSON_IsObject(read))
        return complain(why, "--metadata",
                        "not a JSON object; give one such as {\"user\":1}");
    return cJSON_AddRawToObject(job, "metadata", o->metadata) ? 0 : -ENOMEM;
}

static int add_stdin(cJSON *job, const struct options *o, const char *code_file,
                     struct complaint *why)
{
    AUTO_FREE char *text = NULL;
    int rc;

    if (!o->stdin_file)
        return 0;
    if (!strcmp(o->stdin_file, "-") && !strcmp(code_file, "-"))
        return complain(why, "--stdin", "\"-\" is already read for the code");
    rc = read_text(o->stdin_file, "--stdin", JOB_BYTES_MAX, &text, why);
    if (rc < 0)
        return rc;
    return cJSON_AddStringToObject(job, "stdin", text) ? 0 : -ENOMEM;
}

static int add_words(cJSON *job, const struct jobjson *j,
                     const struct options *o, bool stream)
{
    const struct {
        const char *name, *value;
    } words[] = {
        {"template", o->template_id},
        {"task_type", o->task_type},
        {"language",
         j->language == LANGUAGE_NONE ? NULL : language_name(j->language)},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i].value &&
            !cJSON_AddStringToObject(job, words[i].name, words[i].value))
            return -ENOMEM;
    if (stream && !cJSON_AddBoolToObject(job, "stream", 1))
        return -ENOMEM;
    return 0;
}

static int choose_language(struct jobjson *j, const struct options *o,
                           const char *code_file, struct complaint *why)
{
    if (!o->language) {
        j->language = jobjson_language_of(code_file);
        return 0;
    }
    j->language = language_from_name(o->language);
    if (j->language == LANGUAGE_NONE)
        return complain(why, "--language",
                        "\"%.40s\" is none; give python, javascript or bash",
                        o->language);
    return 0;
}

static int choose_id(struct jobjson *j, const struct options *o,
                     struct complaint *why)
{
    if (!o->id)
        return protocol_make_job_id(j->id);
    if (!job_id_valid(o->id))
        return complain(why, "--id",
                        "\"%.70s\" will not do; give 1 to %d of A-Za-z0-9._:-",
                        o->id, JOB_ID_MAX);
    strcpy(j->id, o->id);
    return 0;
}

static int print_and_check(struct jobjson *j, const cJSON *json,
                           struct complaint *why)
{
    AUTO_FREE char *text = cJSON_PrintUnformatted(json);
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;
    int rc;

    if (!text)
        return -ENOMEM;
    strbuf_adds(&j->text, text);
    if (j->text.failed)
        return -ENOMEM;
    rc = job_parse(j->text.text, j->text.len, &job, id, why);
    job_destroy(job);
    return rc;
}

/* What is added to the job, in this order, until one of them complains. */
static int add_all(cJSON *job, const struct jobjson *j, const struct options *o,
                   const char *code_file, bool stream, struct complaint *why)
{
    static int (*const steps[])(cJSON * job, const struct options *o,
                                struct complaint *why) = {
        add_requirements, add_files, add_outputs,
        add_env,          add_args,  add_metadata,
    };
    int rc = add_words(job, j, o, stream);

    for (size_t i = 0; rc == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
        rc = steps[i](job, o, why);
    return rc < 0 ? rc : add_stdin(job, o, code_file, why);
}

int jobjson_build(struct jobjson *j, const struct options *o,
                  const char *code_file, bool stream, struct complaint *why)
{
    AUTO_JSON cJSON *job = cJSON_CreateObject();
    AUTO_FREE char *code = NULL;
    int rc;

    *j = (struct jobjson){.text = STRBUF_INIT, .stream = stream};
    rc = choose_language(j, o, code_file, why);
    if (rc == 0)
        rc = choose_id(j, o, why);
    if (rc == 0)
        rc = read_text(code_file, "code", JOB_CODE_BYTES_MAX, &code, why);
    if (rc < 0)
        return rc;
    if (!job || !cJSON_AddStringToObject(job, "id", j->id) ||
        !cJSON_AddStringToObject(job, "code", code))
        return -ENOMEM;
    rc = add_all(job, j, o, code_file, stream, why);
    return rc < 0 ? rc : print_and_check(j, job, why);
}

void jobjson_fini(struct jobjson *j)
{
    strbuf_fini(&j->text);
}
