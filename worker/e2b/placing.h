/* worker/e2b/placing.h -- from a job to a sandbox of E2B.
 *
 * Which variant of the template, one create after the other as long as there is
 * a point in it, and what a refusal means for the job: rejected (its own
 * doing), put off (E2B's, or the account's: nothing is used up), or a failure
 * of ours.
 *
 * Threads:  the executor's, for its own sandbox.
 */
#ifndef WORKER_E2B_PLACING_H
#define WORKER_E2B_PLACING_H

#include <stdint.h>

#include "common/outcome.h"
#include "common/template.h"
#include "worker/e2b/control.h"

struct sandbox;

/* The smallest that holds the job, or NULL; the template that the job itself
 * names, in *named. */
const struct template_variant *placing_variant(const struct sandbox *sb,
                                               struct template_variant *named);
/* No variant is large enough: rejected. Returns 0. */
int placing_reject_size(const struct sandbox *sb, struct outcome *o);

/* Asks until sb->exists, or there is no point: 0 with a verdict (rejected,
 * cancelled), -EAGAIN (put off), or another negative (failed). Fills
 * want->meta[3]; may shorten want->ttl_s. */
int placing_ask(struct sandbox *sb, struct control_create *want,
                struct outcome *o);

/* Back to its queue, for wait_ms or a little longer. Returns -EAGAIN. */
int placing_put_off(struct outcome *o, int64_t wait_ms, const char *text);

/* Half of ms to all of it. */
int64_t placing_jitter(int64_t ms);

#endif
