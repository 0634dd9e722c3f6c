/* tests/support/answers.h -- an HTTP server that answers from a list.
 *
 * Each request takes the next answer, whatever it asks for, and is kept as it
 * came. For tests of single calls; tests/e2b/double.py is E2B itself.
 *
 * Threads:  any may look; requests are served side by side, one thread a
 *           connection.
 * Errors:   what the system refuses aborts; too many requests get 500.
 */
#ifndef TESTS_SUPPORT_ANSWERS_H
#define TESTS_SUPPORT_ANSWERS_H

#include <pthread.h>
#include <stdbool.h>

#define ANSWERS_SEEN_MAX        64
#define ANSWERS_CONNECTIONS_MAX 64

/* Instead of an answer. */
#define ANSWER_CLOSE "!close"
#define ANSWER_RESET "!reset"
#define ANSWER_STALL "!stall" /* not a byte until the client goes */

struct answers {
    int listener;
    char url[64]; /* http://127.0.0.1:PORT */
    pthread_t acceptor;
    pthread_t served[ANSWERS_CONNECTIONS_MAX];
    int fds[ANSWERS_CONNECTIONS_MAX];
    pthread_mutex_t lock;
    /* Guarded by lock. */
    const char *const *script; /* what to say, NULL at the end */
    int at, connections;
    char *seen[ANSWERS_SEEN_MAX]; /* requests, head and body */
};

/* script: whole answers; "Content-Length" is added to one that has a body
 * behind an empty line and no length of its own. */
void answers_open(struct answers *a, const char *const *script);
void answers_close(struct answers *a);

int answers_requests(struct answers *a);
int answers_connections(struct answers *a);
bool answers_wait(struct answers *a, int requests, int timeout_ms);

#endif
