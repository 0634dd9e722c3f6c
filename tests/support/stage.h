/* tests/support/stage.h -- the built programs on a Redis of their own, and what
 * they leave on the host: for end-to-end tests.
 *
 * A stage is a rig (rig.h) whose workers are bin/capibox-worker. Nothing of the
 * caller's own settings (CAPIBOX_…, REDIS_URL) reaches the programs.
 *
 * Errors: what cannot be started aborts; what does not come in time fails the
 * test, with what the programs said.
 */
#ifndef TESTS_SUPPORT_STAGE_H
#define TESTS_SUPPORT_STAGE_H

#include <cjson/cJSON.h>

#include "tests/support/proc.h"
#include "tests/support/rig.h"

#define STAGE_ENV_MAX 12

/* redis_words: further words for redis-server, or NULL. */
void stage_open(struct rig *rig, const char *const *redis_words);

/* Starts a worker and waits until it takes jobs. env: "NAME=value" settings
 * above the stage's own, or NULL. */
void stage_worker(struct rig *rig, struct proc *worker, const char *const *env);
/* SIGTERM, and the exit code as proc_wait(). Prints the log if it is not 0. */
int stage_end_worker(struct proc *worker);

/* Runs bin/capibox with these words (NULL-terminated) and the stage's Redis.
 * out and err (may be NULL): the caller frees. */
int stage_cli(struct rig *rig, const char *stdin_text, char **out, char **err,
              ...) __attribute__((sentinel));

/* HGET P:job:<id> field, as long as it may be; NULL if there is none. The
 * caller frees. */
char *stage_field(struct rig *rig, const char *id, const char *field);
/* The result of a job, waited for. The caller deletes. Fails the test if it
 * does not come. */
cJSON *stage_result(struct rig *rig, const char *id);
cJSON *stage_result_within(struct rig *rig, const char *id, int timeout_ms);
/* Pushes a job with a bare LPUSH to `default` and waits for the result. The
 * job's text must begin {"id":"…". */
cJSON *stage_job(struct rig *rig, const char *json);

/* What is at a dotted path such as "logs.stdout.0", or NULL. */
const cJSON *stage_at(const cJSON *json, const char *path);
/* Its text (NULL: none, or no text) or number (-1e9). */
const char *stage_text(const cJSON *json, const char *path);
double stage_number(const cJSON *json, const char *path);
/* Fails the test, showing the JSON, unless the text at the path is this one /
 * holds this one. */
void stage_expect(const cJSON *json, const char *path, const char *text);
void stage_expect_part(const cJSON *json, const char *path, const char *part);

/* ---- what a worker has on the host ------------------------------------- */

#define STAGE_PIDS_MAX 1024

struct household {
    struct {
        pid_t pid;
        unsigned long long started; /* tells a pid used again */
    } members[STAGE_PIDS_MAX];
    int count;
};

/* The worker and all below it: its sandboxd and the sandboxes' processes. */
void household_list(pid_t worker, struct household *out);
/* Ends each program `sleep` of a worker's jobs, so that what a job does behind
 * it is done when the test says so, and no sooner. How many there were. */
int household_wake(pid_t worker);
/* The same, once there is one. Fails the test if none comes. */
void household_wake_one(pid_t worker);
/* How many of them live (zombies do not). */
int household_alive(const struct household *h);
/* How many cgroup folders any of them made and left. */
int household_cgroups(const struct household *h);
/* Waits until neither is left. Fails the test after timeout_ms. */
void household_gone(const struct household *h, int timeout_ms);

#endif
