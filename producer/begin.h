/* producer/begin.h -- what verbs begin with: ids that are ids, a Redis that
 * answers. What is wrong is said; the return is EXITS_OK or what to exit with.
 */
#ifndef PRODUCER_BEGIN_H
#define PRODUCER_BEGIN_H

#include "producer/client.h"
#include "producer/options.h"

/* Are the words from the first-th on job ids? */
int begin_ids(const struct options *o, int first);

/* Can --save's folder be written to? What a job made would be lost else. */
int begin_save(const struct options *o);

/* Connects. After a failure *c is closed. */
int begin_client(struct client *c, const struct settings *s);

/* When --timeout is over (CLOCK_MONOTONIC ms); 0: never. */
int64_t begin_deadline(const struct options *o);

#endif
