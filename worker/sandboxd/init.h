/* worker/sandboxd/init.h -- PID 1 of a sandbox.
 *
 * A copy of sandboxd in new namespaces, without an exec between. It builds the
 * file system, gives up every right, says READY, and on RUN starts the one
 * program as PID 2, reaps what that leaves behind, reports how it ended and
 * exits, which makes the kernel kill everything else in here.
 *
 * Over the leash (SOCK_SEQPACKET; end of file means: die):
 *   sandboxd -> init   GO       ids and cgroups are set
 *   init -> sandboxd   READY + fd of the home folder, or FAILED
 *   sandboxd -> init   RUN
 *   init -> sandboxd   EXITED
 */
#ifndef WORKER_SANDBOXD_INIT_H
#define WORKER_SANDBOXD_INIT_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/sandboxd/spec.h"
#include "worker/sandboxd/step.h"

#define SANDBOX_UID 1000 /* inside; also the gid */

/* How the init itself exits; 0 after EXITED. */
#define INIT_FAILED     70 /* after FAILED */
#define INIT_LEASH_GONE 71
#define INIT_TIMED_OUT  72 /* nobody killed it in time */

enum leash_kind {
    LEASH_GO = 1,
    LEASH_READY,
    LEASH_FAILED,
    LEASH_RUN,
    LEASH_EXITED,
};

struct leash_message {
    uint32_t kind;
    struct step step;   /* FAILED */
    int32_t status;     /* EXITED: as wait() gives it */
    int32_t exec_error; /* EXITED: errno if the program never started */
};

/* Everything the init needs; made before the clone, so that it opens nothing
 * of the host by itself. */
struct init_plan {
    int leash_fd, input_fd;
    int stdin_fd, stdout_fd, stderr_fd, result_fd;
    const struct box_spec *spec;
    const struct sock_fprog *filter;
    bool drop_groups; /* sandboxd is root: the child's groups are root's */
    bool memory_in_cgroup, pids_in_cgroup;
    bool cores_are_piped;
};

/* The child's whole life. */
_Noreturn void init_main(const struct init_plan *plan);

#endif
