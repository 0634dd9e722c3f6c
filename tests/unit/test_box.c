#include "tests/support/cmocka_all.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/must.h"
#include "worker/sandboxd/box.h"

/* A process cloned for another box has a copy of each descriptor until it
 * closes them. */
static void a_freed_box_has_no_more_events(void **state)
{
    static struct host host;
    struct epoll_event event;
    int ends[2], epoll_fd = epoll_create1(EPOLL_CLOEXEC), copy;

    (void)state;
    MUST(epoll_fd >= 0);
    MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    MUST((copy = dup(ends[0])) >= 0);
    struct box *b = box_make(&host, epoll_fd, 0, ends[0]);
    assert_non_null(b);
    MUST(write(ends[1], "x", 1) == 1);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
    box_free(b);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    close(copy);
    close(ends[1]);
    close(epoll_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_freed_box_has_no_more_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
