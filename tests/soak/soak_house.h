/* tests/soak/soak_house.h -- what a worker and its sandboxd hold on the host.
 */
#ifndef TESTS_SOAK_SOAK_HOUSE_H
#define TESTS_SOAK_SOAK_HOUSE_H

#include <sys/types.h>

enum soak_who { SOAK_WORKER, SOAK_SANDBOXD, SOAK_WHO };

struct soak_house {
    pid_t pids[SOAK_WHO];
    int processes; /* these two and all below them */
    int cgroups;   /* folders of theirs */
    int litter;    /* what sandboxes' users own below /tmp and the like */
    int fds[SOAK_WHO], mounts[SOAK_WHO], threads[SOAK_WHO];
    long rss_kb[SOAK_WHO];
};

/* Looks. A process that is not there counts as pid 0. */
void soak_house_look(pid_t worker, struct soak_house *out);

/* Writes what now has more of than before into why ("" if nothing). Memory is
 * not compared. */
void soak_house_compare(const struct soak_house *before,
                        const struct soak_house *now, char *why, size_t size);

#endif
