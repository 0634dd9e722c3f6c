/* worker/sandboxd/probe.h -- what this host can enforce, found by doing it.
 *
 * One line per capability: ok or no, what, detail and how to fix it; then the
 * rung of the ladder:
 *
 *   A  user namespaces, cgroup v2 limits, seccomp      safe
 *   B  the same with cgroup v1 limits                  safe
 *   D  sandboxes work, but without cgroup limits       degraded
 *   E  no user namespaces: no sandbox can be made      refused
 *   F  neither seccomp                                 refused
 *
 * (C, root without user namespaces, is not used: it would share host uids'
 * rights with the sandbox.)
 */
#ifndef WORKER_SANDBOXD_PROBE_H
#define WORKER_SANDBOXD_PROBE_H

#include <stdbool.h>

/* Prints it on stdout. The exit code: 0 if code would run safely, 1 if not. */
int probe_main(bool json);

#endif
