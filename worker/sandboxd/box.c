#include "worker/sandboxd/box.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "worker/sandboxd/init.h"

#define ROOMY_BYTES     (64ll << 20) /* enough for any that waits */
#define KILL_RETRY_MS   250
#define REMOVE_RETRY_MS 2
#define REMOVE_MS_MAX   2000
#define ASK_RETRY_MS    5     /* of a spawner that has more than enough to do */
#define MAKE_MS_MAX     10000 /* on a loaded host; then it is given up */
#define JOIN_MS_MAX     2000  /* from the zygote's request to a program */
/* The init ends by itself so long after the job's timeout, if sandboxd hangs;
 * before the job runs that is counted from its preparation. */
#define BACKSTOP_MS  2000
#define START_MS_MAX 60000
#define NEVER        INT64_MAX

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void tell(struct box *b, enum box_news news)
{
    if (b->news)
        b->news(b->owner, b, news);
}

static void set_state(struct box *b, enum box_state state)
{
    b->state = state;
    b->since_ms = clock_ms();
}

/* ---- ending ------------------------------------------------------------- */

void box_kill(struct box *b, int32_t reason)
{
    if (!b->killed)
        b->reason = reason;
    b->killed = true;
    if (b->init.fd < 0)
        return;
    syscall(SYS_pidfd_send_signal, b->init.fd, SIGKILL, NULL, 0);
    cgroup_let_die(&b->cgroup);
    b->wake_ms = clock_ms() + KILL_RETRY_MS;
}

/* Nothing of it runs, and nothing more will. */
static bool is_dead(const struct box *b)
{
    return b->init.fd < 0 && b->token == 0;
}

/* Its processes are gone (or never were): the rest, step by step. */
static void remove_box(struct box *b)
{
    close_fd(&b->home_fd);
    b->leftovers = cgroup_remove(&b->cgroup);
    if (b->leftovers > 0) {
        int64_t now = clock_ms();

        /* The kernel lets go of a dead cgroup a moment later. */
        if (b->give_up_ms == 0)
            b->give_up_ms = now + REMOVE_MS_MAX;
        if (now < b->give_up_ms) {
            cgroup_kill(&b->cgroup);
            b->wake_ms = now + REMOVE_RETRY_MS;
            return;
        }
    }
    b->gone = true;
    tell(b, BOX_IS_GONE);
}

/* Of one that leaves. An answer that is due keeps nobody waiting: then nothing
 * of a job is in it yet, and who comes late with a process for it finds the pid
 * namespace dead, or the process is killed (on_spawned). */
static void leave_when_dead(struct box *b)
{
    if (is_dead(b)) {
        remove_box(b);
    } else if (b->init.fd < 0) {
        tell(b, BOX_IS_GONE);
        b->news = NULL;
    }
}

void box_leave(struct box *b)
{
    if (b->leaving)
        return;
    b->leaving = true;
    box_kill(b, WIRE_ABANDON);
    leave_when_dead(b);
}

/* It never ran. */
static void fail(struct box *b, const struct step *why)
{
    if (b->leaving || b->why.error)
        return;
    b->why = *why;
    box_kill(b, WIRE_ABANDON);
    tell(b, BOX_FAILED);
    box_leave(b);
}

static bool disk_is_full(const struct box *b)
{
    struct statfs fs;

    return b->home_fd >= 0 && fstatfs(b->home_fd, &fs) == 0 &&
           (fs.f_bavail == 0 || fs.f_ffree == 0);
}

static void fill_status(const struct box *b, struct wire_ended *m)
{
    m->exit_code = -1;
    if (b->exec_error)
        m->exec_error = b->exec_error;
    else if (!b->has_status)
        m->signal = SIGKILL; /* the init itself was killed */
    else if (WIFEXITED(b->status))
        m->exit_code = WEXITSTATUS(b->status);
    else if (WIFSIGNALED(b->status))
        m->signal = WTERMSIG(b->status);
}

/* A program that had ended by itself when the timeout struck was in time. */
static int32_t reason_of(const struct box *b)
{
    bool by_itself = b->has_status && WIFEXITED(b->status);

    return b->reason == WIRE_TIMEOUT && by_itself ? WIRE_NOT_KILLED : b->reason;
}

static void end(struct box *b)
{
    struct wire_ended *m = &b->ended;
    struct cgroup_facts facts;

    *m = (struct wire_ended){.kind = WIRE_ENDED, .reason = reason_of(b)};
    cgroup_read(&b->cgroup, &facts);
    fill_status(b, m);
    if (m->reason == WIRE_NOT_KILLED && !b->has_status && facts.oom_kills == 0)
        m->reason = WIRE_LOST;
    m->oom_kills = facts.oom_kills;
    m->pids_refused = facts.pids_refused;
    m->disk_full = disk_is_full(b);
    /* Now the worker has the last fd of it: freeing a large file system is
     * then the work of that job's thread, not of this loop. */
    close_fd(&b->home_fd);
    m->cpu_us =
        facts.cpu_us > 0 ? facts.cpu_us - b->cpu_before_us : b->rusage_us;
    if (m->cpu_us < 0)
        m->cpu_us = 0;
    m->peak_memory_bytes =
        facts.peak_memory_bytes > 0 ? facts.peak_memory_bytes : b->rusage_bytes;
    m->peak_processes = facts.peak_processes;
    m->switches = b->switches;
    m->run_us = b->started_us ? clock_us() - b->started_us : 0;
    b->ended_told = true;
    tell(b, BOX_ENDED);
}

/* The init died before there was a program to run: say why as well as it can be
 * known. */
static void fail_stillborn(struct box *b)
{
    struct cgroup_facts facts;
    struct step why;

    cgroup_read(&b->cgroup, &facts);
    if (facts.oom_kills > 0)
        step_failed(&why, ENOMEM,
                    "set up the sandbox: its memory limit of %" PRId64
                    " MB is too small",
                    b->memory_bytes >> 20);
    else
        step_failed(&why, ECHILD, "set up the sandbox: its init died");
    b->lost = facts.oom_kills == 0;
    fail(b, &why);
}

static void on_all_dead(struct box *b)
{
    enum box_state before = b->state;

    if (!is_dead(b)) {
        if (b->leaving)
            leave_when_dead(b);
        return;
    }
    loop_unwatch(b->epoll_fd, &b->leash);
    loop_unwatch(b->epoll_fd, &b->socket);
    loop_unwatch(b->epoll_fd, &b->oom);
    set_state(b, BOX_DEAD);
    b->wake_ms = NEVER;
    if (b->leaving) {
        remove_box(b);
        return;
    }
    if (b->ended_told)
        return; /* DESTROY comes */
    if (before == BOX_RUNNING)
        end(b);
    else if (before == BOX_READY && b->killed)
        end(b); /* cancelled before it started */
    else
        fail_stillborn(b);
}

/* Reaps the init. False if it has not ended yet. */
static bool reap(struct box *b, siginfo_t *info)
{
    struct rusage used = {0};

    *info = (siginfo_t){0};
    if (syscall(SYS_waitid, P_PIDFD, b->init.fd, info, WEXITED | WNOHANG,
                &used) < 0 ||
        info->si_pid == 0)
        return false;
    if (b->has_status)
        return true; /* it told us itself */
    b->rusage_us =
        (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
        used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    b->rusage_bytes = (int64_t)used.ru_maxrss * 1024;
    b->switches = used.ru_nvcsw + used.ru_nivcsw;
    return true;
}

static bool read_leash(struct box *b);
static void read_socket(struct box *b);
static void on_oom(void *owner);

static void on_init_death(void *owner)
{
    struct box *b = owner;
    siginfo_t info;

    if (!reap(b, &info))
        return;
    while (!b->leaving && b->state >= BOX_RUNNING && read_leash(b))
        ; /* EXITED, then the end of file */
    if (b->state == BOX_RUNNING && b->socket.fd >= 0)
        read_socket(b);
    if (!b->killed && info.si_code == CLD_EXITED &&
        info.si_status == INIT_TIMED_OUT)
        b->reason = WIRE_TIMEOUT; /* we slept through it */
    loop_unwatch(b->epoll_fd, &b->init);
    on_all_dead(b);
}

/* ---- making ------------------------------------------------------------- */

static int make_id(struct box *b, struct step *why)
{
    unsigned char random[8];
    int at = snprintf(b->id, sizeof(b->id), "local-");

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return step_failed(why, errno, "read random bytes");
    for (size_t i = 0; i < sizeof(random); i++)
        at +=
            snprintf(b->id + at, sizeof(b->id) - (size_t)at, "%02x", random[i]);
    return 0;
}

/* Pipes for stdin, stdout, stderr, result. */
static int make_pipes(struct box *b, struct step *why)
{
    for (int i = 0; i < SANDBOX_PIPES; i++) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
            return step_failed(why, errno, "make a pipe");
        b->inner_ends[i] = i == 0 ? fds[0] : fds[1];
        b->worker_ends[i] = i == 0 ? fds[1] : fds[0];
    }
    return 0;
}

static void on_leash(void *owner)
{
    read_leash(owner);
}

static void on_socket(void *owner)
{
    read_socket(owner);
}

static int make_socket(struct box *b, struct watch *w, watch_fn *ready,
                       int *inner_out, struct step *why)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return step_failed(why, errno, "make a socket pair");
    *inner_out = fds[1];
    int rc = loop_watch(b->epoll_fd, w, fds[0], ready, b);
    return rc < 0 ? step_failed(why, -rc, "watch the sandbox") : 0;
}

static void close_inner_ends(struct box *b)
{
    for (int i = 0; i < SANDBOX_PIPES; i++)
        close_fd(&b->inner_ends[i]);
    close_fd(&b->inner_socket);
}

/* Later, if the spawner has not even read what it was asked before. */
static int ask_spawner(struct box *b, struct step *why)
{
    bool cold = !b->kind->zygote;
    uint64_t token = nursery_token(b->nursery);
    const int fds[SPAWN_INIT_FDS] = {b->inner_leash,   b->inner_socket,
                                     b->inner_ends[0], b->inner_ends[1],
                                     b->inner_ends[2], b->inner_ends[3]};
    int rc = nursery_spawn(b->kind->spawner, cold, b->slot, token, fds,
                           cold ? SPAWN_INIT_FDS : 1, why);

    if (rc == -EAGAIN) {
        b->wake_ms = clock_ms() + ASK_RETRY_MS;
        return 0;
    }
    if (rc < 0)
        return rc;
    b->asked = true;
    b->token = token;
    b->wake_ms = b->made_ms + MAKE_MS_MAX;
    close_fd(&b->inner_leash);
    if (cold)
        close_inner_ends(b);
    return 0;
}

/* With the limits of the last job, as the next one mostly has the same. */
static int make_cgroup(struct box *b, struct step *why)
{
    struct wire_create *usual = &b->kind->usual;
    int rc = cgroup_create(&b->host->cgroups, b->id, &b->cgroup, why);

    if (rc == 0 && usual->memory_bytes >= ROOMY_BYTES) {
        rc = cgroup_limit(&b->cgroup, usual, why);
        if (rc < 0)
            *usual = (struct wire_create){0}; /* the next one does without */
    }
    if (rc < 0)
        return rc;
    int event = cgroup_watch_oom(&b->cgroup);
    if (event >= 0)
        loop_watch(b->epoll_fd, &b->oom, event, on_oom, b);
    return 0;
}

struct box *box_make(const struct host *host, struct nursery *n, int epoll_fd,
                     int slot, struct kind *kind, struct step *why)
{
    struct box *b = calloc(1, sizeof(*b));
    int rc;

    if (!b) {
        step_failed(why, ENOMEM, "make a sandbox");
        return NULL;
    }
    b->host = host;
    b->nursery = n;
    b->kind = kind;
    b->epoll_fd = epoll_fd;
    b->slot = slot;
    b->home_fd = b->inner_socket = b->inner_leash = -1;
    b->leash.fd = b->socket.fd = b->init.fd = b->oom.fd = -1;
    for (int i = 0; i < SANDBOX_PIPES; i++)
        b->worker_ends[i] = b->inner_ends[i] = -1;
    set_state(b, BOX_SPAWNING);
    b->made_ms = b->since_ms;
    rc = make_id(b, why);
    if (rc == 0)
        rc = make_cgroup(b, why);
    if (rc == 0)
        rc = make_pipes(b, why);
    if (rc == 0)
        rc = make_socket(b, &b->socket, on_socket, &b->inner_socket, why);
    if (rc == 0)
        rc = make_socket(b, &b->leash, on_leash, &b->inner_leash, why);
    if (rc == 0)
        rc = ask_spawner(b, why);
    if (rc == 0)
        return b;
    cgroup_remove(&b->cgroup);
    box_free(b);
    return NULL;
}

void box_free(struct box *b)
{
    struct watch *const watches[] = {&b->leash, &b->socket, &b->init, &b->oom};

    for (size_t i = 0; i < sizeof(watches) / sizeof(*watches); i++)
        loop_unwatch(b->epoll_fd, watches[i]);
    for (int i = 0; i < SANDBOX_PIPES; i++)
        close_fd(&b->worker_ends[i]);
    close_inner_ends(b);
    close_fd(&b->inner_leash);
    close_fd(&b->home_fd);
    free(b);
}

/* Our own child (by a sibling's hand), not reaped: its number is its own. */
static int watch_init(struct box *b, pid_t pid, struct step *why)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0)
        return step_failed(why, errno, "open a pidfd");
    int rc = loop_watch(b->epoll_fd, &b->init, fd, on_init_death, b);
    return rc < 0 ? step_failed(why, -rc, "watch the sandbox's init") : 0;
}

/* Its init is there and waits. */
static void on_spawned(struct box *b, pid_t pid, const struct step *answer)
{
    struct leash_message go = {.kind = LEASH_GO};
    struct step why = *answer;
    int rc = watch_init(b, pid, &why);

    if (rc < 0)
        kill(pid, SIGKILL); /* from now on a stray */
    else
        b->init_pid = pid;
    if (b->leaving) {
        box_kill(b, WIRE_ABANDON);
        on_all_dead(b);
        return;
    }
    if (rc == 0 && answer->error)
        rc = -answer->error;
    if (rc == 0)
        rc = cgroup_enter(&b->cgroup, pid, &why);
    if (rc == 0 &&
        (rc = io_send_fds(b->leash.fd, &go, sizeof(go), NULL, 0)) < 0)
        step_failed(&why, -rc, "start the sandbox's init");
    if (rc < 0)
        fail(b, &why);
    else
        set_state(b, BOX_BUILDING);
}

static void check_waiting(struct box *b)
{
    if (!b->built || !b->heard || b->token || b->state > BOX_JOINING)
        return;
    set_state(b, BOX_WAITING);
    b->wake_ms = NEVER;
    tell(b, BOX_IS_WAITING);
}

static void answered_no(struct box *b, const struct step *why)
{
    if (b->leaving)
        on_all_dead(b);
    else
        fail(b, why);
}

void box_answered(struct box *b, pid_t pid, const struct step *why)
{
    bool joining = b->state == BOX_JOINING;

    b->token = 0;
    if (pid < 0)
        answered_no(b, why);
    else if (!joining)
        on_spawned(b, pid, why);
    else if (b->leaving)
        on_all_dead(b);
    else
        check_waiting(b);
}

void box_lost(struct box *b, const struct step *why)
{
    b->token = 0;
    b->lost = true;
    answered_no(b, why);
}

static void ask_zygote(struct box *b)
{
    int fds[JOIN_FDS + JOIN_CGROUPS_MAX] = {b->init.fd, b->inner_socket};
    struct step why;

    memcpy(fds + 2, b->inner_ends, sizeof(b->inner_ends));
    int count =
        cgroup_open_procs(&b->cgroup, fds + JOIN_FDS, JOIN_CGROUPS_MAX, &why);
    int rc = count;
    if (count >= 0) {
        b->token = nursery_token(b->nursery);
        b->generation = b->kind->zygote->generation;
        rc = nursery_join(b->kind->zygote, b->token, fds, JOIN_FDS + count,
                          &why);
    }
    for (int i = 0; i < count; i++)
        close(fds[JOIN_FDS + i]);
    close_inner_ends(b);
    set_state(b, BOX_JOINING);
    b->wake_ms = b->since_ms + JOIN_MS_MAX;
    if (rc < 0) {
        b->token = 0;
        answered_no(b, &why);
    }
}

/* ---- its job ------------------------------------------------------------ */

void box_prepare(struct box *b, const struct wire_create *want, int input_fd)
{
    struct leash_message m = {
        .kind = LEASH_PREPARE,
        .program = b->program_pid,
        .disk_bytes = want->disk_bytes,
        .disk_inodes = want->disk_inodes,
        .backstop_ms = want->timeout_ms + START_MS_MAX,
    };
    struct step why;

    b->memory_bytes = want->memory_bytes;
    set_state(b, BOX_PREPARING);
    b->wake_ms = b->since_ms + MAKE_MS_MAX;
    int rc = cgroup_limit(&b->cgroup, want, &why);
    if (rc == 0) {
        b->kind->usual = *want;
        b->cpu_before_us = cgroup_cpu_us(&b->cgroup);
        rc = io_send_fds(b->leash.fd, &m, sizeof(m), &input_fd, 1);
        b->lost = rc < 0; /* its pidfd has not told yet */
        if (rc < 0)
            step_failed(&why, -rc, "hand the job to the sandbox's init");
    }
    if (rc < 0)
        fail(b, &why);
}

void box_start(struct box *b, const void *message, size_t size,
               int64_t timeout_ms)
{
    static char text[sizeof(struct program_start) + BOX_MESSAGE_MAX];
    struct program_start m = {.kind = PROGRAM_START};
    struct leash_message run = {.kind = LEASH_RUN,
                                .backstop_ms = timeout_ms + BACKSTOP_MS};

    if (b->state != BOX_READY || b->killed)
        return; /* its end is on its way, or was told */
    if (b->host->cgroups.places[CONTROLLER_MEMORY].version)
        m.flags |= PROGRAM_MEMORY_IN_CGROUP;
    if (b->host->cgroups.places[CONTROLLER_PIDS].version)
        m.flags |= PROGRAM_PIDS_IN_CGROUP;
    memcpy(text, &m, sizeof(m));
    memcpy(text + sizeof(m), message, size);
    set_state(b, BOX_RUNNING);
    b->started_us = clock_us();
    b->wake_ms = clock_ms() + timeout_ms;
    /* The init first: should it end with a message unread, the kernel would
     * drop its own last one. If either is dead, the init's pidfd says so. */
    io_send_fds(b->leash.fd, &run, sizeof(run), NULL, 0);
    io_send_fds(b->socket.fd, text, sizeof(m) + size, NULL, 0);
}

/* ---- events -------------------------------------------------------------- */

static void on_built(struct box *b, int home_fd)
{
    b->home_fd = home_fd;
    b->built = true;
    if (b->kind->zygote)
        ask_zygote(b);
    else
        check_waiting(b);
}

/* No process but the init is left: so it is over, and what the init's own end
 * takes (its mounts, above all) keeps nobody waiting. */
static void on_exited(struct box *b, const struct leash_message *m)
{
    b->has_status = true;
    b->status = m->status;
    b->rusage_us = m->cpu_us;
    b->rusage_bytes = m->peak_bytes;
    b->switches = m->switches;
    if (b->state != BOX_RUNNING || b->killed || b->leaving || !m->alone)
        return; /* the init's death tells */
    if (b->socket.fd >= 0)
        read_socket(b); /* why there was no program, if so */
    b->killed = true;
    b->wake_ms = clock_ms() + KILL_RETRY_MS;
    end(b);
}

/* False if there was no message. */
static bool read_leash(struct box *b)
{
    struct leash_message m;
    int fd;

    ssize_t got = io_recv_fds(b->leash.fd, &m, sizeof(m), &fd, 1);
    if (got == -EAGAIN)
        return false;
    if (got != sizeof(m)) {
        /* End of file: the pidfd tells the rest. */
        loop_unwatch(b->epoll_fd, &b->leash);
        return false;
    }
    if (m.kind == LEASH_READY && b->state == BOX_BUILDING && fd >= 0) {
        on_built(b, fd);
        return true;
    }
    close_fd(&fd);
    if (m.kind == LEASH_EXITED) {
        on_exited(b, &m);
    } else if (m.kind == LEASH_PREPARED && b->state == BOX_PREPARING) {
        set_state(b, BOX_READY);
        b->wake_ms = NEVER;
        tell(b, BOX_IS_READY);
    } else if (m.kind == LEASH_FAILED && b->state < BOX_READY) {
        m.step.what[sizeof(m.step.what) - 1] = '\0';
        fail(b, &m.step);
    }
    return true;
}

static void read_socket(struct box *b)
{
    struct program_word m;
    struct step why;

    ssize_t got = io_recv_fds(b->socket.fd, &m, sizeof(m), NULL, 0);
    if (got == -EAGAIN)
        return;
    if (got != sizeof(m)) {
        loop_unwatch(b->epoll_fd, &b->socket);
        /* One that runs has closed it; of one that waits this is the end. */
        if (b->state < BOX_READY) {
            step_failed(&why, ECHILD, "set up the sandbox: its program died");
            b->lost = true;
            fail(b, &why);
        }
        return;
    }
    m.why.what[sizeof(m.why.what) - 1] = '\0';
    if (m.kind == PROGRAM_READY && !b->heard) {
        b->heard = true;
        b->program_pid = m.pid;
        check_waiting(b);
    } else if (m.kind == PROGRAM_FAILED && b->state == BOX_RUNNING) {
        b->exec_error = m.why.error ? m.why.error : EIO;
    } else if (m.kind == PROGRAM_FAILED) {
        fail(b, &m.why);
    }
}

static void on_oom(void *owner)
{
    struct box *b = owner;

    /* v1 kills one process at the limit; the whole sandbox is over. */
    loop_unwatch(b->epoll_fd, &b->oom);
    box_kill(b, WIRE_OOM);
}

void box_wake(struct box *b, int64_t now_ms)
{
    struct step why;

    if (now_ms < b->wake_ms)
        return;
    b->wake_ms = NEVER;
    if (b->leaving && is_dead(b)) {
        remove_box(b);
    } else if (!b->leaving && !b->asked && now_ms < b->made_ms + MAKE_MS_MAX) {
        if (ask_spawner(b, &why) < 0)
            fail(b, &why);
    } else if (b->state < BOX_READY && !b->leaving) {
        step_failed(&why, ETIMEDOUT, "wait for the sandbox");
        fail(b, &why);
    } else {
        box_kill(b, WIRE_TIMEOUT);
    }
}
