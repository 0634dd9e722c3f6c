/* worker/sandboxd/program.h -- the user's process, up to the first line of
 * user code.
 *
 * It is made before its job is known: it gives up every right, says so, and
 * waits. When the job comes it takes the job's limits and runs: a cold one by
 * exec, a warm one (in zygote.so) by returning to its interpreter.
 *
 * Linked into capibox-sandboxd and into capibox-zygote.so.
 *
 * Errors: negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_PROGRAM_H
#define WORKER_SANDBOXD_PROGRAM_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "worker/sandboxd/family.h"

struct program {
    int socket_fd;
    int pipes[SANDBOX_PIPES]; /* stdin, stdout, stderr, result */
    const struct sock_fprog *filter;
    bool cores_are_piped;
};

/* The program's fds become 0..3 and its socket one above; all others are
 * closed. From here on p->socket_fd is the new one. */
int program_take_fds(struct program *p, struct step *why);

/* In a process of its own, as the sandbox's user, in its namespaces: gives up
 * all it has. One thread. */
int program_confine(const struct program *p, struct step *why);

/* Says READY, waits for START and takes the job's limits. *message_out is the
 * worker's CREATE message (struct wire_create and its strings), in memory that
 * stays this module's. Exits when sandboxd is gone. */
int program_await(const struct program *p, const char **message_out,
                  size_t *size_out, struct step *why);

/* Tells sandboxd what went wrong, and exits. */
_Noreturn void program_fail(const struct program *p, const struct step *why);

/* A cold program's whole life, in a fork of the init. */
_Noreturn void program_main(struct program *p);

#endif
