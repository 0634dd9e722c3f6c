/* worker/sandboxd/confine.h -- giving up every right, in the sandbox's init.
 *
 * In this order: limits, privileges, system calls. What is given up here is
 * inherited by all that the init starts, and cannot be taken back.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_CONFINE_H
#define WORKER_SANDBOXD_CONFINE_H

#include <stdbool.h>

#include "worker/local/wire.h"
#include "worker/sandboxd/step.h"

/* Writes 0 to /proc/sys/user/max_*_namespaces, while /proc/sys is in sight.
 * Where that is read-only (containers), seccomp alone refuses them. */
void confine_namespaces(void);

/* The resource limits. in_cgroup: memory and processes are counted there, so
 * the per-process limits are only a second line. */
int confine_resources(const struct wire_create *want, bool memory_in_cgroup,
                      bool pids_in_cgroup, bool cores_are_piped,
                      struct step *why);

/* The limit on open files, in the program alone: an ordinary user's fds that
 * are on their way count against it, and the init has one to send. */
int confine_files(void);

/* No capabilities, none to come back, no new privileges. */
int confine_privileges(struct step *why);

#endif
