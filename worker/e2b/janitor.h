/* worker/e2b/janitor.h -- kills what nobody owns any more, and keeps at it.
 *
 * Whatever could not be killed at once comes here: a DELETE that failed, a
 * create whose answer was lost (E2B has no idempotency key: the sandbox is
 * found by the metadata of that one call), all sandboxes of a worker that is
 * dead. And it looks now and then which workers have sandboxes at all, so that
 * the keeper can say which of them are dead.
 *
 * What it cannot reach ends by its own time to live. At the worker's end it
 * tries once more, and says what it leaves.
 *
 * Threads:  one of its own; any thread may call the rest.
 * Errors:   none: a full list of things to do is logged, the time to live does
 *           the rest.
 */
#ifndef WORKER_E2B_JANITOR_H
#define WORKER_E2B_JANITOR_H

#include "common/limits.h"
#include "worker/e2b/control.h"

#define JANITOR_TASKS_MAX     4096
#define JANITOR_STRANGERS_MAX 64
#define JANITOR_FOUND_MAX     4096 /* sandboxes of one listing */
#define JANITOR_SURVEY_MS     60000
#define JANITOR_LAST_MS       3000
/* A create that E2B still works on may appear as late as this. */
#define JANITOR_LATE_MS 100000

struct janitor;

int janitor_start(const struct control *c, struct janitor **janitor_out);
/* For JANITOR_LAST_MS (and until the DELETEs under way are over): all DELETEs
 * that wait are tried at once and again, but not sooner than E2B asked for;
 * then answers that were lost are looked for, and what else is due. One warning
 * says how many sandboxes are left behind, and when E2B ends the last of them.
 * The counters (sandbox_destroyed) do not know of these: they are told at each
 * job's end. */
void janitor_stop(struct janitor *j);

/* Who we are: whose sandboxes to look at, and which of them are our own. */
void janitor_identify(struct janitor *j, const char *fleet, const char *wid);

/* Not before wait_ms are over. dies_at_ms: when E2B ends it (clock_ms()). */
void janitor_kill(struct janitor *j, const char *sandbox_id, int64_t wait_ms,
                  int64_t dies_at_ms);
/* ttl_ms: of the sandbox that it may have made. */
void janitor_lost(struct janitor *j, const char *create, int64_t ttl_ms);
void janitor_bury(struct janitor *j, const char *wid);

/* Takes out other workers seen to have sandboxes. */
int janitor_strangers(struct janitor *j, char (*wids_out)[WORKER_ID_MAX + 1],
                      int max);

#endif
