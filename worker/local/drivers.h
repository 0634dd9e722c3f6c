/* worker/local/drivers.h -- the files that run user code inside a sandbox.
 *
 * worker/runtime/ holds, per language, a driver and what it loads: "python_*"
 * and "node_*". <prefix>driver.<ext> is put into the sandbox as driver.<ext>,
 * the others under their own names. bash needs none.
 *
 * Memory:   loaded once; drivers_unload() frees.
 * Threads:  const once loaded.
 * Errors:   -ENOENT, -EFBIG, -ENOMEM…, with a complaint.
 */
#ifndef WORKER_LOCAL_DRIVERS_H
#define WORKER_LOCAL_DRIVERS_H

#include <stddef.h>

#include "common/complaint.h"
#include "common/job.h"
#include "worker/local/input.h"

#define DRIVER_FILES_MAX 32
#define DRIVER_BYTES_MAX (1u << 20)

struct driver_file {
    enum language language;
    char name[64]; /* in the sandbox */
    char *data;
    size_t size;
};

struct drivers {
    struct driver_file files[DRIVER_FILES_MAX];
    size_t count;
};

/* Reads them from the folder beside the program in dir (where capibox-sandboxd
 * is): a checkout's worker/runtime, or share/capibox/runtime when installed. */
int drivers_load(const char *program_dir, struct drivers *drivers_out,
                 struct complaint *why);
void drivers_unload(struct drivers *drivers);

/* Adds a language's files to a job's input. */
void drivers_add(const struct drivers *drivers, enum language language,
                 struct input *in);

#endif
