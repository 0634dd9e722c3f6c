/* tests/support/proxy.h -- a line to a Redis server that a test can cut.
 *
 * A process of its own that listens on a unix socket and passes bytes on. It
 * ends with proxy_stop() or with the thread that started it.
 */
#ifndef TESTS_SUPPORT_PROXY_H
#define TESTS_SUPPORT_PROXY_H

#include <sys/types.h>

#include "tests/support/redis_server.h"

struct proxy {
    char url[320]; /* unix://… */
    pid_t pid;
    int control; /* socket: one byte an order, answered by one byte */
};

void proxy_start(struct proxy *p, const struct redis_server *server);
/* Closes all connections on the clients' side only: the server goes on thinking
 * that they are there. New ones are taken. */
void proxy_cut(struct proxy *p);
/* Nothing is passed on any more for the connections there are, and neither side
 * is told; new ones work. */
void proxy_swallow(struct proxy *p);
/* Nothing is passed on until resumed; nobody is told. */
void proxy_pause(struct proxy *p);
/* What clients send is passed on, what they are answered not until resumed. */
void proxy_hold_answers(struct proxy *p);
void proxy_resume(struct proxy *p);
void proxy_stop(struct proxy *p);

#endif
