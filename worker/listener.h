/* worker/listener.h -- the thread that hears of cancels: P:control.
 *
 * A thread of its own, so that nothing the keeper waits for delays a cancel. A
 * message that is missed while the connection is made anew comes with the next
 * heartbeat.
 *
 * Threads:  start and join from main; all else is its own thread.
 * Errors:   start: negated errno. A lost Redis is not an error: the keeper says
 *           so, this one just tries on.
 */
#ifndef WORKER_LISTENER_H
#define WORKER_LISTENER_H

#include "worker/worker.h"

struct listener;

int listener_start(struct worker *w, struct listener **listener_out);
void listener_join(struct listener *control);

#endif
