/* worker/e2b/probe.h -- would a worker with backend e2b run jobs from here?
 *
 * Found by asking, without making a sandbox (those cost money): the key's form,
 * the API with this key, the clock against its Date, the templates' variants,
 * and a name below the domain where sandboxes are reached.
 */
#ifndef WORKER_E2B_PROBE_H
#define WORKER_E2B_PROBE_H

#include "common/settings.h"
#include "common/template.h"

/* Prints what was found, as JSON (the form of capibox-sandboxd --probe --json)
 * or as lines. Returns the exit code: 0 if jobs would run, 1 if not. */
int e2b_probe(const struct settings *settings, const struct template_set *set);

#endif
