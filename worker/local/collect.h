/* worker/local/collect.h -- brings output files out of a dead sandbox.
 *
 * Runs after every process of the sandbox is gone, on the fd of its
 * /home/user. What lies below it was made by code we do not trust: links are
 * never followed, only regular files are read, nothing above the fd or on
 * another mount can be reached, and every walk is bounded (entries, depth,
 * bytes, time).
 *
 * Memory:   one file at a time is held.
 * Threads:  one thread at a time.
 * Errors:   -ENOMEM, or a negated errno when the folder itself cannot be used.
 *           What is wrong with a single file is said in its entry.
 */
#ifndef WORKER_LOCAL_COLLECT_H
#define WORKER_LOCAL_COLLECT_H

#include "common/outcome.h"

#define COLLECT_DEPTH_MAX   64     /* folders below the home folder */
#define COLLECT_ENTRIES_MAX 100000 /* names looked at in one job */
#define COLLECT_MATCHES_MAX 1024   /* files matched in one job */
#define COLLECT_TIME_MS_MAX 10000

/* Appends to o->files one JSON object for each file that a glob names, sorted
 * by path, each file once:
 *
 *   {"path","size","mime","content_base64"}  or  {"path","size","skipped": why}
 *
 * globs: NULL-terminated (or NULL), relative and normalised as
 * job_path_normalise() does. `*`, `?` and `[...]` match within one component
 * and not a leading dot; a component `**` stands for any folders (none that
 * starts with a dot, no links). A name without wildcards always has an entry:
 * skipped "no such file" if there is none. After RESULT_FILES_MAX files as many
 * more are listed as skipped; the rest is counted in a warning.
 *
 * home_fd is borrowed; its position is not used. */
int collect_files(int home_fd, char *const *globs, struct outcome *o);

#endif
