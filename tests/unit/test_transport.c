/* tests/unit/test_transport.c -- names and addresses, with a resolver that
 * answers what, and when, a test wants. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/resolve.h"
#include "common/transport.h"

#define LONG_MS 20000

int __real_getaddrinfo(const char *host, const char *port,
                       const struct addrinfo *hints, struct addrinfo **list);
int __wrap_getaddrinfo(const char *host, const char *port,
                       const struct addrinfo *hints, struct addrinfo **list);
void __real_freeaddrinfo(struct addrinfo *list);
void __wrap_freeaddrinfo(struct addrinfo *list);

/* What the resolver does with the names below. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool released;    /* "slow.test" may be answered */
    int freed;        /* answers given back */
    char ports[2][8]; /* "two.test" has these two addresses */
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER,
              .changed = PTHREAD_COND_INITIALIZER};

static int numeric(const char *port, struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = AF_INET,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST};

    return __real_getaddrinfo("127.0.0.1", port, &hints, list);
}

int __wrap_getaddrinfo(const char *host, const char *port,
                       const struct addrinfo *hints, struct addrinfo **list)
{
    int rc;

    if (hints->ai_flags & AI_NUMERICHOST)
        return __real_getaddrinfo(host, port, hints, list);
    if (!strcmp(host, "two.test")) {
        rc = numeric(resolver.ports[0], list);
        return rc ? rc : numeric(resolver.ports[1], &(*list)->ai_next);
    }
    if (strcmp(host, "slow.test") != 0)
        return EAI_NONAME;
    MUST0(pthread_mutex_lock(&resolver.lock));
    while (!resolver.released)
        MUST0(pthread_cond_wait(&resolver.changed, &resolver.lock));
    MUST0(pthread_mutex_unlock(&resolver.lock));
    return numeric(port, list);
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    __real_freeaddrinfo(list);
    MUST0(pthread_mutex_lock(&resolver.lock));
    resolver.freed++;
    MUST0(pthread_cond_broadcast(&resolver.changed));
    MUST0(pthread_mutex_unlock(&resolver.lock));
}

static void release(void)
{
    MUST0(pthread_mutex_lock(&resolver.lock));
    resolver.released = true;
    MUST0(pthread_cond_broadcast(&resolver.changed));
    MUST0(pthread_mutex_unlock(&resolver.lock));
}

static void await_freed(int freed)
{
    MUST0(pthread_mutex_lock(&resolver.lock));
    while (resolver.freed < freed)
        MUST0(pthread_cond_wait(&resolver.changed, &resolver.lock));
    MUST0(pthread_mutex_unlock(&resolver.lock));
}

static int reset(void **state)
{
    (void)state;
    resolver.released = false;
    resolver.freed = 0;
    return 0;
}

static int make_listener(int backlog, char *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    MUST(fd >= 0);
    MUST0(bind(fd, (struct sockaddr *)&addr, size));
    if (backlog >= 0)
        MUST0(listen(fd, backlog));
    MUST0(getsockname(fd, (struct sockaddr *)&addr, &size));
    snprintf(port, 8, "%d", ntohs(addr.sin_port));
    return fd;
}

static void a_slow_resolver_costs_the_deadline_and_no_more(void **state)
{
    struct addrinfo *list = NULL;
    const char *why = "";
    int64_t begin_ms = clock_ms();

    (void)state;
    assert_int_equal(resolve("slow.test", "1", begin_ms + 100, &list, &why),
                     -ETIMEDOUT);
    assert_in_range(clock_ms() - begin_ms, 95, LONG_MS / 2);
    assert_null(list);
    assert_non_null(strstr(why, "not resolved in time"));
    release();
    await_freed(1); /* by the thread that was left behind */
}

static void a_resolver_that_answers_in_time_is_heard(void **state)
{
    struct addrinfo *list = NULL;
    const char *why = "";

    (void)state;
    release();
    assert_int_equal(
        resolve("slow.test", "1", clock_ms() + LONG_MS, &list, &why), 0);
    assert_int_equal(list->ai_family, AF_INET);
    freeaddrinfo(list);
}

static void an_unknown_name_is_said_to_be_unknown(void **state)
{
    struct addrinfo *list = NULL;
    const char *why = "";

    (void)state;
    assert_int_equal(
        resolve("none.test", "1", clock_ms() + LONG_MS, &list, &why),
        -EHOSTUNREACH);
    assert_string_equal(why, gai_strerror(EAI_NONAME));
}

static int open_two(struct transport *t, int timeout_ms)
{
    struct transport_peer peer = {.host = "two.test", .port = "1"};

    return transport_open(t, &peer, clock_ms() + timeout_ms);
}

static void a_refusing_address_is_followed_by_the_next(void **state)
{
    struct transport t = TRANSPORT_INIT;
    int refusing = make_listener(-1, resolver.ports[0]);
    int good = make_listener(1, resolver.ports[1]);

    (void)state;
    assert_int_equal(open_two(&t, LONG_MS), 0);
    assert_true(t.fd >= 0);
    transport_close(&t);
    close(good);
    assert_int_equal(open_two(&t, LONG_MS), -ECONNREFUSED);
    assert_int_equal(t.fd, -1);
    close(refusing);
}

/* A listener whose backlog is full drops what comes: silence. */
static void a_silent_address_leaves_time_for_the_next(void **state)
{
    struct transport t = TRANSPORT_INIT, fill[4];
    int silent = make_listener(0, resolver.ports[0]);
    int good = make_listener(1, resolver.ports[1]);
    struct transport_peer peer = {.host = "127.0.0.1",
                                  .port = resolver.ports[0]};
    int64_t begin_ms;
    int rc = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        fill[i] = (struct transport)TRANSPORT_INIT;
        rc = transport_open(&fill[i], &peer, clock_ms() + 100);
    }
    assert_int_equal(rc, -ETIMEDOUT);
    begin_ms = clock_ms();
    assert_int_equal(open_two(&t, 3000), 0);
    assert_in_range(clock_ms() - begin_ms, 1400, 2900); /* half, not all */
    transport_close(&t);
    for (int i = 0; i < 4; i++)
        transport_close(&fill[i]);
    close(silent);
    close(good);
}

static void a_closed_transport_may_be_closed_again(void **state)
{
    struct transport t = TRANSPORT_INIT;

    (void)state;
    transport_close(&t);
    transport_close(&t);
    assert_int_equal(t.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_slow_resolver_costs_the_deadline_and_no_more,
                               reset),
        cmocka_unit_test_setup(a_resolver_that_answers_in_time_is_heard, reset),
        cmocka_unit_test(an_unknown_name_is_said_to_be_unknown),
        cmocka_unit_test(a_refusing_address_is_followed_by_the_next),
        cmocka_unit_test(a_silent_address_leaves_time_for_the_next),
        cmocka_unit_test(a_closed_transport_may_be_closed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
