/* tests/support/e2b_stage.h -- built workers on E2B's stand-in: a stage
 * (stage.h) with a double (double.h).
 *
 * Errors: as for those.
 */
#ifndef TESTS_SUPPORT_E2B_STAGE_H
#define TESTS_SUPPORT_E2B_STAGE_H

#include "tests/support/double.h"
#include "tests/support/stage.h"

#define E2B_STAGE_TEMPLATES "CAPIBOX_TEMPLATES=templates"

struct e2b_stage {
    struct rig rig;
    struct e2b_double e2b;
    struct proc worker;
};

/* cmocka's setup and teardown: a stage in *state, with a worker and without. */
int e2b_stage_open(void **state);
int e2b_stage_open_empty(void **state);
int e2b_stage_close(void **state);

/* Ends the worker. Nothing is left: no sandbox, no job; the books agree; no
 * word of the protocol was broken; neither logs nor results hold a secret. */
void e2b_stage_end_well(struct e2b_stage *s);

/* Starts a worker on the double, with more settings (or NULL). */
void e2b_stage_worker(struct e2b_stage *s, struct proc *worker,
                      const char *setting);

/* Pushes jobs prefix0 … prefix<count - 1>; fields: JSON behind the id, such as
 * "\"code\":\"1\"". */
void e2b_stage_push(struct e2b_stage *s, const char *prefix, int count,
                    const char *fields);
/* Waits for all of them; each must have this verdict, at its first attempt. */
void e2b_stage_expect_all(struct e2b_stage *s, const char *prefix, int count,
                          const char *verdict, int timeout_ms);

/* Fails if the text holds the API key or what looks like a token. */
void e2b_stage_no_secret(const struct e2b_stage *s, const char *text);

#endif
