/* worker/sandboxd/idmap.h -- who a sandbox is on the host.
 *
 * As root: one host uid and gid per slot, so that no two sandboxes share one;
 * several sandboxds on a host take different ranges. As an ordinary user, or as
 * root of a container without so many ids: that user, which is all the kernel
 * allows. Inside it is always uid 1000.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_IDMAP_H
#define WORKER_SANDBOXD_IDMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/sandboxd/step.h"

/* Above what /etc/subuid gives to users (up to 600100000), who could become
 * those ids, and above what systemd gives to containers. */
#define IDMAP_BASE   0x70000000u
#define IDMAP_SLOTS  2048 /* of one sandboxd: with jobs, waiting, or going */
#define IDMAP_RANGES 256  /* sandboxds of one host */

struct idmap {
    bool root; /* and has these ids: not in each container */
    uint32_t base;
    int lock_fd; /* holds the range until this process ends */
};

/* Takes a range. -EUSERS if all are taken. */
int idmap_open(struct idmap *map, struct step *why);
void idmap_close(struct idmap *map);

/* Writes the maps of a spawner that waits in its new user namespace: 0 is this
 * process's user, 1 to IDMAP_SLOTS are the slots'. */
int idmap_write_spawner(const struct idmap *map, pid_t pid, struct step *why);

/* In a spawner: the maps of a sandbox below it. root: as in struct idmap. */
int idmap_write_sandbox(bool root, pid_t pid, int slot, struct step *why);

#endif
