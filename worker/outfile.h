/* worker/outfile.h -- one entry of a result's `files`.
 *
 *   {"path","size","mime","content_base64"}  or  {"path","size","skipped": why}
 *
 * The type comes from the first bytes where they show it, else from the name's
 * ending, so that a name cannot pass something else off as a picture.
 *
 * Memory:   appended to a strbuf (comma separated); its error is sticky.
 * Threads:  one at a time.
 */
#ifndef WORKER_OUTFILE_H
#define WORKER_OUTFILE_H

#include <stdint.h>

#include "common/limits.h"
#include "common/strbuf.h"
#include "worker/glob.h"

/* Why a file is not handed over; the same words whoever runs the job. */
#define OUTFILE_ROOM      "16 MB" /* RESULT_FILES_BYTES_MAX */
#define OUTFILE_MISSING   "no such file"
#define OUTFILE_TOO_LARGE "too large: over " OUTFILE_ROOM
#define OUTFILE_NO_ROOM \
    "limit reached: all files together are too large, over " OUTFILE_ROOM

void outfile_add(struct strbuf *out, const char *path, const char *data,
                 size_t size);
void outfile_skipped(struct strbuf *out, const char *path, int64_t size,
                     const char *why);

/* An entry for each glob that named no file: OUTFILE_MISSING, as for a name. */
void outfile_unmatched(struct strbuf *out, const struct glob *globs,
                       size_t count);

#endif
