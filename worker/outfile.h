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

#include "common/strbuf.h"

void outfile_add(struct strbuf *out, const char *path, const char *data,
                 size_t size);
void outfile_skipped(struct strbuf *out, const char *path, int64_t size,
                     const char *why);

#endif
