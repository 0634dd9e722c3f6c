#include "worker/e2b/guest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "worker/e2b/secret.h"

#define PORT_INTERPRETER 49999
#define PORT_ENVD        49983
/* Base64 of "user:". An old template keeps the envd it was built with, and
 * one before 0.4.0 chooses no user itself (protocol section 4.2). */
#define AS_USER       "Authorization: Basic dXNlcjo="
#define AGAIN_TRIES   4
#define AGAIN_MS      500 /* doubled for each further try */
#define AGAIN_MOST_MS 5000
#define ROUTE_MAX     1024 /* three bytes each for JOB_PATH_MAX, and more */
#define URL_MAX \
    (CONTROL_URL_MAX + CONTROL_DOMAIN_MAX + CONTROL_ID_MAX + ROUTE_MAX + 64)

/* Where E2B itself says that sandbox.<domain> works (protocol section 2.2). */
static bool is_e2bs(const char *domain)
{
    static const char *const known[] = {"e2b.app", "e2b.dev", "e2b.pro",
                                        "e2b-staging.dev"};

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strcmp(domain, known[i]) == 0)
            return true;
    return false;
}

void guest_route_init(struct guest_route *r, const struct settings *s)
{
    bool always = strcmp(s->e2b_shared_host, "always") == 0;
    bool automatic = strcmp(s->e2b_shared_host, "auto") == 0;

    r->fixed = s->e2b_sandbox_url;
    r->fixed_len = (int)strlen(r->fixed);
    while (r->fixed_len > 0 && r->fixed[r->fixed_len - 1] == '/')
        r->fixed_len--;
    r->automatic = automatic;
    atomic_init(&r->shared, always || automatic);
}

void guest_init(struct guest *g, const struct control *control,
                struct guest_route *route)
{
    *g = (struct guest){.control = control, .route = route};
    call_slot_init(&g->slot);
}

void guest_fini(struct guest *g)
{
    call_slot_fini(&g->slot);
}

void guest_found(struct guest *g, const struct control_sandbox *sandbox)
{
    g->sandbox = *sandbox;
    snprintf(g->id_header, sizeof(g->id_header), "E2b-Sandbox-Id: %s",
             sandbox->id);
    snprintf(g->token_header, sizeof(g->token_header), "X-Access-Token: %s",
             sandbox->token);
    snprintf(g->traffic_header, sizeof(g->traffic_header),
             "E2B-Traffic-Access-Token: %s", sandbox->traffic);
}

/* ---- one call ---------------------------------------------------------- */

static const char *domain_of(const struct guest *g)
{
    return g->sandbox.domain[0] ? g->sandbox.domain : g->control->domain;
}

/* A sandbox of a dedicated cluster has a domain of its own, whatever the
 * configured one. */
static bool is_shared(const struct guest *g)
{
    const struct guest_route *r = g->route;

    return !r->fixed[0] && atomic_load(&r->shared) &&
           (!r->automatic || is_e2bs(domain_of(g)));
}

static void make_url(const struct guest *g, bool shared, int port,
                     const char *path, char url[URL_MAX])
{
    if (g->route->fixed[0])
        snprintf(url, URL_MAX, "%.*s%s", g->route->fixed_len, g->route->fixed,
                 path);
    else if (shared)
        snprintf(url, URL_MAX, "https://sandbox.%s%s", domain_of(g), path);
    else
        snprintf(url, URL_MAX, "https://%d-%s.%s%s", port, g->sandbox.id,
                 domain_of(g), path);
}

/* A proxy that does not tell sandboxes apart by headers says so in plain text;
 * or there is no such host at all. */
static bool no_shared_host(const struct http_call *call)
{
    if (call->trouble == HTTP_NO_NAME || call->trouble == HTTP_NO_TLS)
        return true;
    return call->trouble == HTTP_FINE &&
           (call->status == 400 || call->status == 404) &&
           (call->answer.len == 0 || call->answer.text[0] != '{');
}

static void set_headers(struct guest *g, struct http_call *call,
                        const char *port_header)
{
    int n = 0;

    while (call->headers[n])
        n++;
    call->headers[n++] = g->id_header;
    call->headers[n++] = port_header;
    call->headers[n++] = g->token_header;
    if (g->sandbox.traffic[0])
        call->headers[n++] = g->traffic_header;
}

/* Stands between a call and who takes its data. */
struct ear {
    struct guest *guest;
    int (*data)(void *ctx, const char *data, size_t size);
    void *ctx;
};

static void hear(struct guest *g)
{
    if (g->heard)
        return;
    g->heard = true;
    if (g->answered)
        g->answered(g->ctx);
}

static int hear_data(void *ctx, const char *data, size_t size)
{
    struct ear *ear = ctx;

    hear(ear->guest);
    return ear->data(ear->ctx, data, size);
}

static void ask_once(struct guest *g, int port, const char *path,
                     struct http_call *call)
{
    bool shared = is_shared(g), fell_back = false;
    char url[URL_MAX];
    bool last = call->last;

    for (;;) {
        make_url(g, shared, port, path, url);
        call->url = url;
        call->last = last && !shared && !g->route->fixed[0];
        call_slot_do(&g->slot, g->control->http, call);
        if (!shared || !g->route->automatic || !no_shared_host(call))
            break;
        shared = false;
        fell_back = true;
    }
    call->url = NULL;
    call->last = last;
    /* Where neither is found, the network is to blame. */
    if (fell_back && call->status > 0 && !no_shared_host(call))
        atomic_store(&g->route->shared, false);
}

/* The proxy has passed nothing on (protocol section 2.5): 409 while the sandbox
 * changes its state, 429 with too many connections. Waits; false: that was
 * enough. */
static bool again_in_a_moment(struct guest *g, const struct http_call *call,
                              enum fault fault, int try)
{
    int64_t pause = AGAIN_MS << try;

    if (fault != FAULT_CONFLICT && fault != FAULT_RATE &&
        fault != FAULT_ACCOUNT)
        return false;
    if (call->retry_after_s >= 0)
        pause = call->retry_after_s * INT64_C(1000);
    return try + 1 < AGAIN_TRIES && clock_ms() + pause < call->deadline_ms &&
           pause <= AGAIN_MOST_MS && call_slot_nap(&g->slot, pause);
}

/* What a sandbox's host says of a call that failed: it may repeat all that it
 * was sent. */
static void tell(const struct guest *g, struct http_call *call, char *text)
{
    hide_in(&call->answer, g->sandbox.token);
    hide_in(&call->answer, g->sandbox.traffic);
    fault_text(call, text, CONTROL_TEXT_MAX);
    hide(text, g->sandbox.token); /* one that JSON had escaped */
    hide(text, g->sandbox.traffic);
}

static enum fault ask(struct guest *g, int port, const char *path,
                      struct http_call *call, char *text)
{
    struct ear ear = {g, call->data, call->ctx};
    char port_header[64];
    enum fault fault;
    int try = 0;

    snprintf(port_header, sizeof(port_header), "E2b-Sandbox-Port: %d", port);
    set_headers(g, call, port_header);
    if (call->data) {
        call->data = hear_data;
        call->ctx = &ear;
    }
    do {
        ask_once(g, port, path, call);
        fault = fault_of(call, PLANE_SANDBOX);
    } while (again_in_a_moment(g, call, fault, try++));
    if (call->status >= 200 && call->status < 300)
        hear(g);
    text[0] = '\0';
    if (fault != FAULT_NONE)
        tell(g, call, text);
    return fault;
}

/* ---- the interpreter --------------------------------------------------- */

/* A server may keep the connection open for as long as it likes. */
static int take_events(void *events, const char *data, size_t size)
{
    const struct events *e = events;
    int rc = events_feed(events, data, size);

    return rc == 0 && e->ended ? HTTP_OVER : rc;
}

enum fault guest_execute(struct guest *g, const struct strbuf *body,
                         int64_t deadline_ms, bool last, struct events *e,
                         char *text)
{
    struct http_call call = {
        .method = HTTP_POST,
        .headers = {"Content-Type: application/json",
                    "Accept: application/json"},
        .body = body->text,
        .body_size = body->len,
        .deadline_ms = deadline_ms,
        .stall_s = GUEST_STALL_S,
        .last = last,
        .data = take_events,
        .ctx = e,
    };
    enum fault fault = ask(g, PORT_INTERPRETER, "/execute", &call, text);

    events_last(e);
    if (call.trouble == HTTP_LATE && call.status / 100 == 2)
        fault = FAULT_LATE;
    if (call.rc == -ENOBUFS)
        fault = FAULT_FLOOD;
    if (call.rc == -EPROTO && e->why[0])
        snprintf(text, CONTROL_TEXT_MAX, "its stream makes no sense: %s",
                 e->why);
    http_call_fini(&call);
    return fault;
}

/* ---- envd -------------------------------------------------------------- */

static int take_process(void *process, const char *data, size_t size)
{
    const struct process *p = process;
    int rc = process_feed(process, data, size);

    return rc == 0 && p->ended ? HTTP_OVER : rc;
}

enum fault guest_start(struct guest *g, const struct strbuf *message,
                       int64_t timeout_ms, struct process *p, char *text)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    char ping[48], timeout[64];
    struct http_call call = {
        .method = HTTP_POST,
        .headers = {"Content-Type: application/connect+json",
                    "Connect-Protocol-Version: 1", AS_USER, ping, timeout},
        .deadline_ms = clock_ms() + timeout_ms,
        .stall_s = GUEST_STALL_S,
        .data = take_process,
        .ctx = p,
    };
    enum fault fault;

    snprintf(ping, sizeof(ping), "Keepalive-Ping-Interval: %d", GUEST_PING_S);
    /* Ours comes first; envd's is for when we are gone. */
    snprintf(timeout, sizeof(timeout), "Connect-Timeout-Ms: %" PRId64,
             timeout_ms + 2000);
    envelope_wrap(message->text, message->len, &body);
    if (body.failed || message->failed) {
        snprintf(text, CONTROL_TEXT_MAX, "no memory");
        return FAULT_AWAY;
    }
    call.body = body.text;
    call.body_size = body.len;
    p->secrets[0] = g->sandbox.token;
    p->secrets[1] = g->sandbox.traffic;
    fault = ask(g, PORT_ENVD, "/process.Process/Start", &call, text);
    /* An envd that says so before our own time is wrong. */
    if ((call.trouble == HTTP_LATE && call.status / 100 == 2) ||
        (strcmp(p->code, "deadline_exceeded") == 0 &&
         clock_ms() >= call.deadline_ms))
        fault = FAULT_LATE;
    if (call.rc == -ENOBUFS)
        fault = FAULT_FLOOD;
    if (call.rc == -EPROTO && p->why[0])
        snprintf(text, CONTROL_TEXT_MAX, "its stream makes no sense: %s",
                 p->why);
    http_call_fini(&call);
    return fault;
}

enum fault guest_upload(struct guest *g, const char *path,
                        const struct http_part *parts, size_t nparts,
                        char *text)
{
    AUTO_STRBUF struct strbuf route = STRBUF_INIT;
    struct http_call call = {
        .method = HTTP_POST,
        .headers = {"Accept: application/json"},
        .parts = parts,
        .nparts = nparts,
        .deadline_ms = clock_ms() + GUEST_FILE_MS,
        .stall_s = GUEST_STALL_S,
    };
    enum fault fault;

    strbuf_adds(&route, "/files?username=user");
    if (path) {
        strbuf_adds(&route, "&path=");
        http_encode(&route, path, 1);
    }
    if (route.failed || route.len > ROUTE_MAX) {
        snprintf(text, CONTROL_TEXT_MAX, "path too long");
        return FAULT_REFUSED;
    }
    fault = ask(g, PORT_ENVD, route.text, &call, text);
    http_call_fini(&call);
    return fault;
}

struct bounded {
    struct strbuf *out;
    size_t most;
};

static int take_bounded(void *ctx, const char *data, size_t size)
{
    struct bounded *b = ctx;

    if (size > b->most - b->out->len)
        return -EFBIG;
    strbuf_add(b->out, data, size);
    return b->out->failed ? -ENOMEM : 0;
}

enum fault guest_download(struct guest *g, const char *path, size_t most,
                          int64_t deadline_ms, struct strbuf *out,
                          int *status_out, char *text)
{
    AUTO_STRBUF struct strbuf route = STRBUF_INIT;
    struct bounded bounded = {out, most};
    struct http_call call = {
        .method = HTTP_GET,
        .deadline_ms = deadline_ms,
        .stall_s = GUEST_STALL_S,
        .data = take_bounded,
        .ctx = &bounded,
    };
    enum fault fault;

    strbuf_adds(&route, "/files?username=user&path=");
    http_encode(&route, path, 1);
    if (route.failed || route.len > ROUTE_MAX) {
        snprintf(text, CONTROL_TEXT_MAX, "path too long");
        *status_out = 400;
        return FAULT_REFUSED;
    }
    fault = ask(g, PORT_ENVD, route.text, &call, text);
    *status_out = call.status;
    if (call.rc == -EFBIG)
        fault = FAULT_FLOOD;
    http_call_fini(&call);
    return fault;
}

/* Connect's own word, that no proxy uses. */
static bool says_not_found(const struct http_call *call)
{
    char code[16];

    fault_said(call, "code", code, sizeof(code));
    return strcmp(code, "not_found") == 0;
}

/* A unary call of filesystem.Filesystem: the JSON answer, {} for what is not
 * there. */
static enum fault ask_filesystem(struct guest *g, const char *route,
                                 const struct strbuf *body, int64_t deadline_ms,
                                 struct strbuf *out, char *text)
{
    struct http_call call = {
        .method = HTTP_POST,
        .headers = {"Content-Type: application/json",
                    "Connect-Protocol-Version: 1", AS_USER},
        .body = body->text,
        .body_size = body->len,
        .deadline_ms = deadline_ms,
        .stall_s = GUEST_STALL_S,
    };
    enum fault fault;

    if (body->failed) {
        snprintf(text, CONTROL_TEXT_MAX, "no memory");
        return FAULT_AWAY;
    }
    fault = ask(g, PORT_ENVD, route, &call, text);
    if (fault == FAULT_NONE) {
        strbuf_add(out, call.answer.text, call.answer.len);
    } else if (fault == FAULT_GONE && says_not_found(&call)) {
        strbuf_adds(out, "{}");
        fault = FAULT_NONE;
    }
    http_call_fini(&call);
    return fault;
}

enum fault guest_list(struct guest *g, struct strbuf *out, char *text)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;

    strbuf_addf(&body, "{\"path\":\"" GUEST_HOME "\",\"depth\":%d}",
                GUEST_DEPTH);
    return ask_filesystem(g, "/filesystem.Filesystem/ListDir", &body,
                          clock_ms() + GUEST_LIST_MS, out, text);
}

enum fault guest_stat(struct guest *g, const char *path, int64_t deadline_ms,
                      struct strbuf *out, char *text)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT, full = STRBUF_INIT;

    strbuf_addf(&full, GUEST_HOME "/%s", path);
    strbuf_adds(&body, "{\"path\":");
    strbuf_add_json(&body, full.text, full.len);
    strbuf_addc(&body, '}');
    body.failed = body.failed || full.failed;
    return ask_filesystem(g, "/filesystem.Filesystem/Stat", &body, deadline_ms,
                          out, text);
}
