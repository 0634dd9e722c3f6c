/* worker/sandboxd/spawner.h -- a process that clones sandboxes' inits and
 * zygotes.
 *
 * It runs in user, mount and network namespaces of its own, made by sandboxd,
 * in which it is root and which hold nothing but the sandboxes' root
 * (mounts.h): so what it clones starts small and near its goal, and an
 * interpreter warmed below it sees no more of the host than a sandbox does.
 *
 * Serves FAMILY_FD (family.h) until its end of file.
 */
#ifndef WORKER_SANDBOXD_SPAWNER_H
#define WORKER_SANDBOXD_SPAWNER_H

/* The program `capibox-sandboxd --spawner`: its exit code. */
int spawner_main(void);

#endif
