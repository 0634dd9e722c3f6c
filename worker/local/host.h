/* worker/local/host.h -- may code run on this host?
 *
 * Asks `capibox-sandboxd --probe --json`, which finds out by doing.
 */
#ifndef WORKER_LOCAL_HOST_H
#define WORKER_LOCAL_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/complaint.h"

struct host_report {
    bool safe;
    char rung;             /* 'A'…'F' */
    int64_t memory_budget; /* bytes for all sandboxes, less a reserve */
};

/* -ENOTSUP with a complaint that says what is missing and how to get it, when
 * the host is not safe (and, with allow_degraded, when no sandbox at all can be
 * made). */
int host_check(const char *sandboxd, bool allow_degraded,
               struct host_report *report_out, struct complaint *why);

#endif
