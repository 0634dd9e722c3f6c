/* tests/support/drive.h -- a language driver as a plain child process, read
 * through the real frame reader.
 *
 *   drive_python(run, "6 * 7");
 *   … run->out, drive_text(run, 0, "text") …
 *
 * Memory:   setup makes a run and its folder, teardown discards both. A run is
 *           for one piece of code; loops make one for each.
 * Threads:  one at a time.
 * Errors:   what cannot work aborts the test program; the drive_assert_ ones
 *           fail the test.
 */
#ifndef TESTS_SUPPORT_DRIVE_H
#define TESTS_SUPPORT_DRIVE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/job.h"
#include "common/outcome.h"

#define DRIVE_OUTPUT_MAX (4u << 20)

/* One run: a folder like /run/capibox, and a work folder. */
struct drive {
    char dir[64];
    const char *const *args;
    const char *packages; /* packages.json, or NULL */
    int exit_code;        /* -N: signal N */
    char *out, *err;
    struct outcome o;
    cJSON *results;
};

/* cmocka fixtures. */
int drive_setup(void **state);
int drive_teardown(void **state);

void drive_python(struct drive *run, const char *code);
void drive_node(struct drive *run, const char *code);
/* Code that is no string. */
void drive_bytes(struct drive *run, enum language language, const char *code,
                 size_t size);

/* The results: how many, and the forms of one. */
int drive_count(const struct drive *run);
const cJSON *drive_form(const struct drive *run, int item, const char *name);
/* "(none)" if it is no text. */
const char *drive_text(const struct drive *run, int item, const char *name);
bool drive_is_main(const struct drive *run, int item);

/* Exit code 0, nothing on stderr, no error, no warning. */
void drive_assert_quiet_success(const struct drive *run);
/* Ended by this error; `line` is in its traceback and no driver is. */
void drive_assert_error(const struct drive *run, const char *name,
                        const char *value, const char *line);

#endif
