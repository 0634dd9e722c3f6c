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

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/settings.h"
#include "common/strbuf.h"
#include "worker/e2b/fault.h"
#include "worker/e2b/http.h"

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

/* current: where http_abort() finds the call while it is under way, or NULL;
 * see struct call_slot. */
struct call_slot;

/* text: CONTROL_TEXT_MAX bytes, what went wrong. *retry_after_s_out: -1, or
 * what E2B asks for. */
enum fault control_create(const struct control *c,
                          const struct control_create *want,
                          struct call_slot *slot, struct control_sandbox *out,
                          int *retry_after_s_out, char *text);

/* FAULT_NONE also if it was gone already. */
enum fault control_kill(const struct control *c, const char *id, int timeout_ms,
                        char *text);

/* The same for many at once. good_out[i]: it is gone. */
#define CONTROL_KILLS_MAX 32
void control_kill_many(const struct control *c, char (*ids)[CONTROL_ID_MAX + 1],
                       int count, int timeout_ms, bool *good_out);

/* What a listing shows of one sandbox. */
struct control_listed {
    char id[CONTROL_ID_MAX + 1];
    char worker[CONTROL_VALUE_MAX + 1]; /* metadata capibox_worker, or "" */
    char job[CONTROL_VALUE_MAX + 1];    /* metadata capibox_job, or "" */
};

typedef void control_listed_fn(void *ctx, const struct control_listed *one);

/* All sandboxes whose metadata has name=value, running or paused. */
enum fault control_list(const struct control *c, const char *name,
                        const char *value, control_listed_fn *each, void *ctx,
                        char *text);

/* Is the key accepted? The Date of the answer goes to *date_s_out (0: none). */
enum fault control_check(const struct control *c, int64_t *date_s_out,
                         char *text);

/* Is there such a template for this account, its own or a public one?
 * FAULT_GONE: no. */
enum fault control_find_template(const struct control *c, const char *name,
                                 char *text);

/* Appends the metadata filter as the API wants it: each part encoded twice,
 * the whole a third time. */
void control_add_filter(struct strbuf *url, const char *name,
                        const char *value);

/* Percent-encodes text (RFC 3986 section 2.1), as many times over. */
void url_encode(struct strbuf *out, const char *text, int times);

/* The call of one sandbox that another thread may end. */
struct call_slot {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_call *call; /* guarded; NULL: none is under way */
    bool aborted; /* guarded; broadcast changed. Once true, calls end at once */
};

void call_slot_init(struct call_slot *slot);
void call_slot_fini(struct call_slot *slot);
/* http_do() that call_slot_abort() ends. slot may be NULL. */
int call_slot_do(struct call_slot *slot, struct http *http,
                 struct http_call *call);
void call_slot_abort(struct call_slot *slot, struct http *http);
/* Sleeps; false at once when it is aborted. */
bool call_slot_nap(struct call_slot *slot, int64_t ms);
bool call_slot_aborted(struct call_slot *slot);
/* Calls may go out again: destroy() must reach the server after an abort. */
void call_slot_reset(struct call_slot *slot);

#endif
