/* tests/integration/test_redis.c -- the connection against a real Redis, and
 * against servers that misbehave as a real one cannot be made to. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/redis.h"
#include "common/scope.h"
#include "tests/support/redis_server.h"

#define LONG_MS   30000 /* far more than anything here takes */
#define URL_BYTES 1024

static struct redis_server server; /* for tests that leave it as it was */

static int64_t in_ms(int ms)
{
    return clock_ms() + ms;
}

/* A connection, not yet connected. */
static struct redis *create(const char *url, struct redis_target *target)
{
    struct complaint why = {0};
    struct redis *r = NULL;

    if (redis_target_parse(url, NULL, target, &why) != 0)
        fail_msg("%s: %s", url, why.text);
    assert_int_equal(redis_create(target, "a test/ü", &r), 0);
    return r;
}

static struct redis *connected(const char *url, struct redis_target *target)
{
    struct redis *r = create(url, target);

    if (redis_connect(r, in_ms(LONG_MS)) != 0)
        fail_msg("%s", redis_error(r));
    return r;
}

static void discard(struct redis *r, struct redis_target *target)
{
    redis_destroy(r);
    redis_target_fini(target);
}

static int connect_code(const char *url, int timeout_ms, char *error)
{
    struct redis_target target;
    struct redis *r = create(url, &target);
    int rc = redis_connect(r, in_ms(timeout_ms));

    snprintf(error, 512, "%s", redis_error(r));
    assert_int_equal(redis_connected(r), rc == 0);
    discard(r, &target);
    return rc;
}

#define CALL(r, reply, ...)                                                  \
    do {                                                                     \
        if (redis_callv((r), in_ms(LONG_MS), &(reply), __VA_ARGS__, NULL) != \
            0)                                                               \
            fail_msg("%s", redis_error(r));                                  \
    } while (0)

static void expect_text(struct redis *r, const char *want, const char *command,
                        const char *arg)
{
    redisReply *reply = NULL;

    if (redis_callv(r, in_ms(LONG_MS), &reply, command, arg, NULL) != 0)
        fail_msg("%s", redis_error(r));
    assert_non_null(reply->str);
    assert_string_equal(reply->str, want);
    freeReplyObject(reply);
}

static int start_server(void **state)
{
    static const char *const extra[] = {"--port", "auto", NULL};

    (void)state;
    redis_server_start(&server, extra);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

static void tcp_url(char *url, const char *host)
{
    sprintf(url, "redis://%s:%d/0", host, server.port);
}

/* --- calls ------------------------------------------------------------- */

static void bytes_come_back_as_they_were_sent(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    const char *argv[] = {"ECHO", "a\0b\r\n$5\r\n\xff"};
    const size_t lens[] = {4, 10};
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(redis_call(r, in_ms(LONG_MS), &reply, 2, argv, lens), 0);
    assert_int_equal(reply->len, 10);
    assert_memory_equal(reply->str, argv[1], 10);
    freeReplyObject(reply);
    discard(r, &target);
}

static void an_error_reply_is_a_reply(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    redisReply *reply = NULL;

    (void)state;
    CALL(r, reply, "EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "0");
    assert_int_equal(redis_kind(reply), REDIS_NOSCRIPT);
    freeReplyObject(reply);
    expect_text(r, "still here", "ECHO", "still here");
    discard(r, &target);
}

static void connecting_twice_keeps_the_connection(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    int64_t id = redis_client_id(r);

    (void)state;
    assert_true(id > 0);
    assert_int_equal(redis_connect(r, in_ms(LONG_MS)), 0);
    assert_int_equal(redis_client_id(r), id);
    redis_close(r);
    assert_int_equal(redis_client_id(r), 0);
    discard(r, &target);
}

static void it_knows_itself_and_the_server(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    redisReply *reply = NULL;

    (void)state;
    CALL(r, reply, "CLIENT", "ID");
    assert_int_equal(reply->integer, redis_client_id(r));
    freeReplyObject(reply);
    CALL(r, reply, "INFO", "server");
    assert_int_equal(strlen(redis_run_id(r)), 40);
    assert_non_null(strstr(reply->str, redis_run_id(r)));
    freeReplyObject(reply);
    discard(r, &target);
}

static void a_client_name_is_made_fit_for_redis(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);

    (void)state;
    expect_text(r, "a_test/__", "CLIENT", "GETNAME");
    assert_int_equal(redis_set_name(r, "capibox:host\n1"), 0);
    redis_close(r);
    assert_int_equal(redis_connect(r, in_ms(LONG_MS)), 0);
    expect_text(r, "capibox:host_1", "CLIENT", "GETNAME");
    discard(r, &target);
}

static void sockets_are_tuned(void **state)
{
    static const int rows[][3] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 15}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000},
    };
    struct redis_target target;
    struct redis *r;
    char url[64];

    (void)state;
    tcp_url(url, "127.0.0.1");
    r = connected(url, &target);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int value = -1;
        socklen_t size = sizeof(value);

        assert_int_equal(
            getsockopt(redis_fd(r), rows[i][0], rows[i][1], &value, &size), 0);
        assert_int_equal(value, rows[i][2]);
    }
    assert_true(fcntl(redis_fd(r), F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(redis_fd(r), F_GETFL) & O_NONBLOCK);
    discard(r, &target);
}

/* The server listens on IPv4 alone; localhost may name ::1 first. */
static void a_host_may_be_a_name(void **state)
{
    struct redis_target target;
    struct redis *r;
    char url[64];

    (void)state;
    tcp_url(url, "localhost");
    r = connected(url, &target);
    expect_text(r, "x", "ECHO", "x");
    discard(r, &target);
}

static void a_database_is_selected(void **state)
{
    struct redis_target target, target_0;
    struct redis *r_0 = connected(server.url, &target_0);
    char url[URL_BYTES], error[512];
    struct redis *r;
    redisReply *reply = NULL;

    (void)state;
    snprintf(url, sizeof(url), "%s?db=3", server.url);
    r = connected(url, &target);
    CALL(r, reply, "SET", "only-in-3", "x");
    freeReplyObject(reply);
    CALL(r_0, reply, "EXISTS", "only-in-3");
    assert_int_equal(reply->integer, 0);
    freeReplyObject(reply);
    discard(r, &target);
    discard(r_0, &target_0);

    snprintf(url, sizeof(url), "%s?db=99", server.url);
    assert_int_equal(connect_code(url, LONG_MS, error), -EINVAL);
    assert_non_null(strstr(error, "choose the database"));
    assert_non_null(strstr(error, "out of range"));
}

/* --- pipelines --------------------------------------------------------- */

static void ten_thousand_big_values_go_through_one_pipeline(void **state)
{
    enum { COMMANDS = 10000, BYTES = 4000 };
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    char *value = malloc(BYTES + 1);
    redisReply *reply = NULL;

    (void)state;
    memset(value, 'v', BYTES);
    value[BYTES] = '\0';
    for (int i = 0; i < COMMANDS; i++) {
        const char *argv[] = {"ECHO", value};
        const size_t lens[] = {4, BYTES};

        memcpy(value, &i, sizeof(i));
        assert_int_equal(redis_append(r, 2, argv, lens), 0);
    }
    assert_int_equal(redis_flush(r, in_ms(LONG_MS)), 0);
    for (int i = 0; i < COMMANDS; i++) {
        assert_int_equal(redis_reply(r, in_ms(LONG_MS), &reply), 0);
        assert_int_equal(reply->len, BYTES);
        assert_memory_equal(reply->str, &i, sizeof(i));
        freeReplyObject(reply);
    }
    assert_int_equal(redis_callv(r, in_ms(LONG_MS), &reply, "PING", NULL), 0);
    freeReplyObject(reply);
    free(value);
    discard(r, &target);
}

static void a_large_value_comes_whole(void **state)
{
    enum { BYTES = 48 << 20 };
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    char offset[16];
    redisReply *reply = NULL;

    (void)state;
    snprintf(offset, sizeof(offset), "%d", BYTES - 3);
    CALL(r, reply, "SETRANGE", "large", offset, "end");
    assert_int_equal(reply->integer, BYTES);
    freeReplyObject(reply);
    CALL(r, reply, "GET", "large");
    assert_int_equal(reply->len, BYTES);
    assert_string_equal(reply->str + BYTES - 3, "end");
    freeReplyObject(reply);
    CALL(r, reply, "DEL", "large");
    freeReplyObject(reply);
    discard(r, &target);
}

static void a_call_refuses_to_take_a_pipelines_reply(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    const char *argv[] = {"ECHO", "of the pipeline"};
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(redis_append(r, 2, argv, NULL), 0);
    assert_int_equal(redis_flush(r, in_ms(LONG_MS)), 0);
    assert_int_equal(redis_callv(r, in_ms(LONG_MS), &reply, "PING", NULL),
                     -EBUSY);
    assert_false(redis_connected(r));
    assert_null(reply);
    discard(r, &target);
}

/* --- event loops ------------------------------------------------------- */

/* Steps until a reply or an error; polls as an event loop does. */
static int step_until(struct redis *r, redisReply **reply_out)
{
    int rc;

    while ((rc = redis_step(r, reply_out)) == 0) {
        struct pollfd pfd = {.fd = redis_fd(r), .events = POLLIN};

        if (redis_wants_write(r))
            pfd.events |= POLLOUT;
        if (poll(&pfd, 1, LONG_MS) != 1)
            return -ETIMEDOUT;
    }
    return rc;
}

static void steps_carry_a_pipeline(void **state)
{
    enum { COMMANDS = 300, BYTES = 20000 };
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    char *value = calloc(1, BYTES);
    redisReply *reply = NULL;

    (void)state;
    assert_false(redis_wants_write(r));
    for (int i = 0; i < COMMANDS; i++) {
        const char *argv[] = {"ECHO", value};
        const size_t lens[] = {4, BYTES};

        memcpy(value, &i, sizeof(i));
        assert_int_equal(redis_append(r, 2, argv, lens), 0);
    }
    assert_true(redis_wants_write(r));
    for (int i = 0; i < COMMANDS; i++) {
        assert_int_equal(step_until(r, &reply), 1);
        assert_memory_equal(reply->str, &i, sizeof(i));
        freeReplyObject(reply);
    }
    assert_false(redis_wants_write(r));
    assert_int_equal(redis_step(r, &reply), 0);
    free(value);
    discard(r, &target);
}

static void a_step_does_not_wait(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    const char *argv[] = {"BLPOP", "never", "0"};
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(redis_append(r, 3, argv, NULL), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(redis_step(r, &reply), 0);
    assert_false(redis_wants_write(r));
    discard(r, &target);
}

static void pushed_messages_arrive_by_steps(void **state)
{
    struct redis_target target, other_target;
    struct redis *r = connected(server.url, &target);
    struct redis *other = connected(server.url, &other_target);
    const char *argv[] = {"SUBSCRIBE", "c"};
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(redis_append(r, 2, argv, NULL), 0);
    assert_int_equal(step_until(r, &reply), 1);
    freeReplyObject(reply);
    for (int i = 0; i < 3; i++) {
        CALL(other, reply, "PUBLISH", "c", "hello");
        freeReplyObject(reply);
        assert_int_equal(step_until(r, &reply), 1);
        assert_string_equal(reply->element[2]->str, "hello");
        freeReplyObject(reply);
    }
    discard(r, &target);
    discard(other, &other_target);
}

/* --- time and loss ----------------------------------------------------- */

static void a_late_reply_answers_no_other_call(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    redisReply *reply = NULL;
    int64_t begin_ms = clock_ms();

    (void)state;
    assert_int_equal(
        redis_callv(r, in_ms(100), &reply, "DEBUG", "SLEEP", "2", NULL),
        -ETIMEDOUT);
    assert_in_range(clock_ms() - begin_ms, 95, 1900); /* not with the answer */
    assert_null(reply);
    assert_false(redis_connected(r));
    assert_int_equal(redis_callv(r, in_ms(100), &reply, "ECHO", "x", NULL),
                     -ENOTCONN);
    assert_non_null(strstr(redis_error(r), "no answer in time"));
    assert_int_equal(redis_connect(r, in_ms(LONG_MS)), 0);
    expect_text(r, "mine", "ECHO", "mine");
    discard(r, &target);
}

static void a_deadline_that_has_passed_still_takes_what_is_there(void **state)
{
    struct redis_target target;
    struct redis *r = connected(server.url, &target);
    const char *argv[] = {"ECHO", "in time"};
    struct pollfd pfd = {.fd = redis_fd(r), .events = POLLIN};
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(redis_append(r, 2, argv, NULL), 0);
    assert_int_equal(redis_flush(r, in_ms(LONG_MS)), 0);
    assert_int_equal(poll(&pfd, 1, LONG_MS), 1);
    assert_int_equal(redis_reply(r, in_ms(-1000), &reply), 0);
    assert_string_equal(reply->str, "in time");
    freeReplyObject(reply);
    discard(r, &target);
}

static void a_killed_server_is_an_error_until_it_is_back(void **state)
{
    struct redis_server own;
    struct redis_target target;
    char run_id[80];
    redisReply *reply = NULL;
    struct redis *r;
    int rc;

    (void)state;
    redis_server_start(&own, NULL);
    r = connected(own.url, &target);
    snprintf(run_id, sizeof(run_id), "%s", redis_run_id(r));
    redis_server_kill(&own);
    rc = redis_callv(r, in_ms(LONG_MS), &reply, "PING", NULL);
    assert_true(rc == -ECONNRESET || rc == -EPIPE);
    assert_false(redis_connected(r));
    assert_int_equal(redis_connect(r, in_ms(LONG_MS)), -ECONNREFUSED);
    assert_non_null(strstr(redis_error(r), "connect to unix://"));
    assert_non_null(strstr(redis_error(r), "Connection refused"));
    redis_server_restart(&own);
    assert_int_equal(redis_connect(r, in_ms(LONG_MS)), 0);
    assert_string_not_equal(redis_run_id(r), run_id);
    expect_text(r, "back", "ECHO", "back");
    discard(r, &target);
    redis_server_stop(&own);
}

/* Default disposition: a SIGPIPE would end the test program. */
static void writing_to_a_closed_connection_raises_no_signal(void **state)
{
    struct redis_target target, other_target;
    struct redis *r = connected(server.url, &target);
    struct redis *other = connected(server.url, &other_target);
    struct pollfd pfd = {.fd = redis_fd(r), .events = POLLRDHUP};
    const char *argv[] = {"PING"};
    char id[32];
    redisReply *reply = NULL;
    int rc = 0;

    (void)state;
    MUST(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    snprintf(id, sizeof(id), "%lld", (long long)redis_client_id(r));
    CALL(other, reply, "CLIENT", "KILL", "ID", id);
    assert_int_equal(reply->integer, 1);
    freeReplyObject(reply);
    assert_int_equal(poll(&pfd, 1, LONG_MS), 1);
    for (int i = 0; i < 10 && rc == 0; i++) {
        rc = redis_append(r, 1, argv, NULL);
        if (rc == 0)
            rc = redis_flush(r, in_ms(LONG_MS));
    }
    assert_true(rc == -EPIPE || rc == -ECONNRESET);
    assert_false(redis_connected(r));
    discard(r, &target);
    discard(other, &other_target);
}

static void a_missing_socket_is_named(void **state)
{
    char error[512], url[URL_BYTES];

    (void)state;
    snprintf(url, sizeof(url), "unix://%s/none.sock", server.dir);
    assert_int_equal(connect_code(url, LONG_MS, error), -ENOENT);
    assert_non_null(strstr(error, "none.sock"));
    assert_non_null(strstr(error, "No such file"));
    snprintf(url, sizeof(url), "unix:///%0200d", 0);
    assert_int_equal(connect_code(url, LONG_MS, error), -ENAMETOOLONG);
}

static void a_name_that_is_none_is_said_to_be_none(void **state)
{
    char error[512];

    (void)state;
    assert_int_equal(
        connect_code("redis://no-such-host.invalid:1", LONG_MS, error),
        -EHOSTUNREACH);
    assert_non_null(strstr(error, "connect to redis://no-such-host.invalid:1"));
}

/* --- logging in -------------------------------------------------------- */

static struct redis_server guarded;

static int start_guarded(void **state)
{
    static const char *const extra[] = {
        "--requirepass", "hunter2", "--user",  "alice", "on",
        ">wonder2",      "~*",      "&*",      "+@all", "--user",
        "bob",           "on",      ">plain2", "~*",    "-@all",
        "+get",          NULL};

    (void)state;
    redis_server_start(&guarded, extra);
    return 0;
}

static int stop_guarded(void **state)
{
    (void)state;
    redis_server_stop(&guarded);
    return 0;
}

static void guarded_url(char *url, const char *login)
{
    snprintf(url, URL_BYTES, "unix://%s%.300s", login,
             guarded.url + strlen("unix://"));
}

static void expect_login(const char *login, const char *whoami)
{
    struct redis_target target;
    struct redis *r;
    char url[URL_BYTES];

    guarded_url(url, login);
    r = connected(url, &target);
    expect_text(r, whoami, "ACL", "WHOAMI");
    discard(r, &target);
}

static void a_right_password_logs_in(void **state)
{
    (void)state;
    expect_login(":hunter2@", "default");
    expect_login("default:hunter2@", "default");
    expect_login("alice:wonder2@", "alice");
}

static void expect_no_login(const char *url, const char *words)
{
    char error[512];

    assert_int_equal(connect_code(url, LONG_MS, error), -EACCES);
    if (!strstr(error, words))
        fail_msg("%s", error);
    assert_null(strstr(error, "hunter"));
}

static void a_wrong_password_is_refused_and_not_told(void **state)
{
    char url[URL_BYTES];

    (void)state;
    guarded_url(url, ":hunter3@");
    expect_no_login(url, "the user name or password is refused");
    guarded_url(url, "alice:hunter2@");
    expect_no_login(url, "alice:***@");
    guarded_url(url, "");
    expect_no_login(url, "the server wants a password");
    snprintf(url, sizeof(url), "unix://:hunter2@%.300s", server.url + 7);
    expect_no_login(url, "the server has none");
}

static void a_user_who_may_do_little_can_still_connect(void **state)
{
    struct redis_target target;
    struct redis *r;
    char url[URL_BYTES];
    redisReply *reply = NULL;

    (void)state;
    guarded_url(url, "bob:plain2@");
    r = connected(url, &target);
    assert_string_equal(redis_run_id(r), "");
    assert_int_equal(redis_client_id(r), 0);
    CALL(r, reply, "GET", "k");
    assert_int_equal(reply->type, REDIS_REPLY_NIL);
    freeReplyObject(reply);
    CALL(r, reply, "SET", "k", "v");
    assert_int_equal(redis_kind(reply), REDIS_AUTH);
    freeReplyObject(reply);
    discard(r, &target);
}

/* --- servers that misbehave -------------------------------------------- */

#define NAMED "+PONG\r\n+OK\r\n:1\r\n$-1\r\n" /* PING, SETNAME, ID, INFO */

struct fake {
    int listener, port;
    const char *text;    /* said after the first bytes of a client */
    bool hang_up;        /* then */
    size_t flood;        /* bytes of replies to send before reading on */
    const char *goodbye; /* said to the second bytes, before hanging up */
    pthread_t thread;
};

static void send_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        text += sent;
        size -= (size_t)sent;
    }
}

static void send_flood(int fd, size_t bytes)
{
    static const char chunk[] = "+flood flood flood flood flood flood\r\n";

    for (; bytes >= sizeof(chunk) - 1; bytes -= sizeof(chunk) - 1)
        send_all(fd, chunk, sizeof(chunk) - 1);
}

/* Serves one client, blocking as a simple server does, until it goes away. */
static void *run_fake(void *arg)
{
    const struct fake *f = arg;
    char in[65536];
    AUTO_FD int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0 || recv(fd, in, sizeof(in), 0) <= 0)
        return NULL;
    send_all(fd, f->text, strlen(f->text));
    if (f->hang_up)
        return NULL;
    if (f->goodbye && recv(fd, in, sizeof(in), 0) > 0) {
        send_all(fd, f->goodbye, strlen(f->goodbye));
        return NULL;
    }
    if (f->flood > 0 && recv(fd, in, sizeof(in), 0) > 0)
        send_flood(fd, f->flood);
    while (recv(fd, in, sizeof(in), 0) > 0)
        ;
    return NULL;
}

static void fake_listen(struct fake *f, char *url)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);

    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(f->listener >= 0);
    MUST0(bind(f->listener, (struct sockaddr *)&addr, size));
    MUST0(listen(f->listener, 8));
    MUST0(getsockname(f->listener, (struct sockaddr *)&addr, &size));
    f->port = ntohs(addr.sin_port);
    sprintf(url, "redis://127.0.0.1:%d", f->port);
}

static void fake_start(struct fake *f, char *url)
{
    fake_listen(f, url);
    MUST0(pthread_create(&f->thread, NULL, run_fake, f));
}

static void fake_stop(struct fake *f)
{
    MUST0(pthread_join(f->thread, NULL));
    close(f->listener);
}

static int connect_to_fake(const char *text, bool hang_up, char *error)
{
    struct fake f = {.text = text, .hang_up = hang_up};
    char url[64];
    int rc;

    fake_start(&f, url);
    rc = connect_code(url, LONG_MS, error);
    fake_stop(&f);
    return rc;
}

static void a_server_that_is_loading_means_later(void **state)
{
    char error[512];

    (void)state;
    assert_int_equal(connect_to_fake("-LOADING Redis is loading the dataset "
                                     "in memory\r\n+OK\r\n:1\r\n$-1\r\n",
                                     false, error),
                     -EAGAIN);
    assert_non_null(strstr(error, "LOADING"));
}

static void a_full_server_is_heard_before_it_hangs_up(void **state)
{
    char error[512];

    (void)state;
    assert_int_equal(
        connect_to_fake("-ERR max number of clients reached\r\n", true, error),
        -ECONNREFUSED);
    assert_non_null(strstr(error, "max number of clients reached"));
}

/* Sends one PING and waits until the kernel knows what became of it. */
static void ping_and_watch(struct redis *r, short events)
{
    const char *argv[] = {"PING"};
    struct pollfd pfd = {.fd = redis_fd(r), .events = events};

    assert_int_equal(redis_append(r, 1, argv, NULL), 0);
    assert_int_equal(redis_flush(r, in_ms(LONG_MS)), 0);
    assert_int_equal(poll(&pfd, 1, LONG_MS), 1);
}

static void last_words_are_heard_after_a_broken_pipe(void **state)
{
    struct fake f = {.text = NAMED, .goodbye = "-ERR goodbye\r\n"};
    struct redis_target target;
    const char *argv[] = {"PING"};
    char url[64];
    struct redis *r;
    redisReply *reply = NULL;

    (void)state;
    fake_start(&f, url);
    r = connected(url, &target);
    ping_and_watch(r, POLLRDHUP); /* answered, and hung up */
    ping_and_watch(r, 0);         /* reset: POLLERR */
    assert_int_equal(redis_append(r, 1, argv, NULL), 0);
    assert_int_equal(redis_flush(r, in_ms(LONG_MS)), 0);
    assert_int_equal(redis_reply(r, in_ms(LONG_MS), &reply), 0);
    assert_string_equal(reply->str, "ERR goodbye");
    freeReplyObject(reply);
    assert_int_not_equal(redis_reply(r, in_ms(LONG_MS), &reply), 0);
    assert_false(redis_connected(r));
    discard(r, &target);
    fake_stop(&f);
}

static void what_does_not_speak_redis_is_told_so(void **state)
{
    char error[512];

    (void)state;
    assert_int_equal(
        connect_to_fake("HTTP/1.1 400 Bad Request\r\n\r\n", true, error),
        -EPROTO);
    assert_non_null(strstr(error, "not a Redis reply"));
    assert_int_equal(connect_to_fake("+PONG\r\n", true, error), -ECONNRESET);
    assert_non_null(strstr(error, "closed by the server"));
}

static void a_listener_that_never_answers_costs_the_deadline(void **state)
{
    struct fake f = {0};
    int64_t begin_ms = clock_ms();
    char url[64], error[512];

    (void)state;
    fake_listen(&f, url);
    assert_int_equal(connect_code(url, 150, error), -ETIMEDOUT);
    assert_in_range(clock_ms() - begin_ms, 145, 2000);
    close(f.listener);
}

static void a_connection_gone_silent_costs_the_deadline(void **state)
{
    struct fake f = {.text = NAMED};
    struct redis_target target;
    char url[64];
    struct redis *r;
    redisReply *reply = NULL;
    int64_t begin_ms;

    (void)state;
    fake_start(&f, url);
    r = connected(url, &target);
    begin_ms = clock_ms();
    assert_int_equal(redis_callv(r, in_ms(150), &reply, "PING", NULL),
                     -ETIMEDOUT);
    assert_in_range(clock_ms() - begin_ms, 145, 2000);
    assert_false(redis_connected(r));
    discard(r, &target);
    fake_stop(&f);
}

/* The server stops reading until we have read what it says. */
static void flushing_reads_what_the_server_insists_on_saying(void **state)
{
    enum { BYTES = 16 << 20 };
    struct fake f = {.text = NAMED, .flood = BYTES};
    struct redis_target target;
    char url[64], *value = calloc(1, BYTES);
    const char *argv[] = {"ECHO", value};
    const size_t lens[] = {4, BYTES};
    struct redis *r;

    (void)state;
    fake_start(&f, url);
    r = connected(url, &target);
    assert_int_equal(redis_append(r, 2, argv, lens), 0);
    if (redis_flush(r, in_ms(LONG_MS)) != 0)
        fail_msg("%s", redis_error(r));
    discard(r, &target);
    fake_stop(&f);
    free(value);
}

static void a_server_that_stops_reading_costs_the_deadline(void **state)
{
    enum { BYTES = 16 << 20 };
    struct redis_server own;
    struct redis_target target;
    char *value = calloc(1, BYTES);
    const char *argv[] = {"SET", "k", value};
    const size_t lens[] = {3, 1, BYTES};
    struct redis *r;

    (void)state;
    redis_server_start(&own, NULL);
    r = connected(own.url, &target);
    kill(own.pid, SIGSTOP);
    assert_int_equal(redis_append(r, 3, argv, lens), 0);
    assert_int_equal(redis_flush(r, in_ms(150)), -ETIMEDOUT);
    assert_false(redis_connected(r));
    discard(r, &target);
    redis_server_stop(&own);
    free(value);
}

#define GUARDED(test) \
    cmocka_unit_test_setup_teardown(test, start_guarded, stop_guarded)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back_as_they_were_sent),
        cmocka_unit_test(an_error_reply_is_a_reply),
        cmocka_unit_test(connecting_twice_keeps_the_connection),
        cmocka_unit_test(it_knows_itself_and_the_server),
        cmocka_unit_test(a_client_name_is_made_fit_for_redis),
        cmocka_unit_test(sockets_are_tuned),
        cmocka_unit_test(a_host_may_be_a_name),
        cmocka_unit_test(a_database_is_selected),
        cmocka_unit_test(ten_thousand_big_values_go_through_one_pipeline),
        cmocka_unit_test(a_large_value_comes_whole),
        cmocka_unit_test(a_call_refuses_to_take_a_pipelines_reply),
        cmocka_unit_test(steps_carry_a_pipeline),
        cmocka_unit_test(a_step_does_not_wait),
        cmocka_unit_test(pushed_messages_arrive_by_steps),
        cmocka_unit_test(a_late_reply_answers_no_other_call),
        cmocka_unit_test(a_deadline_that_has_passed_still_takes_what_is_there),
        cmocka_unit_test(a_killed_server_is_an_error_until_it_is_back),
        cmocka_unit_test(writing_to_a_closed_connection_raises_no_signal),
        cmocka_unit_test(a_missing_socket_is_named),
        cmocka_unit_test(a_name_that_is_none_is_said_to_be_none),
        GUARDED(a_right_password_logs_in),
        GUARDED(a_wrong_password_is_refused_and_not_told),
        GUARDED(a_user_who_may_do_little_can_still_connect),
        cmocka_unit_test(a_server_that_is_loading_means_later),
        cmocka_unit_test(a_full_server_is_heard_before_it_hangs_up),
        cmocka_unit_test(last_words_are_heard_after_a_broken_pipe),
        cmocka_unit_test(what_does_not_speak_redis_is_told_so),
        cmocka_unit_test(a_listener_that_never_answers_costs_the_deadline),
        cmocka_unit_test(a_connection_gone_silent_costs_the_deadline),
        cmocka_unit_test(flushing_reads_what_the_server_insists_on_saying),
        cmocka_unit_test(a_server_that_stops_reading_costs_the_deadline),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
