/* worker/sandboxd/box.h -- one sandbox, from CREATE to GONE.
 *
 *   NEW -> CREATING -> READY -> RUNNING -> DEAD -> (removed)
 *
 * A box reacts to its fds and to time; it never waits. Its processes are one
 * pid namespace: killing the init ends all, and the init's pidfd becomes
 * readable only after the last of them is gone. Whatever happens, a box ends by
 * box_remove() saying it is gone: no cgroup, process, mount or fd left.
 *
 * Memory:   box_make() / box_free(); the owner frees once box->gone.
 * Threads:  one.
 */
#ifndef WORKER_SANDBOXD_BOX_H
#define WORKER_SANDBOXD_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/sandboxd/host.h"
#include "worker/sandboxd/init.h"
#include "worker/sandboxd/spec.h"

enum box_state { BOX_NEW, BOX_CREATING, BOX_READY, BOX_RUNNING, BOX_DEAD };

enum box_source { BOX_JOB, BOX_LEASH, BOX_PID, BOX_OOM, BOX_SOURCES };

struct box;

/* What an event loop keeps per fd. */
struct box_watch {
    struct box *box;
    enum box_source source;
};

struct box {
    const struct host *host;
    int epoll_fd, slot;
    struct box *next; /* the owner's list */
    struct box_watch watches[BOX_SOURCES];
    int fds[BOX_SOURCES]; /* job socket, leash, pidfd, OOM eventfd; -1: none */
    int home_fd;
    int worker_ends[4]; /* stdin, stdout, stderr, result until CREATED */
    pid_t pid;
    enum box_state state;
    struct box_spec spec;
    struct cgroup cgroup;
    char id[64];
    int32_t reason; /* enum wire_reason; the first one stays */
    bool killed, ended_sent;
    bool leaving; /* DESTROY came, or the job socket closed */
    bool gone;    /* nothing left: free it */
    struct leash_message exited;
    int64_t started_us;
    int64_t wake_ms;      /* when box_wake() is due; INT64_MAX: never */
    int64_t give_up_ms;   /* removing cgroups */
    int64_t rusage_us;    /* CPU of the init and all it waited for */
    int64_t rusage_bytes; /* largest resident set of one process */
};

/* Takes job_fd in every case. NULL: no memory. */
struct box *box_make(const struct host *host, int epoll_fd, int slot,
                     int job_fd);
void box_free(struct box *box);

/* One of its fds is readable or hung up. */
void box_event(struct box *box, enum box_source source);
/* wake_ms has passed. */
void box_wake(struct box *box, int64_t now_ms);
/* The worker is gone: kill and remove. */
void box_abandon(struct box *box);

#endif
