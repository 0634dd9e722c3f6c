/* tests/support/kin.h -- the processes below a worker, to be stopped and gone
 * on: its sandboxd, and that one's spawner, zygotes and sandboxes.
 *
 * Each function looks in /proc anew; 0: there is none now.
 */
#ifndef TESTS_SUPPORT_KIN_H
#define TESTS_SUPPORT_KIN_H

#include <stdbool.h>
#include <sys/types.h>

/* The child of this process that runs capibox-sandboxd. */
pid_t kin_sandboxd(pid_t parent);
pid_t kin_spawner(pid_t sandboxd);
pid_t kin_zygote(pid_t sandboxd);
/* The init of a sandbox that has a program. */
pid_t kin_init(pid_t sandboxd);
/* The inits of sandboxes, finished or not. */
int kin_inits(pid_t sandboxd);

/* Descriptors it has open; -1: they may not be looked at. */
int kin_fds(pid_t pid);
/* Of those, the home folders of sandboxes: each has one once its init has made
 * its file system. */
int kin_homes(pid_t sandboxd);
/* Is it there, and stopped by a signal? */
bool kin_is_stopped(pid_t pid);
/* SIGSTOP, and waits for it. Aborts if it does not come. */
void kin_stop(pid_t pid);

#endif
