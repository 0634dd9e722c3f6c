/* common/transport.h -- bytes to and from a server: TCP, unix socket or TLS.
 *
 * Sockets are non-blocking and O_CLOEXEC. A dead TCP peer is noticed after
 * about half a minute (keepalive, TCP_USER_TIMEOUT). No write raises SIGPIPE.
 *
 * Memory:   the struct is the caller's; TRANSPORT_INIT before first use.
 * Threads:  one thread at a time.
 * Errors:   negated errno; -EAGAIN from read and write means: wait for
 *           read_needs or write_needs (POLLIN, POLLOUT). After any other error
 *           only transport_close() is left. why has words where strerror() of
 *           the code would say too little, else it is "".
 */
#ifndef COMMON_TRANSPORT_H
#define COMMON_TRANSPORT_H

#include <stdint.h>
#include <sys/types.h>

struct tls;

/* Strings are borrowed for the call. */
struct transport_peer {
    const char *path;                           /* unix socket; NULL: TCP */
    const char *host, *port;                    /* TCP */
    int tls;                                    /* TCP with TLS */
    const char *ca_file, *cert_file, *key_file; /* TLS; NULL: system's, none */
};

struct transport {
    int fd; /* -1: closed */
    struct tls *tls;
    short read_needs, write_needs;
    char why[256];
};

#define TRANSPORT_INIT \
    {                  \
        .fd = -1       \
    }

/* Tries every address of the host; each gets its share of the time. Deadlines
 * are CLOCK_MONOTONIC ms. */
int transport_open(struct transport *t, const struct transport_peer *peer,
                   int64_t deadline_ms);
void transport_close(struct transport *t);

/* Bytes moved. read: 0 is the end of the stream. */
ssize_t transport_read(struct transport *t, void *data, size_t size);
ssize_t transport_write(struct transport *t, const void *data, size_t size);

#endif
