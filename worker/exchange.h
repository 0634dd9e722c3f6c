/* worker/exchange.h -- the thread that talks to the queues.
 *
 * One connection carries everything in batches: each turn sends what has piled
 * up (finished jobs, start marks, live output) and claims as many jobs as there
 * is room for. When the queues are empty it blocks on them, one connection per
 * queue, and nothing polls.
 *
 * Memory:   owns every delivery it claimed until Redis confirmed its end.
 * Threads:  start and join from main; all else is its own thread.
 * Errors:   start: negated errno. A lost Redis is not an error: it reconnects
 *           for ever, and says so once per change.
 */
#ifndef WORKER_EXCHANGE_H
#define WORKER_EXCHANGE_H

#include "worker/worker.h"

/* A start mark makes `running` visible once a job ran this long. */
#define EXCHANGE_MARK_AFTER_MS 50
/* A claimed job no executor took within this goes back to its queue. */
#define EXCHANGE_STALE_MS 100
/* How long a suspect keeps the seat to itself; tests shorten it before start.
 */
#define EXCHANGE_PROBATION_MS 10000
extern int64_t exchange_probation_ms;
/* Suspects that wait for the seat without taking a slot. */
#define EXCHANGE_SUSPECTS_MAX 64

struct exchange;

int exchange_start(struct worker *w, struct exchange **exchange_out);

/* Tells it to look at w->stopping. */
void exchange_poke(struct exchange *x);

/* Everything held is finished or given back (w->stopping is set). It then wakes
 * w->main_wake_fd. */
bool exchange_done(struct exchange *x);

/* Ends the thread and frees. The executors must have been joined. Returns how
 * many jobs it still held, or had when it lost its lease while it stopped:
 * others will run them. */
int exchange_join(struct exchange *x);

#endif
