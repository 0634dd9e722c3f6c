#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "worker/sandboxd/daemon_impl.h"

/* What a worker asks for over one job socket: CREATE, RUN, KILL, DESTROY (see
 * wire.h), and the box that it gets. */

/* A worker that does not get its word would wait for it in vain: so its socket
 * closes. */
static void say(struct request *r, const void *message, size_t size,
                const int *fds, size_t nfds)
{
    if (r->socket.fd >= 0 &&
        io_send_fds(r->socket.fd, message, size, fds, nfds) < 0)
        request_abandon(r);
}

static void say_failed(struct request *r, const struct step *why)
{
    struct wire_failed m = {.kind = WIRE_FAILED, .error = why->error};

    snprintf(m.step, sizeof(m.step), "%s", why->what);
    say(r, &m, sizeof(m), NULL, 0);
}

static void say_gone(struct request *r, int leftovers)
{
    struct wire_gone m = {.kind = WIRE_GONE, .leftovers = leftovers};

    say(r, &m, sizeof(m), NULL, 0);
    r->gone = true;
}

static void describe(const struct daemon *d, struct wire_enforced *e)
{
    const struct cgroup_host *cgroups = &d->host->cgroups;

    snprintf(e->timeout, sizeof(e->timeout),
             "wall clock, SIGKILL to the pid namespace");
    snprintf(e->disk, sizeof(e->disk), "tmpfs size and inodes");
    snprintf(e->network, sizeof(e->network),
             "network namespace with no device");
    cgroup_describe(cgroups, CONTROLLER_MEMORY, e->memory, sizeof(e->memory));
    cgroup_describe(cgroups, CONTROLLER_CPU, e->cpu, sizeof(e->cpu));
    cgroup_describe(cgroups, CONTROLLER_PIDS, e->pids, sizeof(e->pids));
    if (!cgroups->places[CONTROLLER_MEMORY].version)
        snprintf(e->memory, sizeof(e->memory), "no: per process, RLIMIT_DATA");
    if (!cgroups->places[CONTROLLER_PIDS].version)
        snprintf(e->pids, sizeof(e->pids),
                 "RLIMIT_NPROC in the user namespace");
}

static void say_created(struct request *r)
{
    struct wire_created m = {.kind = WIRE_CREATED, .start = r->start};
    struct box *b = r->box;
    int fds[SANDBOX_PIPES + 1];

    snprintf(m.sandbox_id, sizeof(m.sandbox_id), "%s", b->id);
    snprintf(m.zygote_trouble, sizeof(m.zygote_trouble), "%s", r->trouble);
    if (b->kind->zygote)
        m.shared_memory_bytes = b->kind->zygote->now.shared_bytes;
    describe(r->daemon, &m.enforced);
    memcpy(fds, b->worker_ends, sizeof(b->worker_ends));
    fds[SANDBOX_PIPES] = b->home_fd;
    say(r, &m, sizeof(m), fds, SANDBOX_PIPES + 1);
    for (int i = 0; i < SANDBOX_PIPES; i++) {
        close(b->worker_ends[i]);
        b->worker_ends[i] = -1;
    }
}

/* ---- a box for it -------------------------------------------------------- */

static void get_box(struct request *r, bool warm);

/* A zygote's trouble is not the job's: it gets a cold one. Nor, once, is the
 * death of a spawner or of what waited. What failed while the job was put in
 * is. */
static void on_box_failed(struct request *r, struct box *b)
{
    bool was_warm = b->kind->zygote != NULL;
    bool was_made = b->built && b->heard;
    struct step why = b->why;

    b->news = NULL;
    r->box = NULL;
    if (was_warm && !was_made) {
        snprintf(r->trouble, sizeof(r->trouble), "%.100s: %.50s", why.what,
                 strerror(why.error));
        get_box(r, false);
        return;
    }
    if (b->lost && !r->retried) {
        r->retried = true;
        get_box(r, false);
        return;
    }
    say_failed(r, &why);
}

static void on_news(void *owner, struct box *b, enum box_news news)
{
    struct request *r = owner;

    switch (news) {
    case BOX_IS_WAITING:
        box_prepare(b, &r->spec.want, r->input_fd);
        break;
    case BOX_IS_READY:
        say_created(r);
        break;
    case BOX_FAILED:
        on_box_failed(r, b);
        break;
    case BOX_ENDED:
        say(r, &b->ended, sizeof(b->ended), NULL, 0);
        break;
    case BOX_IS_GONE:
        b->news = NULL;
        r->box = NULL;
        say_gone(r, b->leftovers);
        break;
    }
}

static void get_box(struct request *r, bool warm)
{
    struct daemon *d = r->daemon;
    struct kind *kind =
        nursery_kind(&d->nursery, r->spec.argv[0], warm, r->spec.preload);
    struct step why;

    if (!kind) {
        step_failed(&why, ENOMEM, "make one more kind of sandbox");
        say_failed(r, &why);
        return;
    }
    d->busy_ms = clock_ms();
    struct box *b = pool_take(d, kind);
    bool waited = b != NULL;
    if (!b && kind->zygote && !zygote_is_ready(kind->zygote)) {
        snprintf(r->trouble, sizeof(r->trouble), "%s", kind->zygote->trouble);
        get_box(r, false);
        return;
    }
    if (!b)
        b = daemon_box(d, kind, &why);
    if (!b) {
        say_failed(r, &why);
        return;
    }
    r->start = (waited ? WIRE_WAITING : WIRE_COLD) + (kind->zygote != NULL);
    r->box = b;
    b->owner = r;
    b->news = on_news;
    if (waited)
        on_news(r, b, BOX_IS_WAITING);
}

/* ---- what the worker says --------------------------------------------------
 */

static void on_create(struct request *r, const char *message, size_t size,
                      int input_fd)
{
    struct step why = {0};

    r->asked = true;
    r->input_fd = input_fd;
    int rc = box_spec_read(message, size, &r->spec, &why);
    if (rc == 0 && input_fd < 0)
        rc = step_failed(&why, EINVAL, "read the sandbox's spec: no files");
    if (rc == 0 && !(r->message = malloc(size)))
        rc = step_failed(&why, ENOMEM, "read the sandbox's spec");
    if (rc < 0) {
        say_failed(r, &why);
        return;
    }
    memcpy(r->message, message, size);
    r->size = size;
    get_box(r, r->spec.want.warm);
}

static void leave(struct request *r)
{
    if (r->leaving)
        return;
    r->leaving = true;
    if (r->box)
        box_leave(r->box);
    else
        say_gone(r, 0);
}

void request_abandon(struct request *r)
{
    loop_unwatch(r->daemon->epoll_fd, &r->socket);
    leave(r);
}

static void on_word(struct request *r, const struct wire_word *word)
{
    switch (word->kind) {
    case WIRE_RUN:
        if (r->box)
            box_start(r->box, r->message, r->size, r->spec.want.timeout_ms);
        break;
    case WIRE_KILL:
        if (r->box)
            box_kill(r->box, word->reason);
        break;
    case WIRE_DESTROY:
        leave(r);
        break;
    }
}

static void on_socket(void *owner)
{
    static char message[BOX_MESSAGE_MAX];
    struct request *r = owner;
    struct wire_word word;
    int fd;

    ssize_t got = io_recv_fds(r->socket.fd, message, sizeof(message), &fd, 1);
    if (got == -EAGAIN)
        return;
    if (got <= 0) {
        request_abandon(r);
        return;
    }
    if (!r->asked) {
        on_create(r, message, (size_t)got, fd);
        return;
    }
    if (got == sizeof(word)) {
        memcpy(&word, message, sizeof(word));
        on_word(r, &word);
    }
    if (fd >= 0)
        close(fd);
}

void request_make(struct daemon *d, int job_fd)
{
    struct request *r = calloc(1, sizeof(*r));

    /* Without one the worker sees its socket close. */
    if (!r) {
        close(job_fd);
        return;
    }
    r->daemon = d;
    r->input_fd = -1;
    if (loop_watch(d->epoll_fd, &r->socket, job_fd, on_socket, r) < 0) {
        free(r);
        return;
    }
    r->next = d->requests;
    d->requests = r;
}

void request_free(struct request *r)
{
    loop_unwatch(r->daemon->epoll_fd, &r->socket);
    if (r->input_fd >= 0)
        close(r->input_fd);
    box_spec_fini(&r->spec);
    free(r->message);
    free(r);
}
