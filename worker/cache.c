#include "worker/cache.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Each part goes in with its length, so that no two jobs can be spelled alike.
 */
static void add(EVP_MD_CTX *digest, const void *data, size_t size)
{
    uint64_t length = size;

    EVP_DigestUpdate(digest, &length, sizeof(length));
    EVP_DigestUpdate(digest, data, size);
}

static void add_text(EVP_MD_CTX *digest, const char *text)
{
    add(digest, text ? text : "", text ? strlen(text) : 0);
}

static void add_texts(EVP_MD_CTX *digest, char *const *texts)
{
    for (; texts && *texts; texts++)
        add_text(digest, *texts);
    add(digest, "", 0);
}

static void add_number(EVP_MD_CTX *digest, int64_t number)
{
    add(digest, &number, sizeof(number));
}

static void add_spec(EVP_MD_CTX *digest, const struct spec *spec)
{
    const struct template_limits *l = &spec->limits;

    add_text(digest, spec->template_used);
    add_text(digest, language_name(spec->language));
    add_text(digest, spec->interpreter);
    add_text(digest, spec->template_name);
    for (size_t i = 0; spec_package(spec, i); i++)
        add_text(digest, spec_package(spec, i));
    add_number(digest, l->timeout_ms);
    add_number(digest, l->memory_bytes);
    add_number(digest, l->cpu_percent);
    add_number(digest, l->disk_bytes);
    add_number(digest, l->disk_inodes);
    add_number(digest, l->pids);
    add_number(digest, l->output_bytes);
    add_number(digest, l->network);
}

static void add_job(EVP_MD_CTX *digest, const struct job *job)
{
    add(digest, job->code, job->code_bytes);
    for (size_t i = 0; i < job->nfiles; i++) {
        add_text(digest, job->files[i].path);
        add(digest, job->files[i].data, job->files[i].size);
    }
    add_number(digest, (int64_t)job->nfiles);
    for (size_t i = 0; i < job->nenv; i++) {
        add_text(digest, job->env[i].name);
        add_text(digest, job->env[i].value);
    }
    add_number(digest, (int64_t)job->nenv);
    add_texts(digest, job->args);
    add_texts(digest, job->output_files);
    add(digest, job->stdin_text ? job->stdin_text : "", job->stdin_bytes);
}

int cache_key(const struct job *job, const struct spec *spec,
              char key_out[CACHE_KEY_MAX + 1])
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int rc = -EIO;

    if (digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1) {
        add_spec(digest, spec);
        add_job(digest, job);
        if (EVP_DigestFinal_ex(digest, sum, &size) == 1)
            rc = 0;
    }
    EVP_MD_CTX_free(digest);
    for (unsigned i = 0; rc == 0 && i < size; i++)
        snprintf(key_out + 2 * i, 3, "%02x", sum[i]);
    return rc;
}

static void put(cJSON *result, const char *name, cJSON *value)
{
    if (!cJSON_ReplaceItemInObjectCaseSensitive(result, name, value))
        cJSON_Delete(value);
}

static void put_time(cJSON *result, double unix_s)
{
    time_t seconds = (time_t)unix_s;
    char text[40], stamp[48];
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp, sizeof(stamp), "%s.%03dZ", text,
             (int)((unix_s - (double)seconds) * 1000));
    put(result, "timestamp", cJSON_CreateString(stamp));
}

int cache_retell(const char *kept, size_t size,
                 const struct result_context *context, const struct job *job,
                 struct strbuf *json_out)
{
    cJSON *result = cJSON_ParseWithLength(kept, size);
    char *text;

    if (!cJSON_IsObject(result)) {
        cJSON_Delete(result);
        return -EINVAL;
    }
    put(result, "job_id", cJSON_CreateString(context->job_id));
    put(result, "worker", cJSON_CreateString(context->worker));
    put(result, "attempt", cJSON_CreateNumber(context->attempt));
    put(result, "queue_time", cJSON_CreateNumber(context->queue_time));
    put(result, "execution_time", cJSON_CreateNumber(context->execution_time));
    put(result, "processing_time",
        cJSON_CreateNumber(context->processing_time));
    put(result, "metadata",
        cJSON_CreateRaw(job->metadata ? job->metadata : "{}"));
    put(result, "cached", cJSON_CreateTrue());
    put_time(result, context->finished_at);
    text = cJSON_PrintUnformatted(result);
    cJSON_Delete(result);
    if (!text)
        return -ENOMEM;
    strbuf_adds(json_out, text);
    free(text);
    return json_out->failed ? -ENOMEM : 0;
}
