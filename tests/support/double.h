/* tests/support/double.h -- E2B's stand-in (tests/e2b/double.py) for one test.
 *
 * It runs code really, over TLS, and notes every request that breaks E2B's
 * protocol: double_close() fails the test for it.
 *
 * Errors: what cannot be started aborts; a command it refuses fails the test.
 */
#ifndef TESTS_SUPPORT_DOUBLE_H
#define TESTS_SUPPORT_DOUBLE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/settings.h"

#define DOUBLE_ENV 5

struct e2b_double {
    pid_t pid;
    int stdin_fd; /* it ends with its last writer */
    int control_fd;
    char dir[64];
    char key[64], domain[128], ca[128], plain[160];
    /* "NAME=value" for a program that is to use it, NULL at the end. */
    char env_text[DOUBLE_ENV - 1][256];
    const char *env[DOUBLE_ENV];
};

/* words: further words for double.py, NULL-terminated, or NULL. */
void double_open(struct e2b_double *d, const char *const *words);
/* Fails the test if there were violations (unless it was told to forget them),
 * or if sandboxes are left. */
void double_close(struct e2b_double *d);
/* The same without looking: for a teardown after a failure. */
void double_end(struct e2b_double *d);

/* Sets backend, key, domain and CA. */
void double_settings(const struct e2b_double *d, struct settings *s);

/* One command as JSON text; its answer (the caller deletes). */
cJSON *double_ask(struct e2b_double *d, const char *json);
/* {"cmd":"fault", …}: json is what follows "cmd", such as
 * "\"route\":\"create\",\"kind\":\"reset\"". */
void double_fault(struct e2b_double *d, const char *json);
void double_clear(struct e2b_double *d);

/* A number of the report: "creates", "requests.execute"; 0 if there is none. */
double double_number(struct e2b_double *d, const char *path);
int double_alive(struct e2b_double *d);
bool double_wait_alive(struct e2b_double *d, int count, int timeout_ms);
/* Creates and destroys agree and nobody is left, within timeout_ms. */
bool double_settled(struct e2b_double *d, int timeout_ms);

#endif
