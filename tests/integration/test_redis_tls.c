/* tests/integration/test_redis_tls.c -- TLS to a real Redis, with certificates
 * made here: right ones, and each kind of wrong one. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/redis.h"
#include "common/scope.h"
#include "tests/support/redis_server.h"

#define LONG_MS    30000
#define PATH_BYTES 256

static char dir[PATH_BYTES];

/* One server per certificate or demand. */
static struct redis_server good, strict, other_name, expired;

struct names {
    char ca[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES];
};

static int64_t in_ms(int ms)
{
    return clock_ms() + ms;
}

/* Two authorities; certificates for localhost, for another host, for a client,
 * one that has expired, and a client's by the wrong authority. */
static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd \"$DIR\"; exec >openssl.log 2>&1\n"
        "ca() { openssl req -x509 -newkey rsa:2048 -nodes -keyout $1.key"
        "  -out $1.crt -days 2 -subj /CN=$1; }\n"
        "cert() { ca=$1; name=$2; ext=$3; shift 3\n"
        "  openssl req -newkey rsa:2048 -nodes -keyout $name.key"
        "    -out $name.csr -subj /CN=$name\n"
        "  echo \"$ext\" >$name.ext\n"
        "  openssl x509 -req -in $name.csr -CA $ca.crt -CAkey $ca.key"
        "    -CAcreateserial -out $name.crt -extfile $name.ext \"$@\"; }\n"
        "ca ca; ca stranger\n"
        "cert ca good 'subjectAltName=DNS:localhost,IP:127.0.0.1' -days 2\n"
        "cert ca other 'subjectAltName=DNS:other.example,IP:10.9.8.7' -days 2\n"
        "cert ca expired 'subjectAltName=DNS:localhost' -days -1\n"
        "cert ca client 'extendedKeyUsage=clientAuth' -days 2\n"
        "cert stranger foreign 'extendedKeyUsage=clientAuth' -days 2\n";

    MUST(mkdir("build", 0755) == 0 || errno == EEXIST);
    MUST(mkdir("build/tmp", 0755) == 0 || errno == EEXIST);
    snprintf(dir, sizeof(dir), "build/tmp/tls-XXXXXX");
    MUST(mkdtemp(dir));
    char *absolute = realpath(dir, NULL);
    MUST(absolute && strlen(absolute) < sizeof(dir));
    strcpy(dir, absolute);
    free(absolute);
    MUST0(setenv("DIR", dir, 1));
    MUST0(system(script));
}

static void name_files(struct names *n, const char *ca, const char *cert)
{
    snprintf(n->ca, sizeof(n->ca), "%.200s/%s.crt", dir, ca);
    snprintf(n->cert, sizeof(n->cert), "%.200s/%s.crt", dir, cert);
    snprintf(n->key, sizeof(n->key), "%.200s/%s.key", dir, cert);
}

static void start_one(struct redis_server *s, const char *cert,
                      const char *clients)
{
    struct names n;
    const char *words[] = {"--port",
                           "auto",
                           "--tls-port",
                           "auto",
                           "--tls-ca-cert-file",
                           n.ca,
                           "--tls-cert-file",
                           n.cert,
                           "--tls-key-file",
                           n.key,
                           "--tls-auth-clients",
                           clients,
                           NULL};

    name_files(&n, "ca", cert);
    redis_server_start(s, words);
}

static int start_all(void **state)
{
    (void)state;
    make_certificates();
    start_one(&good, "good", "no");
    start_one(&strict, "good", "yes");
    start_one(&other_name, "other", "no");
    start_one(&expired, "expired", "no");
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    redis_server_stop(&good);
    redis_server_stop(&strict);
    redis_server_stop(&other_name);
    redis_server_stop(&expired);
    return system("rm -rf \"$DIR\"");
}

struct client {
    struct redis_target target;
    struct redis *r;
};

/* ca, cert: names of files without their endings, or NULL. */
static void make_client(struct client *c, const char *host, int port,
                        const char *ca, const char *cert)
{
    struct names n;
    struct settings settings = {0};
    struct complaint why = {0};
    char url[128];

    name_files(&n, ca ? ca : "none", cert ? cert : "none");
    settings.redis_ca = ca ? n.ca : NULL;
    settings.redis_cert = cert ? n.cert : NULL;
    settings.redis_key = cert ? n.key : NULL;
    snprintf(url, sizeof(url), "rediss://%s:%d", host, port);
    if (redis_target_parse(url, &settings, &c->target, &why) != 0)
        fail_msg("%s", why.text);
    assert_int_equal(redis_create(&c->target, "tls", &c->r), 0);
}

static void discard(struct client *c)
{
    redis_destroy(c->r);
    redis_target_fini(&c->target);
}

static void connect_client(struct client *c, const char *host, int port,
                           const char *ca, const char *cert)
{
    make_client(c, host, port, ca, cert);
    if (redis_connect(c->r, in_ms(LONG_MS)) != 0)
        fail_msg("%s", redis_error(c->r));
}

static void expect_echo(struct redis *r, const char *text)
{
    redisReply *reply = NULL;

    if (redis_callv(r, in_ms(LONG_MS), &reply, "ECHO", text, NULL) != 0)
        fail_msg("%s", redis_error(r));
    assert_string_equal(reply->str, text);
    freeReplyObject(reply);
}

static void expect_works(const char *host, const struct redis_server *s,
                         const char *cert)
{
    struct client c;

    connect_client(&c, host, s->tls_port, "ca", cert);
    expect_echo(c.r, "hello");
    discard(&c);
}

static void expect_refused(const char *host, const struct redis_server *s,
                           const char *ca, const char *cert, const char *words)
{
    struct client c;

    make_client(&c, host, s->tls_port, ca, cert);
    assert_int_equal(redis_connect(c.r, in_ms(LONG_MS)), -EKEYREJECTED);
    assert_false(redis_connected(c.r));
    if (!strstr(redis_error(c.r), words))
        fail_msg("%s", redis_error(c.r));
    discard(&c);
}

static void the_right_authority_and_name_connect(void **state)
{
    (void)state;
    expect_works("localhost", &good, NULL);
}

static void an_address_in_the_certificate_connects(void **state)
{
    (void)state;
    expect_works("127.0.0.1", &good, NULL);
}

static void a_certificate_of_another_authority_is_refused(void **state)
{
    (void)state;
    expect_refused("localhost", &good, "stranger", NULL,
                   "the server's certificate is refused");
}

static void the_systems_store_does_not_know_our_authority(void **state)
{
    (void)state;
    expect_refused("localhost", &good, NULL, NULL,
                   "the server's certificate is refused");
}

static void a_certificate_for_another_host_is_refused(void **state)
{
    (void)state;
    expect_refused("localhost", &other_name, "ca", NULL, "ostname mismatch");
    expect_refused("127.0.0.1", &other_name, "ca", NULL, "IP address mismatch");
}

static void an_expired_certificate_is_refused(void **state)
{
    (void)state;
    expect_refused("localhost", &expired, "ca", NULL, "expired");
}

static void a_client_certificate_is_shown_when_demanded(void **state)
{
    (void)state;
    expect_works("localhost", &strict, "client");
    expect_refused("localhost", &strict, "ca", NULL,
                   "the server refuses our client certificate");
    expect_refused("localhost", &strict, "ca", "foreign",
                   "the server refuses our client certificate");
}

static void files_that_cannot_be_used_are_named(void **state)
{
    (void)state;
    expect_refused("localhost", &good, "missing", NULL, "missing.crt");
    expect_refused("localhost", &good, "ca", "missing", "missing.crt");
}

static void plain_text_to_a_tls_port_fails_in_words(void **state)
{
    struct client c;
    struct complaint why;
    char url[64];
    int rc;

    (void)state;
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", good.tls_port);
    assert_int_equal(redis_target_parse(url, NULL, &c.target, &why), 0);
    assert_int_equal(redis_create(&c.target, NULL, &c.r), 0);
    rc = redis_connect(c.r, in_ms(LONG_MS));
    assert_true(rc == -EPROTO || rc == -ECONNRESET);
    assert_non_null(strstr(redis_error(c.r), "connect to redis://127.0.0.1"));
    discard(&c);
}

static void a_handshake_that_never_comes_costs_the_deadline(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);
    AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int64_t begin_ms = clock_ms();
    struct client c;

    (void)state;
    MUST0(bind(fd, (struct sockaddr *)&addr, size));
    MUST0(listen(fd, 1));
    MUST0(getsockname(fd, (struct sockaddr *)&addr, &size));
    make_client(&c, "127.0.0.1", ntohs(addr.sin_port), "ca", NULL);
    assert_int_equal(redis_connect(c.r, in_ms(150)), -ETIMEDOUT);
    assert_in_range(clock_ms() - begin_ms, 145, 5000);
    assert_non_null(strstr(redis_error(c.r), "TLS handshake"));
    assert_non_null(strstr(redis_error(c.r), "does this server speak TLS?"));
    discard(&c);
}

/* Redis 7.0 drops a TLS client ("bad length") whose socket fills up while more
 * replies queue behind: it retries SSL_write() with another length (see
 * valkey-io/valkey#1135). Pipelines here therefore have small replies, and big
 * replies come one at a time. */
#define PUSH_BYTES 60000

static void append_push(struct redis *r, const char *key, char *value, int i)
{
    const char *argv[] = {"RPUSH", key, value};
    const size_t lens[] = {5, strlen(key), PUSH_BYTES};

    memcpy(value, &i, sizeof(i));
    assert_int_equal(redis_append(r, 3, argv, lens), 0);
}

/* The i-th push (from 0) answers with the list's length. */
static void expect_pushed(redisReply *reply, int i)
{
    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    assert_int_equal(reply->integer, i + 1);
    freeReplyObject(reply);
}

/* All values arrived whole and in order; the list is deleted. */
static void expect_list(struct redis *r, const char *key, int count)
{
    redisReply *reply = NULL;
    char index[16];

    for (int i = 0; i < count; i++) {
        snprintf(index, sizeof(index), "%d", i);
        assert_int_equal(
            redis_callv(r, in_ms(LONG_MS), &reply, "LINDEX", key, index, NULL),
            0);
        assert_int_equal(reply->len, PUSH_BYTES);
        assert_memory_equal(reply->str, &i, sizeof(i));
        freeReplyObject(reply);
    }
    assert_int_equal(redis_callv(r, in_ms(LONG_MS), &reply, "DEL", key, NULL),
                     0);
    freeReplyObject(reply);
}

static void a_pipeline_of_big_values_goes_through_tls(void **state)
{
    enum { COMMANDS = 300 };
    char *value = calloc(1, PUSH_BYTES);
    redisReply *reply = NULL;
    struct client c;

    (void)state;
    connect_client(&c, "localhost", good.tls_port, "ca", NULL);
    for (int i = 0; i < COMMANDS; i++)
        append_push(c.r, "pipeline", value, i);
    assert_int_equal(redis_flush(c.r, in_ms(LONG_MS)), 0);
    for (int i = 0; i < COMMANDS; i++) {
        assert_int_equal(redis_reply(c.r, in_ms(LONG_MS), &reply), 0);
        expect_pushed(reply, i);
    }
    expect_list(c.r, "pipeline", COMMANDS);
    free(value);
    discard(&c);
}

static void a_large_value_comes_whole_through_tls(void **state)
{
    enum { BYTES = 8 << 20 };
    redisReply *reply = NULL;
    struct client c;

    (void)state;
    connect_client(&c, "localhost", good.tls_port, "ca", NULL);
    assert_int_equal(redis_callv(c.r, in_ms(LONG_MS), &reply, "SETRANGE",
                                 "large", "8388605", "end", NULL),
                     0);
    freeReplyObject(reply);
    assert_int_equal(
        redis_callv(c.r, in_ms(LONG_MS), &reply, "GET", "large", NULL), 0);
    assert_int_equal(reply->len, BYTES);
    assert_string_equal(reply->str + BYTES - 3, "end");
    freeReplyObject(reply);
    discard(&c);
}

/* Appends while a write is stuck half way in a record: the rest of it then
 * lies elsewhere in memory. */
static void a_stuck_write_goes_on_from_a_grown_buffer(void **state)
{
    enum { COMMANDS = 400 };
    char *value = calloc(1, PUSH_BYTES);
    redisReply *reply = NULL;
    struct client c;

    (void)state;
    connect_client(&c, "localhost", good.tls_port, "ca", NULL);
    kill(good.pid, SIGSTOP);
    for (int i = 0; i < COMMANDS; i++) {
        append_push(c.r, "stuck", value, i);
        assert_int_equal(redis_step(c.r, &reply), 0);
    }
    assert_true(redis_wants_write(c.r));
    kill(good.pid, SIGCONT);
    for (int i = 0; i < COMMANDS; i++) {
        if (redis_reply(c.r, in_ms(LONG_MS), &reply) != 0)
            fail_msg("%s", redis_error(c.r));
        expect_pushed(reply, i);
    }
    expect_list(c.r, "stuck", COMMANDS);
    free(value);
    discard(&c);
}

/* Appends between steps, as a busy worker does. */
static void steps_never_stall_on_tls(void **state)
{
    enum { COMMANDS = 400 };
    char *value = calloc(1, PUSH_BYTES);
    redisReply *reply = NULL;
    int appended = 0, taken = 0, rc;
    struct client c;

    (void)state;
    connect_client(&c, "localhost", good.tls_port, "ca", NULL);
    while (taken < COMMANDS) {
        struct pollfd pfd = {.fd = redis_fd(c.r), .events = POLLIN};

        for (int i = 0; i < 7 && appended < COMMANDS; i++)
            append_push(c.r, "steps", value, appended++);
        while ((rc = redis_step(c.r, &reply)) == 1)
            expect_pushed(reply, taken++);
        assert_int_equal(rc, 0);
        if (redis_wants_write(c.r))
            pfd.events |= POLLOUT;
        if (taken < appended)
            assert_int_equal(poll(&pfd, 1, LONG_MS), 1);
    }
    expect_list(c.r, "steps", COMMANDS);
    free(value);
    discard(&c);
}

/* Default disposition: a SIGPIPE would end the test program. */
static void a_killed_tls_server_raises_no_signal(void **state)
{
    const char *argv[] = {"PING"};
    struct client c;
    int rc = 0;

    (void)state;
    MUST(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    connect_client(&c, "localhost", good.tls_port, "ca", NULL);
    redis_server_kill(&good);
    for (int i = 0; i < 100 && rc == 0; i++) {
        rc = redis_append(c.r, 1, argv, NULL);
        if (rc == 0)
            rc = redis_flush(c.r, in_ms(LONG_MS));
    }
    assert_true(rc == -EPIPE || rc == -ECONNRESET);
    assert_int_equal(redis_connect(c.r, in_ms(LONG_MS)), -ECONNREFUSED);
    redis_server_restart(&good);
    assert_int_equal(redis_connect(c.r, in_ms(LONG_MS)), 0);
    expect_echo(c.r, "back");
    discard(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_authority_and_name_connect),
        cmocka_unit_test(an_address_in_the_certificate_connects),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused),
        cmocka_unit_test(the_systems_store_does_not_know_our_authority),
        cmocka_unit_test(a_certificate_for_another_host_is_refused),
        cmocka_unit_test(an_expired_certificate_is_refused),
        cmocka_unit_test(a_client_certificate_is_shown_when_demanded),
        cmocka_unit_test(files_that_cannot_be_used_are_named),
        cmocka_unit_test(plain_text_to_a_tls_port_fails_in_words),
        cmocka_unit_test(a_handshake_that_never_comes_costs_the_deadline),
        cmocka_unit_test(a_pipeline_of_big_values_goes_through_tls),
        cmocka_unit_test(a_large_value_comes_whole_through_tls),
        cmocka_unit_test(a_stuck_write_goes_on_from_a_grown_buffer),
        cmocka_unit_test(steps_never_stall_on_tls),
        cmocka_unit_test(a_killed_tls_server_raises_no_signal),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
