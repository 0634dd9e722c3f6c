/* tests/support/venv.h -- a Python with a package that no other has.
 *
 * Errors: aborts the test program.
 */
#ifndef TESTS_SUPPORT_VENV_H
#define TESTS_SUPPORT_VENV_H

#include <stddef.h>

/* Makes a virtual environment of /usr/bin/python3 below dir (there already)
 * that has the empty module, in a distribution called after it with ".Dist"
 * behind. Its interpreter's path into out. */
void venv_make(const char *dir, const char *module, char *out, size_t size);

/* The same in a new folder below /opt, or build/tmp where that cannot be
 * written, which also sees what the system's Python has. The folder into
 * dir_out (VENV_DIR_MAX bytes), for the caller to remove. */
#define VENV_DIR_MAX 64
void venv_make_seeing_system(char dir_out[VENV_DIR_MAX], const char *module,
                             char *out, size_t size);

/* A module of the venv in dir, made or replaced. */
void venv_write(const char *dir, const char *module, const char *source);

#endif
