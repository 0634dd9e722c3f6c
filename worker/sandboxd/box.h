/* worker/sandboxd/box.h -- one sandbox, from the clone of its init to nothing.
 *
 *   SPAWNING -> BUILDING -> (JOINING) -> WAITING     made, its job not known
 *   WAITING -> PREPARING -> READY -> RUNNING         with its job
 *   any -> DEAD -> gone
 *
 * A box reacts to its fds and to time; it never waits. Its processes are one
 * pid namespace: killing the init ends all, and the init's pidfd becomes
 * readable only after the last of them is gone. Whatever happens, a box ends by
 * being gone: no cgroup, process, mount or fd left.
 *
 * Memory:   box_make() / box_free(); the owner frees once box->gone, between
 *           rounds of the loop.
 * Threads:  one.
 */
#ifndef WORKER_SANDBOXD_BOX_H
#define WORKER_SANDBOXD_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/sandboxd/loop.h"
#include "worker/sandboxd/nursery.h"
#include "worker/sandboxd/spec.h"

enum box_state {
    BOX_SPAWNING,
    BOX_BUILDING,
    BOX_JOINING,
    BOX_WAITING,
    BOX_PREPARING,
    BOX_READY,
    BOX_RUNNING,
    BOX_DEAD,
};

enum box_news {
    BOX_IS_WAITING,
    BOX_IS_READY, /* prepared */
    BOX_FAILED,   /* before it ran: box->why; it is going away */
    BOX_ENDED,    /* box->ended */
    BOX_IS_GONE,  /* box->leftovers */
};

struct box;
typedef void box_news_fn(void *owner, struct box *b, enum box_news news);

struct box {
    const struct host *host;
    struct nursery *nursery;
    struct kind *kind;
    int epoll_fd, slot;
    struct box *next;  /* the daemon's list */
    box_news_fn *news; /* NULL: nobody's, it waits in the pool */
    void *owner;
    enum box_state state;
    uint64_t token;      /* of the answer it waits for; 0: none */
    uint32_t generation; /* of its zygote */
    struct watch leash, socket, init, oom;
    pid_t init_pid, program_pid; /* the latter as inside */
    int home_fd;
    int worker_ends[SANDBOX_PIPES]; /* until a worker gets them */
    int inner_ends[SANDBOX_PIPES];  /* until the program has them */
    int inner_socket, inner_leash;
    bool asked;        /* the spawner, to clone its init */
    bool lost;         /* somebody died instead: another box may do */
    bool built, heard; /* READY came of the init, of the program */
    struct cgroup cgroup;
    char id[64];
    struct step why;
    int32_t reason; /* enum wire_reason; the first one stays */
    bool killed, leaving, gone;
    bool ended_told;
    bool has_status;
    int status;         /* of the program, as of wait() */
    int32_t exec_error; /* errno: there was no program */
    int64_t made_ms, since_ms;
    int64_t started_us, cpu_before_us;
    int64_t wake_ms;    /* when box_wake() is due; INT64_MAX: never */
    int64_t give_up_ms; /* removing cgroups */
    int64_t rusage_us, rusage_bytes, switches;
    int64_t memory_bytes; /* the limit, for messages */
    struct wire_ended ended;
    int leftovers;
};

/* Starts making one. NULL and *why: nothing is left of it. */
struct box *box_make(const struct host *host, struct nursery *n, int epoll_fd,
                     int slot, struct kind *kind, struct step *why);
void box_free(struct box *b);

/* The answer to its token came; pid is -1 on failure. */
void box_answered(struct box *b, pid_t pid, const struct step *why);
/* No answer will come. */
void box_lost(struct box *b, const struct step *why);

/* A waiting one takes a job: limits, then files. BOX_IS_READY or BOX_FAILED
 * follows. */
void box_prepare(struct box *b, const struct wire_create *want, int input_fd);
/* A ready one runs. message is the worker's CREATE message. */
void box_start(struct box *b, const void *message, size_t size,
               int64_t timeout_ms);

void box_kill(struct box *b, int32_t reason);
/* Kills and removes it. BOX_IS_GONE follows, unless it has no owner: once it is
 * removed, or when its processes are dead and only an answer is still due. */
void box_leave(struct box *b);
/* wake_ms has passed. */
void box_wake(struct box *b, int64_t now_ms);

#endif
