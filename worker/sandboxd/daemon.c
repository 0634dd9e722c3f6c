#include "worker/sandboxd/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "worker/sandboxd/daemon_impl.h"

/* After the worker is gone: processes that will not die. */
#define GIVE_UP_MS 10000

/* ---- boxes ----------------------------------------------------------------
 */

static int free_slot(const struct daemon *d)
{
    for (int i = 0; i < IDMAP_SLOTS; i++)
        if (!d->slots[i])
            return i;
    return -1;
}

struct box *daemon_box(struct daemon *d, struct kind *kind, struct step *why)
{
    int slot = free_slot(d);

    if (slot < 0) {
        step_failed(why, EAGAIN, "make a sandbox: all slots are in use");
        return NULL;
    }
    struct box *b =
        box_make(d->host, &d->nursery, d->epoll_fd, slot, kind, why);
    if (!b)
        return NULL;
    d->slots[slot] = true;
    b->next = d->boxes;
    d->boxes = b;
    return b;
}

/* A child nobody knows: of a spawner or zygote that died before it told us. */
static void reap_stray(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void on_answer(void *ctx, uint64_t token, pid_t pid,
                      const struct step *why)
{
    struct daemon *d = ctx;

    for (struct box *b = d->boxes; b; b = b->next) {
        if (b->token == token) {
            box_answered(b, pid, why);
            return;
        }
    }
    /* Its box is gone, and its leash with it: so it ends. */
    if (pid > 0)
        reap_stray(pid);
}

static void on_lost(void *ctx, const struct spawner_link *spawner,
                    const struct zygote *zygote)
{
    struct daemon *d = ctx;
    struct step why;

    if (spawner && spawner->why.error)
        why = spawner->why;
    else
        step_failed(&why, ECHILD, "make a sandbox: %s died",
                    spawner ? "the spawner" : "the zygote");
    for (struct box *b = d->boxes; b; b = b->next) {
        bool spawning = b->state == BOX_SPAWNING && b->kind->spawner == spawner;
        bool joining =
            b->state == BOX_JOINING && zygote && b->kind->zygote == zygote;

        if (b->token && (spawning || joining))
            box_lost(b, &why);
    }
}

static bool is_known(const struct daemon *d, pid_t pid)
{
    for (const struct box *b = d->boxes; b; b = b->next)
        if (b->init_pid == pid)
            return true;
    return nursery_owns(&d->nursery, pid);
}

/* A child may be there that its spawner has not named yet. */
static bool expects_children(const struct daemon *d)
{
    for (const struct box *b = d->boxes; b; b = b->next)
        if (b->token && b->state == BOX_SPAWNING)
            return true;
    return nursery_expects_children(&d->nursery);
}

/* Nobody else would: such as what a zygote was in the midst of when it died. */
static void reap_strays(const struct daemon *d)
{
    siginfo_t info = {0};

    if (expects_children(d))
        return;
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid > 0 && !is_known(d, info.si_pid)) {
        reap_stray(info.si_pid);
        info.si_pid = 0;
    }
}

/* ---- the worker ------------------------------------------------------------
 */

static void abandon_all(struct daemon *d)
{
    loop_unwatch(d->epoll_fd, &d->control);
    d->give_up_ms = clock_ms() + GIVE_UP_MS;
    for (struct request *r = d->requests; r; r = r->next)
        request_abandon(r);
    for (struct box *b = d->boxes; b; b = b->next)
        box_leave(b);
}

/* Only these mean that the worker is gone; the rest (no room for one more fd,
 * so the message came without it) is the trouble of one job, whose socket the
 * kernel has closed already. */
static bool is_end(ssize_t got)
{
    return got == 0 || got == -ECONNRESET || got == -EPIPE || got == -EBADF;
}

/* Strings of a WIRE_WARM: the interpreter, then the modules. */
static void on_warm(struct daemon *d, const char *message, size_t size)
{
    char *names[WIRE_PRELOAD_MAX + 2] = {NULL};
    struct wire_warm m;
    uint32_t count = 0;

    memcpy(&m, message, sizeof(m));
    if (m.strings_bytes != size - sizeof(m) || m.strings_bytes == 0 ||
        m.preloads > WIRE_PRELOAD_MAX || message[size - 1] != '\0')
        return;
    for (const char *at = message + sizeof(m);
         at < message + size && count <= m.preloads; at += strlen(at) + 1)
        names[count++] = (char *)at;
    if (count != m.preloads + 1)
        return;
    struct kind *k = nursery_kind(&d->nursery, names[0], m.warm, names + 1);
    if (k)
        k->floor = m.floor > WIRE_FLOOR_MAX ? WIRE_FLOOR_MAX : m.floor;
}

static void on_control(void *owner)
{
    static char message[sizeof(struct wire_warm) + WIRE_STRINGS_MAX];
    struct daemon *d = owner;
    struct wire_word word;
    int fd;
    ssize_t got = io_recv_fds(d->control.fd, message, sizeof(message), &fd, 1);

    if (got >= (ssize_t)sizeof(word))
        memcpy(&word, message, sizeof(word));
    if (got == sizeof(word) && word.kind == WIRE_CREATE && fd >= 0) {
        request_make(d, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (got == sizeof(word) && word.kind == WIRE_POOL)
        d->pool_most = word.reason;
    if (got >= (ssize_t)sizeof(struct wire_warm) && word.kind == WIRE_WARM)
        on_warm(d, message, (size_t)got);
    if (is_end(got))
        abandon_all(d);
}

/* ---- the loop ---------------------------------------------------------------
 */

/* Freed here only: events of one round may still name them. */
static void free_gone(struct daemon *d)
{
    for (struct request **at = &d->requests; *at;) {
        struct request *r = *at;

        if (!r->gone) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        request_free(r);
    }
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

static int64_t wake_ms(const struct daemon *d)
{
    int64_t first = d->give_up_ms ? d->give_up_ms : pool_wake_ms(d, clock_ms());

    for (const struct box *b = d->boxes; b; b = b->next)
        if (b->wake_ms < first)
            first = b->wake_ms;
    return first;
}

static void wake_due(struct daemon *d)
{
    int64_t now = clock_ms();

    for (struct box *b = d->boxes; b; b = b->next)
        if (!b->gone)
            box_wake(b, now);
    reap_strays(d);
    nursery_tick(&d->nursery, now);
    if (!d->give_up_ms)
        pool_tick(d, now);
}

static bool is_done(const struct daemon *d)
{
    return d->control.fd < 0 && (!d->boxes || clock_ms() >= d->give_up_ms);
}

static int serve(struct daemon *d, struct step *why)
{
    int rc = 0;

    while (rc == 0 && !is_done(d)) {
        rc = loop_turn(d->epoll_fd, wake_ms(d));
        wake_due(d);
        free_gone(d);
    }
    return rc < 0 ? step_failed(why, -rc, "wait for events") : 0;
}

static void close_daemon(struct daemon *d)
{
    while (d->requests) {
        d->requests->gone = true;
        free_gone(d);
    }
    nursery_fini(&d->nursery);
    while (d->boxes) {
        d->boxes->gone = true;
        free_gone(d);
    }
    loop_unwatch(d->epoll_fd, &d->control);
    close(d->epoll_fd);
    free(d);
}

int daemon_serve(const struct host *host, int control_fd, struct step *why)
{
    struct daemon *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return step_failed(why, ENOMEM, "start");
    d->host = host;
    d->control.fd = -1;
    d->pool_most = POOL_MOST;
    d->epoll_fd = loop_open();
    if (d->epoll_fd < 0) {
        rc = step_failed(why, -d->epoll_fd, "make an epoll set");
        free(d);
        return rc;
    }
    nursery_init(&d->nursery, host, d->epoll_fd);
    d->nursery.answered = on_answer;
    d->nursery.lost = on_lost;
    d->nursery.ctx = d;
    rc = loop_watch(d->epoll_fd, &d->control, control_fd, on_control, d);
    if (rc < 0)
        step_failed(why, -rc, "watch the control socket");
    else
        rc = serve(d, why);
    close_daemon(d);
    return rc;
}
