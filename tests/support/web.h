/* tests/support/web.h -- a real capibox-api on a stage's Redis, and requests to
 * it with curl's library.
 *
 * Errors: what cannot be started or asked fails the test.
 */
#ifndef TESTS_SUPPORT_WEB_H
#define TESTS_SUPPORT_WEB_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "tests/support/proc.h"
#include "tests/support/rig.h"

struct web {
    struct proc proc;
    char base[80]; /* "http://127.0.0.1:PORT" */
    int port;
};

/* Starts one on a free port. env: "NAME=value" settings above the stage's own,
 * or NULL. */
void web_start(struct rig *rig, struct web *web, const char *const *env);
/* SIGTERM, and the exit code as proc_wait(). Prints the log if it is not 0. */
int web_stop(struct web *web);

struct answer {
    long status; /* 0: no answer came; why says why */
    char why[256];
    char *body, *headers; /* NUL-terminated; headers as they came */
    size_t size;
    cJSON *json; /* NULL: it is none */
    double seconds;
};
void answer_free(struct answer *a);
/* A header's value into out ("" if there is none). Returns out. */
char *answer_header(const struct answer *a, const char *name, char out[256]);

/* One request. body may be NULL; then come further headers "Name: value", NULL
 * at the end. A body is sent as application/json unless a header says more. */
void web_ask(struct web *web, struct answer *a, const char *method,
             const char *path, const char *body, ...) __attribute__((sentinel));

/* The same, going on in a thread of its own until web_wait(). */
struct web_call {
    struct web *web;
    const char *method, *path, *body, *header;
    long timeout_ms; /* 0: a minute */
    struct answer answer;
    unsigned long thread;
};
void web_begin(struct web_call *call);
void web_wait(struct web_call *call);

/* Sends these bytes over a socket and reads until the end or timeout_ms. The
 * caller frees. */
char *web_raw(struct web *web, const char *bytes, size_t size, int timeout_ms);
/* A connected socket, or -1. */
int web_connect(struct web *web);

/* Fails the test, showing the answer, unless it has this status. */
void web_expect(const struct answer *a, long status);
/* The same, and the error's code and (NULL: any) field. */
void web_expect_error(const struct answer *a, long status, const char *code,
                      const char *field);

#endif
