/* producer/gateway/request.h -- one request on its way to its answer.
 *
 * A handler answers at once, or returns without an answer: then the connection
 * sleeps until somebody calls one of the request_answer functions, once. While
 * it sleeps the request stays where it is; the end of the program, and after
 * request_watch() a client that goes away, is told to the handler's abandon().
 * Whoever has none is answered at the end by http_stop(), and stays until all
 * that it waits for came to nothing.
 *
 * Memory:   a request is http.c's, which frees it after the answer went out,
 *           with free_state(state).
 * Threads:  the loop's.
 */
#ifndef PRODUCER_GATEWAY_REQUEST_H
#define PRODUCER_GATEWAY_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/redis.h"
#include "common/strbuf.h"
#include "producer/gateway/keys.h"
#include "producer/gateway/loop.h"
#include "producer/gateway/peers.h"
#include "producer/gateway/routes.h"

struct gateway;

#define REQUEST_RETRY_S 1 /* Retry-After where nothing better is known */

enum abandon {
    ABANDON_GONE,  /* the client went away: nobody reads the answer */
    ABANDON_DRAIN, /* the gateway is ending */
};

struct request {
    struct request *next, *prev; /* of all that sleep */
    struct gateway *gateway;
    struct MHD_Connection *connection;
    struct peer *peer;
    struct loop_watch watch; /* for the client going away, while it sleeps */
    struct route_match match;
    struct holder *holder; /* NULL: no keys are set, or the route is open */
    struct strbuf body;
    size_t body_max, body_held; /* held: counted in http->body_bytes */
    int64_t begun_us;
    int retry_after_s; /* set before answering: the header */
    bool head_only, oversized;
    bool asleep, answered, gone;
    bool dropped;   /* the answer: to hang up */
    bool last;      /* set before answering: then the connection is closed */
    bool sending;   /* counted in http->unsent */
    bool sent_home; /* answered by http_stop(), without its handler */

    /* A refusal that waits for the end of the body: to answer and hang up in
     * the middle of it would reset the connection, and the answer with it. */
    bool deferring;
    unsigned deferred_status;
    struct MHD_Response *deferred;
    size_t discarded;

    void *state; /* the handler's */
    void (*free_state)(void *state);
    /* May answer; if it does not, whatever is under way will. */
    void (*abandon)(struct request *r, enum abandon why);
    /* Once a second or so while it sleeps; may be NULL. */
    void (*tick)(struct request *r, int64_t now_ms);
};

/* A request header, or NULL. */
const char *request_header(const struct request *r, const char *name);
/* A query argument, decoded, or NULL. */
const char *request_query(const struct request *r, const char *name);

/* Answers with the text, which is taken out of the buffer. A buffer that failed
 * becomes a 503. */
void request_answer_json(struct request *r, unsigned status,
                         struct strbuf *json);
/* {"error": {"code", "message", "field"?}}. field may be NULL. */
__attribute__((format(printf, 5, 6))) void
request_answer_error(struct request *r, unsigned status, const char *code,
                     const char *field, const char *fmt, ...);
/* 400, 413 or 422, as apijob.h tells, or 503 for -ENOMEM. */
void request_answer_complaint(struct request *r, int rc,
                              const struct complaint *why);
/* 503 with Retry-After: Redis is away, full, or says "later" (rc). */
void request_answer_redis(struct request *r, int rc);
/* The response is let go of here. It gets the headers that all answers have;
 * policy (NULL: the API's) is its Content-Security-Policy. */
void request_answer(struct request *r, unsigned status,
                    struct MHD_Response *response, const char *policy);

/* Tells abandon() when the client of a request that sleeps goes away. For those
 * that wait long: answers of Redis are not worth two system calls each. */
void request_watch(struct request *r);

/* Has its client closed the connection, or its sending side, which looks the
 * same? Costs a system call. */
bool request_is_gone(const struct request *r);
/* Hangs up without a word: of use to nobody. */
void request_drop(struct request *r);

/* Its body is let go of; http.c does so at the end. */
void request_release_body(struct request *r);

/* May this client see a job with that `tenant` (a reply's string or nil)? What
 * came without a key is everybody's. */
bool request_may_see(const struct request *r, const redisReply *tenant);

/* A response of text that is shared: let go of with unref. */
struct blob {
    int refs;
    size_t size;
    char text[];
};
struct blob *blob_make(const char *text, size_t size); /* NULL: no memory */
void blob_unref(void *blob);
/* One more reference, held by the response. NULL: no memory. */
struct MHD_Response *blob_response(struct blob *blob, const char *type);

#endif
