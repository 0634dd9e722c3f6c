#include "tests/support/answers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/strbuf.h"

#define POLL_US   2000
#define TOO_MANY  "HTTP/1.1 500 Too Many\r\n\r\n{\"message\":\"no answer left\"}"
#define BODY_MARK "\r\n\r\n"

struct served {
    struct answers *a;
    int fd;
};

/* ---- one request --------------------------------------------------------- */

static size_t body_size(const char *head)
{
    const char *at = strcasestr(head, "\r\nContent-Length:");

    return at ? strtoul(at + 17, NULL, 10) : 0;
}

/* NULL at the end of the connection. */
static char *read_request(int fd)
{
    struct strbuf in = STRBUF_INIT;
    char block[4096];

    for (;;) {
        const char *body = in.text ? strstr(in.text, BODY_MARK) : NULL;
        ssize_t got;

        if (body && in.len >= (size_t)(body + 4 - in.text) + body_size(in.text))
            return strbuf_take(&in);
        got = read(fd, block, sizeof(block));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        strbuf_add(&in, block, (size_t)got);
    }
    strbuf_fini(&in);
    return NULL;
}

static const char *next_answer(struct answers *a, char *request)
{
    const char *answer = TOO_MANY;

    MUST0(pthread_mutex_lock(&a->lock));
    MUST(a->at < ANSWERS_SEEN_MAX);
    if (a->script && *a->script)
        answer = *a->script++;
    a->seen[a->at++] = request;
    MUST0(pthread_mutex_unlock(&a->lock));
    return answer;
}

static void say(int fd, const char *answer)
{
    const char *body = strstr(answer, BODY_MARK);
    struct strbuf out = STRBUF_INIT;

    MUST(body);
    strbuf_add(&out, answer, (size_t)(body - answer));
    if (!strcasestr(answer, "Content-Length:") &&
        !strcasestr(answer, "Transfer-Encoding:"))
        strbuf_addf(&out, "\r\nContent-Length: %zu", strlen(body + 4));
    strbuf_adds(&out, body);
    for (size_t at = 0; at < out.len;) {
        ssize_t put = send(fd, out.text + at, out.len - at, MSG_NOSIGNAL);

        if (put <= 0)
            break; /* the client has gone */
        at += (size_t)put;
    }
    strbuf_fini(&out);
}

/* False: the connection is over. */
static bool answer_one(struct answers *a, int fd)
{
    struct linger abrupt = {.l_onoff = 1, .l_linger = 0};
    char *request = read_request(fd), byte;
    const char *answer;

    if (!request)
        return false;
    answer = next_answer(a, request);
    if (strcmp(answer, ANSWER_CLOSE) == 0)
        return false;
    if (strcmp(answer, ANSWER_RESET) == 0) {
        MUST0(setsockopt(fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt)));
        return false;
    }
    if (strcmp(answer, ANSWER_STALL) == 0)
        return read(fd, &byte, 1) > 0;
    say(fd, answer);
    return !strcasestr(answer, "Connection: close");
}

static void *serve(void *arg)
{
    struct served *s = arg;

    while (answer_one(s->a, s->fd))
        ;
    shutdown(s->fd, SHUT_WR);
    /* The fd itself is closed at the end: nobody reuses its number. */
    if (dup2(s->a->listener, s->fd) < 0)
        abort();
    free(s);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct answers *a = arg;
    int fd;

    while ((fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct served *s = malloc(sizeof(*s));
        int n;

        MUST(s);
        *s = (struct served){a, fd};
        MUST0(pthread_mutex_lock(&a->lock));
        n = a->connections++;
        MUST(n < ANSWERS_CONNECTIONS_MAX);
        a->fds[n] = fd;
        MUST0(pthread_create(&a->served[n], NULL, serve, s));
        MUST0(pthread_mutex_unlock(&a->lock));
    }
    return NULL;
}

/* ---- the server ---------------------------------------------------------- */

void answers_open(struct answers *a, const char *const *script)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);

    *a = (struct answers){.script = script};
    MUST0(pthread_mutex_init(&a->lock, NULL));
    a->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(a->listener >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST0(bind(a->listener, (struct sockaddr *)&address, size));
    MUST0(listen(a->listener, ANSWERS_CONNECTIONS_MAX));
    MUST0(getsockname(a->listener, (struct sockaddr *)&address, &size));
    snprintf(a->url, sizeof(a->url), "http://127.0.0.1:%d",
             ntohs(address.sin_port));
    MUST0(pthread_create(&a->acceptor, NULL, accept_all, a));
}

void answers_close(struct answers *a)
{
    shutdown(a->listener, SHUT_RDWR);
    MUST0(pthread_join(a->acceptor, NULL));
    for (int i = 0; i < a->connections; i++)
        shutdown(a->fds[i], SHUT_RDWR);
    for (int i = 0; i < a->connections; i++) {
        MUST0(pthread_join(a->served[i], NULL));
        close(a->fds[i]);
    }
    close(a->listener);
    for (int i = 0; i < a->at; i++)
        free(a->seen[i]);
    pthread_mutex_destroy(&a->lock);
}

static int locked(struct answers *a, const int *number)
{
    int value;

    MUST0(pthread_mutex_lock(&a->lock));
    value = *number;
    MUST0(pthread_mutex_unlock(&a->lock));
    return value;
}

int answers_requests(struct answers *a)
{
    return locked(a, &a->at);
}

int answers_connections(struct answers *a)
{
    return locked(a, &a->connections);
}

bool answers_wait(struct answers *a, int requests, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;

    while (answers_requests(a) < requests) {
        if (clock_ms() > deadline)
            return false;
        usleep(POLL_US);
    }
    return true;
}
