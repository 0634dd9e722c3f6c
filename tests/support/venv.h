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

#endif
