/* producer/gateway/apijob.h -- the body of a request as jobs for the queue.
 *
 * A body is a job as contract section 3 has it, with a few members that are the
 * gateway's own: they are taken out, `id` and `tenant` are put in, and all the
 * rest stays byte for byte as it came. The whole is checked with job_parse(),
 * so that what a worker would reject for its form is said at once.
 *
 * Memory:   apijob_fini() frees; harmless on zeroes.
 * Threads:  none of its own.
 * Errors:   -EBADMSG: not JSON. -EINVAL: JSON, but for the named fault. -EFBIG:
 *           a job of more than JOB_BYTES_MAX as it came. -EEXIST never: ids are
 *           Redis' to judge. -ENOMEM.
 */
#ifndef PRODUCER_GATEWAY_APIJOB_H
#define PRODUCER_GATEWAY_APIJOB_H

#include <stdbool.h>
#include <stddef.h>

#include "common/complaint.h"
#include "common/job.h"
#include "common/settings.h"
#include "common/strbuf.h"

#define APIJOB_BATCH_MAX       10000 /* jobs of one batch */
#define APIJOB_BATCH_BYTES_MAX (16u << 20)

struct apijob_rules {
    const char *tenant;   /* put in, whatever the body says; NULL: the body's */
    const char *batch_id; /* the same */
    bool dynamic;         /* a task_type is put in if there is none */
    const struct settings *settings; /* whose queues may be named */
};

struct apijob {
    struct strbuf text; /* the job JSON */
    struct job *job;    /* the same, parsed */
    const char *queue;  /* borrowed from the settings, or "default" */
    bool async, cancel_on_disconnect;
};

int apijob_build(const char *body, size_t size,
                 const struct apijob_rules *rules, struct apijob *out,
                 struct complaint *why);
void apijob_fini(struct apijob *job);

/* {"jobs": [job…]}: an array of them, all good or none. Fields in complaints
 * are of the whole body: "jobs[3].code". */
int apijob_build_batch(const char *body, size_t size,
                       const struct apijob_rules *rules, struct apijob **out,
                       size_t *count_out, struct complaint *why);
void apijob_free_batch(struct apijob *jobs, size_t count);

#endif
