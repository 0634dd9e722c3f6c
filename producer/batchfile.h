/* producer/batchfile.h -- a file of jobs, one JSON object a line.
 *
 * Read and checked as a whole before anything is submitted. Only what stands in
 * the way of following the jobs is refused here (no JSON object, an id nobody
 * can use, the same id twice, a batch_id of its own); a job that is wrong in
 * itself gets its `rejected` result like any other.
 *
 * Memory:   lines point into the text; batchfile_fini() frees all.
 * Errors:   -EINVAL with a complaint that names the line, -ENOMEM.
 */
#ifndef PRODUCER_BATCHFILE_H
#define PRODUCER_BATCHFILE_H

#include <stdbool.h>

#include "common/complaint.h"
#include "common/limits.h"
#include "common/strbuf.h"

#define BATCH_BYTES_MAX (1u << 30)
#define BATCH_JOBS_MAX  1000000

struct batchfile_line {
    const char *text;
    size_t size, number; /* number: in the file, from 1 */
    char id[JOB_ID_MAX + 1];
    bool own_id; /* the JSON brought it */
};

struct batchfile {
    char *text;
    struct batchfile_line *lines;
    size_t count, cap;
    size_t *by_id; /* indices, sorted by id */
};

/* path "-" is standard input. Empty lines are skipped; a file without jobs is
 * an error. */
int batchfile_read(struct batchfile *b, const char *path,
                   struct complaint *why);
/* The same of text that is at hand: takes it (malloced, NUL behind it). */
int batchfile_parse(struct batchfile *b, char *text, size_t size,
                    struct complaint *why);
void batchfile_fini(struct batchfile *b);

/* Index of the line with this id, or -1. */
long batchfile_find(const struct batchfile *b, const char *id);

/* The line with its id and batch_id put in, all else as it was: numbers keep
 * every digit. */
void batchfile_body(const struct batchfile_line *line, const char *batch_id,
                    struct strbuf *out);

#endif
