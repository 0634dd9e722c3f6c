/* worker/sandboxd/loop.h -- fds and what to do when one is ready.
 *
 * A watch lies inside the struct that owns it. Events of one round may still
 * name a watch that was ended in that round, so an owner is freed only between
 * rounds.
 *
 * Threads:  one.
 * Errors:   negated errno.
 */
#ifndef WORKER_SANDBOXD_LOOP_H
#define WORKER_SANDBOXD_LOOP_H

#include <stdbool.h>

typedef void watch_fn(void *owner);

struct watch {
    int fd; /* -1: not watching */
    watch_fn *ready;
    void *owner;
};

/* Makes an epoll set. */
int loop_open(void);

/* Calls ready(owner) whenever fd is readable or hung up, and makes fd
 * non-blocking. Takes fd in every case: on an error it is closed. */
int loop_watch(int epoll_fd, struct watch *w, int fd, watch_fn *ready,
               void *owner);
/* Ends the watch and closes its fd. Harmless on one that does not watch. */
void loop_unwatch(int epoll_fd, struct watch *w);

/* Waits until deadline_ms (INT64_MAX: for ever) and serves what is ready. */
int loop_turn(int epoll_fd, long long deadline_ms);

#endif
