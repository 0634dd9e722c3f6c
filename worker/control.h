/* worker/control.h -- the thread that hears of cancels: P:control.
 *
 * A thread of its own, so that nothing the keeper waits for delays a cancel. A
 * message that is missed while the connection is made anew comes with the next
 * heartbeat.
 *
 * Threads:  start and join from main; all else is its own thread.
 * Errors:   start: negated errno. A lost Redis is not an error: the keeper says
 *           so, this one just tries on.
 */
#ifndef WORKER_CONTROL_H
#define WORKER_CONTROL_H

#include "worker/worker.h"

struct control;

int control_start(struct worker *w, struct control **control_out);
void control_join(struct control *control);

#endif
