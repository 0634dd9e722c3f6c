/* producer/fleet.h -- what Redis says about workers and queues.
 *
 * Memory:   fleet_load() fills, fleet_fini() frees.
 * Errors:   negated errno, with client->why.
 */
#ifndef PRODUCER_FLEET_H
#define PRODUCER_FLEET_H

#include "producer/client.h"

#define FLEET_WORKERS_MAX    1024
#define FLEET_QUEUES_MAX     256
#define FLEET_SCAN_CALLS_MAX 2000 /* of 1000 keys, in search of queues */

struct fleet_worker {
    char id[WORKER_ID_MAX + 1];
    redisReply *card; /* HGETALL of P:worker:<id>; may be empty */
    redisReply *runs; /* HGETALL of P:run:<id> */
    double lease_s;   /* left of it, by Redis' clock; below 0: over */
};

struct fleet_queue {
    char name[JOB_NAME_MAX + 1];
    int64_t depth;
    double oldest_s; /* age; negative: not known (a bare push, or empty) */
    int served;      /* by how many workers */
};

struct fleet {
    struct fleet_worker workers[FLEET_WORKERS_MAX];
    int nworkers;
    struct fleet_queue queues[FLEET_QUEUES_MAX];
    int nqueues;
    int64_t delayed, dead;
    bool paused; /* by an operator: workers claim nothing */
    double now;  /* Redis' clock, unix s */
};

int fleet_load_workers(struct fleet *f, struct client *c);
/* Has an operator paused all workers (common/protocol.md, P:conf)? */
int fleet_paused(struct client *c, bool *paused_out);
#define FLEET_PAUSED \
    "paused: no worker takes a job until redis-cli HSET '%s:conf' paused 0"
/* After the workers. Names come from the settings, from the workers, and from a
 * look at the keys: a queue that nobody serves shows, too. */
int fleet_load_queues(struct fleet *f, struct client *c);
void fleet_fini(struct fleet *f);

/* What a worker's backend says is wrong with it ("E2B's API: open, HTTP 401:
 * …; room for 3 sandboxes"), or "" if all is well. Returns out. */
#define FLEET_TROUBLE_MAX 512
const char *fleet_trouble(const struct fleet_worker *w,
                          char out[FLEET_TROUBLE_MAX]);

/* The next name of "high*3,default" (a card's `queues`), without its weight;
 * goes on behind it. NULL: no more. */
const char *fleet_next_queue(const char **names_io, size_t *len_out);

/* A field of a HGETALL reply, or "". */
const char *fleet_field(const redisReply *hash, const char *name);

#endif
