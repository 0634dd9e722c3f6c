/* common/redis.h -- one connection to Redis: plain TCP, unix socket or TLS.
 *
 * hiredis parses replies (replies.h); commands are written straight into the
 * output buffer, byte for byte as its redisFormatCommandArgv() would; the
 * transport is ours (transport.h, tls.h), so that every call has a deadline and
 * TLS works with hiredis 0.14.
 *
 * Memory:   redis_create() makes, redis_destroy() frees. Replies are hiredis'
 *           redisReply: the caller frees with freeReplyObject(). The target
 *           must outlive its connections.
 * Threads:  a connection belongs to one thread for life.
 * Errors:   negated errno for the transport (-ETIMEDOUT, -ECONNRESET, -EPIPE,
 *           -ECONNREFUSED, -EHOSTUNREACH for a name that does not resolve,
 *           -EPROTO for a broken reply, -EACCES for a refused password,
 *           -EINVAL for a database that is not there, -EAGAIN for a server that
 *           is up but says "later" (loading), -EKEYREJECTED for a certificate
 *           that does not fit); redis_error() says it in words, without
 *           secrets. After an error the connection is closed: pipelined calls
 *           are lost, and the next call fails with -ENOTCONN until
 *           redis_connect().
 *           A Redis error reply ("-ERR …") is not a transport error: it comes
 *           as a reply of type REDIS_REPLY_ERROR; redis_kind() classifies it.
 */
#ifndef COMMON_REDIS_H
#define COMMON_REDIS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/settings.h"

#define REDIS_CONNECT_TIMEOUT_MS 5000
#define REDIS_CALL_TIMEOUT_MS    5000
#define REDIS_REPLY_BYTES_MAX    (512u << 20) /* Redis' own bound of a string */

/* Where and how to connect: parsed once, shared by all connections, const. */
struct redis_target {
    enum { REDIS_TCP, REDIS_UNIX, REDIS_TLS } kind;
    char *host, *port;     /* TCP, TLS */
    char *path;            /* unix */
    char *user, *password; /* NULL: none. Secrets: never logged */
    int db;
    char *ca_file, *cert_file, *key_file; /* TLS; NULL: system's / none */
    char *shown; /* the URL with the password masked: for people */
};

/* redis://[user:pass@]host:port/db, rediss://…, unix:///path?db=N (also
 * unix://[user:pass@]/path). Percent-encoding is undone; IPv6 in brackets. */
int redis_target_parse(const char *url, const struct settings *settings,
                       struct redis_target *target_out, struct complaint *why);
void redis_target_fini(struct redis_target *target);

struct redis;

/* client_name is set with CLIENT SETNAME at every connect (NULL: none). Does
 * not connect yet. */
int redis_create(const struct redis_target *target, const char *client_name,
                 struct redis **redis_out);
void redis_destroy(struct redis *redis);

/* Changes the name for the next connect (workers carry their id in it). */
int redis_set_name(struct redis *redis, const char *client_name);

/* Connects, shakes hands (TLS, AUTH, SELECT, CLIENT SETNAME) and learns
 * CLIENT ID and the server's run_id. Idempotent while connected. */
int redis_connect(struct redis *redis, int64_t deadline_ms);
void redis_close(struct redis *redis);
bool redis_connected(const struct redis *redis);
int64_t redis_client_id(const struct redis *redis);  /* 0: closed, forbidden */
const char *redis_run_id(const struct redis *redis); /* "": never, forbidden */

/* What went wrong last, for people: "connect to redis://…: Connection refused".
 */
const char *redis_error(const struct redis *redis);

/* One command and its reply. A deadline is CLOCK_MONOTONIC ms. -EBUSY while a
 * pipeline's replies are not all taken: one of them would be mistaken for this
 * command's. */
int redis_call(struct redis *redis, int64_t deadline_ms, redisReply **reply_out,
               int argc, const char **argv, const size_t *lens);

/* The same for a constant number of plain strings, NULL-terminated:
 * redis_callv(r, deadline, &reply, "HGET", key, "f", NULL) */
int redis_callv(struct redis *redis, int64_t deadline_ms,
                redisReply **reply_out, ...) __attribute__((sentinel));

/* Pipelining: append any number, flush, then as many replies in order. Flushing
 * also reads, so a server that wants its replies taken first cannot block it.
 * redis_append() copies and never touches the network. */
int redis_append(struct redis *redis, int argc, const char **argv,
                 const size_t *lens);
int redis_flush(struct redis *redis, int64_t deadline_ms);
int redis_reply(struct redis *redis, int64_t deadline_ms,
                redisReply **reply_out);

/* For event loops: the descriptor to poll (-1: closed), and one non-blocking
 * step: sends what it can, reads what is there. 1: a reply was stored, 0: none
 * yet, negative: closed. wants_write says whether POLLOUT is needed. A TLS
 * connection may hold decrypted bytes: step until 0 before polling (poll level-
 * triggered: a step may leave bytes in the socket). */
int redis_fd(const struct redis *redis);
bool redis_wants_write(const struct redis *redis);
int redis_step(struct redis *redis, redisReply **reply_out);

/* What an error reply asks of the caller. */
enum redis_kind {
    REDIS_FINE,     /* not an error */
    REDIS_NOSCRIPT, /* resend as EVAL */
    REDIS_LATER,    /* LOADING, BUSY, TRYAGAIN, CLUSTERDOWN, MASTERDOWN,
                       NOREPLICAS: back off, retry */
    REDIS_MOVED, /* MOVED, ASK, READONLY: reconnect (another node is master) */
    REDIS_FULL,  /* OOM, MISCONF */
    REDIS_AUTH,  /* NOAUTH, WRONGPASS, NOPERM */
    REDIS_UNBLOCKED, /* UNBLOCKED: a blocking call was ended from outside */
    REDIS_WRONG,     /* anything else: ours or the operator's mistake */
};
enum redis_kind redis_kind(const redisReply *reply);

/* Reconnect delays: exponential from 50 ms, capped at 5 s, with full jitter;
 * the first try after a success is at once. */
struct backoff {
    unsigned failures;
};
int backoff_next_ms(struct backoff *b);
void backoff_reset(struct backoff *b);

#endif
