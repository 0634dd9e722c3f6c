/* tests/fuzz/fuzz_job.c -- job_parse() and what follows it on any bytes.
 *
 * Beyond "no crash": a parsed job keeps its promises, a refused one says why.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/imports.h"
#include "common/job.h"
#include "common/must.h"
#include "common/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_files(const struct job *job)
{
    char path[JOB_PATH_MAX + 1];
    struct complaint why;

    for (size_t i = 0; i < job->nfiles; i++) {
        MUST(job->files[i].data);
        MUST0(job_path_normalise(job->files[i].path, path, &why, "path"));
        MUST(strcmp(path, job->files[i].path) == 0);
    }
}

/* Whatever was taken in can be given back as JSON. */
static void check_result(const struct job *job)
{
    struct result_context ctx = {.job_id = "j", .finished_at = 1};
    struct strbuf sb = STRBUF_INIT;
    struct outcome o;
    cJSON *root;

    outcome_init(&o, 64);
    o.verdict = VERDICT_OK;
    capture_add(&o.out, job->code, job->code_bytes);
    MUST0(result_encode(&ctx, job, NULL, &o, &sb));
    MUST(!memchr(sb.text, '\n', sb.len));
    root = cJSON_ParseWithLength(sb.text, sb.len);
    MUST(root);
    cJSON_Delete(root);
    strbuf_fini(&sb);
    outcome_fini(&o);
}

static void check_job(const struct job *job)
{
    struct imports imports;

    MUST(job->code && job->code_bytes == strlen(job->code));
    MUST(job->code_bytes > 0 && job->code_bytes <= JOB_CODE_BYTES_MAX);
    MUST(job->max_attempts >= 1 && job->max_attempts <= JOB_ATTEMPTS_MAX);
    MUST(job->nwarnings <= JOB_WARNINGS_MAX);
    check_files(job);
    check_result(job);
    imports_find(job->code, job->code_bytes, &imports);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct complaint why = {0};
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;
    int rc = job_parse((const char *)data, size, &job, id, &why);

    MUST(!id[0] || job_id_valid(id));
    if (rc == 0) {
        check_job(job);
        MUST(strcmp(id, job->id) == 0);
    } else {
        /* cJSON takes all that the check before it lets through. */
        MUST(rc == -EINVAL && !job && why.text[0]);
    }
    job_destroy(job);
    return 0;
}
