/* worker/local/pump.h -- carries a running sandbox's input and output.
 *
 * One thread polls the three pipes out, the pipe in, the job socket and an
 * eventfd for interruptions, until sandboxd says that every process is gone and
 * the pipes are drained. Output is captured, streamed and counted; past
 * PUMP_FLOOD times its limit the sandbox is killed for it.
 *
 * Threads:  the executor's; only the eventfd is written by others.
 * Errors:   -EPIPE if sandboxd died, -ETIMEDOUT if it does not answer long
 *           after the job's timeout, -ENOMEM.
 */
#ifndef WORKER_LOCAL_PUMP_H
#define WORKER_LOCAL_PUMP_H

#include <stdint.h>

#include "common/job.h"
#include "common/outcome.h"
#include "worker/backend.h"
#include "worker/local/wire.h"

#define PUMP_FLOOD 4 /* times the limit; below that the excess is dropped */

enum pump_pipe {
    PUMP_STDIN,
    PUMP_STDOUT,
    PUMP_STDERR,
    PUMP_RESULT,
    PUMP_PIPES
};

struct pump {
    int *pipes; /* [PUMP_PIPES], closed (and -1) as they end */
    int job_fd, event_fd;
    const struct job *job;
    int64_t output_limit, timeout_ms;
    const struct run_sink *sink; /* or NULL */
    /* What an interruption asks for: enum wire_reason. */
    int (*reason)(void *ctx);
    void *reason_ctx;
};

/* Sends RUN first, unless interrupted already. Fills *ended_out on success. */
int pump_run(const struct pump *p, struct outcome *o,
             struct wire_ended *ended_out);

#endif
