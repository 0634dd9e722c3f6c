#include "worker/cache.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

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
    add_text(digest, job->tenant); /* nobody gets what another's job said */
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

/* What differs from what was kept, in the order of the result. */
enum retold {
    JOB_ID,
    EXECUTION_TIME,
    PROCESSING_TIME,
    QUEUE_TIME,
    CACHED,
    ATTEMPT,
    WORKER,
    METADATA,
    TIMESTAMP,
    RETOLD,
};

static void add_retold(struct strbuf *out, enum retold which,
                       const struct result_context *context,
                       const struct job *job)
{
    switch (which) {
    case JOB_ID:
        json_add_text(out, context->job_id);
        break;
    case EXECUTION_TIME:
        json_add_fixed(out, context->execution_time, 6);
        break;
    case PROCESSING_TIME:
        json_add_fixed(out, context->processing_time, 6);
        break;
    case QUEUE_TIME:
        json_add_fixed(out, context->queue_time, 6);
        break;
    case CACHED:
        json_add_bool(out, true);
        break;
    case ATTEMPT:
        json_add_int(out, context->attempt);
        break;
    case WORKER:
        json_add_text(out, context->worker);
        break;
    case METADATA:
        strbuf_adds(out, job->metadata ? job->metadata : "{}");
        break;
    case TIMESTAMP:
        json_add_time(out, context->finished_at);
        break;
    case RETOLD:
        break;
    }
}

/* The rest is copied as it stands: through a tree, text would end at its first
 * NUL and large numbers would be rounded. */
int cache_retell(const char *kept, size_t size,
                 const struct result_context *context, const struct job *job,
                 struct strbuf *json_out)
{
    struct json_want wants[RETOLD] = {
        [JOB_ID] = {.path = "job_id"},
        [EXECUTION_TIME] = {.path = "execution_time"},
        [PROCESSING_TIME] = {.path = "processing_time"},
        [QUEUE_TIME] = {.path = "queue_time"},
        [CACHED] = {.path = "cached"},
        [ATTEMPT] = {.path = "attempt"},
        [WORKER] = {.path = "worker"},
        [METADATA] = {.path = "metadata"},
        [TIMESTAMP] = {.path = "timestamp"},
    };
    struct complaint why;
    size_t at = 0;

    /* -EINVAL is for a NUL, which output may hold. */
    if (json_check(kept, size, wants, RETOLD, &why, NULL) == -EBADMSG)
        return -EINVAL;
    for (int i = 0; i < RETOLD; i++)
        if (wants[i].size == 0 || wants[i].at < (i ? wants[i - 1].at : 0))
            return -EINVAL;
    for (int i = 0; i < RETOLD; i++) {
        strbuf_add(json_out, kept + at, wants[i].at - at);
        add_retold(json_out, (enum retold)i, context, job);
        at = wants[i].at + wants[i].size;
    }
    strbuf_add(json_out, kept + at, size - at);
    return json_out->failed ? -ENOMEM : 0;
}
