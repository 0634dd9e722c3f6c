#include "producer/gateway/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "common/scope.h"
#include "producer/gateway/admit.h"
#include "producer/gateway/gateway.h"

#define PEM_BYTES_MAX (1u << 20)

/* ---- sleeping and waking ------------------------------------------------ */

static void on_hangup(void *ctx, uint32_t events)
{
    struct request *r = ctx;

    (void)events;
    loop_remove(&r->gateway->loop, &r->watch);
    r->gone = true;
    if (r->abandon)
        r->abandon(r, ABANDON_GONE);
}

bool http_sleep(struct request *r)
{
    struct http *h = r->gateway->http;

    if (h->closing)
        return false;
    MHD_suspend_connection(r->connection);
    r->asleep = true;
    r->gateway->asleep++;
    r->next = h->sleeping;
    r->prev = NULL;
    if (r->next)
        r->next->prev = r;
    h->sleeping = r;
    return true;
}

void http_wake(struct request *r)
{
    struct http *h = r->gateway->http;

    if (!r->asleep)
        return;
    if (r->next)
        r->next->prev = r->prev;
    if (r->prev)
        r->prev->next = r->next;
    else
        h->sleeping = r->next;
    r->asleep = false;
    r->gateway->asleep--;
    loop_remove(&r->gateway->loop, &r->watch);
    MHD_resume_connection(r->connection);
    h->woken = true;
}

/* While it sleeps nobody else looks at its socket. A client that only closed
 * its sending side is taken for gone, as most servers do. */
void request_watch(struct request *r)
{
    if (r->asleep && r->peer && !r->watch.events) {
        r->watch =
            (struct loop_watch){.fd = r->peer->fd, .act = on_hangup, .ctx = r};
        loop_add(&r->gateway->loop, &r->watch, EPOLLRDHUP);
    }
}

void http_send(struct request *r, unsigned status,
               struct MHD_Response *response)
{
    r->gateway->requests[status / 100 % 6]++;
    r->sending = true;
    r->gateway->http->unsent++;
    /* Without memory for an answer there is none. */
    r->dropped = !response ||
                 MHD_queue_response(r->connection, status, response) != MHD_YES;
    http_wake(r);
}

/* ---- the daemon's callbacks --------------------------------------------- */

static struct request *make_request(struct http *h, struct MHD_Connection *c)
{
    struct request *r = calloc(1, sizeof(*r));
    const union MHD_ConnectionInfo *info;

    if (!r)
        return NULL;
    r->gateway = h->gateway;
    r->connection = c;
    r->begun_us = clock_us();
    info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->peer = info ? info->socket_context : NULL;
    return r;
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *c,
                             const struct admit_head *head, void **state)
{
    struct request *r = make_request(h, c);

    if (!r)
        return MHD_NO;
    *state = r;
    peer_enter(r->peer, PEER_BODY);
    routes_match(h->routes, h->nroutes, head->method, admit_path(head->target),
                 &r->match);
    admit(r, head);
    return r->dropped ? MHD_NO : MHD_YES;
}

void request_release_body(struct request *r)
{
    r->gateway->http->body_bytes -= r->body_held;
    r->body_held = 0;
}

/* Or does without, and is told so at its end. */
static void keep_body(struct request *r, const char *data, size_t size)
{
    struct http *h = r->gateway->http;

    if (h->body_bytes + size > HTTP_BODIES_BYTES_MAX) {
        strbuf_fini(&r->body);
        request_release_body(r);
        r->body.failed = true;
        return;
    }
    h->body_bytes += size;
    r->body_held += size;
    strbuf_add(&r->body, data, size);
}

static enum MHD_Result discard(struct request *r, size_t *size)
{
    r->discarded += *size;
    *size = 0;
    return r->discarded > HTTP_DISCARD_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result take_body(struct request *r, const char *data,
                                 size_t *size)
{
    bool wanted = r->match.route && (r->match.route->flags & ROUTE_BODY);

    if (r->answered || r->oversized || !wanted)
        return discard(r, size);
    if (r->body.len + *size > r->body_max) {
        /* One whose length was not told. */
        r->oversized = true;
        strbuf_fini(&r->body);
        request_release_body(r);
        return discard(r, size);
    }
    keep_body(r, data, *size);
    *size = 0;
    return MHD_YES;
}

static void send_deferred(struct request *r)
{
    struct MHD_Response *response = r->deferred;

    r->deferred = NULL;
    http_send(r, r->deferred_status, response);
    MHD_destroy_response(response);
}

static void answer_closing(struct request *r)
{
    r->retry_after_s = REQUEST_RETRY_S;
    request_answer_error(r, 503, "shutting_down", NULL,
                         "the gateway is ending; what was asked for may still "
                         "be done");
}

static void run(struct request *r)
{
    peer_enter(r->peer, PEER_WAITING);
    if (r->gateway->http->closing)
        answer_closing(r);
    else if (r->oversized)
        request_answer_error(r, 413, "too_large", NULL,
                             "more than %zu bytes of body", r->body_max);
    else if (r->body.failed)
        request_answer_redis(r, -ENOMEM);
    else
        r->match.route->handle(r);
    if (!r->answered)
        http_sleep(r);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *data,
                                  size_t *size, void **state)
{
    struct request *r = *state;

    if (!r)
        return begin(cls, connection,
                     &(struct admit_head){method, url, version}, state);
    if (*size > 0)
        return take_body(r, data, size);
    if (r->deferred)
        send_deferred(r);
    else if (!r->answered && !r->asleep)
        run(r);
    return r->dropped ? MHD_NO : MHD_YES;
}

static void free_request(struct request *r)
{
    if (r->free_state)
        r->free_state(r->state);
    free(r);
}

static void on_completed(void *cls, struct MHD_Connection *connection,
                         void **state, enum MHD_RequestTerminationCode why)
{
    struct request *r = *state;
    struct http *h = cls;

    (void)connection;
    (void)why;
    if (!r)
        return;
    *state = NULL;
    MUST(!r->asleep);
    peer_enter(r->peer, PEER_HEAD);
    h->unsent -= r->sending;
    strbuf_fini(&r->body);
    request_release_body(r);
    if (r->deferred)
        MHD_destroy_response(r->deferred);
    if (!r->sent_home) {
        free_request(r);
        return;
    }
    r->connection = NULL;
    r->peer = NULL;
    r->next = h->kept;
    h->kept = r;
}

static void on_connection(void *cls, struct MHD_Connection *connection,
                          void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http *h = cls;
    const union MHD_ConnectionInfo *address, *fd;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        peers_remove(&h->gateway->peers, *context);
        *context = NULL;
        return;
    }
    address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (fd)
        *context =
            peers_add(&h->gateway->peers, address ? address->client_addr : NULL,
                      fd->connect_fd);
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *from,
                                 socklen_t size)
{
    struct http *h = cls;

    (void)size;
    return peers_let_in(&h->gateway->peers, from) ? MHD_YES : MHD_NO;
}

/* Paths and queries stay as they came: routes.c undoes the encoding. */
static size_t keep_encoded(void *cls, struct MHD_Connection *connection,
                           char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

/* What clients do wrong is not worth a line each. */
__attribute__((format(printf, 2, 0))) static void
on_log(void *cls, const char *fmt, va_list args)
{
    char text[256];

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http", LOG_S("says", text), LOG_END);
}

/* ---- life --------------------------------------------------------------- */

static int read_pem(const char *file, const char *setting, char **out,
                    struct complaint *why)
{
    size_t size;
    int rc = io_read_file(file, PEM_BYTES_MAX, out, &size);

    if (rc < 0)
        return complain(why, setting, "cannot read the file: %s",
                        strerror(-rc));
    return 0;
}

static int read_certificate(struct http *h, const struct settings *s,
                            struct complaint *why)
{
    int rc;

    if (!*s->api_cert)
        return 0;
    rc = read_pem(s->api_cert, "CAPIBOX_API_CERT", &h->cert, why);
    if (rc == 0)
        rc = read_pem(s->api_cert_key, "CAPIBOX_API_CERT_KEY", &h->cert_key,
                      why);
    return rc;
}

/* As many connections as there are descriptors for. */
static unsigned connections_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return HTTP_CONNECTIONS_MAX / 20;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= HTTP_CONNECTIONS_MAX + HTTP_FDS_KEPT)
        return HTTP_CONNECTIONS_MAX;
    return limit.rlim_cur > 2 * HTTP_FDS_KEPT
               ? (unsigned)limit.rlim_cur - HTTP_FDS_KEPT
               : HTTP_FDS_KEPT;
}

static void on_daemon(void *ctx, uint32_t events)
{
    (void)ctx;
    (void)events; /* http_turn() comes in every turn */
}

static int start_daemon(struct http *h)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO |
                     MHD_USE_ERROR_LOG | (h->cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, h->cert_key},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};

    h->daemon = MHD_start_daemon(
        flags, 0, on_accept, h, on_request, h, MHD_OPTION_EXTERNAL_LOGGER,
        on_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->listener.fd,
        /* 1 would refuse in its own words, and twice; admit() does it. */
        MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_CONNECTION_LIMIT,
        connections_max(), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)PEERS_ANSWER_S, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL, MHD_OPTION_ARRAY,
        h->cert ? tls : plain, MHD_OPTION_END);
    return h->daemon ? 0 : -EIO;
}

int http_start(struct http *h, struct gateway *g, const struct route *routes,
               size_t nroutes, struct complaint *why)
{
    const union MHD_DaemonInfo *info;
    int rc = read_certificate(h, g->settings, why);

    if (rc < 0)
        return rc;
    h->gateway = g;
    h->routes = routes;
    h->nroutes = nroutes;
    if (start_daemon(h) < 0)
        return complain(why, h->cert ? "CAPIBOX_API_CERT" : NULL,
                        h->cert ? "the certificate and its key do not serve"
                                : "the HTTP daemon does not start");
    h->listener.fd = -1; /* the daemon's now */
    info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    h->watch =
        (struct loop_watch){.fd = info->epoll_fd, .act = on_daemon, .ctx = h};
    return loop_add(&g->loop, &h->watch, EPOLLIN);
}

void http_quiesce(struct http *h)
{
    int fd = MHD_quiesce_daemon(h->daemon);

    if (fd >= 0)
        close(fd);
}

/* Whoever does not know how to end is ended here: MHD_stop_daemon() aborts if
 * one still sleeps. */
static void send_home(struct request *r)
{
    if (r->abandon)
        r->abandon(r, ABANDON_DRAIN);
    if (!r->answered) {
        r->sent_home = true;
        answer_closing(r);
    }
    http_wake(r); /* one that streams was answered long ago */
}

static void stop_daemon(struct http *h)
{
    int64_t until = clock_ms() + HTTP_LAST_MS;

    h->closing = true;
    while (h->sleeping)
        send_home(h->sleeping);
    while (h->unsent > 0 && clock_ms() < until)
        MHD_run_wait(h->daemon, clock_left_ms(until));
    loop_remove(&h->gateway->loop, &h->watch);
    MHD_stop_daemon(h->daemon);
    h->daemon = NULL;
}

void http_stop(struct http *h)
{
    if (h->daemon)
        stop_daemon(h);
    if (h->listener.fd >= 0)
        close(h->listener.fd);
    h->listener.fd = -1;
}

void http_fini(struct http *h)
{
    while (h->kept) {
        struct request *next = h->kept->next;

        free_request(h->kept);
        h->kept = next;
    }
    free(h->cert);
    free(h->cert_key);
    *h = (struct http){.listener.fd = -1};
}

void http_turn(struct http *h)
{
    h->woken = false;
    MHD_run(h->daemon);
}

int http_timeout_ms(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;

    if (h->woken)
        return 0;
    if (MHD_get_timeout(h->daemon, &ms) != MHD_YES)
        return -1;
    return ms > 1000 ? 1000 : (int)ms;
}
