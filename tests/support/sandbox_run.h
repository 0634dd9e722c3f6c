/* tests/support/sandbox_run.h -- one job through the local backend, by hand.
 *
 *   struct sandbox_run r;
 *   sandbox_run_prepare(&r, LANGUAGE_BASH, "echo hello");
 *   r.spec.limits.timeout_ms = 700;
 *   sandbox_run_go(&r);
 *   … r.o.verdict, r.out …
 *   sandbox_run_done(&r);
 *
 * Threads:  runs of different structs side by side; open and close by one.
 * Errors:   what cannot work aborts the test program.
 */
#ifndef TESTS_SUPPORT_SANDBOX_RUN_H
#define TESTS_SUPPORT_SANDBOX_RUN_H

#include <pthread.h>

#include "common/job.h"
#include "common/outcome.h"
#include "common/template.h"
#include "worker/backend.h"

struct sandbox_run {
    struct job job;
    struct template tpl;
    struct spec spec;
    struct outcome o;
    const struct run_sink *sink; /* NULL: nobody hears of output at once */
    int rc;
    char *out, *err; /* JSON arrays */
};

/* The backend of all runs, opened with --allow-degraded. cmocka fixtures. */
extern struct backend *sandbox_run_backend;
int sandbox_run_open(void **state);
int sandbox_run_close(void **state);

/* 20 s, 256 MB, 200 % CPU, 32 MB disk of 1024 inodes, 32 processes, 64 KB. */
void sandbox_run_prepare(struct sandbox_run *r, enum language language,
                         const char *code);
/* create, run, collect, destroy, as a worker does. */
void sandbox_run_go(struct sandbox_run *r);
/* The same in a thread of its own, until it has printed something. */
void sandbox_run_begin(struct sandbox_run *r, pthread_t *thread_out);
void sandbox_run_done(struct sandbox_run *r);

/* Prints everything about it, for a test that is about to fail. */
void sandbox_run_explain(const struct sandbox_run *r);

#endif
