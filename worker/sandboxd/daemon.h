/* worker/sandboxd/daemon.h -- the event loop over all sandboxes.
 *
 * Ends when the control socket does: every sandbox is killed and removed first.
 *
 * Threads:  one.
 * Errors:   negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_DAEMON_H
#define WORKER_SANDBOXD_DAEMON_H

#include "worker/sandboxd/host.h"
#include "worker/sandboxd/step.h"

/* Serves control_fd (wire.h) until its end of file. */
int daemon_serve(const struct host *host, int control_fd, struct step *why);

#endif
