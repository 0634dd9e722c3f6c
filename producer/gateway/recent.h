/* producer/gateway/recent.h -- GET jobs: what runs, and what ended last.
 *
 * Ids of jobs that end come on P:done; the gateway notes them in P:recent, in
 * one write a turn, so that the list outlives it and several gateways share it
 * (the same id twice is one entry). What is shown of a job is read from its
 * hash; jobs whose hash has expired, or that are another tenant's, are left
 * out, and do not count. Jobs that ended while no
 * gateway listened are not listed.
 */
#ifndef PRODUCER_GATEWAY_RECENT_H
#define PRODUCER_GATEWAY_RECENT_H

#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "producer/gateway/request.h"

#define RECENT_MAX      1000 /* kept; a tenth more between trims */
#define RECENT_PENDING  256  /* noted in one write */
#define RECENT_PAGE     50   /* listed, if no limit is given */
#define RECENT_PAGE_MAX 500
#define RECENT_WAVE     100 /* hashes asked for at a time */

struct recent {
    struct gateway *gateway;
    char ids[RECENT_PENDING][JOB_ID_MAX + 1];
    size_t count;    /* to be written */
    size_t writes;   /* since the last trim */
    int64_t last_us; /* unix us of the last one that was written */
};

/* A job ended. */
void recent_note(struct recent *set, const char *id, size_t size);
/* Writes what was noted: once a turn. */
void recent_flush(struct recent *set);

void recent_get(struct request *r);

#endif
