/* common/transport.c -- connecting, reading and writing without blocking. */
#include "common/transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/resolve.h"
#include "common/scope.h"
#include "common/tls.h"

#define KEEPALIVE_IDLE_S     15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES     3
/* Unacknowledged data counts as a dead peer as fast as silence does. */
#define USER_TIMEOUT_MS \
    ((KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES) * 1000)
#define BACKLOG_RETRY_MS 5 /* a unix socket's full backlog cannot be polled */

static void set_why(struct transport *t, const char *why)
{
    snprintf(t->why, sizeof(t->why), "%s", why);
}

static int wait_for(int fd, short events, int64_t deadline_ms)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    int ready;

    do
        ready = poll(&pfd, 1, clock_left_ms(deadline_ms));
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return -errno;
    return ready == 0 ? -ETIMEDOUT : 0;
}

static int finish_connect(int fd, int64_t deadline_ms)
{
    int error = 0;
    socklen_t size = sizeof(error);
    int rc = wait_for(fd, POLLOUT, deadline_ms);

    if (rc < 0)
        return rc;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

static int connect_within(int fd, const struct sockaddr *addr, socklen_t size,
                          int64_t deadline_ms)
{
    for (;;) {
        if (connect(fd, addr, size) == 0 || errno == EISCONN)
            return 0;
        /* An interrupted connect goes on by itself (EALREADY if repeated). */
        if (errno == EINPROGRESS || errno == EINTR || errno == EALREADY)
            return finish_connect(fd, deadline_ms);
        if (errno != EAGAIN || addr->sa_family != AF_UNIX)
            return -errno;
        if (clock_left_ms(deadline_ms) == 0)
            return -ETIMEDOUT;
        poll(NULL, 0, BACKLOG_RETRY_MS);
    }
}

static int open_unix(const char *path, int64_t deadline_ms, int *fd_out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int rc;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    AUTO_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    rc =
        connect_within(fd, (struct sockaddr *)&addr, sizeof(addr), deadline_ms);
    if (rc == 0)
        *fd_out = TAKE_FD(fd);
    return rc;
}

static int set_number(int fd, int level, int option, int number)
{
    return setsockopt(fd, level, option, &number, sizeof(number)) < 0 ? -errno
                                                                      : 0;
}

static int tune_tcp(int fd)
{
    static const struct {
        int level, option, number;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && !rc; i++)
        rc = set_number(fd, options[i].level, options[i].option,
                        options[i].number);
    return rc;
}

static int open_address(const struct addrinfo *ai, int64_t deadline_ms,
                        int *fd_out)
{
    int rc;
    AUTO_FD int fd = socket(
        ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

    if (fd < 0)
        return -errno;
    rc = tune_tcp(fd);
    if (rc == 0)
        rc = connect_within(fd, ai->ai_addr, ai->ai_addrlen, deadline_ms);
    if (rc == 0)
        *fd_out = TAKE_FD(fd);
    return rc;
}

static int count(const struct addrinfo *ai)
{
    int n = 0;

    for (; ai; ai = ai->ai_next)
        n++;
    return n;
}

static int open_tcp(struct transport *t, const struct transport_peer *peer,
                    int64_t deadline_ms)
{
    struct addrinfo *list = NULL;
    const char *why = "";
    int rc = resolve(peer->host, peer->port, deadline_ms, &list, &why);
    int left;

    if (rc < 0) {
        set_why(t, why);
        return rc;
    }
    left = count(list);
    rc = -EHOSTUNREACH;
    for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        /* A silent first address must not use up the others' time. */
        int64_t share_ms = clock_left_ms(deadline_ms) / left--;

        rc = open_address(ai, clock_ms() + share_ms, &t->fd);
        if (rc == 0)
            break;
    }
    freeaddrinfo(list);
    return rc;
}

static int start_tls(struct transport *t, const struct transport_peer *peer,
                     int64_t deadline_ms)
{
    struct tls_config config = {.host = peer->host,
                                .ca_file = peer->ca_file,
                                .cert_file = peer->cert_file,
                                .key_file = peer->key_file};
    short needs = 0;
    int rc = tls_create(&config, t->fd, &t->tls);

    while (rc == 0) {
        rc = tls_handshake(t->tls, &needs);
        if (rc != -EAGAIN)
            break;
        rc = wait_for(t->fd, needs, deadline_ms);
    }
    if (rc == -ETIMEDOUT)
        set_why(t, "the TLS handshake was not finished in time; does this "
                   "server speak TLS?");
    else if (rc < 0)
        set_why(t, tls_why(t->tls));
    return rc;
}

int transport_open(struct transport *t, const struct transport_peer *peer,
                   int64_t deadline_ms)
{
    int rc;

    transport_close(t);
    t->why[0] = '\0';
    if (peer->path)
        rc = open_unix(peer->path, deadline_ms, &t->fd);
    else
        rc = open_tcp(t, peer, deadline_ms);
    if (rc == 0 && peer->tls)
        rc = start_tls(t, peer, deadline_ms);
    if (rc < 0)
        transport_close(t);
    t->read_needs = POLLIN;
    t->write_needs = POLLOUT;
    return rc;
}

void transport_close(struct transport *t)
{
    tls_destroy(t->tls);
    t->tls = NULL;
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

static ssize_t plain_read(struct transport *t, void *data, size_t size)
{
    ssize_t got;

    do
        got = recv(t->fd, data, size, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t plain_write(struct transport *t, const void *data, size_t size)
{
    ssize_t sent;

    do
        sent = send(t->fd, data, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t transport_read(struct transport *t, void *data, size_t size)
{
    ssize_t got;

    t->read_needs = POLLIN;
    if (!t->tls)
        return plain_read(t, data, size);
    got = tls_read(t->tls, data, size, &t->read_needs);
    if (got < 0 && got != -EAGAIN)
        set_why(t, tls_why(t->tls));
    return got;
}

ssize_t transport_write(struct transport *t, const void *data, size_t size)
{
    ssize_t sent;

    t->write_needs = POLLOUT;
    if (!t->tls)
        return plain_write(t, data, size);
    sent = tls_write(t->tls, data, size, &t->write_needs);
    if (sent < 0 && sent != -EAGAIN)
        set_why(t, tls_why(t->tls));
    return sent;
}
