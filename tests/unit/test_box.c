/* A box and its event loop: what stays behind a box that is freed. */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/sandboxd/box.h"

/* The init of another sandbox, just cloned, holds copies of all fds until it
 * closes them; meanwhile the kernel would go on reporting events of ours. */
static void a_freed_box_has_no_more_events(void **state)
{
    const struct host host = {0};
    struct epoll_event event;
    int fds[2], epoll_fd = epoll_create1(EPOLL_CLOEXEC), copy;

    (void)state;
    MUST(epoll_fd >= 0);
    MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    copy = dup(fds[1]);
    MUST(copy >= 0);
    struct box *box = box_make(&host, epoll_fd, 0, fds[1]);
    assert_non_null(box);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    box_free(box);
    close(fds[0]); /* the worker's end */
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    close(copy);
    close(epoll_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_freed_box_has_no_more_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
