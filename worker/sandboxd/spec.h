/* worker/sandboxd/spec.h -- one sandbox as the worker asked for it.
 *
 * Memory:   box_spec_read() copies the message; box_spec_fini() frees it.
 * Errors:   -EINVAL with the step that names what is wrong; -ENOMEM.
 */
#ifndef WORKER_SANDBOXD_SPEC_H
#define WORKER_SANDBOXD_SPEC_H

#include <stddef.h>

#include "worker/local/wire.h"
#include "worker/sandboxd/step.h"

#define BOX_ENV_MAX 256
/* The largest message of the wire: WIRE_CREATE with its strings. */
#define BOX_MESSAGE_MAX (sizeof(struct wire_create) + WIRE_STRINGS_MAX)

struct box_spec {
    struct wire_create want;
    char *strings;
    char *argv[WIRE_ARGV_MAX + 1]; /* into strings; argv[0] is the path */
    char *env[BOX_ENV_MAX + 1];
    char *preload[WIRE_PRELOAD_MAX + 1];
};

/* Checks a WIRE_CREATE message: sizes, counts, ranges. */
int box_spec_read(const void *message, size_t size, struct box_spec *spec_out,
                  struct step *why);
void box_spec_fini(struct box_spec *spec);

#endif
