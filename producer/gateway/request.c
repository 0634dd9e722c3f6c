#include "producer/gateway/request.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/protocol.h"
#include "producer/gateway/admit.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/http.h"

/* The API's answers are data: nothing in them may ever act in a browser. */
#define POLICY_API "default-src 'none'; frame-ancestors 'none'"

const char *request_header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *request_query(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND,
                                       name);
}

bool request_may_see(const struct request *r, const redisReply *tenant)
{
    return !r->holder || tenant->type != REDIS_REPLY_STRING ||
           !strcmp(tenant->str, r->holder->name);
}

/* ---- shared texts ------------------------------------------------------- */

struct blob *blob_make(const char *text, size_t size)
{
    struct blob *blob = malloc(sizeof(*blob) + size + 1);

    if (!blob)
        return NULL;
    blob->refs = 1;
    blob->size = size;
    memcpy(blob->text, text, size);
    blob->text[size] = '\0';
    return blob;
}

void blob_unref(void *pointer)
{
    struct blob *blob = pointer;

    if (blob && --blob->refs == 0)
        free(blob);
}

struct MHD_Response *blob_response(struct blob *blob, const char *type)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback_cls(
            blob->size, blob->text, blob_unref, blob);

    if (response) {
        blob->refs++;
        MHD_add_response_header(response, "Content-Type", type);
    }
    return response;
}

/* ---- answering ---------------------------------------------------------- */

static void add_headers(struct request *r, struct MHD_Response *response,
                        const char *policy)
{
    const char *origin = admit_origin(r);
    char seconds[16];

    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Content-Security-Policy",
                            policy ? policy : POLICY_API);
    if (!policy)
        MHD_add_response_header(response, "Cache-Control", "no-store");
    if (origin) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin",
                                origin);
        MHD_add_response_header(response, "Access-Control-Expose-Headers",
                                "Retry-After, Location");
        MHD_add_response_header(response, "Vary", "Origin");
    }
    if (r->retry_after_s > 0) {
        snprintf(seconds, sizeof(seconds), "%d", r->retry_after_s);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
    if (r->gateway->draining || r->last)
        MHD_add_response_header(response, "Connection", "close");
}

void request_answer(struct request *r, unsigned status,
                    struct MHD_Response *response, const char *policy)
{
    if (r->answered) {
        MHD_destroy_response(response);
        return;
    }
    r->answered = true;
    peer_enter(r->peer, PEER_ANSWER);
    if (response)
        add_headers(r, response, policy);
    if (r->deferring && response) {
        r->deferred = response;
        r->deferred_status = status;
        return;
    }
    http_send(r, status, response);
    if (response)
        MHD_destroy_response(response);
}

bool request_is_gone(const struct request *r)
{
    struct pollfd p = {.events = POLLRDHUP};

    if (!r->peer)
        return false;
    p.fd = r->peer->fd;
    return poll(&p, 1, 0) == 1;
}

void request_drop(struct request *r)
{
    if (r->answered)
        return;
    r->answered = true;
    r->dropped = true;
    http_wake(r);
}

void request_answer_json(struct request *r, unsigned status,
                         struct strbuf *json)
{
    struct MHD_Response *response;
    size_t size = json->len;
    char *text = strbuf_take(json);

    if (!text) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    response =
        MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(text);
    else
        MHD_add_response_header(response, "Content-Type", "application/json");
    request_answer(r, status, response, NULL);
}

void request_answer_error(struct request *r, unsigned status, const char *code,
                          const char *field, const char *fmt, ...)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    va_list args;

    va_start(args, fmt);
    strbuf_vaddf(&message, fmt, args);
    va_end(args);
    strbuf_addf(&json, "{\"error\":{\"code\":\"%s\",\"message\":", code);
    strbuf_add_json(&json, message.text ? message.text : "", message.len);
    if (field && *field) {
        strbuf_adds(&json, ",\"field\":");
        strbuf_add_json(&json, field, strlen(field));
    }
    strbuf_adds(&json, "}}\n");
    if (json.failed) /* request_answer_json() would come back here */
        request_answer(r, status, NULL, NULL);
    else
        request_answer_json(r, status, &json);
}

void request_answer_complaint(struct request *r, int rc,
                              const struct complaint *why)
{
    bool is_json = rc != -EBADMSG;

    if (rc == -ENOMEM)
        request_answer_redis(r, rc);
    else if (rc == -EFBIG)
        request_answer_error(r, 413, "too_large", why->field, "%s", why->text);
    else
        request_answer_error(r, is_json ? 422 : 400,
                             is_json ? "invalid_field" : "invalid_json",
                             why->field, "%s", why->text);
}

void request_answer_redis(struct request *r, int rc)
{
    const char *kind = link_kind(&r->gateway->link);

    if (r->retry_after_s == 0)
        r->retry_after_s = REQUEST_RETRY_S;
    if (rc == -ENOSPC)
        request_answer_error(r, 503, "redis_full", NULL,
                             "Redis takes nothing more for now");
    else if (rc == -ENOMEM)
        request_answer_error(r, 503, "out_of_memory", NULL,
                             "the gateway is short of memory");
    else if (rc == -EPROTO || rc == -EACCES)
        request_answer_error(r, 503, "redis_error", NULL,
                             "Redis refused; the gateway's log says why");
    else
        request_answer_error(r, 503, "redis_unavailable", NULL,
                             "Redis cannot be reached%s%s; try again",
                             *kind ? ": " : "", kind);
}
