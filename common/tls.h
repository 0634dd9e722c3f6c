/* common/tls.h -- TLS over a connected, non-blocking socket (OpenSSL 3).
 *
 * TLS 1.2 or newer; the certificate must chain to the CA file or the system's
 * store and name the host (or IP address) that was asked for. Writes never
 * raise SIGPIPE.
 *
 * Memory:   tls_create() makes, tls_destroy() frees; the socket stays the
 *           caller's.
 * Threads:  one thread at a time.
 * Errors:   -EAGAIN: *needs_out says which of POLLIN, POLLOUT to wait for.
 *           -EKEYREJECTED: a certificate (theirs or ours) does not fit;
 *           -ECONNRESET, -EPIPE, -EPROTO, -ENOMEM. After anything but -EAGAIN
 *           only tls_destroy() is left. tls_why() has words, or "".
 */
#ifndef COMMON_TLS_H
#define COMMON_TLS_H

#include <stddef.h>
#include <sys/types.h>

struct tls;

struct tls_config {
    const char *host;                 /* name or address to be certified */
    const char *ca_file;              /* PEM; NULL: the system's store */
    const char *cert_file, *key_file; /* client side; NULL: none */
};

/* Also on failure *tls_out is set (unless -ENOMEM), so that tls_why() can be
 * asked; destroy it. */
int tls_create(const struct tls_config *config, int fd, struct tls **tls_out);

/* Says goodbye if the connection still works, without waiting. */
void tls_destroy(struct tls *tls);

int tls_handshake(struct tls *tls, short *needs_out);

/* Bytes moved. read: 0 is the end of the stream. */
ssize_t tls_read(struct tls *tls, void *data, size_t size, short *needs_out);
ssize_t tls_write(struct tls *tls, const void *data, size_t size,
                  short *needs_out);

const char *tls_why(const struct tls *tls);

#endif
