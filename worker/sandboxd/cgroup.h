/* worker/sandboxd/cgroup.h -- limits and counters of the kernel, v1 and v2.
 *
 * Below the cgroup that sandboxd was started in, one folder per sandboxd and
 * controller ("capibox-<pid>-<start time>") holds one folder per sandbox. On v2
 * a cgroup with processes cannot hand controllers to its children, so sandboxd
 * and its worker move to a leaf of their own first.
 *
 * A controller that cannot be used says why; the rest still works.
 *
 * Memory:   structs in memory the caller has; nothing on the heap.
 * Errors:   negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_CGROUP_H
#define WORKER_SANDBOXD_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/local/wire.h"
#include "worker/sandboxd/step.h"

enum controller {
    CONTROLLER_MEMORY,
    CONTROLLER_PIDS,
    CONTROLLER_CPU,
    CONTROLLER_CPUACCT, /* v1 only; v2 counts CPU in every cgroup */
    CONTROLLER_COUNT,
};

#define CGROUP_PATH_MAX      768
#define CGROUP_NAME_MAX      48
#define CGROUP_CPU_PERIOD_US 100000

/* Where one controller is: the cgroup of this process in its hierarchy. */
struct cgroup_place {
    int version; /* 1 or 2; 0: there is none */
    char path[CGROUP_PATH_MAX];
};

struct cgroup_host {
    struct cgroup_place places[CONTROLLER_COUNT]; /* the sandboxd's folder */
    char why_not[CONTROLLER_COUNT][192];          /* where version is 0 */
    bool memory_swap; /* v1 memsw or v2 swap limits exist */
    /* v1 refuses a CPU quota above that of a cgroup further up (a container's):
     * the least of those, in microseconds per CGROUP_CPU_PERIOD_US. */
    int64_t cpu_quota_max_us;
};

struct cgroup {
    const struct cgroup_host *host;
    char name[CGROUP_NAME_MAX];
    bool made;
    /* As set and read back; 0: not set. */
    int64_t memory_bytes;
    int32_t pids, cpu_percent;
};

struct cgroup_facts {
    int64_t oom_kills, pids_refused;
    int64_t peak_memory_bytes, cpu_us;
    int32_t peak_processes;
};

/* Finds the controller from the text of /proc/self/cgroup and
 * /proc/self/mountinfo. False if it is not mounted, or our cgroup is outside of
 * what the mount shows. Pure. For v2, controller is "". */
bool cgroup_locate(const char *self_cgroup, const char *mountinfo,
                   const char *controller, struct cgroup_place *place_out);

/* Reads one number from text such as "oom_kill 3" lines by its key. -1: absent.
 * Pure. */
int64_t cgroup_counter(const char *text, const char *key);

/* Removes what dead sandboxds left, then makes this one's folders. Never fails:
 * see why_not. */
void cgroup_host_open(struct cgroup_host *host);
/* Removes them. Returns how many could not be removed. */
int cgroup_host_close(struct cgroup_host *host);

/* Makes one sandbox's cgroups, without limits as long as it waits. */
int cgroup_create(const struct cgroup_host *host, const char *name,
                  struct cgroup *cg_out, struct step *why);
/* Sets the limits in order and reads each back, but for those that are so
 * already. */
int cgroup_limit(struct cgroup *cg, const struct wire_create *want,
                 struct step *why);
/* Opens its cgroup.procs files (at most max) for a process that is to move
 * itself in by writing "0". Returns how many; the caller closes them. */
int cgroup_open_procs(const struct cgroup *cg, int *fds, int max,
                      struct step *why);
/* Moves a process in. */
int cgroup_enter(const struct cgroup *cg, pid_t pid, struct step *why);
/* An eventfd that becomes readable when the memory limit was hit for good (v1),
 * or -1: on v2 the kernel kills the whole group by itself. */
int cgroup_watch_oom(const struct cgroup *cg);
void cgroup_read(const struct cgroup *cg, struct cgroup_facts *facts_out);
/* CPU time used so far, microseconds; 0 if that is not counted. */
int64_t cgroup_cpu_us(const struct cgroup *cg);
/* Lifts the CPU quota, for what was told to die: while it is throttled it does
 * not even do that. */
void cgroup_let_die(const struct cgroup *cg);
/* Kills what is in there (a pid namespace normally did). */
void cgroup_kill(const struct cgroup *cg);
/* Returns how many folders are still there (busy), 0 when all are gone. */
int cgroup_remove(struct cgroup *cg);

/* The memory limit of the cgroup that sandboxd itself is in, or of one above
 * it, in bytes. 0: none. */
int64_t cgroup_memory_limit(const struct cgroup_host *host);

/* "cgroup v1 memory.limit_in_bytes" or "no: why", into out. */
void cgroup_describe(const struct cgroup_host *host, enum controller which,
                     char *out, size_t size);

#endif
