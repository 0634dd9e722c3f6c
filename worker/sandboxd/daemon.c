#include "worker/sandboxd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/box.h"

#define EVENTS_MAX 64
#define GIVE_UP_MS                                                 \
    10000 /* after the worker is gone: processes that will not die \
           */

struct daemon {
    const struct host *host;
    int epoll_fd, control_fd;
    struct box *boxes;
    bool slots[IDMAP_SLOTS];
    int64_t give_up_ms; /* 0: still serving */
};

static int free_slot(const struct daemon *d)
{
    for (int i = 0; i < IDMAP_SLOTS; i++)
        if (!d->slots[i])
            return i;
    return -1;
}

static void add_box(struct daemon *d, int job_fd)
{
    int slot = free_slot(d);
    struct box *b = slot < 0 ? (close(job_fd), NULL)
                             : box_make(d->host, d->epoll_fd, slot, job_fd);

    /* Without one the worker sees its socket close. */
    if (!b)
        return;
    d->slots[slot] = true;
    b->next = d->boxes;
    d->boxes = b;
}

static void abandon_all(struct daemon *d)
{
    epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, d->control_fd, NULL);
    close(d->control_fd);
    d->control_fd = -1;
    d->give_up_ms = clock_ms() + GIVE_UP_MS;
    for (struct box *b = d->boxes; b; b = b->next)
        box_abandon(b);
}

/* Only these mean that the worker is gone; the rest (no room for one more fd,
 * so the message came without it) is the trouble of one job, whose socket the
 * kernel has closed already. */
static bool is_end(ssize_t got)
{
    return got == 0 || got == -ECONNRESET || got == -EPIPE || got == -EBADF;
}

static void on_control(struct daemon *d)
{
    struct wire_word word;
    int fd;
    ssize_t got = io_recv_fds(d->control_fd, &word, sizeof(word), &fd, 1);

    if (got == sizeof(word) && word.kind == WIRE_CREATE && fd >= 0) {
        add_box(d, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (is_end(got))
        abandon_all(d);
}

/* Boxes are freed here only: events of one round may still name them. */
static void free_gone(struct daemon *d)
{
    for (struct box **at = &d->boxes; *at;) {
        struct box *b = *at;

        if (!b->gone) {
            at = &b->next;
            continue;
        }
        *at = b->next;
        d->slots[b->slot] = false;
        box_free(b);
    }
}

static int wait_ms(const struct daemon *d)
{
    int64_t first = d->give_up_ms ? d->give_up_ms : INT64_MAX;

    for (const struct box *b = d->boxes; b; b = b->next)
        if (b->wake_ms < first)
            first = b->wake_ms;
    return first == INT64_MAX ? -1 : clock_left_ms(first);
}

static void wake_due(struct daemon *d)
{
    int64_t now = clock_ms();

    for (struct box *b = d->boxes; b; b = b->next)
        if (!b->gone)
            box_wake(b, now);
}

static int serve_round(struct daemon *d)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(d->epoll_fd, events, EVENTS_MAX, wait_ms(d));

    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        const struct box_watch *w = events[i].data.ptr;

        if (!w)
            on_control(d);
        else if (!w->box->gone)
            box_event(w->box, w->source);
    }
    wake_due(d);
    free_gone(d);
    return 0;
}

static bool is_done(const struct daemon *d)
{
    return d->control_fd < 0 && (!d->boxes || clock_ms() >= d->give_up_ms);
}

int daemon_serve(const struct host *host, int control_fd, struct step *why)
{
    struct daemon *d = calloc(1, sizeof(*d));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int rc = 0;

    if (!d)
        return step_failed(why, ENOMEM, "start");
    d->host = host;
    d->control_fd = control_fd;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0 ||
        epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, control_fd, &event) < 0)
        rc = step_failed(why, errno, "watch the control socket");
    while (rc == 0 && !is_done(d)) {
        rc = serve_round(d);
        if (rc < 0)
            step_failed(why, -rc, "wait for events");
    }
    while (d->boxes) {
        struct box *b = d->boxes;
        d->boxes = b->next;
        box_free(b);
    }
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    free(d);
    return rc;
}
