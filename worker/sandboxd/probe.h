/* worker/sandboxd/probe.h -- what this host can enforce, found by doing it.
 *
 * One line per capability: ok or no, what, detail, and how to get it; then the
 * rung of the ladder:
 *
 *   A  full isolation, cgroup v2 limits                  safe
 *   B  full isolation, cgroup v1 limits                  safe
 *   D  full isolation, but no cgroup limits              degraded
 *   E  no user namespaces: no sandbox can be made here   refused
 *   F  no seccomp either                                 refused
 *
 * (A rung C, root without user namespaces, is not used: there a sandbox would
 * have to be built with root's rights.)
 */
#ifndef WORKER_SANDBOXD_PROBE_H
#define WORKER_SANDBOXD_PROBE_H

#include <stdbool.h>

/* Prints it on stdout, as text or as one JSON object:
 *   {"safe","rung","memory_budget_bytes",
 *    "checks":[{"what","ok","detail","fix"}]}
 * The exit code: 0 if code would run safely, 1 if not. */
int probe_main(bool json);

#endif
