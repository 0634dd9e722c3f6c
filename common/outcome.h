/* common/outcome.h -- what became of one run: facts, output, verdict.
 *
 * Filled by a backend step by step (create, run, collect, destroy) and turned
 * into the result of contract section 4 by result.h. That *we* failed is never
 * in here alone: it is the backend call's negative return; the verdict then
 * says setup_failed or backend_error and `error` says why.
 *
 * Memory:   outcome_init() / outcome_fini() in memory the caller has; strings
 *           inside belong to it.
 * Threads:  one executor at a time.
 */
#ifndef COMMON_OUTCOME_H
#define COMMON_OUTCOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/strbuf.h"

enum verdict {
    VERDICT_NONE, /* not decided yet */
    VERDICT_OK,
    VERDICT_USER_ERROR,
    VERDICT_TIMEOUT,
    VERDICT_OOM,
    VERDICT_PIDS_LIMIT,
    VERDICT_DISK_LIMIT,
    VERDICT_OUTPUT_LIMIT,
    VERDICT_SIGNAL,
    VERDICT_DENIED_SYSCALL,
    VERDICT_CANCELLED,
    VERDICT_EXPIRED,
    VERDICT_REJECTED,
    VERDICT_SETUP_FAILED,
    VERDICT_BACKEND_ERROR,
    VERDICT_LOST,
    VERDICT_COUNT,
};

const char *verdict_name(enum verdict verdict);   /* "ok", "user_error", … */
enum verdict verdict_from_name(const char *name); /* VERDICT_NONE if unknown */
/* The job status a final verdict gives: "succeeded", "failed", "cancelled",
 * "expired" or "dead". */
const char *verdict_status(enum verdict verdict);
/* capibox's own failure, retried while attempts are left. */
bool verdict_retryable(enum verdict verdict);

/* One captured stream: the first bytes, and the last ones in a ring once the
 * first part is full. head + tail never exceed limit; what fell out between is
 * counted in dropped. */
struct capture {
    struct strbuf head;
    char *ring;
    size_t ring_size, ring_at, ring_len;
    size_t limit; /* 75 % head, 25 % tail */
    uint64_t total, dropped;
};

int capture_init(struct capture *c, size_t limit);
void capture_fini(struct capture *c);
void capture_add(struct capture *c, const char *data, size_t size);
/* Appends the JSON array of strings of logs.stdout / logs.stderr: [], [all] or
 * [head, tail]. A UTF-8 character cut at the border is not torn. */
void capture_to_json(struct capture *c, struct strbuf *out);

struct usage {
    double cpu_seconds;
    double peak_memory_mb;
    int peak_processes; /* 0: not measured */
    /* Of the interpreter it was forked from, as far as it wrote nothing there;
     * charged to nobody's limit, not in peak_memory_mb. 0: started cold. */
    double shared_memory_mb;
    int64_t context_switches;
    bool unknown; /* none of these can be measured here */
};

struct timings { /* seconds */
    double queue, create, run, collect, destroy;
};

/* Per limit: the mechanism ("cgroup v1 memory.limit_in_bytes"), or "no: why".
 * "": nothing was run. */
struct enforced {
    char timeout[96], memory[96], cpu[96], pids[96], disk[96], network[96];
};

struct outcome {
    enum verdict verdict;
    bool code_started; /* counts in total_executions */
    bool sandbox_created, sandbox_destroyed;
    int exit_code; /* -1: none */
    int signal;    /* 0: none */
    char sandbox_id[64];
    char start[32];     /* where its program came from, "": none */
    double created_at;  /* unix s of the sandbox; 0: none was made */
    int64_t put_off_ms; /* create() found no place: try again after so long */
    struct capture out, err;
    char *error; /* short message, or NULL */
    char *error_name, *error_value, *error_traceback; /* or all NULL */
    struct strbuf results; /* checked JSON objects, comma separated */
    size_t nresults;
    struct strbuf files; /* JSON objects, comma separated */
    struct usage usage;
    struct timings timings;
    struct enforced enforced;
    char *warnings[JOB_WARNINGS_MAX];
    size_t nwarnings;
};

int outcome_init(struct outcome *o, size_t output_limit_bytes);
void outcome_fini(struct outcome *o);

/* Sets error (shortened to ERROR_TEXT_MAX, NULL on no memory). */
__attribute__((format(printf, 2, 3))) void outcome_error(struct outcome *o,
                                                         const char *fmt, ...);
/* Adds a warning; past JOB_WARNINGS_MAX they are dropped. */
__attribute__((format(printf, 2, 3))) void outcome_warn(struct outcome *o,
                                                        const char *fmt, ...);

#endif
