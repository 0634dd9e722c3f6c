/* tests/fuzz/fuzz_api_request.c -- what the gateway reads of a request: path,
 * Prefer, and the body as a job or a batch of them.
 *
 * The first byte chooses. What is accepted must hold: the job's text is JSON
 * with an id and the key's tenant, and none of the gateway's own members.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/must.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/execute.h"
#include "producer/gateway/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct settings settings = {.queues = {{"high", 0}, {"default", 0}},
                                   .nqueues = 2};

/* How a warning would begin if the gateway's member had gone on. Other fields
 * may have these letters in them. */
static const char OWN[] = "unknown field \"async\" ";

static void check_job(const struct apijob *job, bool batch)
{
    struct complaint why = {0};
    cJSON *json;

    MUST0(json_check(job->text.text, job->text.len, NULL, 0, &why, NULL));
    json = cJSON_ParseWithLength(job->text.text, job->text.len);
    MUST(json && job->job && job_id_valid(job->job->id));
    MUST(job->job->tenant && !strcmp(job->job->tenant, "alice"));
    MUST(!batch || !strcmp(job->job->batch_id, "b-1"));
    MUST(!strcmp(job->queue, "default") || !strcmp(job->queue, "high"));
    for (size_t i = 0; i < job->job->nwarnings; i++)
        MUST(strncmp(job->job->warnings[i], OWN, strlen(OWN)) != 0);
    cJSON_Delete(json);
}

static void one(const char *text, size_t size, bool dynamic)
{
    struct apijob_rules rules = {
        .tenant = "alice", .dynamic = dynamic, .settings = &settings};
    struct complaint why = {0};
    struct apijob job;
    int rc = apijob_build(text, size, &rules, &job, &why);

    MUST(rc == 0 || rc == -EINVAL || rc == -EBADMSG);
    MUST(rc == 0 || why.text[0]);
    if (rc == 0) {
        check_job(&job, false);
        MUST(!dynamic || job.job->task_type);
    }
    apijob_fini(&job);
}

static void many(const char *text, size_t size)
{
    struct apijob_rules rules = {
        .tenant = "alice", .batch_id = "b-1", .settings = &settings};
    struct complaint why = {0};
    struct apijob *jobs = NULL;
    size_t count = 0;
    int rc = apijob_build_batch(text, size, &rules, &jobs, &count, &why);

    MUST(rc == 0 || rc == -EINVAL || rc == -EBADMSG);
    MUST(rc == 0 || why.text[0]);
    MUST(rc < 0 || (count > 0 && count <= APIJOB_BATCH_MAX));
    for (size_t i = 0; i < count; i++)
        check_job(&jobs[i], true);
    apijob_free_batch(jobs, count);
}

static void path(const char *text)
{
    static const struct route table[] = {
        {"GET", "/api/v1/e2b/jobs/{id}", 0, NULL},
        {"GET", "/api/v1/e2b/jobs/{id}/files/{path}", 0, NULL},
        {"POST", "/api/v1/e2b/execute", 0, NULL},
        {"GET", "/", 0, NULL},
    };
    struct route_match match;
    double wait = execute_prefer(text);

    MUST(wait == -1 || (wait >= 0 && wait <= EXECUTE_WAIT_S));
    routes_match(table, 4, "GET", text, &match);
    MUST(strlen(match.id) <= ROUTES_ID_MAX);
    MUST(strlen(match.rest) <= ROUTES_REST_MAX);
    MUST(!match.route || match.allow[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    /* Of exactly this size, so that reading past its end is seen. */
    text = malloc(size);
    MUST(text);
    memcpy(text, data + 1, size - 1);
    if (data[0] % 4 == 0) {
        text[size - 1] = '\0';
        path(text);
    } else if (data[0] % 4 == 1) {
        text = realloc(text, size > 1 ? size - 1 : 1);
        many(text, size - 1);
    } else {
        text = realloc(text, size > 1 ? size - 1 : 1);
        one(text, size - 1, data[0] % 4 == 2);
    }
    free(text);
    return 0;
}
