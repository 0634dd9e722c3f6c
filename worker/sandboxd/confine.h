/* worker/sandboxd/confine.h -- giving up every right, inside the sandbox.
 *
 * In this order: limits, privileges, Landlock, system calls. What is given up
 * here is inherited by all that is started, and cannot be taken back.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_CONFINE_H
#define WORKER_SANDBOXD_CONFINE_H

#include <stdbool.h>

#include "worker/local/wire.h"
#include "worker/sandboxd/step.h"

/* No user namespace below this one, while /proc/sys is in sight: without a new
 * one nobody in here has the right to any other namespace. Where /proc/sys is
 * read-only (containers), seccomp alone refuses them. */
void confine_namespaces(void);

/* The resource limits that are the same for all jobs. */
int confine_resources(bool cores_are_piped, struct step *why);

/* Those of one job. in_cgroup: memory and processes are counted there, so the
 * per-process limits are only a second line. */
int confine_job(const struct wire_create *want, bool memory_in_cgroup,
                bool pids_in_cgroup, struct step *why);

/* No capabilities, none to come back, no new privileges. will_exec: also none
 * in the bounding set, which is a call for each and only counts at an exec. */
int confine_privileges(bool will_exec, struct step *why);

/* Landlock, where the kernel has it (ABI 2 or later): writes only below the
 * sandbox's own folders, no signals and no abstract sockets out of it.
 * Namespaces and mounts say the same; this is a second opinion. Returns the
 * ABI, 0 if there is none. */
int confine_landlock(struct step *why);

#endif
