/* common/tls.c -- OpenSSL over our own send() and recv(). */
#include "common/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/must.h"

/* Alerts by which a peer refuses our certificate (RFC 8446, section 6). */
enum {
    ALERT_BAD_CERTIFICATE = 42,
    ALERT_ACCESS_DENIED = 49,
    ALERT_CERTIFICATE_REQUIRED = 116,
};

struct tls {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    int socket_error; /* of the last failed send or recv, else 0 */
    bool up, broken;
    char why[256];
};

static BIO_METHOD *socket_method;
static pthread_once_t socket_method_once = PTHREAD_ONCE_INIT;

/* OpenSSL's own socket BIO calls write(), which can raise SIGPIPE. */
static int bio_write(BIO *bio, const char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);
    ssize_t sent;

    BIO_clear_retry_flags(bio);
    do
        sent = send(tls->fd, data, (size_t)size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (int)sent;
    if (errno == EAGAIN)
        BIO_set_retry_write(bio);
    else
        tls->socket_error = errno;
    return -1;
}

static int bio_read(BIO *bio, char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);
    ssize_t got;

    BIO_clear_retry_flags(bio);
    do
        got = recv(tls->fd, data, (size_t)size, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return (int)got;
    if (got < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    else
        tls->socket_error = got < 0 ? errno : ECONNRESET;
    return got < 0 ? -1 : 0;
}

static long bio_ctrl(BIO *bio, int cmd, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return cmd == BIO_CTRL_FLUSH; /* nothing is held back */
}

static void make_socket_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");

    if (!method)
        return;
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_ctrl);
    socket_method = method;
}

/* A key with a pass phrase must not stop a daemon at a prompt. */
static int no_pass_phrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

__attribute__((format(printf, 3, 4))) static int refuse(struct tls *tls, int rc,
                                                        const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(tls->why, sizeof(tls->why), fmt, args);
    va_end(args);
    tls->broken = true;
    return rc;
}

/* The reason of OpenSSL's last error, in its words. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text;

    if (ERR_SYSTEM_ERROR(code))
        return strerror(ERR_GET_REASON(code));
    text = ERR_reason_error_string(code);
    return text ? text : "unknown TLS error";
}

static int load_files(struct tls *tls, const struct tls_config *config)
{
    SSL_CTX *ctx = tls->ctx;

    if (config->ca_file) {
        if (SSL_CTX_load_verify_locations(ctx, config->ca_file, NULL) != 1)
            return refuse(tls, -EKEYREJECTED, "CA file %.150s: %s",
                          config->ca_file, reason());
    } else if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
        return refuse(tls, -EKEYREJECTED, "system's CA store: %s", reason());
    }
    if (!config->cert_file || !config->key_file)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, config->cert_file) != 1)
        return refuse(tls, -EKEYREJECTED, "client certificate %.150s: %s",
                      config->cert_file, reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, config->key_file, SSL_FILETYPE_PEM) !=
        1)
        return refuse(tls, -EKEYREJECTED, "client key %.150s: %s",
                      config->key_file, reason());
    return 0;
}

static bool is_address(const char *host)
{
    unsigned char any[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, any) == 1 ||
           inet_pton(AF_INET6, host, any) == 1;
}

static int expect_host(struct tls *tls, const char *host)
{
    SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(host)) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), host) != 1)
            return -ENOMEM;
        return 0;
    }
    if (SSL_set1_host(tls->ssl, host) != 1 ||
        SSL_set_tlsext_host_name(tls->ssl, host) != 1)
        return -ENOMEM;
    return 0;
}

static int make_context(struct tls *tls)
{
    tls->ctx = SSL_CTX_new(TLS_client_method());
    if (!tls->ctx)
        return -ENOMEM;
    SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(tls->ctx, no_pass_phrase);
    /* Moving: the output buffer may grow between two tries of one write. */
    SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    return 0;
}

static int make_session(struct tls *tls, const char *host)
{
    BIO *bio;

    tls->ssl = SSL_new(tls->ctx);
    if (!tls->ssl)
        return -ENOMEM;
    bio = BIO_new(socket_method);
    if (!bio)
        return -ENOMEM;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    return expect_host(tls, host);
}

int tls_create(const struct tls_config *config, int fd, struct tls **tls_out)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    int rc;

    *tls_out = NULL;
    if (!tls)
        return -ENOMEM;
    tls->fd = fd;
    ERR_clear_error();
    MUST0(pthread_once(&socket_method_once, make_socket_method));
    rc = socket_method ? make_context(tls) : -ENOMEM;
    if (rc == 0)
        rc = load_files(tls, config);
    if (rc == 0)
        rc = make_session(tls, config->host);
    if (rc == -ENOMEM) {
        tls_destroy(tls);
        return rc;
    }
    *tls_out = tls;
    return rc;
}

void tls_destroy(struct tls *tls)
{
    if (!tls)
        return;
    ERR_clear_error();
    if (tls->up && !tls->broken)
        SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->ctx);
    ERR_clear_error();
    free(tls);
}

static bool alert_is_about_certificates(int code)
{
    int alert = code - SSL_AD_REASON_OFFSET;

    return (alert >= ALERT_BAD_CERTIFICATE && alert <= ALERT_ACCESS_DENIED) ||
           alert == ALERT_CERTIFICATE_REQUIRED;
}

static int explain_protocol_error(struct tls *tls)
{
    long verdict = SSL_get_verify_result(tls->ssl);
    int code = ERR_GET_REASON(ERR_peek_last_error());

    if (code == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return refuse(tls, -EKEYREJECTED,
                      "the server's certificate is refused: %s",
                      X509_verify_cert_error_string(verdict));
    if (alert_is_about_certificates(code))
        return refuse(tls, -EKEYREJECTED,
                      "the server refuses our client certificate: %s",
                      reason());
    return refuse(tls, -EPROTO, "TLS: %s", reason());
}

/* What became of an SSL_* call that did not succeed. 0: the peer closed. */
static int explain(struct tls *tls, int result, short *needs_out)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *needs_out = POLLIN;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        *needs_out = POLLOUT;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SSL:
        return explain_protocol_error(tls);
    default:
        tls->broken = true;
        return tls->socket_error ? -tls->socket_error : -ECONNRESET;
    }
}

int tls_handshake(struct tls *tls, short *needs_out)
{
    int result, rc;

    ERR_clear_error();
    tls->socket_error = 0;
    result = SSL_connect(tls->ssl);
    if (result == 1) {
        tls->up = true;
        return 0;
    }
    rc = explain(tls, result, needs_out);
    return rc == 0 ? refuse(tls, -ECONNRESET, "closed by the server") : rc;
}

ssize_t tls_read(struct tls *tls, void *data, size_t size, short *needs_out)
{
    size_t got = 0;
    int result;

    ERR_clear_error();
    tls->socket_error = 0;
    result = SSL_read_ex(tls->ssl, data, size, &got);
    return result == 1 ? (ssize_t)got : explain(tls, result, needs_out);
}

ssize_t tls_write(struct tls *tls, const void *data, size_t size,
                  short *needs_out)
{
    size_t sent = 0;
    int result, rc;

    ERR_clear_error();
    tls->socket_error = 0;
    result = SSL_write_ex(tls->ssl, data, size, &sent);
    if (result == 1)
        return (ssize_t)sent;
    rc = explain(tls, result, needs_out);
    return rc == 0 ? -EPIPE : rc;
}

const char *tls_why(const struct tls *tls)
{
    return tls ? tls->why : "";
}
