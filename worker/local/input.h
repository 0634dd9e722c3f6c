/* worker/local/input.h -- packs the job's files for a sandbox.
 *
 * Builds the sealed memfd of wire.h. The sandbox's own init unpacks it, so no
 * file of a job ever touches the host's file system.
 *
 * Memory:   the fd belongs to the struct until input_seal() hands it over.
 * Errors:   sticky, told by input_seal(): a negated errno, -EFBIG past
 *           WIRE_INPUT_MAX.
 */
#ifndef WORKER_LOCAL_INPUT_H
#define WORKER_LOCAL_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    int fd;
    int error;
    uint32_t count;
    size_t size;
};

void input_init(struct input *in);
/* Harmless after input_seal() and on a failed one. */
void input_fini(struct input *in);

/* Adds folder/path, folder being "home" or "job". */
void input_add(struct input *in, const char *folder, const char *path,
               const void *data, size_t size);

/* No more changes by anyone; returns the fd, or the first error. */
int input_seal(struct input *in);

#endif
