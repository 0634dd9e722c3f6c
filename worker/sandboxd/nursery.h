/* worker/sandboxd/nursery.h -- where sandboxes come from: spawners and zygotes.
 *
 * A kind of sandbox is an interpreter's tree and, for warm ones, the modules
 * its zygote has imported. Each kind is made when first asked for. A zygote
 * that dies comes back after a backoff; one that is old, or has forked often,
 * is replaced by a new one, as its forks share its hash seed and its addresses.
 *
 * Memory:   nursery_init() / nursery_fini() in memory the caller has; kinds
 *           live as long as the nursery.
 * Threads:  one.
 * Errors:   negated errno, *why names the step.
 */
#ifndef WORKER_SANDBOXD_NURSERY_H
#define WORKER_SANDBOXD_NURSERY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/sandboxd/family.h"
#include "worker/sandboxd/host.h"
#include "worker/sandboxd/loop.h"
#include "worker/sandboxd/spec.h"

#define NURSERY_KINDS_MAX 64
/* A zygote is replaced after so many forks or so long. */
#define ZYGOTE_FORKS_MAX 20000
#define ZYGOTE_MS_MAX    (60 * 60 * 1000)

struct nursery;

struct spawner_link {
    struct nursery *nursery;
    struct spawner_link *next;
    char interpreter[PATH_MAX];
    char key[PATH_MAX]; /* "": any below /usr */
    struct watch socket;
    pid_t pid;
    bool works; /* it has answered its setup */
    int64_t retry_ms;
    int pending;       /* requests without an answer */
    int64_t oldest_ms; /* of those */
    struct step why;   /* of the last failure */
};

struct zygote_process {
    struct zygote *zygote;
    struct watch socket;
    pid_t pid;      /* 0 until the spawner answered */
    uint64_t token; /* of that answer */
    bool ready;
    int64_t started_ms;
    int forks, pending;
    int64_t oldest_ms; /* of the pending ones */
    int64_t shared_bytes;
};

struct zygote {
    struct spawner_link *spawner;
    char interpreter[PATH_MAX];
    char *names; /* NUL-terminated, one after the other */
    size_t names_size;
    struct zygote_process now, next; /* next: the one to replace it */
    uint32_t generation;             /* of now */
    int64_t retry_ms, backoff_ms;
    char trouble[160];
};

/* One kind of sandbox. Demand is kept here; pool.c uses it. */
struct kind {
    struct kind *next;
    struct spawner_link *spawner;
    struct zygote *zygote; /* NULL: cold */
    int floor;             /* to hold ready at least */
    double wanted;         /* by demand, fading */
    int arrivals;          /* since window_ms */
    int64_t window_ms, used_ms;
    int waiting, making; /* boxes of the pool */
    int64_t refill_ms;   /* not before: the last one failed */
};

struct nursery {
    const struct host *host;
    int epoll_fd;
    struct spawner_link *spawners;
    struct kind *kinds;
    char runtime[PATH_MAX], zygote_lib[PATH_MAX]; /* "": no zygotes */
    uint64_t last_token;
    /* To whoever sent a request with this token; pid is -1 on failure. */
    void (*answered)(void *ctx, uint64_t token, pid_t pid,
                     const struct step *why);
    /* No more answers will come from this spawner or zygote. */
    void (*lost)(void *ctx, const struct spawner_link *spawner,
                 const struct zygote *zygote);
    void *ctx;
};

/* Finds the zygotes' files beside this program. */
void nursery_init(struct nursery *n, const struct host *host, int epoll_fd);
/* Kills and reaps them all. */
void nursery_fini(struct nursery *n);

/* The kind for this interpreter and, if warm, these modules. NULL if there are
 * too many, or no memory. Never waits. */
struct kind *nursery_kind(struct nursery *n, const char *interpreter, bool warm,
                          char *const *preload);

/* Can it fork now? If not, and it may be tried, this starts it. */
bool zygote_is_ready(struct zygote *z);

/* Sends a request; the answer comes to answered(). fds stay the caller's. */
int nursery_spawn(struct nursery *n, struct spawner_link *s, bool cold,
                  int slot, uint64_t token, const int *fds, int count,
                  struct step *why);
int nursery_join(struct nursery *n, struct zygote *z, uint64_t token,
                 const int *fds, int count, struct step *why);
uint64_t nursery_token(struct nursery *n);

/* What time brings: restarts, replacements, ends of what hangs. */
void nursery_tick(struct nursery *n, int64_t now_ms);

/* Is this pid a spawner's or zygote's? */
bool nursery_owns(const struct nursery *n, pid_t pid);
/* Is a zygote on its way whose pid is not known yet? */
bool nursery_expects_children(const struct nursery *n);

#endif
