/* fds and what to do when one is ready: what stays behind an ended watch */
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/sandboxd/loop.h"

static void count(void *owner)
{
    ++*(int *)owner;
}

static void a_ready_fd_is_served(void **state)
{
    int fds[2], served = 0, epoll_fd = loop_open();
    struct watch watch;

    (void)state;
    MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    MUST0(loop_watch(epoll_fd, &watch, fds[1], count, &served));
    MUST0(loop_turn(epoll_fd, clock_ms()));
    assert_int_equal(served, 0);
    MUST(write(fds[0], "x", 1) == 1);
    MUST0(loop_turn(epoll_fd, INT64_MAX));
    assert_int_equal(served, 1);
    loop_unwatch(epoll_fd, &watch);
    close(fds[0]);
    close(epoll_fd);
}

/* A process just cloned holds copies of all fds until it closes them; meanwhile
 * the kernel would go on reporting events of ours. */
static void an_ended_watch_has_no_more_events(void **state)
{
    int fds[2], served = 0, epoll_fd = loop_open();
    struct watch watch;

    (void)state;
    MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    int copy = dup(fds[1]);
    MUST(copy >= 0);
    MUST0(loop_watch(epoll_fd, &watch, fds[1], count, &served));
    loop_unwatch(epoll_fd, &watch);
    loop_unwatch(epoll_fd, &watch); /* harmless */
    close(fds[0]);                  /* the other end: the copy hangs up */
    MUST0(loop_turn(epoll_fd, clock_ms() + 20));
    assert_int_equal(served, 0);
    close(copy);
    close(epoll_fd);
}

/* Both are ready in one round, and the first to be served ends the other. */
struct pair {
    int epoll_fd, served;
    struct watch watches[2];
};

static void end_both(void *owner)
{
    struct pair *p = owner;

    p->served++;
    loop_unwatch(p->epoll_fd, &p->watches[0]);
    loop_unwatch(p->epoll_fd, &p->watches[1]);
}

static void a_watch_ended_in_a_round_is_not_served_in_it(void **state)
{
    struct pair pair = {.epoll_fd = loop_open()};
    int fds[2][2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds[i]));
        MUST0(loop_watch(pair.epoll_fd, &pair.watches[i], fds[i][1], end_both,
                         &pair));
        close(fds[i][0]);
    }
    MUST0(loop_turn(pair.epoll_fd, INT64_MAX));
    assert_int_equal(pair.served, 1);
    close(pair.epoll_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ready_fd_is_served),
        cmocka_unit_test(an_ended_watch_has_no_more_events),
        cmocka_unit_test(a_watch_ended_in_a_round_is_not_served_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
