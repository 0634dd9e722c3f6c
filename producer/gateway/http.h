/* producer/gateway/http.h -- the HTTP daemon: libmicrohttpd in our loop.
 *
 * Connections that wait cost no thread: they are suspended, and their sockets
 * watched for the client's end.
 *
 * Memory:   a request that http_stop() had to answer is kept until http_fini():
 *           what it waited for may still point to it, and may answer it in
 *           vain.
 * Threads:  the loop's.
 * Errors:   negated errno, with a complaint for what is the operator's to mend.
 */
#ifndef PRODUCER_GATEWAY_HTTP_H
#define PRODUCER_GATEWAY_HTTP_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/settings.h"
#include "producer/gateway/listener.h"
#include "producer/gateway/request.h"

#define HTTP_CONNECTIONS_MAX  20000
#define HTTP_CONNECTION_BYTES 8192 /* of memory each; bounds the headers */
#define HTTP_BODIES_BYTES_MAX (256u << 20) /* of all requests under way */
#define HTTP_DISCARD_MAX      (32u << 20) /* read of a body that is not wanted */
#define HTTP_FDS_KEPT         64  /* descriptors that are not connections */
#define HTTP_LAST_MS          500 /* for the last answers to go out */

struct gateway;

struct http {
    struct gateway *gateway;
    const struct route *routes;
    size_t nroutes;
    struct MHD_Daemon *daemon;
    struct listener listener;
    struct loop_watch watch;
    char *cert, *cert_key; /* PEM texts, or NULL: plain HTTP */
    struct request *sleeping;
    struct request *kept; /* answered by http_stop(), connection gone */
    size_t body_bytes;    /* of bodies that are held */
    size_t unsent;        /* answers on their way out */
    bool woken;           /* somebody was, since the daemon had its turn */
    bool closing;         /* nobody may fall asleep any more */
};

/* Begins to answer at h->listener, which is open. */
int http_start(struct http *h, struct gateway *g, const struct route *routes,
               size_t nroutes, struct complaint *why);
/* Takes no more connections. */
void http_quiesce(struct http *h);
/* Answers all that still sleep with a 503, whatever they wait for, lets the
 * last answers out and hangs up. Harmless on zeroes, and when repeated. */
void http_stop(struct http *h);
/* After http_stop(), once nothing is under way for any request. */
void http_fini(struct http *h);

/* Does what there is to do: once a turn. */
void http_turn(struct http *h);
/* How long the loop may wait; -1: for ever. */
int http_timeout_ms(struct http *h);

/* For request.c: hands the answer to the connection and wakes it. */
void http_send(struct request *r, unsigned status,
               struct MHD_Response *response);

/* For responses that stream: sleep until woken, with the same watch. False:
 * the daemon is about to stop, and nobody may. */
bool http_sleep(struct request *r);
void http_wake(struct request *r);

#endif
