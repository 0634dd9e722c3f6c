/* worker/attack.h -- `capibox-worker --attack`: runs the hostile programs of
 * worker/attacks/ in this host's sandboxes and says which held.
 *
 * No Redis. Each attack gets what a job gets: a template, limits, a fresh
 * sandbox by the backend of the settings. After each, an honest job must be
 * fine and the sandbox gone without a trace; at the end the host must be as it
 * was.
 *
 * Prints one line for each as it ends (settings->json: one JSON object a line)
 * and a summary.
 */
#ifndef WORKER_ATTACK_H
#define WORKER_ATTACK_H

#include "common/settings.h"
#include "common/template.h"
#include "worker/backend.h"

/* words: numbers of attacks, NULL-terminated; none: all. Returns the program's
 * exit code: 0 all held, 1 one did not, 2 no such attack, 4 they could not be
 * run. */
int attack_main(const struct settings *settings, const struct backend_ops *ops,
                const struct template_set *templates, char *const *words);

#endif
