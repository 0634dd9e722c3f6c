/* tests/support/redis_server.h -- a private, real redis-server for one test.
 *
 * It lives in a new folder below build/tmp (below /tmp if that path is too long
 * for a socket), listens on a unix socket (and, when asked, on a loopback port
 * with or without TLS), and ends with redis_server_stop() or with the thread
 * that started it (PR_SET_PDEATHSIG), so start it from the main thread.
 * Persistence is off unless asked for; DEBUG commands are allowed.
 */
#ifndef TESTS_SUPPORT_REDIS_SERVER_H
#define TESTS_SUPPORT_REDIS_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct redis_server {
    char dir[256];
    char url[320]; /* unix://…/redis.sock */
    pid_t pid;
    int port, tls_port;    /* 0: none */
    const char *extra[32]; /* further command line words, kept for restarts */
    char words[4096];      /* their text, but for chosen ports: */
    char port_text[8], tls_port_text[8];
};

/* Starts one and waits until it answers PING. extra: NULL-terminated words such
 * as "--appendonly", "yes" (may be NULL). "--port", "auto" and "--tls-port",
 * "auto" choose a free loopback port, which port and tls_port then tell. The
 * struct stays where it is until the stop. Aborts the test program on failure:
 * without Redis no test means anything. */
void redis_server_start(struct redis_server *s, const char *const *extra);
/* SIGTERM and wait; removes the folder. Harmless if it was stopped before. */
void redis_server_stop(struct redis_server *s);
/* kill -9 / start again on the same folder, socket and ports; restart ends a
 * server that still runs by SIGTERM first. */
void redis_server_kill(struct redis_server *s);
void redis_server_restart(struct redis_server *s);

#endif
