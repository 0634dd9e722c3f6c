#include "producer/gateway/loop.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

int loop_init(struct loop *loop)
{
    *loop = (struct loop){0};
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll < 0 ? -errno : 0;
}

void loop_fini(struct loop *loop)
{
    if (loop->epoll > 0)
        close(loop->epoll);
    loop->epoll = -1;
}

static int control(struct loop *loop, int what, struct loop_watch *w,
                   uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = w};

    if (epoll_ctl(loop->epoll, what, w->fd, &event) < 0)
        return -errno;
    w->events = events;
    return 0;
}

int loop_add(struct loop *loop, struct loop_watch *w, uint32_t events)
{
    return control(loop, EPOLL_CTL_ADD, w, events);
}

int loop_change(struct loop *loop, struct loop_watch *w, uint32_t events)
{
    if (w->events == events)
        return 0;
    return control(loop, EPOLL_CTL_MOD, w, events);
}

void loop_remove(struct loop *loop, struct loop_watch *w)
{
    if (!w->events)
        return;
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->events = 0;
    for (int i = loop->at; i < loop->nready; i++)
        if (loop->ready[i].data.ptr == w)
            loop->ready[i].data.ptr = NULL;
}

void loop_turn(struct loop *loop, int timeout_ms)
{
    loop->nready =
        epoll_wait(loop->epoll, loop->ready, LOOP_EVENTS_MAX, timeout_ms);
    for (loop->at = 0; loop->at < loop->nready;) {
        struct epoll_event *event = &loop->ready[loop->at++];
        struct loop_watch *w = event->data.ptr;

        if (w)
            w->act(w->ctx, event->events);
    }
    loop->nready = 0;
}
