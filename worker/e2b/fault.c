#include "worker/e2b/fault.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/utf8.h"

#define SAID_BYTES_MAX 200

/* The answer, or NULL if it is no JSON. The caller deletes. */
static cJSON *parse(const struct http_call *call)
{
    const struct strbuf *answer = &call->answer;

    if (answer->len == 0 || answer->len >= (64u << 10) ||
        json_check(answer->text, answer->len, NULL, 0, NULL, NULL) < 0)
        return NULL;
    return json_parse(answer->text, answer->len);
}

void fault_said(const struct http_call *call, const char *name, char *out,
                size_t size)
{
    cJSON *root = parse(call);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);

    out[0] = '\0';
    if (cJSON_IsString(item))
        snprintf(out, size, "%.*s", (int)utf8_cut(item->valuestring, size - 1),
                 item->valuestring);
    cJSON_Delete(root);
}

static enum fault by_trouble(const struct http_call *call)
{
    switch (call->trouble) {
    case HTTP_ABORTED:
        return FAULT_ABORTED;
    case HTTP_REFUSED:
        return FAULT_NONSENSE;
    default:
        return call->sent ? FAULT_UNSURE : FAULT_AWAY;
    }
}

/* Each error of the API itself has a code (protocol section 1.1). What else
 * says 400 or 404 stands before it, and knows nothing of our request. */
static enum fault by_4xx(const struct http_call *call, enum fault_plane plane,
                         enum fault fault)
{
    cJSON *root = parse(call);
    bool is_apis =
        cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(root, "code"));

    cJSON_Delete(root);
    return plane == PLANE_CONTROL && !is_apis ? FAULT_NONSENSE : fault;
}

static enum fault by_429(const struct http_call *call)
{
    char text[SAID_BYTES_MAX];

    if (call->retry_after_s >= 0)
        return FAULT_RATE;
    fault_said(call, "message", text, sizeof(text));
    return strstr(text, "concurrent") ? FAULT_ACCOUNT : FAULT_RATE;
}

static enum fault by_502(const struct http_call *call, enum fault_plane plane)
{
    enum fault fault = FAULT_UNSURE;
    cJSON *root;

    if (plane == PLANE_CONTROL)
        return fault;
    /* Of one sandbox: its port tells the two apart, not the words. */
    root = parse(call);
    if (cJSON_GetObjectItemCaseSensitive(root, "sandboxId"))
        fault = cJSON_GetObjectItemCaseSensitive(root, "port") ? FAULT_SHUT
                                                               : FAULT_GONE;
    cJSON_Delete(root);
    return fault;
}

/* That one template fits nowhere is no outage. */
static enum fault by_503(const struct http_call *call)
{
    char code[SAID_BYTES_MAX];

    fault_said(call, "error_code", code, sizeof(code));
    return strcmp(code, "sandbox_no_compatible_node") == 0 ? FAULT_NO_NODE
                                                           : FAULT_AWAY;
}

enum fault fault_of(const struct http_call *call, enum fault_plane plane)
{
    if (call->trouble != HTTP_FINE || call->rc < 0)
        return by_trouble(call);
    if (call->status >= 200 && call->status < 300)
        return FAULT_NONE;
    switch (call->status) {
    case 400:
        return by_4xx(call, plane, FAULT_REFUSED);
    case 401:
        return FAULT_KEY;
    case 403:
        return FAULT_FORBIDDEN;
    case 404:
        return by_4xx(call, plane, FAULT_GONE);
    case 409:
        return FAULT_CONFLICT;
    case 429:
        return by_429(call);
    case 502:
        return by_502(call, plane);
    case 503:
        return by_503(call);
    case 507: /* its disk is full */
        return FAULT_REFUSED;
    default:
        if (call->status >= 400 && call->status < 500)
            return FAULT_REFUSED;
        return call->status >= 500 ? FAULT_UNSURE : FAULT_NONSENSE;
    }
}

bool fault_is_outage(enum fault fault)
{
    return fault == FAULT_AWAY || fault == FAULT_UNSURE || fault == FAULT_KEY ||
           fault == FAULT_FORBIDDEN || fault == FAULT_NONSENSE;
}

static const char *trouble_text(enum http_trouble trouble)
{
    static const char *const texts[] = {
        [HTTP_FINE] = "",
        [HTTP_NO_NAME] = "its name is not known (DNS)",
        [HTTP_NO_CONNECT] = "no connection",
        [HTTP_NO_TLS] = "no TLS (certificate or handshake)",
        [HTTP_BROKEN] = "the connection broke",
        [HTTP_STALLED] = "it went silent",
        [HTTP_LATE] = "no answer in time",
        [HTTP_ABORTED] = "given up",
        [HTTP_REFUSED] = "the answer is too large or makes no sense",
    };

    return texts[trouble];
}

void fault_text(const struct http_call *call, char *out, size_t size)
{
    char text[SAID_BYTES_MAX];

    if (call->trouble != HTTP_FINE) {
        snprintf(out, size, "%s: %s", trouble_text(call->trouble), call->error);
        return;
    }
    fault_said(call, "message", text, sizeof(text));
    if (call->status == 502 && by_502(call, PLANE_SANDBOX) == FAULT_SHUT)
        snprintf(out, size,
                 "HTTP %d: %s (was its template built with a start command?)",
                 call->status, text);
    else if (call->status >= 300 && call->status < 400)
        snprintf(out, size, "HTTP %d: a redirect, which is not followed",
                 call->status);
    else
        snprintf(out, size, "HTTP %d%s%s", call->status, text[0] ? ": " : "",
                 text);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
}
