#include "producer/gateway/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/scope.h"

/* "host:port", "[::1]:port", ":port" is all addresses. */
static bool split(const char *text, char host[256], char port[16])
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;

    if (!colon || len >= 256 || strlen(colon + 1) >= 16 || !colon[1] ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return false;
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    strcpy(port, colon + 1);
    return strtoul(port, NULL, 10) <= 65535;
}

static bool is_loopback(const struct sockaddr *sa)
{
    const struct sockaddr_in *in = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;

    if (sa->sa_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int listen_on(const struct addrinfo *ai, int *fd_out)
{
    AUTO_FD int fd =
        socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
        listen(fd, LISTENER_BACKLOG) < 0)
        return -errno;
    *fd_out = TAKE_FD(fd);
    return 0;
}

/* The port may have been 0: any. */
static void note_address(struct listener *l)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof(at);
    char host[96], port[16];

    if (getsockname(l->fd, (struct sockaddr *)&at, &size) == 0 &&
        getnameinfo((struct sockaddr *)&at, size, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(l->address, sizeof(l->address),
                 strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static const char *remedy(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "; is another gateway running? If it shall stay, give another "
               "port";
    case EACCES:
        return "; ports below 1024 need a privilege: give another port";
    case EADDRNOTAVAIL:
        return "; give an address of this host";
    default:
        return "";
    }
}

static int listen_if_safe(struct listener *l, const struct settings *s,
                          const struct addrinfo *found, struct complaint *why)
{
    int rc;

    if (!is_loopback(found->ai_addr) && !*s->api_keys)
        return complain(why, "CAPIBOX_API_LISTEN",
                        "\"%.100s\" can be reached from other hosts, and no "
                        "keys are set; give CAPIBOX_API_KEYS, or a loopback "
                        "address",
                        s->api_listen);
    rc = listen_on(found, &l->fd);
    if (rc < 0)
        return complain(why, "CAPIBOX_API_LISTEN",
                        "cannot listen on \"%.100s\": %s%s", s->api_listen,
                        strerror(-rc), remedy(-rc));
    note_address(l);
    return 0;
}

int listener_open(struct listener *l, const struct settings *s,
                  struct complaint *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char host[256], port[16];
    int rc;

    *l = (struct listener){.fd = -1};
    if (!split(s->api_listen, host, port))
        return complain(why, "CAPIBOX_API_LISTEN",
                        "\"%.100s\" is no address; give HOST:PORT such as "
                        "127.0.0.1:8080 or [::1]:8080",
                        s->api_listen);
    rc = getaddrinfo(*host ? host : NULL, port, &hints, &found);
    if (rc != 0)
        return complain(why, "CAPIBOX_API_LISTEN", "\"%.100s\": %s",
                        s->api_listen, gai_strerror(rc));
    rc = listen_if_safe(l, s, found, why);
    freeaddrinfo(found);
    return rc;
}
