/* worker/local/link.h -- the worker's end of its capibox-sandboxd.
 *
 * Starts it, hands it one job socket per sandbox, starts another when it died
 * (its sandboxes die with it; their sockets tell their executors).
 *
 * Memory:   in memory the caller has.
 * Threads:  link_job() and link_kill() from any thread; open and close from
 *           the one that starts and joins the others.
 * Errors:   negated errno.
 */
#ifndef WORKER_LOCAL_LINK_H
#define WORKER_LOCAL_LINK_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/complaint.h"
#include "common/strbuf.h"

struct link {
    char program[PATH_MAX]; /* capibox-sandboxd */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pid_t pid;
    int control_fd;         /* -1: none running */
    struct strbuf greeting; /* u32 size and message, one after the other */
    int64_t started_ms;
};

/* Finds capibox-sandboxd beside this program, or where CAPIBOX_SANDBOXD says,
 * and zeroes the rest. */
int link_find(struct link *link, struct complaint *why);

/* Starts what was found. */
int link_open(struct link *link, struct complaint *why);
/* Lets it end its sandboxes and itself, then reaps it; kills it after a few
 * seconds. */
void link_close(struct link *link);

/* What each sandboxd is told at its start, from now on (the running one, too):
 * control messages, each behind its size as a u32. Takes the text over. */
void link_greet(struct link *link, struct strbuf *greeting);

/* A new job socket: the fd of this end. A sandboxd that takes none for some
 * seconds is replaced; nothing is locked while waiting for it, and -ECANCELED
 * ends that wait once give_up (may be NULL) says so. */
int link_job(struct link *link, bool (*give_up)(const void *ctx),
             const void *ctx);

/* kill -9: the kernel then kills every sandbox. The next link_job() starts a
 * new one. */
void link_kill(struct link *link);

#endif
