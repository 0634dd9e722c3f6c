/* tests/support/attack_suite.h -- worker/attacks/ through the built worker and
 * a real Redis, as a cmocka group with one test for each file.
 *
 * A test is named attack_NNN_words_ends_as_verdict. All jobs are pushed at the
 * start, each with an honest one behind it, and run a few at a time.
 */
#ifndef TESTS_SUPPORT_ATTACK_SUITE_H
#define TESTS_SUPPORT_ATTACK_SUITE_H

#include <stdbool.h>

#include "tests/support/stage.h"
#include "worker/attack_list.h"

enum attack_user {
    ATTACK_AS_WE_ARE,
    ATTACK_AS_USER,     /* an ordinary one, to whom cgroups are handed */
    ATTACK_AS_USER_ONLY /* an ordinary one, without cgroups: --allow-degraded */
};

/* Runs it all and returns the program's exit code. What cannot be (another
 * user needs root to become it) skips. */
int attack_suite_main(enum attack_user user);

/* ---- for tests of one attack each -------------------------------------- */

/* The list as the built programs find it; unload with attacks_unload(). */
void attack_suite_load(struct attack_set *set_out);

/* What a worker has, when no job runs. */
struct attack_traces {
    int processes, cgroups, fds; /* fds: -1 where they cannot be seen */
};

void attack_traces_find(const struct proc *worker, struct attack_traces *out);
/* Waits until it changes no more: what waits for jobs is made by then. */
void attack_traces_settle(const struct proc *worker, struct attack_traces *out);
/* Settings of a worker whose traces are to be compared. */
#define ATTACK_WORKER_ENV "CAPIBOX_WARM=start", "CAPIBOX_WAITING=1"
/* Waits until there is no more than before. Fails the test if there is
 * for some seconds. */
void attack_traces_gone(const struct proc *worker,
                        const struct attack_traces *before);

/* How many cgroup folders have this sandbox's name. */
int attack_sandbox_cgroups(const char *sandbox_id);

/* The text of a job with this code. more: further members (",\"env\":{}") or
 * "". The caller frees. */
char *attack_code_job(const char *id, enum language language, const char *code,
                      const char *more);
/* Pushes it and waits for the result. The caller deletes. */
cJSON *attack_run_code(struct rig *rig, const char *id, enum language language,
                       const char *code, const char *more);
/* Pushes it, waits, and fails the test unless the verdict is this one and the
 * output (NULL: any) this text. */
void attack_expect(struct rig *rig, const char *id, enum language language,
                   const char *code, const char *more, const char *verdict,
                   const char *out);

/* rm -r. 0, or -1 where something stays. */
int attack_remove_folder(const char *path);

/* Pushes an honest job and fails the test unless it is fine. */
void attack_next_job_is_fine(struct rig *rig, const char *id);

#endif
