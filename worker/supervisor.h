/* worker/supervisor.h -- a parent that restarts a crashed worker at once.
 *
 * It knows the moment its child dies and brings the child's jobs back without
 * waiting for a lease, then starts it again with a backoff. It holds no jobs
 * and runs none. Signals for stopping are passed on; if the supervisor itself
 * is killed the kernel kills the worker.
 */
#ifndef WORKER_SUPERVISOR_H
#define WORKER_SUPERVISOR_H

#include "common/redis.h"
#include "common/settings.h"

/* Call before any thread, with stop signals blocked. Returns -1 in the child,
 * which goes on as the worker and writes each of its identities as a line to
 * *announce_fd_out; else the exit code, once the worker is gone for good. */
int supervisor_run(const struct settings *settings,
                   const struct redis_target *target, int *announce_fd_out);

#endif
