/* worker/beside.h -- the folders that come with the programs.
 *
 * Threads:  any.
 * Errors:   -ENOENT with a complaint.
 */
#ifndef WORKER_BESIDE_H
#define WORKER_BESIDE_H

#include <dirent.h>
#include <limits.h>

#include "common/complaint.h"

/* Opens worker/<name> of the checkout, or share/capibox/<name> when installed,
 * where the programs are in program_dir. The caller closes it. path_out
 * (PATH_MAX bytes): where it is. */
int beside_open(const char *program_dir, const char *name, DIR **dir_out,
                char *path_out, struct complaint *why);

#endif
