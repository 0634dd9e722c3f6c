/* worker/attack_host.h -- what hostile code must not change: the host.
 *
 * Looks only where an ordinary user can, and at what nothing but an attack
 * changes within a minute.
 *
 * Threads:  any.
 * Errors:   what cannot be seen counts as unchanged.
 */
#ifndef WORKER_ATTACK_HOST_H
#define WORKER_ATTACK_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define ATTACK_HOST_FILES   4
#define ATTACK_HOST_NUMBERS 6
#define ATTACK_HOST_WHY_MAX 200

/* Attacks give everything they leave this first part of a name. */
#define ATTACK_MARK "capibox-attack"

struct attack_host {
    char host_name[65];
    int64_t clock_ahead_ms; /* of the time that never jumps */
    int mounts;
    int alarms; /* of the kernel, in its log; 0 where it cannot be read */
    struct stat files[ATTACK_HOST_FILES];
    int64_t numbers[ATTACK_HOST_NUMBERS];
};

void attack_host_look(struct attack_host *out);
/* False: why_out says what is not as it was, or what was left. */
bool attack_host_same(const struct attack_host *before,
                      char why_out[ATTACK_HOST_WHY_MAX]);

/* Live processes below this one, without itself. */
int attack_host_processes(pid_t root);
/* Cgroups of sandboxes made by processes below this one. */
int attack_host_cgroups(pid_t root);

#endif
