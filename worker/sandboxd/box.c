#include "worker/sandboxd/box.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"

#define KILL_RETRY_MS   250
#define REMOVE_RETRY_MS 2
#define REMOVE_MS_MAX   2000
#define NEVER           INT64_MAX

#define NAMESPACES                                               \
    (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | \
     CLONE_NEWUTS | CLONE_NEWNET)

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int watch(struct box *b, enum box_source source, int fd)
{
    struct epoll_event event = {.events = EPOLLIN,
                                .data.ptr = &b->watches[source]};

    b->watches[source] = (struct box_watch){b, source};
    b->fds[source] = fd;
    return epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Closing alone would not do: a sandbox that was cloned a moment ago still has
 * copies of our fds, and an epoll set forgets a file only with its last one. */
static void unwatch(struct box *b, enum box_source source)
{
    if (b->fds[source] >= 0)
        epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, b->fds[source], NULL);
    close_fd(&b->fds[source]);
}

static void tell(struct box *b, const void *message, size_t size,
                 const int *fds, size_t nfds)
{
    /* A worker that does not listen closes its end, and that is an event. */
    if (b->fds[BOX_JOB] >= 0)
        io_send_fds(b->fds[BOX_JOB], message, size, fds, nfds);
}

static void tell_failed(struct box *b, const struct step *why)
{
    struct wire_failed m = {.kind = WIRE_FAILED, .error = why->error};

    snprintf(m.step, sizeof(m.step), "%s", why->what);
    tell(b, &m, sizeof(m), NULL, 0);
}

struct box *box_make(const struct host *host, int epoll_fd, int slot,
                     int job_fd)
{
    struct box *b = calloc(1, sizeof(*b));

    if (!b) {
        close(job_fd);
        return NULL;
    }
    b->host = host;
    b->epoll_fd = epoll_fd;
    b->slot = slot;
    b->home_fd = -1;
    b->wake_ms = NEVER;
    for (int i = 0; i < BOX_SOURCES; i++)
        b->fds[i] = -1;
    for (int i = 0; i < 4; i++)
        b->worker_ends[i] = -1;
    if (watch(b, BOX_JOB, job_fd) < 0) {
        box_free(b);
        return NULL;
    }
    return b;
}

void box_free(struct box *b)
{
    for (int i = 0; i < BOX_SOURCES; i++)
        unwatch(b, (enum box_source)i);
    for (int i = 0; i < 4; i++)
        close_fd(&b->worker_ends[i]);
    close_fd(&b->home_fd);
    box_spec_fini(&b->spec);
    free(b);
}

/* ---- ending ----------------------------------------------------------- */

static void kill_box(struct box *b, int32_t reason)
{
    if (!b->killed)
        b->reason = reason;
    b->killed = true;
    if (b->fds[BOX_PID] < 0)
        return;
    syscall(SYS_pidfd_send_signal, b->fds[BOX_PID], SIGKILL, NULL, 0);
    b->wake_ms = clock_ms() + KILL_RETRY_MS;
}

/* Its processes are gone (or never were): the rest, step by step. */
static void remove_box(struct box *b)
{
    struct wire_gone m = {.kind = WIRE_GONE};

    close_fd(&b->home_fd);
    m.leftovers = cgroup_remove(&b->cgroup);
    if (m.leftovers > 0) {
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
    tell(b, &m, sizeof(m), NULL, 0);
    b->gone = true;
}

static void leave(struct box *b)
{
    b->leaving = true;
    if (b->fds[BOX_PID] >= 0)
        kill_box(b, WIRE_ABANDON);
    else
        remove_box(b);
}

void box_abandon(struct box *b)
{
    if (!b->leaving)
        leave(b);
}

static bool disk_is_full(const struct box *b)
{
    struct statfs fs;

    return b->home_fd >= 0 && fstatfs(b->home_fd, &fs) == 0 &&
           (fs.f_bavail == 0 || fs.f_ffree == 0);
}

static void fill_status(const struct box *b, struct wire_ended *m)
{
    const struct leash_message *e = &b->exited;

    m->exit_code = -1;
    if (e->kind != LEASH_EXITED)
        m->signal = SIGKILL; /* the init itself was killed */
    else if (e->exec_error)
        m->exec_error = e->exec_error;
    else if (WIFEXITED(e->status))
        m->exit_code = WEXITSTATUS(e->status);
    else if (WIFSIGNALED(e->status))
        m->signal = WTERMSIG(e->status);
}

/* A program that had ended by itself when the timeout struck was in time. */
static int32_t reason_of(const struct box *b)
{
    bool by_itself =
        b->exited.kind == LEASH_EXITED && WIFEXITED(b->exited.status);

    return b->reason == WIRE_TIMEOUT && by_itself ? WIRE_NOT_KILLED : b->reason;
}

static void tell_ended(struct box *b)
{
    struct wire_ended m = {.kind = WIRE_ENDED, .reason = reason_of(b)};
    struct cgroup_facts facts;

    cgroup_read(&b->cgroup, &facts);
    fill_status(b, &m);
    m.oom_kills = facts.oom_kills;
    m.pids_refused = facts.pids_refused;
    m.disk_full = disk_is_full(b);
    /* Now the worker has the last fd of it: freeing a large file system is
     * then the work of that job's thread, not of this loop. */
    close_fd(&b->home_fd);
    m.cpu_us = facts.cpu_us > 0 ? facts.cpu_us : b->rusage_us;
    m.peak_memory_bytes =
        facts.peak_memory_bytes > 0 ? facts.peak_memory_bytes : b->rusage_bytes;
    m.peak_processes = facts.peak_processes;
    if (b->started_us)
        m.run_us = clock_us() - b->started_us;
    tell(b, &m, sizeof(m), NULL, 0);
    b->ended_sent = true;
}

/* The init died before it was ready: say why as well as it can be known. */
static void tell_stillborn(struct box *b)
{
    struct cgroup_facts facts;
    struct step why;

    cgroup_read(&b->cgroup, &facts);
    if (facts.oom_kills > 0)
        step_failed(&why, ENOMEM,
                    "set up the sandbox: its memory limit of %" PRId64
                    " MB is too small",
                    b->spec.want.memory_bytes >> 20);
    else
        step_failed(&why, ECHILD, "set up the sandbox: its init died");
    tell_failed(b, &why);
}

static void on_message_of_init(struct box *b);

static void on_death(struct box *b)
{
    struct rusage used = {0};
    siginfo_t info = {0};

    if (syscall(SYS_waitid, P_PIDFD, b->fds[BOX_PID], &info, WEXITED | WNOHANG,
                &used) < 0 ||
        info.si_pid == 0)
        return;
    on_message_of_init(b);
    enum box_state before = b->state;
    b->rusage_us =
        (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
        used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    b->rusage_bytes = (int64_t)used.ru_maxrss * 1024;
    unwatch(b, BOX_PID);
    unwatch(b, BOX_LEASH);
    unwatch(b, BOX_OOM);
    b->state = BOX_DEAD;
    b->wake_ms = NEVER;
    if (!b->killed && info.si_code == CLD_EXITED &&
        info.si_status == INIT_TIMED_OUT)
        b->reason = WIRE_TIMEOUT; /* we slept through it */
    if (before == BOX_CREATING && !b->leaving && !b->ended_sent)
        tell_stillborn(b);
    else if (before != BOX_CREATING)
        tell_ended(b);
    if (b->leaving)
        remove_box(b);
}

/* ---- making ----------------------------------------------------------- */

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

/* Pipes for stdin, stdout, stderr, result; child_ends[i] is the sandbox's. */
static int make_pipes(struct box *b, int child_ends[4], struct step *why)
{
    for (int i = 0; i < 4; i++) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
            return step_failed(why, errno, "make a pipe");
        child_ends[i] = i == 0 ? fds[0] : fds[1];
        b->worker_ends[i] = i == 0 ? fds[1] : fds[0];
    }
    return 0;
}

static pid_t clone_init(int *pid_fd_out)
{
    struct clone_args args = {
        .flags = NAMESPACES | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)pid_fd_out,
        .exit_signal = SIGCHLD,
    };

    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static int spawn_init(struct box *b, int input_fd, const int child_ends[4],
                      struct step *why)
{
    int leash[2], pid_fd = -1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, leash) < 0)
        return step_failed(why, errno, "make a socket pair");
    struct init_plan plan = {
        .leash_fd = leash[1],
        .input_fd = input_fd,
        .stdin_fd = child_ends[0],
        .stdout_fd = child_ends[1],
        .stderr_fd = child_ends[2],
        .result_fd = child_ends[3],
        .spec = &b->spec,
        .filter = &b->host->filter,
        .drop_groups = b->host->ids.root,
        .memory_in_cgroup =
            b->host->cgroups.places[CONTROLLER_MEMORY].version != 0,
        .pids_in_cgroup = b->host->cgroups.places[CONTROLLER_PIDS].version != 0,
        .cores_are_piped = b->host->cores_are_piped,
    };

    b->pid = clone_init(&pid_fd);
    if (b->pid == 0)
        init_main(&plan);
    int error = errno;
    close(leash[1]);
    if (b->pid < 0) {
        close(leash[0]);
        return step_failed(why, error, "clone into new namespaces");
    }
    if (watch(b, BOX_LEASH, leash[0]) < 0 || watch(b, BOX_PID, pid_fd) < 0)
        return step_failed(why, errno, "watch the sandbox");
    return 0;
}

/* While the init waits: what only its parent may do. */
static int prepare_init(struct box *b, struct step *why)
{
    struct leash_message go = {.kind = LEASH_GO};
    int rc = idmap_write(&b->host->ids, b->pid, b->slot, why);

    if (rc == 0)
        rc = cgroup_enter(&b->cgroup, b->pid, why);
    if (rc < 0)
        return rc;
    int event = cgroup_watch_oom(&b->cgroup);
    if (event >= 0)
        watch(b, BOX_OOM, event);
    rc = io_send_fds(b->fds[BOX_LEASH], &go, sizeof(go), NULL, 0);
    if (rc < 0)
        return step_failed(why, -rc, "start the sandbox's init");
    return 0;
}

static int create(struct box *b, const void *message, size_t size, int input_fd,
                  struct step *why)
{
    int child_ends[4] = {-1, -1, -1, -1};
    int rc = box_spec_read(message, size, &b->spec, why);

    if (rc == 0 && input_fd < 0)
        rc = step_failed(why, EINVAL, "read the sandbox's spec: no files");
    if (rc == 0)
        rc = make_id(b, why);
    if (rc == 0)
        rc = cgroup_create(&b->host->cgroups, b->id, &b->spec.want, &b->cgroup,
                           why);
    if (rc == 0)
        rc = make_pipes(b, child_ends, why);
    if (rc == 0)
        rc = spawn_init(b, input_fd, child_ends, why);
    for (int i = 0; i < 4; i++)
        close_fd(&child_ends[i]);
    return rc < 0 ? rc : prepare_init(b, why);
}

static void on_create(struct box *b, const void *message, size_t size,
                      int input_fd)
{
    struct step why = {0};

    b->state = BOX_CREATING;
    if (create(b, message, size, input_fd, &why) == 0)
        return;
    tell_failed(b, &why);
    b->ended_sent = true;
    kill_box(b, WIRE_ABANDON);
    if (b->fds[BOX_PID] < 0)
        b->state = BOX_DEAD;
}

static void describe(const struct box *b, struct wire_enforced *e)
{
    const struct cgroup_host *cgroups = &b->host->cgroups;

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

static void on_ready(struct box *b, int home_fd)
{
    struct wire_created m = {.kind = WIRE_CREATED};
    int fds[5];

    b->home_fd = home_fd;
    b->state = BOX_READY;
    snprintf(m.sandbox_id, sizeof(m.sandbox_id), "%s", b->id);
    describe(b, &m.enforced);
    memcpy(fds, b->worker_ends, sizeof(b->worker_ends));
    fds[4] = home_fd;
    tell(b, &m, sizeof(m), fds, 5);
    for (int i = 0; i < 4; i++)
        close_fd(&b->worker_ends[i]);
}

/* ---- events ----------------------------------------------------------- */

static void on_message_of_init(struct box *b)
{
    struct leash_message m;
    int fd;

    if (b->fds[BOX_LEASH] < 0)
        return;
    ssize_t got = io_recv_fds(b->fds[BOX_LEASH], &m, sizeof(m), &fd, 1);
    if (got != sizeof(m)) {
        /* End of file: the pidfd tells the rest. */
        unwatch(b, BOX_LEASH);
        return;
    }
    if (m.kind == LEASH_READY && b->state == BOX_CREATING && fd >= 0) {
        on_ready(b, fd);
        return;
    }
    close_fd(&fd);
    if (m.kind == LEASH_EXITED)
        b->exited = m;
    if (m.kind == LEASH_FAILED && b->state == BOX_CREATING) {
        m.step.what[sizeof(m.step.what) - 1] = '\0';
        tell_failed(b, &m.step);
        b->ended_sent = true;
    }
}

static void on_run(struct box *b)
{
    struct leash_message m = {.kind = LEASH_RUN};

    if (b->state != BOX_READY || b->killed)
        return; /* ENDED is on its way, or was sent */
    b->state = BOX_RUNNING;
    b->started_us = clock_us();
    b->wake_ms = clock_ms() + b->spec.want.timeout_ms;
    io_send_fds(b->fds[BOX_LEASH], &m, sizeof(m), NULL, 0);
}

static void on_word(struct box *b, const struct wire_word *word)
{
    switch (word->kind) {
    case WIRE_RUN:
        on_run(b);
        break;
    case WIRE_KILL:
        if (b->fds[BOX_PID] >= 0)
            kill_box(b, word->reason);
        break;
    case WIRE_DESTROY:
        if (!b->leaving)
            leave(b);
        break;
    }
}

static void on_message_of_worker(struct box *b)
{
    static char message[BOX_MESSAGE_MAX];
    struct wire_word word;
    int fd;

    ssize_t got =
        io_recv_fds(b->fds[BOX_JOB], message, sizeof(message), &fd, 1);
    if (got <= 0) {
        unwatch(b, BOX_JOB);
        box_abandon(b);
        return;
    }
    if (b->state == BOX_NEW) {
        on_create(b, message, (size_t)got, fd);
    } else if (got == sizeof(word)) {
        memcpy(&word, message, sizeof(word));
        on_word(b, &word);
    }
    close_fd(&fd);
}

void box_event(struct box *b, enum box_source source)
{
    if (b->fds[source] < 0)
        return; /* closed by an earlier event of the same round */
    switch (source) {
    case BOX_JOB:
        on_message_of_worker(b);
        break;
    case BOX_LEASH:
        on_message_of_init(b);
        break;
    case BOX_PID:
        on_death(b);
        break;
    default:
        /* v1 kills one process at the limit; the whole sandbox is over. */
        unwatch(b, BOX_OOM);
        kill_box(b, WIRE_OOM);
        break;
    }
}

void box_wake(struct box *b, int64_t now_ms)
{
    if (now_ms < b->wake_ms)
        return;
    b->wake_ms = NEVER;
    if (b->state == BOX_DEAD || b->fds[BOX_PID] < 0)
        remove_box(b);
    else
        kill_box(b, WIRE_TIMEOUT);
}
