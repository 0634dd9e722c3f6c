/* worker/e2b/run.h -- one job's code in its E2B sandbox, from files to verdict.
 *
 * Errors:   0 with o->verdict set, or negative with o->error: our failure.
 */
#ifndef WORKER_E2B_RUN_H
#define WORKER_E2B_RUN_H

#include "worker/backend.h"
#include "worker/e2b/guest.h"

#define OOM_QUERY_MS 5000

struct run_end {
    enum fault fault; /* of the call that ran the code */
    bool died;        /* its interpreter ended, and nobody says how */
    char text[CONTROL_TEXT_MAX];
};

/* The job's files, and what of the job must be one. *fault_out and text
 * (CONTROL_TEXT_MAX bytes): of the call that failed. */
int run_upload(struct guest *g, const struct job *job, const struct spec *spec,
               struct outcome *o, enum fault *fault_out, char *text);

/* dies_at_ms: when E2B ends the sandbox; CLOCK_MONOTONIC. FAULT_ABORTED in
 * *end_out: given up; the outcome has no verdict. */
int run_code(struct guest *g, const struct job *job, const struct spec *spec,
             int64_t dies_at_ms, const struct run_sink *sink, struct outcome *o,
             struct run_end *end_out);

#endif
