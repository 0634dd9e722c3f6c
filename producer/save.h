/* producer/save.h -- writes a result's files and pictures into a folder.
 *
 * Paths come from code nobody trusts: every part of one is made harmless, and
 * no symbolic link is followed below the folder, so nothing is written outside
 * it.
 */
#ifndef PRODUCER_SAVE_H
#define PRODUCER_SAVE_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "common/limits.h"

/* Makes a path safe below a folder: relative, no "..", no control characters.
 * An empty one becomes "file". */
#define SAVE_NAME_MAX (JOB_PATH_MAX + 16)
void save_name(const char *path, char out[SAVE_NAME_MAX + 1]);

/* Can there be files in it? Makes dir if it is missing. 0 or a negated errno.
 */
int save_check(const char *dir);

/* Writes all, making dir if it is missing, and says each name on `say`.
 * Pictures and HTML become result-1.png, result-2.html … (the number is the
 * result's place). 0, or the first negated errno; the others are still written.
 */
int save_all(const cJSON *result, const char *dir, FILE *say);

#endif
