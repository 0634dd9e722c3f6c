/* worker/service.h -- a whole worker in one process: the threads around a
 * backend, from start to the last word. main.c runs it between signals; the
 * bench and the tests run it with a backend of their own.
 *
 * Threads:  all calls from the thread that started it; signals are blocked
 *           before.
 * Errors:   negated errno, logged.
 */
#ifndef WORKER_SERVICE_H
#define WORKER_SERVICE_H

#include "worker/worker.h"

struct service;

/* Takes templates over (also when it fails). ops->open is called here.
 * announce_fd: see supervisor.h, or -1. */
int service_start(const struct settings *settings,
                  const struct redis_target *target,
                  const struct backend_ops *ops, struct template_set *templates,
                  int announce_fd, struct service **service_out);

/* For poll(): readable when service_idle() may have become true. */
int service_wake_fd(const struct service *s);

/* Takes no new jobs from now on; running ones go on. */
void service_drain(struct service *s);
/* Draining is over: nothing is held any more. */
bool service_idle(struct service *s);
/* Kills what runs; it goes back to its queues, attempts refunded. */
void service_kill(struct service *s);

/* After drain (and kill): waits a bounded time for the last words, leaves
 * Redis, joins, frees. Returns how many jobs were left to their lease. */
int service_stop(struct service *s);

void service_swap_templates(struct service *s, struct template_set *templates);
int service_active(struct service *s);
/* Tests look inside. */
struct worker *service_worker(struct service *s);

#endif
