/* worker/sandboxd/seccomp.h -- the system calls a sandbox may make.
 *
 * A broad allow-list of what ordinary programs use. Anything else answers
 * ENOSYS, as on a kernel that lacks it, so a libc that tries something new
 * falls back; what is forbidden on purpose answers EPERM; a foreign call table
 * (32 bit, x32) kills.
 *
 * Memory:   the program belongs to the caller; seccomp_free() frees it.
 * Errors:   negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_SECCOMP_H
#define WORKER_SANDBOXD_SECCOMP_H

#include <linux/filter.h>

#include "worker/sandboxd/step.h"

/* Builds the filter once, at start: libseccomp is too slow for every job. */
int seccomp_build(struct sock_fprog *program_out, struct step *why);
/* The few calls of a sandbox's init. */
int seccomp_build_init(struct sock_fprog *program_out, struct step *why);
void seccomp_free(struct sock_fprog *program);

/* Loads it into this process, which must have no_new_privs set. */
int seccomp_enter(const struct sock_fprog *program, struct step *why);

#endif
