/* worker/e2b/http.h -- HTTP calls of many threads, carried by one.
 *
 * A caller fills a struct http_call and waits in http_do(); one network thread
 * moves the bytes of all calls (libcurl's multi interface over epoll), so that
 * hundreds of open streams cost no thread per byte. Connections, TLS sessions
 * and names are shared by all calls and kept for reuse, HTTPS with HTTP/1.1
 * (E2B's interpreter notices a client that left only by its closed connection).
 * Redirects are never followed: a key must not reach another host. A proxy that
 * the environment names (https_proxy, all_proxy) gets tunnels alone: what is
 * not https goes past it, as it would read the key. A request is never sent
 * twice behind the caller's back; a kept connection is looked at before it is
 * used again, as the server may have closed it meanwhile.
 *
 * Memory:   a call and what it points to are the caller's and must last until
 *           http_do() returns; http_call_fini() frees what came.
 * Threads:  any thread may call anything but open and close. A call's data() is
 *           called by the network thread: it must not block.
 * Errors:   see struct http_call.
 */
#ifndef WORKER_E2B_HTTP_H
#define WORKER_E2B_HTTP_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strbuf.h"

#define HTTP_HEADERS_MAX   10
#define HTTP_BODY_MAX      (4u << 20) /* bytes of an answer kept whole */
#define HTTP_ERROR_MAX     200
#define HTTP_CONNECT_MS    10000
#define HTTP_IDLE_S        60 /* a connection idle for longer is not reused */
#define HTTP_RECEIVE_BYTES (2u << 10)
#define HTTP_SEND_BYTES    (16u << 10) /* libcurl's least; kept till the end */
#define HTTP_SPARE_HANDLES 64
#define HTTP_TRIM_MS       1000 /* after an answer began: free pages go back */
#define HTTP_OVER          1   /* of data(): nothing more of this body counts */
#define HTTP_LINGER_MS     200 /* for its proper end, then */
/* What of Retry-After is heeded, whoever is asked to wait: one odd header must
 * not stop a worker for days, nor keep a DELETE back until it is too late. */
#define HTTP_RETRY_AFTER_MAX_S 120
/* Above one per sandbox. libcurl keeps no deadline of a call that waits for a
 * free connection: so there must be one for all that the janitor does, too. */
#define HTTP_CONNECTIONS_MORE 40
/* The error of a kept connection that ended after it was written to. */
#define HTTP_CLOSED_BY_SERVER "the server closed it before it answered"

struct http;

enum http_method { HTTP_GET, HTTP_POST, HTTP_DELETE };

/* One part of a multipart/form-data body, named `file`. */
struct http_part {
    const char *filename;
    const void *data;
    size_t size;
};

/* Why no whole answer came. */
enum http_trouble {
    HTTP_FINE,
    HTTP_NO_NAME,    /* DNS */
    HTTP_NO_CONNECT, /* refused, unreachable, or not in time */
    HTTP_NO_TLS,     /* handshake, certificate */
    HTTP_BROKEN,     /* reset or closed in the middle */
    HTTP_STALLED,    /* no byte for stall_s */
    HTTP_LATE,       /* the deadline */
    HTTP_ABORTED,    /* http_abort() */
    HTTP_REFUSED,    /* data() wanted no more, or the answer is too large */
};

struct http_call {
    /* What to ask. */
    enum http_method method;
    const char *url;
    const char *headers[HTTP_HEADERS_MAX]; /* "Name: value", NULL at the end */
    const void *body;                      /* not copied */
    size_t body_size;
    const struct http_part *parts; /* instead of a body */
    size_t nparts;
    int64_t deadline_ms; /* CLOCK_MONOTONIC */
    int stall_s;         /* 0: the deadline alone */
    bool last;           /* nothing more goes to this host: close it after */
    /* The body of a 2xx answer as it comes; negative ends the call with that
     * rc, HTTP_OVER as if it were whole: with its proper end, which lets the
     * connection be kept, or HTTP_LINGER_MS later. NULL: it is kept in
     * `answer`. */
    int (*data)(void *ctx, const char *data, size_t size);
    void *ctx;

    /* What came. rc: 0 for a whole answer of any status, else negative. */
    int rc;
    enum http_trouble trouble;
    bool sent;                  /* the server may have the request */
    int status;                 /* 0: none */
    int retry_after_s;          /* at most HTTP_RETRY_AFTER_MAX_S; -1: none */
    int64_t date_s;             /* unix s of its Date header; 0: none */
    char next_token[256];       /* X-Next-Token, or "" */
    char error[HTTP_ERROR_MAX]; /* of `trouble`, in words */
    struct strbuf answer;       /* body kept, at most HTTP_BODY_MAX */

    /* The network thread's. */
    struct http_call *next;
    void *handle, *list, *form;
    struct http *http;
    sem_t done;
    atomic_bool aborted;
    int sends;
    int64_t retry_at_s; /* unix s, of a Retry-After that is a date; 0: none */
    bool stale;      /* the kept connection it got was dead: nothing was sent */
    bool fresh;      /* so it gets one of its own */
    int64_t over_ms; /* when it ends, after HTTP_OVER; 0: not yet */
};

/* Appends text percent-encoded (RFC 3986 section 2.1), as many times over. */
void http_encode(struct strbuf *out, const char *text, int times);

struct http_counts {
    int64_t calls, connects;
};

/* ca: PEM file, or "" for the system's. connections: most at a time. why gets a
 * sentence. */
int http_open(const char *ca, int connections, struct http **http_out);
/* No call may be under way. */
void http_close(struct http *h);

/* Starts a call; waits for its end, and returns call->rc. Every call that was
 * started must be awaited. */
void http_start(struct http *h, struct http_call *call);
int http_await(struct http_call *call);
/* Both. */
int http_do(struct http *h, struct http_call *call);
/* Ends a call early: HTTP_ABORTED. It may still be about to start, but must not
 * have returned yet. */
void http_abort(struct http *h, struct http_call *call);
void http_call_fini(struct http_call *call);

struct http_counts http_counts(struct http *h);

#endif
