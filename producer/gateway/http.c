#include "producer/gateway/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "common/scope.h"
#include "producer/gateway/apijob.h"
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

void http_sleep(struct request *r)
{
    struct http *h = r->gateway->http;

    MHD_suspend_connection(r->connection);
    r->asleep = true;
    r->gateway->asleep++;
    r->next = h->sleeping;
    r->prev = NULL;
    if (r->next)
        r->next->prev = r;
    h->sleeping = r;
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
    /* Without memory for an answer there is none. */
    r->dropped = !response ||
                 MHD_queue_response(r->connection, status, response) != MHD_YES;
    http_wake(r);
}

/* ---- who may ask -------------------------------------------------------- */

/* Is it one of the comma-separated ones, or are all welcome? */
static bool listed(const char *list, const char *origin)
{
    size_t size = strlen(origin);

    while (*list) {
        size_t len = strcspn(list, ", ");

        if ((len == size && memcmp(list, origin, len) == 0) ||
            (len == 1 && *list == '*'))
            return true;
        list += len;
        list += strspn(list, ", ");
    }
    return false;
}

const char *http_allowed_origin(const struct request *r)
{
    const char *list = r->gateway->settings->api_origins;
    const char *origin = *list ? request_header(r, "Origin") : NULL;

    return origin && listed(list, origin) ? origin : NULL;
}

/* A page of somebody else's must not make a browser run code here. */
static bool origin_fits(const struct request *r)
{
    const char *origin = request_header(r, "Origin");
    const char *host = request_header(r, "Host");
    const char *at;

    if (!origin || http_allowed_origin(r))
        return true;
    at = strstr(origin, "://");
    return at && host && !strcasecmp(at + 3, host);
}

/* Without keys only loopback's own names will do: a name of somebody else's
 * that leads here is an attack on the browser that follows it. */
static bool host_fits(const struct request *r)
{
    const char *host = request_header(r, "Host");
    size_t len;

    if (r->gateway->keyed || !host)
        return true;
    len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    return (len == 9 && !strncasecmp(host, "localhost", 9)) ||
           (len == 5 && !strncmp(host, "[::1]", 5)) ||
           (len >= 7 && !strncmp(host, "127.", 4) &&
            strspn(host, "0123456789.") == len);
}

static struct holder *holder_of(const struct request *r)
{
    const char *key = request_header(r, "X-API-Key");
    const char *bearer = request_header(r, "Authorization");

    if (bearer && !strncasecmp(bearer, "Bearer ", 7))
        key = bearer + 7 + strspn(bearer + 7, " ");
    if (!key || strlen(key) > KEYS_LENGTH_MAX)
        return NULL;
    return keys_find(&r->gateway->keys, key, strlen(key));
}

static void answer_unauthorized(struct request *r)
{
    static const char TEXT[] =
        "{\"error\":{\"code\":\"unauthorized\",\"message\":\"a key is needed: "
        "send Authorization: Bearer KEY, or X-API-Key: KEY\"}}\n";
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sizeof(TEXT) - 1, (void *)(uintptr_t)TEXT, MHD_RESPMEM_PERSISTENT);

    if (response) {
        MHD_add_response_header(response, "Content-Type", "application/json");
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    }
    request_answer(r, 401, response, NULL);
}

/* False: answered. */
static bool let_in(struct request *r)
{
    const struct gateway *g = r->gateway;
    double wait_s;

    if (!g->keyed || (r->match.route->flags & ROUTE_OPEN))
        return true;
    r->holder = holder_of(r);
    if (!r->holder) {
        answer_unauthorized(r);
        return false;
    }
    wait_s =
        bucket_take(&r->holder->requests, g->settings->api_rate, clock_ms());
    if (wait_s > 0) {
        r->retry_after_s = (int)wait_s + 1;
        request_answer_error(r, 429, "rate_limited", NULL,
                             "more than %lld requests a second with this key",
                             (long long)g->settings->api_rate);
        return false;
    }
    return true;
}

/* ---- what it says ------------------------------------------------------- */

static bool is_json(const char *type)
{
    return type && !strncasecmp(type, "application/json", 16) &&
           strchr("; \t", type[16]);
}

struct framing {
    int lengths, encodings;
    bool odd;
};

static enum MHD_Result note_header(void *cls, enum MHD_ValueKind kind,
                                   const char *name, const char *value)
{
    struct framing *f = cls;

    (void)kind;
    f->lengths += !strcasecmp(name, "Content-Length");
    if (!strcasecmp(name, "Transfer-Encoding")) {
        f->encodings++;
        f->odd = f->odd || !value || strcasecmp(value, "chunked") != 0;
    }
    /* "Content-Length : 5" is none to the daemon. */
    f->odd = f->odd || strpbrk(name, " \t");
    return MHD_YES;
}

/* Whoever is in front of us may see the body's end elsewhere, and then a
 * request of somebody else's in what follows: nothing is read behind it. False:
 * answered. */
static bool length_fits(struct request *r)
{
    struct framing f = {0};

    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, note_header, &f);
    if (f.lengths + f.encodings <= 1 && !f.odd)
        return true;
    r->last = true;
    request_answer_error(r, 400, "ambiguous_length", NULL,
                         "the body's length must be told once, by "
                         "Content-Length or Transfer-Encoding: chunked");
    return false;
}

/* False: answered. */
static bool body_fits(struct request *r)
{
    const char *length = request_header(r, "Content-Length");

    if (!(r->match.route->flags & ROUTE_BODY))
        return true;
    if (!is_json(request_header(r, "Content-Type"))) {
        request_answer_error(r, 415, "unsupported_media_type", NULL,
                             "the body must be application/json");
        return false;
    }
    if (length && strtoull(length, NULL, 10) > r->body_max) {
        request_answer_error(r, 413, "too_large", NULL,
                             "more than %zu bytes of body", r->body_max);
        return false;
    }
    return true;
}

static void answer_options(struct request *r)
{
    const char *wanted = request_header(r, "Access-Control-Request-Headers");
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

    if (response) {
        MHD_add_response_header(response, "Allow", r->match.allow);
        if (http_allowed_origin(r)) {
            MHD_add_response_header(response, "Access-Control-Allow-Methods",
                                    r->match.allow);
            if (wanted)
                MHD_add_response_header(
                    response, "Access-Control-Allow-Headers",
                    "Authorization, Content-Type, Prefer, X-API-Key, "
                    "Last-Event-ID");
            MHD_add_response_header(response, "Access-Control-Max-Age", "600");
        }
    }
    request_answer(r, 204, response, NULL);
}

static void answer_not_allowed(struct request *r)
{
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    struct MHD_Response *response;

    strbuf_addf(&json,
                "{\"error\":{\"code\":\"method_not_allowed\",\"message\":"
                "\"this path takes %s\"}}\n",
                r->match.allow);
    response = MHD_create_response_from_buffer(json.len, json.text,
                                               MHD_RESPMEM_MUST_COPY);
    if (response) {
        MHD_add_response_header(response, "Content-Type", "application/json");
        MHD_add_response_header(response, "Allow", r->match.allow);
    }
    request_answer(r, 405, response, NULL);
}

/* False: answered. */
static bool route_fits(struct request *r, const char *method)
{
    bool options = !strcmp(method, "OPTIONS");

    if (!host_fits(r))
        request_answer_error(r, 421, "wrong_host", "Host",
                             "without keys only localhost is answered");
    else if (!r->match.allow[0])
        request_answer_error(r, 404, "not_found", NULL, "no such path");
    else if (options)
        answer_options(r);
    else if (!r->match.route)
        answer_not_allowed(r);
    else if (r->match.malformed)
        request_answer_error(r, 400, "malformed_path", NULL,
                             "the path is not percent-encoded UTF-8, holds a "
                             "NUL, or is too long");
    else if (strcmp(r->match.route->method, "GET") != 0 && !origin_fits(r))
        request_answer_error(r, 403, "origin_not_allowed", "Origin",
                             "pages of this origin may not do that");
    return !r->answered;
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

/* Is there a body that is better read to its end than cut off? */
static bool body_follows(const struct request *r)
{
    const char *length = request_header(r, "Content-Length");
    unsigned long long bytes = length ? strtoull(length, NULL, 10) : 0;

    if (request_header(r, "Expect"))
        return false;
    return (bytes > 0 && bytes <= HTTP_DISCARD_MAX) ||
           request_header(r, "Transfer-Encoding");
}

static void check(struct request *r, const char *method)
{
    r->deferring = body_follows(r);
    if (length_fits(r) && route_fits(r, method)) {
        r->head_only = !strcmp(method, "HEAD");
        r->body_max = r->match.route->flags & ROUTE_BATCH
                          ? APIJOB_BATCH_BYTES_MAX
                          : JOB_BYTES_MAX + APIJOB_OWN_BYTES;
        if (let_in(r))
            body_fits(r);
    }
    r->deferring = false;
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *c,
                             const char *path, const char *method, void **state)
{
    struct request *r = make_request(h, c);

    if (!r)
        return MHD_NO;
    *state = r;
    peer_enter(r->peer, PEER_BODY);
    routes_match(h->routes, h->nroutes, method, path, &r->match);
    check(r, method);
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

static void run(struct request *r)
{
    peer_enter(r->peer, PEER_WAITING);
    if (r->oversized)
        request_answer_error(r, 413, "too_large", NULL,
                             "the body is too large");
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

    (void)version;
    if (!r)
        return begin(cls, connection, url, method, state);
    if (*size > 0)
        return take_body(r, data, size);
    if (r->deferred)
        send_deferred(r);
    else if (!r->answered && !r->asleep)
        run(r);
    return r->dropped ? MHD_NO : MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection,
                         void **state, enum MHD_RequestTerminationCode why)
{
    struct request *r = *state;

    (void)cls;
    (void)connection;
    (void)why;
    if (!r)
        return;
    *state = NULL;
    MUST(!r->asleep);
    peer_enter(r->peer, PEER_HEAD);
    if (r->free_state)
        r->free_state(r->state);
    strbuf_fini(&r->body);
    request_release_body(r);
    if (r->deferred)
        MHD_destroy_response(r->deferred);
    free(r);
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

/* ---- the address -------------------------------------------------------- */

/* "host:port", "[::1]:port", ":port" is all addresses. */
static bool split(const char *text, char host[256], char port[16])
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;

    if (!colon || len >= 256 || strlen(colon + 1) >= 16 || !colon[1] ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return false;
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    strcpy(port, colon + 1);
    return strtoul(port, NULL, 10) <= 65535;
}

static bool is_loopback(const struct sockaddr *sa)
{
    const struct sockaddr_in *in = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;

    if (sa->sa_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int listen_on(const struct addrinfo *ai, int *fd_out)
{
    AUTO_FD int fd =
        socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
        listen(fd, HTTP_BACKLOG) < 0)
        return -errno;
    *fd_out = TAKE_FD(fd);
    return 0;
}

/* The port may have been 0: any. */
static void note_address(struct http *h)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof(at);
    char host[96], port[16];

    if (getsockname(h->listener, (struct sockaddr *)&at, &size) == 0 &&
        getnameinfo((struct sockaddr *)&at, size, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(h->address, sizeof(h->address),
                 strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static int listen_if_safe(struct http *h, const struct settings *s,
                          const struct addrinfo *found, struct complaint *why)
{
    int rc;

    h->loopback = is_loopback(found->ai_addr);
    if (!h->loopback && !*s->api_keys)
        return complain(why, "CAPIBOX_API_LISTEN",
                        "\"%.100s\" can be reached from other hosts, and no "
                        "keys are set; give CAPIBOX_API_KEYS, or a loopback "
                        "address",
                        s->api_listen);
    rc = listen_on(found, &h->listener);
    if (rc < 0)
        return complain(why, "CAPIBOX_API_LISTEN",
                        "cannot listen on \"%.100s\": %s", s->api_listen,
                        strerror(-rc));
    note_address(h);
    return 0;
}

int http_bind(struct http *h, const struct settings *s, struct complaint *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char host[256], port[16];
    int rc;

    *h = (struct http){.listener = -1};
    if (!split(s->api_listen, host, port))
        return complain(why, "CAPIBOX_API_LISTEN",
                        "\"%.100s\" is no address; give HOST:PORT such as "
                        "127.0.0.1:8080 or [::1]:8080",
                        s->api_listen);
    rc = getaddrinfo(*host ? host : NULL, port, &hints, &found);
    if (rc != 0)
        return complain(why, "CAPIBOX_API_LISTEN", "\"%.100s\": %s",
                        s->api_listen, gai_strerror(rc));
    rc = listen_if_safe(h, s, found, why);
    freeaddrinfo(found);
    return rc;
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
        on_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->listener,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_LIMIT,
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
    h->listener = -1; /* the daemon's now */
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

void http_stop(struct http *h)
{
    if (h->daemon) {
        loop_remove(&h->gateway->loop, &h->watch);
        MHD_stop_daemon(h->daemon);
    }
    if (h->listener >= 0)
        close(h->listener);
    free(h->cert);
    free(h->cert_key);
    *h = (struct http){.listener = -1};
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
