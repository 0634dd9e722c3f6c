/* worker/sandboxd/mounts.h -- the file system a sandbox sees.
 *
 * The spawner builds the root once, from the host's files, in mount and user
 * namespaces of its own; each sandbox's init takes a copy of it, in which all
 * of it is locked, and adds what is its own. What comes out:
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
 *   /run/capibox-runtime  the languages' drivers, read-only
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

#define MOUNTS_HOME    "/home/user"
#define MOUNTS_JOB     "/run/capibox"
#define MOUNTS_RUNTIME "/run/capibox-runtime"

struct mounts_plan {
    const char *interpreter; /* absolute; its tree is bound if outside /usr */
    const char *runtime;     /* the drivers' folder */
    const char *zygote_lib;  /* or "": no zygotes */
};

/* In the spawner: builds the root and leaves the host's. */
int mounts_build(const struct mounts_plan *plan, struct step *why);

/* In a sandbox's init, in a copy of the spawner's mount namespace: the root
 * becomes /, with small file systems of its own. It is then in /home/user. */
int mounts_enter(struct step *why);

/* The limits of the one file system that the code may write. */
int mounts_limit_disk(int64_t bytes, int64_t inodes, struct step *why);

/* After the job's files are written: no more writes but to that. */
int mounts_seal(struct step *why);

/* In a zygote: the same root, with /run/capibox/zygote.so and a /tmp
 * of its own. */
int mounts_enter_zygote(struct step *why);

/* The folder that has to be visible for path to run, into out: "" when it lies
 * below /usr (or a link into it). -EINVAL if it would show too much (the root,
 * a home folder) or lies where a sandbox has a folder of its own (/tmp). Pure;
 * tests call it. */
int mounts_tree_of(const char *path, char *out, size_t size);

#endif
