/* common/imports.h -- what Python code imports, found without running it.
 *
 * A small tokenizer, good enough to choose a template and to name a package
 * that is missing: it sees import statements wherever they stand (functions,
 * one-line try:, behind a semicolon) and is not fooled by strings and comments.
 * What code imports by other means (importlib, exec) it does not see.
 *
 * Memory:   none of its own.
 * Errors:   none: past IMPORTS_MAX modules the rest is not noted.
 */
#ifndef COMMON_IMPORTS_H
#define COMMON_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/limits.h"

#define IMPORT_NAME_MAX 63

struct imports { /* top-level modules, each once, in order of appearance */
    char names[IMPORTS_MAX][IMPORT_NAME_MAX + 1];
    size_t count;
};

void imports_find(const char *code, size_t size, struct imports *out);

/* Is the package (its distribution's or module's name: "scikit-learn",
 * "sklearn") among what is imported? Case and - _ make no difference. */
bool imports_package(const struct imports *imports, const char *package);

/* Does importing this module need the package: "sklearn", "scikit-learn"? */
bool imports_provides(const char *package, const char *module);

/* The module to import for a package: "scikit-learn" gives "sklearn". Packages
 * that are not known to differ give their own name. */
const char *imports_module(const char *package);

#endif
