/* worker/redis_check.h -- says loudly what a Redis server may do to jobs.
 *
 * Threads:  the connection's.
 * Errors:   none: what the server won't tell (ACL) is not judged.
 */
#ifndef WORKER_REDIS_CHECK_H
#define WORKER_REDIS_CHECK_H

#include <stdint.h>

#include "common/redis.h"

/* Logs a warning if the server may evict keys, or forgets all when it stops. */
void redis_check(struct redis *r, int64_t deadline_ms);

#endif
