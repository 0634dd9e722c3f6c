#include "worker/e2b/control.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "worker/e2b/secret.h"

#define LIST_PAGE  100
#define KEY_HEADER "X-API-Key: "

int control_init(struct control *c, const struct settings *s, struct http *http)
{
    size_t len;
    int size;

    *c = (struct control){.http = http};
    if (s->e2b_api_url[0])
        size = snprintf(c->base, sizeof(c->base), "%s", s->e2b_api_url);
    else
        size =
            snprintf(c->base, sizeof(c->base), "https://api.%s", s->e2b_domain);
    /* Room for the routes behind it. */
    if (size < 0 || (size_t)size > sizeof(c->base) - 200)
        return -EINVAL;
    for (len = strlen(c->base); len > 0 && c->base[len - 1] == '/'; len--)
        c->base[len - 1] = '\0';
    size = snprintf(c->key, sizeof(c->key), KEY_HEADER "%s", s->e2b_key);
    if (size < 0 || (size_t)size >= sizeof(c->key))
        return -EINVAL;
    size = snprintf(c->domain, sizeof(c->domain), "%s", s->e2b_domain);
    return size < 0 || (size_t)size >= sizeof(c->domain) ? -EINVAL : 0;
}

/* ---- what all calls share ---------------------------------------------- */

static enum fault ask(const struct control *c, struct call_slot *slot,
                      struct http_call *call, char *text)
{
    const char *key = c->key + strlen(KEY_HEADER);
    enum fault fault;
    int n = 0;

    while (call->headers[n])
        n++;
    call->headers[n++] = c->key;
    call->headers[n] = "Accept: application/json";
    call_slot_do(slot, c->http, call);
    fault = fault_of(call, PLANE_CONTROL);
    text[0] = '\0';
    if (fault != FAULT_NONE) {
        hide_in(&call->answer, key);
        fault_text(call, text, CONTROL_TEXT_MAX);
        hide(text, key); /* one that JSON had escaped */
    }
    return fault;
}

static cJSON *answer_json(const struct http_call *call)
{
    if (call->answer.len == 0 || json_check(call->answer.text, call->answer.len,
                                            NULL, 0, NULL, NULL) < 0)
        return NULL;
    return json_parse(call->answer.text, call->answer.len);
}

static enum fault nonsense(char *text, const char *what)
{
    snprintf(text, CONTROL_TEXT_MAX, "the answer makes no sense: %s", what);
    return FAULT_NONSENSE;
}

/* Absent and null are "". False if it is too long or has characters that no
 * header and no host name may have. */
static bool copy_word(const cJSON *object, const char *name, char *out,
                      size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    out[0] = '\0';
    if (!item || cJSON_IsNull(item))
        return true;
    if (!cJSON_IsString(item) || strlen(item->valuestring) >= size)
        return false;
    for (const char *c = item->valuestring; *c; c++)
        if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') &&
            !(*c >= 'A' && *c <= 'Z') && !strchr("-._:+/=", *c))
            return false;
    strcpy(out, item->valuestring);
    return true;
}

/* ---- create ------------------------------------------------------------ */

static void build_create(const struct control_create *want, struct strbuf *out)
{
    json_add_lit(out, "{\"templateID\":");
    json_add_text(out, want->template_id);
    json_add_lit(out, ",\"timeout\":");
    json_add_int(out, want->ttl_s);
    /* Version 1 makes a sandbox without a token unless told. */
    json_add_lit(out, ",\"secure\":true,\"allow_internet_access\":");
    json_add_bool(out, want->internet);
    json_add_lit(out, ",\"metadata\":{");
    for (int i = 0; i < CONTROL_META_MAX && want->meta[i].name; i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        json_add_text(out, want->meta[i].name);
        strbuf_addc(out, ':');
        strbuf_add_json(out, want->meta[i].value, strlen(want->meta[i].value));
    }
    json_add_lit(out, "}}");
}

/* An id goes into URLs and host names: exactly what E2B makes them of. */
static bool is_sandbox_id(const char *id)
{
    return id[0] &&
           id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789")] == '\0';
}

/* 0.0.x: it has none of what we ask for, and no SDK takes it either. */
static bool is_too_old(const char *envd)
{
    int major, minor;

    return sscanf(envd, "%d.%d", &major, &minor) == 2 && major == 0 &&
           minor == 0;
}

static enum fault read_sandbox(const struct http_call *call,
                               struct control_sandbox *out, char *text)
{
    cJSON *root = answer_json(call);
    char envd[64];
    bool good =
        cJSON_IsObject(root) &&
        copy_word(root, "envdVersion", envd, sizeof(envd)) &&
        copy_word(root, "sandboxID", out->id, sizeof(out->id)) &&
        copy_word(root, "envdAccessToken", out->token, sizeof(out->token)) &&
        copy_word(root, "trafficAccessToken", out->traffic,
                  sizeof(out->traffic)) &&
        copy_word(root, "domain", out->domain, sizeof(out->domain));

    cJSON_Delete(root);
    if (!good || !is_sandbox_id(out->id)) {
        out->id[0] = '\0';
        return nonsense(text, "no sandbox in it");
    }
    if (is_too_old(envd)) {
        snprintf(text, CONTROL_TEXT_MAX,
                 "its envd %s is too old; build the template anew", envd);
        return FAULT_REFUSED;
    }
    if (!out->token[0])
        return nonsense(text, "a sandbox without envdAccessToken");
    return FAULT_NONE;
}

enum fault control_create(const struct control *c,
                          const struct control_create *want,
                          struct call_slot *slot, struct control_sandbox *out,
                          int *retry_after_s_out, char *text)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    char url[CONTROL_URL_MAX + 16];
    struct http_call call = {
        .method = HTTP_POST,
        .url = url,
        .headers = {"Content-Type: application/json"},
        .deadline_ms = clock_ms() + CONTROL_CREATE_MS,
    };
    enum fault fault;

    *out = (struct control_sandbox){.id = ""};
    *retry_after_s_out = -1;
    build_create(want, &body);
    if (body.failed) {
        snprintf(text, CONTROL_TEXT_MAX, "no memory");
        return FAULT_AWAY;
    }
    snprintf(url, sizeof(url), "%s/sandboxes", c->base);
    call.body = body.text;
    call.body_size = body.len;
    fault = ask(c, slot, &call, text);
    *retry_after_s_out = call.retry_after_s;
    if (fault == FAULT_GONE) /* here it is the template that is not there */
        fault = FAULT_REFUSED;
    if (fault == FAULT_NONE)
        fault = read_sandbox(&call, out, text);
    http_call_fini(&call);
    return fault;
}

/* ---- kill -------------------------------------------------------------- */

enum fault control_kill(const struct control *c, struct call_slot *slot,
                        const char *id, int timeout_ms, int *retry_after_s_out,
                        char *text)
{
    char url[CONTROL_URL_MAX + CONTROL_ID_MAX + 16];
    struct http_call call = {
        .method = HTTP_DELETE,
        .url = url,
        .deadline_ms = clock_ms() + timeout_ms,
    };
    enum fault fault;

    snprintf(url, sizeof(url), "%s/sandboxes/%s", c->base, id);
    fault = ask(c, slot, &call, text);
    *retry_after_s_out = call.retry_after_s;
    http_call_fini(&call);
    return fault == FAULT_GONE ? FAULT_NONE : fault;
}

struct killing {
    struct http_call call;
    char url[CONTROL_URL_MAX + CONTROL_ID_MAX + 16];
};

void control_kill_many(const struct control *c, char (*ids)[CONTROL_ID_MAX + 1],
                       int count, int timeout_ms, bool *good_out,
                       int *retry_after_s_out)
{
    struct killing *all = calloc((size_t)count, sizeof(*all));

    *retry_after_s_out = -1;
    for (int i = 0; i < count; i++)
        good_out[i] = false;
    for (int i = 0; all && i < count; i++) {
        struct killing *k = &all[i];

        snprintf(k->url, sizeof(k->url), "%s/sandboxes/%s", c->base, ids[i]);
        k->call = (struct http_call){
            .method = HTTP_DELETE,
            .url = k->url,
            .headers = {c->key, "Accept: application/json"},
            .deadline_ms = clock_ms() + timeout_ms,
        };
        http_start(c->http, &k->call);
    }
    for (int i = 0; all && i < count; i++) {
        http_await(&all[i].call);
        enum fault fault = fault_of(&all[i].call, PLANE_CONTROL);

        good_out[i] = fault == FAULT_NONE || fault == FAULT_GONE;
        if (*retry_after_s_out < all[i].call.retry_after_s)
            *retry_after_s_out = all[i].call.retry_after_s;
        http_call_fini(&all[i].call);
    }
    free(all);
}

/* ---- list -------------------------------------------------------------- */

void control_add_filter(struct strbuf *url, const char *name, const char *value)
{
    http_encode(url, name, 3);
    strbuf_adds(url, "%3D");
    http_encode(url, value, 3);
}

/* What is found by its metadata is killed: a server that does not heed the
 * filter must not make us kill what others run on this account. */
static void take_listed(const cJSON *item, const char *name, const char *value,
                        control_listed_fn *each, void *ctx)
{
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(item, "metadata");
    const cJSON *has = cJSON_GetObjectItemCaseSensitive(meta, name);
    struct control_listed one;

    if (!cJSON_IsString(has) || strcmp(has->valuestring, value) != 0)
        return;
    if (!copy_word(item, "sandboxID", one.id, sizeof(one.id)) ||
        !is_sandbox_id(one.id))
        return;
    if (!copy_word(meta, "capibox_worker", one.worker, sizeof(one.worker)))
        one.worker[0] = '\0';
    each(ctx, &one);
}

static enum fault list_page(const struct control *c, struct call_slot *slot,
                            const char *name, const char *value,
                            char token[256], control_listed_fn *each, void *ctx,
                            int *retry_after_s_out, char *text)
{
    AUTO_STRBUF struct strbuf url = STRBUF_INIT;
    struct http_call call = {.method = HTTP_GET,
                             .deadline_ms = clock_ms() + CONTROL_CALL_MS};
    enum fault fault;
    cJSON *root = NULL, *item;

    strbuf_addf(&url, "%s/v2/sandboxes?state=running%%2Cpaused&limit=%d",
                c->base, LIST_PAGE);
    strbuf_adds(&url, "&metadata=");
    control_add_filter(&url, name, value);
    if (token[0]) {
        strbuf_adds(&url, "&nextToken=");
        http_encode(&url, token, 1);
    }
    call.url = url.text;
    if (url.failed)
        return nonsense(text, "no memory");
    fault = ask(c, slot, &call, text);
    *retry_after_s_out = call.retry_after_s;
    if (fault == FAULT_NONE) {
        root = answer_json(&call);
        if (!cJSON_IsArray(root))
            fault = nonsense(text, "no list of sandboxes");
    }
    if (fault == FAULT_NONE)
        cJSON_ArrayForEach(item, root)
            take_listed(item, name, value, each, ctx);
    memcpy(token, call.next_token, sizeof(call.next_token));
    cJSON_Delete(root);
    http_call_fini(&call);
    return fault;
}

enum fault control_list(const struct control *c, struct call_slot *slot,
                        const char *name, const char *value,
                        control_listed_fn *each, void *ctx,
                        int *retry_after_s_out, char *text)
{
    char token[256] = "";
    enum fault fault = FAULT_NONE;

    *retry_after_s_out = -1;
    for (int page = 0; page < CONTROL_PAGES_MAX; page++) {
        fault = list_page(c, slot, name, value, token, each, ctx,
                          retry_after_s_out, text);
        if (fault != FAULT_NONE || !token[0])
            break;
    }
    return fault;
}

/* ---- for doctor -------------------------------------------------------- */

enum fault control_check(const struct control *c, int64_t *date_s_out,
                         char *text)
{
    char url[CONTROL_URL_MAX + 32];
    struct http_call call = {.method = HTTP_GET,
                             .url = url,
                             .deadline_ms = clock_ms() + CONTROL_CALL_MS};
    enum fault fault;

    snprintf(url, sizeof(url), "%s/v2/sandboxes?limit=1", c->base);
    fault = ask(c, NULL, &call, text);
    *date_s_out = call.date_s;
    if (fault == FAULT_NONE) {
        cJSON *list = answer_json(&call);

        if (!cJSON_IsArray(list))
            fault = nonsense(text, "no list of sandboxes");
        cJSON_Delete(list);
    }
    http_call_fini(&call);
    return fault;
}

enum fault control_find_template(const struct control *c, const char *name,
                                 char *text)
{
    AUTO_STRBUF struct strbuf url = STRBUF_INIT;
    struct http_call call = {.method = HTTP_GET,
                             .deadline_ms = clock_ms() + CONTROL_CALL_MS};
    enum fault fault;

    strbuf_addf(&url, "%s/templates/aliases/", c->base);
    http_encode(&url, name, 1);
    if (url.failed)
        return nonsense(text, "no memory");
    call.url = url.text;
    fault = ask(c, NULL, &call, text);
    if (fault == FAULT_NONE) {
        cJSON *found = answer_json(&call);

        if (!json_member(found, "templateID"))
            fault = nonsense(text, "no templateID");
        cJSON_Delete(found);
    }
    http_call_fini(&call);
    return fault;
}
