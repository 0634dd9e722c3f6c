/* tests/support/scratch.h -- a folder for what a test writes many times over:
 * in memory where there is such a place. Aborts if it cannot be made or
 * removed.
 */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

#define SCRATCH_PATH_MAX 64

void scratch_make(char path_out[SCRATCH_PATH_MAX]);
/* With all in it; links are not followed. */
void scratch_remove(const char *path);

#endif
