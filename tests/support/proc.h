/* tests/support/proc.h -- programs started, watched and ended by a test.
 *
 * stdout and stderr go to files in a new folder below build/tmp, so nothing
 * blocks on a pipe and what was printed can be read while the program runs. A
 * program dies with the thread that started it (PR_SET_PDEATHSIG): start from
 * the main thread.
 *
 * Errors: starting aborts the test program, with the reason; the rest answers.
 */
#ifndef TESTS_SUPPORT_PROC_H
#define TESTS_SUPPORT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROC_RUNNING (-1000)

struct proc {
    pid_t pid;     /* 0: never started, or ended and reaped */
    int ending;    /* what proc_wait() answers once it ended */
    char dir[256]; /* holds "in", "out" and "err"; the program starts where the
                      test did */
};

struct proc_start {
    const char *const *argv; /* argv[0] is a path or found in PATH */
    const char *const *env;  /* "NAME=value" added, "NAME" taken out; or NULL */
    const char *stdin_text;  /* NULL: /dev/null */
};

/* The path of one of our programs, from the build the test itself is of: bin/
 * for plain builds, build/<san>/bin/ for sanitizers. Valid until the end. */
const char *proc_program(const char *name);

void proc_start(struct proc *p, const struct proc_start *how);

/* Waits for its end: the exit code, -N if signal N killed it, or PROC_RUNNING
 * if it still runs after timeout_ms. May be repeated. */
int proc_wait(struct proc *p, int timeout_ms);

/* Sends a signal; harmless once it ended. */
void proc_signal(const struct proc *p, int signal);

/* What it printed so far; the caller frees. */
char *proc_out(const struct proc *p);
char *proc_err(const struct proc *p);

/* Waits until it printed text (to stdout or stderr). False after timeout_ms, or
 * at once when it ended without. */
bool proc_says(struct proc *p, const char *text, int timeout_ms);

/* Kills it if it still runs, reaps it and removes its folder. Harmless on a
 * zeroed struct and when repeated. */
void proc_stop(struct proc *p);

/* Starts, waits and cleans up. Answers as proc_wait(); a program still running
 * after timeout_ms is killed. out and err (may be NULL): the caller frees. */
int proc_run(const struct proc_start *how, int timeout_ms, char **out,
             char **err);

/* Asks again every few ms. False if it never held within timeout_ms. */
typedef bool proc_predicate(void *ctx);
bool wait_until(proc_predicate *holds, void *ctx, int timeout_ms);

#endif
