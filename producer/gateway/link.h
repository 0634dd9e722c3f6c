/* producer/gateway/link.h -- a connection to Redis that never makes the loop
 * wait.
 *
 * Commands are appended to one pipeline, and each names who gets its reply.
 * Connecting (names, handshakes, certificates) is left to a thread of the
 * link's own, with a growing pause between tries. A link with a channel
 * subscribes to it instead, and takes no commands.
 *
 * Memory:   a reply is the link's unless the callback TAKEs it (sets *reply to
 *           NULL and frees it later).
 * Threads:  all calls and callbacks belong to the loop's thread. The connection
 *           belongs to the connector while the link is away, to the loop while
 *           it is up; `lock` hands it over.
 * Errors:   negated errno; link_why() says what is wrong in words.
 */
#ifndef PRODUCER_GATEWAY_LINK_H
#define PRODUCER_GATEWAY_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/redis.h"
#include "producer/gateway/loop.h"

#define LINK_OPS_MAX    65536 /* commands sent and not answered */
#define LINK_CONNECT_MS 2000
#define LINK_CALL_MS    5000 /* no answer for so long: connect anew */
#define LINK_WHY_MAX    256

/* rc 0 and the reply (maybe an error reply: reply_failure()), or the negated
 * errno with which the connection was lost. */
typedef void link_done_fn(void *ctx, int rc, redisReply **reply);

struct link_op {
    link_done_fn *done;
    void *ctx;
    int64_t since_ms;
};

struct link_hooks {
    /* The link came up, or was lost (after all its commands failed), or did not
     * come up at the first try. Once for each time that it is away. */
    void (*turned)(void *ctx, bool up);
    /* A message of the channel. */
    void (*message)(void *ctx, const char *text, size_t size);
    /* An error reply that no trying again will mend, as Redis words it; may be
     * NULL. Who asked gets it, too. */
    void (*refused)(void *ctx, const char *text);
    void *ctx;
};

struct link {
    struct loop *loop;
    struct link_hooks hooks;
    const char *channel;
    struct redis *redis;
    struct loop_watch io, wake;
    struct link_op *ops; /* a ring of LINK_OPS_MAX */
    size_t head, count;
    bool up;
    char why[LINK_WHY_MAX]; /* "": it is up */
    int cause;              /* the same as a negated errno; 0: not tried yet */
    bool told;              /* that it is away */
    int64_t away_since_ms;

    pthread_t connector;
    bool has_connector;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed after writing any of these. */
    enum { LINK_OURS, LINK_WANTED, LINK_MADE } turn;
    bool stopping;
    char trouble[LINK_WHY_MAX]; /* of the last try */
    int trouble_rc;
};

/* Starts connecting. target and channel (NULL: takes commands) outlive it. */
int link_init(struct link *link, struct loop *loop,
              const struct redis_target *target, const char *channel,
              const struct link_hooks *hooks);
/* Commands still under way fail with -ECANCELED first. Harmless on zeroes. */
void link_fini(struct link *link);

/* Where to append to; NULL while away, or with too many under way. After every
 * append that succeeded: link_expect(). */
struct redis *link_redis(struct link *link);
void link_expect(struct link *link, link_done_fn *done, void *ctx);

/* Both for one command of plain words. -ENOTCONN, -ENOMEM. */
int link_ask(struct link *link, link_done_fn *done, void *ctx, int argc,
             const char **argv);

/* Sends what was appended and takes what came: once a turn. */
void link_turn(struct link *link);
/* Once a second or so: gives up a connection that does not answer. */
void link_check(struct link *link);

/* Tries at once instead of after its pause: another link just came up. */
void link_hurry(struct link *link);

/* Why it is away, for people, without secrets. */
const char *link_why(struct link *link);
/* The same for strangers: the kind of trouble, without names or addresses; ""
 * if it is up or was not tried yet. */
const char *link_kind(const struct link *link);

#endif
