/* worker/sandboxd/rehearsal.h -- one whole sandbox, from CREATE to GONE.
 *
 * Plays worker to a sandboxd of its own in a forked child, and has a shell say
 * hello. What the probe finds out in parts is worth nothing if this fails.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_REHEARSAL_H
#define WORKER_SANDBOXD_REHEARSAL_H

#include "worker/sandboxd/host.h"
#include "worker/sandboxd/step.h"

int rehearse(const struct host *host, struct step *why);

#endif
