/* producer/served.h -- will anybody take a job from this queue?
 *
 * Threads:  one, the client's.
 * Errors:   none: what Redis does not tell is no reason for a hint.
 */
#ifndef PRODUCER_SERVED_H
#define PRODUCER_SERVED_H

#include "producer/client.h"

#define SERVED_WORKERS_MAX 256 /* looked at; of more, some will serve it */
#define SERVED_HINT_MAX    512

enum served {
    SERVED,           /* or not known */
    SERVED_NO_WORKER, /* nobody is alive */
    SERVED_OTHERS,    /* live workers serve other queues only */
    SERVED_PAUSED,    /* an operator has paused them */
};

/* hint_out: what to tell a person, "" for SERVED. */
enum served served_ask(struct client *c, const char *queue,
                       char hint_out[SERVED_HINT_MAX]);

#endif
