/* worker/sandboxd/spawner.h -- a process that clones sandboxes' inits and
 * zygotes.
 *
 * It runs in user, mount and network namespaces of its own, made by sandboxd,
 * in which it is root and which hold nothing but the sandboxes' root
 * (mounts.h): so what it clones starts small and near its goal. An interpreter
 * warmed below it sees the files that a sandbox does, and no network; but it is
 * in the host's pid namespace and sees its /proc, as root if sandboxd is root.
 * It runs what an operator had it preload, and nothing of a job's.
 *
 * Serves FAMILY_FD (family.h) until its end of file.
 */
#ifndef WORKER_SANDBOXD_SPAWNER_H
#define WORKER_SANDBOXD_SPAWNER_H

/* The program `capibox-sandboxd --spawner`: its exit code. */
int spawner_main(void);

#endif
