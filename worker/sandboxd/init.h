/* worker/sandboxd/init.h -- PID 1 of a sandbox.
 *
 * A copy of the spawner in new namespaces, without an exec between. It builds
 * the sandbox's own file systems, starts the program if that is a cold one, and
 * waits for a job, of which it writes out the files. Then it gives up every
 * right and reaps what others leave behind. Its end makes the kernel kill
 * everything else in here.
 *
 * Over the leash (family.h; end of file means: die).
 */
#ifndef WORKER_SANDBOXD_INIT_H
#define WORKER_SANDBOXD_INIT_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/sandboxd/program.h"

/* How the init itself exits; 0 after EXITED. */
#define INIT_FAILED     70 /* after FAILED */
#define INIT_LEASH_GONE 71
#define INIT_TIMED_OUT  72 /* nobody killed it in time */

/* Everything the init needs; made before the clone, so that it opens nothing
 * by itself. */
struct init_plan {
    int leash_fd;
    bool cold; /* it starts the program */
    struct program program;
    const struct sock_fprog *filter; /* its own */
};

/* The child's whole life. */
_Noreturn void init_main(const struct init_plan *plan);

#endif
