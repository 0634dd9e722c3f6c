/* worker/e2b/control.h -- E2B's control plane: create, list and kill sandboxes.
 *
 * Source: E2B's API, sections 1.1 to 1.4 of its protocol; routes of version 1
 * for create, of version 2 for lists.
 *
 * Memory:   nothing is kept between calls.
 * Threads:  any; a struct control is const once made.
 * Errors:   each call answers an enum fault, and says it in words.
 */
#ifndef WORKER_E2B_CONTROL_H
#define WORKER_E2B_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/settings.h"
#include "common/strbuf.h"
#include "worker/e2b/fault.h"
#include "worker/e2b/http.h"
#include "worker/e2b/slot.h"

#define CONTROL_URL_MAX    512
#define CONTROL_KEY_MAX    256
#define CONTROL_ID_MAX     63
#define CONTROL_TOKEN_MAX  255
#define CONTROL_DOMAIN_MAX 255
#define CONTROL_TEXT_MAX   300
#define CONTROL_META_MAX   5
#define CONTROL_VALUE_MAX  64
#define CONTROL_CREATE_MS  90000 /* E2B itself takes up to 75 s */
#define CONTROL_CALL_MS    20000
#define CONTROL_PAGES_MAX  64 /* of 100 sandboxes, in one listing */
#define CONTROL_TTL_S_MAX  86400

struct control {
    struct http *http;
    char base[CONTROL_URL_MAX]; /* https://api.e2b.app, without a slash */
    char key[CONTROL_KEY_MAX];  /* the X-API-Key header: secret */
    char domain[CONTROL_DOMAIN_MAX + 1]; /* of sandboxes, unless they say */
};

struct control_meta {
    const char *name, *value;
};

struct control_create {
    const char *template_id;
    int ttl_s; /* E2B kills it then */
    bool internet;
    struct control_meta meta[CONTROL_META_MAX]; /* name NULL: the end */
};

/* A sandbox, as create (or its detail) tells of it. */
struct control_sandbox {
    char id[CONTROL_ID_MAX + 1];
    char token[CONTROL_TOKEN_MAX + 1];   /* of envd: secret */
    char traffic[CONTROL_TOKEN_MAX + 1]; /* for the proxy, or "": secret */
    char domain[CONTROL_DOMAIN_MAX + 1];
};

/* -EINVAL if an address is too long. */
int control_init(struct control *c, const struct settings *s,
                 struct http *http);

/* Of all calls: slot (or NULL) is where another thread can end them; text
 * (CONTROL_TEXT_MAX bytes) says what went wrong, never the key. */
/* *retry_after_s_out: -1, or what E2B asks for. out->id is also there when a
 * sandbox was made that is of no use. */
enum fault control_create(const struct control *c,
                          const struct control_create *want,
                          struct call_slot *slot, struct control_sandbox *out,
                          int *retry_after_s_out, char *text);

/* FAULT_NONE also if it was gone already. *retry_after_s_out as above. */
enum fault control_kill(const struct control *c, struct call_slot *slot,
                        const char *id, int timeout_ms, int *retry_after_s_out,
                        char *text);

/* The same for many at once. good_out[i]: it is gone. *retry_after_s_out: the
 * longest wait that one of them was asked for; -1: none. */
#define CONTROL_KILLS_MAX 32
void control_kill_many(const struct control *c, char (*ids)[CONTROL_ID_MAX + 1],
                       int count, int timeout_ms, bool *good_out,
                       int *retry_after_s_out);

/* What a listing shows of one sandbox. */
struct control_listed {
    char id[CONTROL_ID_MAX + 1];
    char worker[CONTROL_VALUE_MAX + 1]; /* metadata capibox_worker, or "" */
};

typedef void control_listed_fn(void *ctx, const struct control_listed *one);

/* All sandboxes whose metadata has name=value, running or paused. Those of the
 * pages that came are told of, also when a later one did not. */
enum fault control_list(const struct control *c, struct call_slot *slot,
                        const char *name, const char *value,
                        control_listed_fn *each, void *ctx,
                        int *retry_after_s_out, char *text);

/* Is the key accepted? The Date of the answer goes to *date_s_out (0: none). */
enum fault control_check(const struct control *c, int64_t *date_s_out,
                         char *text);

/* Is there such a template? FAULT_NONE: one of this account. FAULT_GONE: no.
 * FAULT_FORBIDDEN: another's, such as E2B's own; FAULT_REFUSED: of a namespace
 * not ours. Of those, only a create tells whether they are public. */
enum fault control_find_template(const struct control *c, const char *name,
                                 char *text);

/* Appends the metadata filter as the API wants it: each part encoded twice,
 * the whole a third time. */
void control_add_filter(struct strbuf *url, const char *name,
                        const char *value);

#endif
