/* worker/executor.h -- the pool: each thread takes a job to its end.
 *
 * check -> (start mark, by the exchange thread) -> admission -> create -> run
 * -> collect -> destroy -> finish. destroy happens on every path.
 */
#ifndef WORKER_EXECUTOR_H
#define WORKER_EXECUTOR_H

#include "worker/worker.h"

#define EXECUTOR_STACK_BYTES (512u << 10)

struct executors;

int executors_start(struct worker *w, int count, struct executors **out);
/* After runqueue_close(): joins all. */
void executors_join(struct executors *e);

#endif
