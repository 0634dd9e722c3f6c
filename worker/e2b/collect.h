/* worker/e2b/collect.h -- brings output files out of an E2B sandbox.
 *
 * As for local sandboxes (worker/local/collect.h): the same globs, entries and
 * bounds. Names are asked for one by one, globs against one listing of the home
 * folder, GUEST_DEPTH levels deep. Links are not followed, but for folders on
 * the way to a name, and by an envd too old to tell of them.
 *
 * Errors:   -ENOMEM; -EIO with o->error: E2B did not hand over the files of a
 *           run that succeeded. Of a run that did not, they are listed as
 *           skipped.
 */
#ifndef WORKER_E2B_COLLECT_H
#define WORKER_E2B_COLLECT_H

#include "common/outcome.h"
#include "worker/e2b/guest.h"

int collect_guest_files(struct guest *g, char *const *globs, struct outcome *o);

#endif
