/* worker/sandboxd/mounts.h -- the file system a sandbox sees.
 *
 * Runs in the sandbox's init, in new mount and user namespaces. What comes out:
 *
 *   /            small tmpfs, read-only        /usr   host's, read-only
 *   /bin /lib…   as on the host (links)        /etc   made here, plus a few
 *                                                     read-only host folders
 *   /proc        own pid namespace only        /dev   null zero full random
 *                                                     urandom, fd links
 *   /home/user   \
 *   /tmp          > one tmpfs, limited in bytes and inodes
 *   /dev/shm     /
 *   /run/capibox small tmpfs, read-only once sealed: the code
 *
 * Nothing of the host can be written, nothing of its /etc, /home, /var, /run,
 * /sys is there.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_MOUNTS_H
#define WORKER_SANDBOXD_MOUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "worker/sandboxd/step.h"

#define MOUNTS_HOME "/home/user"
#define MOUNTS_JOB  "/run/capibox"

struct mounts_plan {
    int64_t disk_bytes, disk_inodes;
    size_t job_bytes, job_files;
    const char *interpreter; /* absolute; its tree is bound if outside /usr */
};

/* Builds it and makes it the root. The process is then in /home/user. */
int mounts_enter(const struct mounts_plan *plan, struct step *why);

/* After the job's files are written: no more writes but to the tmpfs. */
int mounts_seal(struct step *why);

/* The folder that has to be visible for path to run, into out: "" when it lies
 * below /usr (or a link into it). -EINVAL if it would show too much (the root,
 * a home folder) or lies where a sandbox has a folder of its own (/tmp). Pure;
 * tests call it. */
int mounts_tree_of(const char *path, char *out, size_t size);

#endif
