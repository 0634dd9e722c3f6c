/* common/result.h -- the result of contract section 4: made by a worker, read
 * by the command line.
 *
 * Memory:   result_encode() appends to the caller's strbufs.
 * Errors:   -ENOMEM; -EINVAL from the reader.
 */
#ifndef COMMON_RESULT_H
#define COMMON_RESULT_H

#include "common/job.h"
#include "common/outcome.h"
#include "common/strbuf.h"
#include "common/template.h"

/* Who ran it and when: what the job and the outcome do not know. Strings are
 * borrowed. */
struct result_context {
    const char *job_id;
    const char *backend;                         /* "local", "e2b" */
    const char *worker;                          /* worker id */
    int attempt;                                 /* 1.. */
    double enqueued_at, started_at, finished_at; /* unix s */
    double execution_time;  /* s: from taking the job to the end of its run */
    double processing_time; /* s: to the destroyed sandbox */
    double queue_time;      /* s */
    bool cached;
};

/* The `result` JSON. job and spec may be NULL (a rejected job). */
int result_encode(const struct result_context *ctx, const struct job *job,
                  const struct spec *spec, struct outcome *o,
                  struct strbuf *json_out);

#endif
