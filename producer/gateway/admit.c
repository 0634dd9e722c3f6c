#include "producer/gateway/admit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/scope.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/http.h"

/* ---- whom it is for ----------------------------------------------------- */

/* Space behind a header's value is no part of it (RFC 9110 section 5.5). */
static size_t trimmed(const char *value)
{
    size_t size = strlen(value);

    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t'))
        size--;
    return size;
}

/* Behind the scheme of a target that is a whole URL, else NULL. */
static const char *authority(const char *target)
{
    if (!strncasecmp(target, "http://", 7))
        return target + 7;
    return !strncasecmp(target, "https://", 8) ? target + 8 : NULL;
}

const char *admit_path(const char *target)
{
    const char *host = authority(target);
    const char *path = host ? host + strcspn(host, "/") : target;

    return host && !*path ? "/" : path;
}

struct host {
    const char *text; /* NULL: nobody said */
    size_t size;
};

/* A target that is a whole URL says it, whatever the header does. */
static struct host host_of(const struct request *r, const char *target)
{
    struct host host = {.text = authority(target)};

    if (host.text) {
        host.size = strcspn(host.text, "/");
        return host;
    }
    host.text = request_header(r, "Host");
    host.size = host.text ? trimmed(host.text) : 0;
    return host;
}

/* ---- who may ask -------------------------------------------------------- */

/* Is it one of the comma-separated ones, or are all welcome? */
static bool listed(const char *list, const char *origin)
{
    size_t size = strlen(origin);

    while (*list) {
        size_t len = strcspn(list, ", ");

        if ((len == size && strncasecmp(list, origin, len) == 0) ||
            (len == 1 && *list == '*'))
            return true;
        list += len;
        list += strspn(list, ", ");
    }
    return false;
}

static size_t span_host(const char *s)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    size_t len;

    if (*s != '[')
        return strspn(s, LETTERS);
    len = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");
    return len > 1 && s[len] == ']' ? len + 1 : 0;
}

/* Browsers leave out the port that everybody uses. */
static bool is_usual_port(const char *origin, const char *port)
{
    return (!strncasecmp(origin, "http:", 5) && !strcmp(port, "80")) ||
           (!strncasecmp(origin, "https:", 6) && !strcmp(port, "443"));
}

/* scheme://host[:port] */
static bool is_origin(const char *text)
{
    const char *s = strstr(text, "://");
    size_t host;

    if (!s || s == text ||
        (size_t)(s - text) !=
            strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789+.-"))
        return false;
    s += 3;
    host = span_host(s);
    s += host;
    if (host == 0 || *s == '\0')
        return host > 0;
    return *s == ':' && s[1] >= '1' && s[1] <= '9' &&
           strspn(s + 1, "0123456789") == strlen(s + 1) && strlen(s + 1) <= 5 &&
           strtoul(s + 1, NULL, 10) <= 65535 && !is_usual_port(text, s + 1);
}

int admit_check_origins(const char *list, struct complaint *why)
{
    char one[300];

    for (list += strspn(list, ", "); *list; list += strspn(list, ", ")) {
        size_t len = strcspn(list, ", ");

        snprintf(one, sizeof(one), "%.*s", (int)len, list);
        if (len >= sizeof(one) || (strcmp(one, "*") != 0 && !is_origin(one)))
            return complain(why, "CAPIBOX_API_ORIGINS",
                            "\"%.100s\" is no origin as browsers send it; give "
                            "scheme://host[:port] such as https://app.example "
                            "(without a path or the usual port), or *",
                            one);
        list += len;
    }
    return 0;
}

const char *admit_origin(const struct request *r)
{
    const char *list = r->gateway->settings->api_origins;
    const char *origin = *list ? request_header(r, "Origin") : NULL;

    return origin && listed(list, origin) ? origin : NULL;
}

/* A page of somebody else's must not make a browser run code here. */
static bool origin_fits(const struct request *r, const struct host *host)
{
    const char *origin = request_header(r, "Origin");
    const char *at;

    if (!origin || admit_origin(r))
        return true;
    at = strstr(origin, "://");
    return at && host->text && trimmed(at + 3) == host->size &&
           !strncasecmp(at + 3, host->text, host->size);
}

/* Without keys only loopback's own names will do: a name of somebody else's
 * that leads here is an attack on the browser that follows it. */
static bool host_fits(const struct request *r, const struct host *host)
{
    const char *text = host->text;
    size_t len;

    if (r->gateway->keyed || !text)
        return true;
    len = text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":/");
    if (len > host->size)
        len = host->size;
    return (len == 9 && !strncasecmp(text, "localhost", 9)) ||
           (len == 5 && !strncmp(text, "[::1]", 5)) ||
           (len >= 7 && !strncmp(text, "127.", 4) &&
            strspn(text, "0123456789.") == len);
}

static struct holder *holder_of(const struct request *r)
{
    const char *key = request_header(r, "X-API-Key");
    const char *bearer = request_header(r, "Authorization");

    if (bearer && !strncasecmp(bearer, "Bearer ", 7))
        key = bearer + 7 + strspn(bearer + 7, " ");
    if (!key || trimmed(key) > KEYS_LENGTH_MAX)
        return NULL;
    return keys_find(&r->gateway->keys, key, trimmed(key));
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
    int hosts, lengths, encodings;
    bool odd;     /* the length */
    bool encoded; /* the content */
};

static bool is_identity(const char *encoding)
{
    size_t size = trimmed(encoding);

    return size == 0 || (size == 8 && !strncasecmp(encoding, "identity", 8));
}

static enum MHD_Result note_header(void *cls, enum MHD_ValueKind kind,
                                   const char *name, const char *value)
{
    struct framing *f = cls;

    (void)kind;
    f->hosts += !strcasecmp(name, "Host");
    f->lengths += !strcasecmp(name, "Content-Length");
    if (!strcasecmp(name, "Transfer-Encoding")) {
        f->encodings++;
        f->odd = f->odd || !value || strcasecmp(value, "chunked") != 0;
    }
    if (!strcasecmp(name, "Content-Encoding"))
        f->encoded = f->encoded || (value && !is_identity(value));
    /* "Content-Length : 5" is none to the daemon. */
    f->odd = f->odd || strpbrk(name, " \t");
    return MHD_YES;
}

/* Whoever is in front of us may see the body's end elsewhere, and then a
 * request of somebody else's in what follows: nothing is read behind it. */
static void answer_ambiguous(struct request *r)
{
    r->last = true;
    request_answer_error(r, 400, "ambiguous_length", NULL,
                         "the body's length must be told once, by "
                         "Content-Length or Transfer-Encoding: chunked");
}

/* The same goes for who it is for. */
static void answer_hosts(struct request *r, int hosts)
{
    r->last = true;
    request_answer_error(r, 400, "invalid_host", "Host",
                         "there are %d Host headers; give one", hosts);
}

/* False: answered. */
static bool head_fits(struct request *r, const struct framing *f,
                      const char *version)
{
    bool old = !strcmp(version, MHD_HTTP_VERSION_1_0);

    if (f->lengths + f->encodings > 1 || f->odd)
        answer_ambiguous(r);
    else if (f->hosts > 1 || (f->hosts == 0 && !old))
        answer_hosts(r, f->hosts);
    return !r->answered;
}

/* False: answered. */
static bool body_fits(struct request *r, const struct framing *f)
{
    const char *length = request_header(r, "Content-Length");

    if (!(r->match.route->flags & ROUTE_BODY))
        return true;
    if (!is_json(request_header(r, "Content-Type"))) {
        request_answer_error(r, 415, "unsupported_media_type", NULL,
                             "the body must be application/json");
        return false;
    }
    if (f->encoded) {
        request_answer_error(r, 415, "unsupported_encoding", "Content-Encoding",
                             "the body must be sent as it is, without a "
                             "Content-Encoding");
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
        if (admit_origin(r)) {
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
static bool route_fits(struct request *r, const struct admit_head *head)
{
    bool options = !strcmp(head->method, "OPTIONS");
    struct host host = host_of(r, head->target);

    if (!host_fits(r, &host))
        request_answer_error(r, 421, "wrong_host", "Host",
                             "without keys only localhost is answered");
    else if (!r->match.allow[0])
        request_answer_error(r, 404, "not_found", NULL, "no such path");
    else if (options)
        answer_options(r);
    else if (!r->match.route)
        answer_not_allowed(r);
    else if (r->match.malformed || strpbrk(head->target, " \t"))
        request_answer_error(r, 400, "malformed_path", NULL,
                             "the path is not percent-encoded UTF-8, holds a "
                             "NUL, or is too long");
    else if (strcmp(r->match.route->method, "GET") != 0 &&
             !origin_fits(r, &host))
        request_answer_error(r, 403, "origin_not_allowed", "Origin",
                             "pages of this origin may not do that");
    return !r->answered;
}

/* ---- all of it ---------------------------------------------------------- */

/* Is there a body that is better read to its end than cut off? */
static bool body_follows(const struct request *r)
{
    const char *encoding = request_header(r, "Transfer-Encoding");
    const char *length = request_header(r, "Content-Length");
    unsigned long long bytes = length ? strtoull(length, NULL, 10) : 0;

    if (request_header(r, "Expect"))
        return false;
    /* Of any other encoding the daemon never sees the end. */
    if (encoding)
        return !strcasecmp(encoding, "chunked");
    return bytes > 0 && bytes <= HTTP_DISCARD_MAX;
}

void admit(struct request *r, const struct admit_head *head)
{
    struct framing f = {0};

    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, note_header, &f);
    r->deferring = body_follows(r);
    if (head_fits(r, &f, head->version) && route_fits(r, head)) {
        r->head_only = !strcmp(head->method, "HEAD");
        r->body_max = r->match.route->flags & ROUTE_BATCH
                          ? APIJOB_BATCH_BYTES_MAX
                          : JOB_BYTES_MAX;
        if (let_in(r))
            body_fits(r, &f);
    }
    r->deferring = false;
}
