/* worker/sandboxd/host.h -- what is the same for all sandboxes of this process.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_HOST_H
#define WORKER_SANDBOXD_HOST_H

#include <stdbool.h>

#include "worker/sandboxd/cgroup.h"
#include "worker/sandboxd/idmap.h"
#include "worker/sandboxd/step.h"

struct host {
    struct cgroup_host cgroups;
    struct idmap ids;
};

int host_open(struct host *host, struct step *why);
/* Harmless on a zeroed host. Returns what could not be removed. */
int host_close(struct host *host);

/* Does core_pattern start a program? */
bool host_pipes_cores(void);

#endif
