#include "worker/sandboxd/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"

#define EVENTS_MAX 64

int loop_open(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int loop_watch(int epoll_fd, struct watch *w, int fd, watch_fn *ready,
               void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};

    *w = (struct watch){fd, ready, owner};
    /* A loop waits in one place only, even if who should read does not. */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    int rc = -errno;
    close(fd);
    w->fd = -1;
    return rc;
}

/* Closing alone would not do: a process that was cloned a moment ago may still
 * have a copy, and an epoll set forgets a file only with its last one. */
void loop_unwatch(int epoll_fd, struct watch *w)
{
    if (w->fd < 0)
        return;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    close(w->fd);
    w->fd = -1;
}

int loop_turn(int epoll_fd, long long deadline_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int wait = deadline_ms == INT64_MAX ? -1 : clock_left_ms(deadline_ms);
    int count = epoll_wait(epoll_fd, events, EVENTS_MAX, wait);

    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        const struct watch *w = events[i].data.ptr;

        if (w->fd >= 0)
            w->ready(w->owner);
    }
    return 0;
}
