/* worker/glob.h -- which paths a job's output_files name.
 *
 * `*`, `?` and `[...]` match within one component and not a leading dot; a
 * component `**` stands for any folders (none that starts with a dot). A path
 * can be matched component by component, so that a walk need not enter what no
 * glob leads into.
 *
 * Memory:   glob_init() copies the text, glob_fini() frees it; the text itself
 *           must outlive the glob, too, as it can be shown.
 * Threads:  a made glob is const but for `used`.
 * Errors:   -ENOMEM.
 */
#ifndef WORKER_GLOB_H
#define WORKER_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"

#define GLOB_PARTS_MAX (JOB_PATH_MAX / 2 + 1) /* components of one glob */
#define GLOB_NAME_MAX  255                    /* bytes of one name */

/* A glob cut into components. While walking, a set of positions says how far
 * the path so far can have come in it; nparts is behind the last. */
struct glob {
    const char *whole; /* as it was given; the caller's */
    bool used;         /* it named a file: whoever walks notes that */
    char *text;        /* NULs for slashes */
    const char *parts[GLOB_PARTS_MAX];
    size_t nparts;
};

struct glob_positions {
    uint64_t bits[GLOB_PARTS_MAX / 64 + 1];
};

/* Does the text hold wildcards? */
bool glob_is(const char *text);

/* text: relative and normalised as job_path_normalise() does. */
int glob_init(struct glob *g, const char *text);
void glob_fini(struct glob *g);

/* Where a walk starts; where it is after one more component. */
struct glob_positions glob_start(const struct glob *g);
struct glob_positions glob_advance(const struct glob *g,
                                   const struct glob_positions *from,
                                   const char *name);
/* The path so far is named; something below it may be. */
bool glob_matches(const struct glob *g, const struct glob_positions *p);
bool glob_leads_on(const struct glob *g, const struct glob_positions *p);

/* The whole relative path at once. */
bool glob_takes(const struct glob *g, const char *path);

#endif
