#include "worker/sandboxd/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/confine.h"
#include "worker/sandboxd/mounts.h"
#include "worker/sandboxd/seccomp.h"
#include "worker/sandboxd/unpack.h"

#define HOST_NAME "sandbox"
#define OWN_FDS   (2 + SANDBOX_PIPES)

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Closes all but what was made for it: among the rest is the spawner's socket,
 * which must close when sandboxd wants it to. */
static void keep_only_own(const struct init_plan *p)
{
    const struct program *g = &p->program;
    int own[OWN_FDS] = {p->leash_fd, g->socket_fd, g->pipes[0],
                        g->pipes[1], g->pipes[2],  g->pipes[3]};
    size_t count = p->cold ? OWN_FDS : 1;
    unsigned from = 0;

    qsort(own, count, sizeof(*own), compare_ints);
    for (size_t i = 0; i < count; i++) {
        if ((unsigned)own[i] > from)
            close_range(from, (unsigned)own[i] - 1, 0);
        from = (unsigned)own[i] + 1;
    }
    close_range(from, ~0u, 0);
}

static void say(const struct init_plan *p, const struct leash_message *m,
                int fd)
{
    if (io_send_fds(p->leash_fd, m, sizeof(*m), &fd, fd >= 0) < 0)
        _exit(INIT_LEASH_GONE);
}

/* Waits for one word of sandboxd; its end of file is ours. */
static void await(const struct init_plan *p, uint32_t kind,
                  struct leash_message *m, int *fd_out)
{
    if (io_recv_fds(p->leash_fd, m, sizeof(*m), fd_out, fd_out ? 1 : 0) !=
            sizeof(*m) ||
        m->kind != kind)
        _exit(INIT_LEASH_GONE);
}

/* Raw calls: this process has one thread, whatever libc believes. */
static int become_user(struct step *why)
{
    if (syscall(SYS_setresgid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0 ||
        syscall(SYS_setresuid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0)
        return step_failed(why, errno, "become the sandbox's user");
    /* After the change of user, which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return step_failed(why, errno, "ask to die with sandboxd");
    return 0;
}

static int separate(struct step *why)
{
    if (unshare(CLONE_NEWCGROUP) < 0 && errno != EINVAL)
        return step_failed(why, errno, "unshare the cgroup namespace");
    if (sethostname(HOST_NAME, strlen(HOST_NAME)) < 0 ||
        setdomainname("", 0) < 0)
        return step_failed(why, errno, "set the host name");
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 &&
        errno != ENOSYS)
        return step_failed(why, errno, "join a new keyring");
    if (setsid() < 0)
        return step_failed(why, errno, "start a session");
    confine_namespaces();
    umask(022);
    return 0;
}

static int build(struct step *why)
{
    int rc = become_user(why);

    if (rc == 0)
        rc = separate(why);
    return rc < 0 ? rc : mounts_enter(why);
}

static _Noreturn void fail(const struct init_plan *p, const struct step *why)
{
    struct leash_message m = {.kind = LEASH_FAILED, .step = *why};

    say(p, &m, -1);
    _exit(INIT_FAILED);
}

static int block_children(struct step *why)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        step_failed(why, errno, "make a signalfd");
    return fd;
}

/* A warm one comes from elsewhere. */
static int start_program(const struct init_plan *p, struct step *why)
{
    struct program program = p->program;

    if (!p->cold)
        return 0;
    pid_t pid = fork();
    if (pid == 0)
        program_main(&program);
    if (pid < 0)
        step_failed(why, errno, "fork the program");
    close(program.socket_fd);
    for (int i = 0; i < SANDBOX_PIPES; i++)
        close(program.pipes[i]);
    return pid < 0 ? -why->error : 0;
}

/* Opened only now: nothing of ours is to lie around in the program. */
static int tell_ready(const struct init_plan *p, struct step *why)
{
    struct leash_message ready = {.kind = LEASH_READY};
    AUTO_FD int home = open(MOUNTS_HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (home < 0)
        return step_failed(why, errno, "open the home folder");
    say(p, &ready, home);
    return 0;
}

static int fill(int input_fd, struct step *why)
{
    AUTO_FD int home = open(MOUNTS_HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_FD int job = open(MOUNTS_JOB, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (home < 0 || job < 0)
        return step_failed(why, errno, "open the sandbox's folders");
    int rc = unpack(input_fd, home, job, why);
    return rc < 0 ? rc : mounts_seal(why);
}

/* The job's part. Nothing of the user's runs in here yet. */
static int prepare(const struct init_plan *p, const struct leash_message *m,
                   int input_fd, struct step *why)
{
    int rc = mounts_limit_disk(m->disk_bytes, m->disk_inodes, why);

    if (rc == 0)
        rc = fill(input_fd, why);
    close(input_fd);
    if (rc == 0)
        rc = confine_privileges(false, why);
    return rc < 0 ? rc : seccomp_enter(p->filter, why);
}

/* Reaps whatever ended. True once `program` did, with its status. */
static bool reap(pid_t program, int *status_out)
{
    bool ended = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == program) {
            *status_out = status;
            ended = true;
        }
    }
    return ended;
}

/* Until the program ends. The deadline holds even if sandboxd hangs. */
static int watch(const struct init_plan *p, int child_fd, pid_t program,
                 int64_t backstop_ms)
{
    int64_t deadline = clock_ms() + backstop_ms;
    struct pollfd fds[] = {{.fd = p->leash_fd, .events = POLLIN},
                           {.fd = child_fd, .events = POLLIN}};
    struct signalfd_siginfo info;
    int status = 0;

    for (;;) {
        int left = clock_left_ms(deadline);

        if (poll(fds, 2, left) < 0 && errno != EINTR)
            _exit(INIT_LEASH_GONE);
        if (fds[0].revents & (POLLHUP | POLLERR))
            _exit(INIT_LEASH_GONE);
        if (fds[0].revents & POLLIN) {
            struct leash_message run;

            await(p, LEASH_RUN, &run, NULL);
            deadline = clock_ms() + run.backstop_ms;
            continue;
        }
        if (left == 0)
            _exit(INIT_TIMED_OUT);
        if (fds[1].revents & POLLIN)
            (void)!read(child_fd, &info, sizeof(info));
        if (reap(program, &status))
            return status;
    }
}

/* What it left behind, to the last: whoever lost its parent is our child. So
 * once there is none to wait for, there is none. (Killing the init would do,
 * but then what its end takes down comes first, and that takes its time.) */
static void end_all(struct leash_message *m)
{
    struct rusage used;

    while (kill(-1, SIGKILL) == 0)
        if (waitpid(-1, NULL, 0) < 0 && errno != EINTR)
            break;
    while (waitpid(-1, NULL, 0) > 0)
        ;
    m->alone = errno == ECHILD;
    if (getrusage(RUSAGE_CHILDREN, &used) < 0)
        return;
    m->cpu_us =
        (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
        used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    m->peak_bytes = (int64_t)used.ru_maxrss * 1024;
    m->switches = used.ru_nvcsw + used.ru_nivcsw;
}

_Noreturn void init_main(const struct init_plan *p)
{
    struct leash_message m, exited = {.kind = LEASH_EXITED},
                            prepared = {.kind = LEASH_PREPARED};
    struct step why = {0};
    int input_fd;

    keep_only_own(p);
    io_write_file("/proc/self/oom_score_adj", "1000");
    await(p, LEASH_GO, &m, NULL);

    int child_fd = block_children(&why);
    if (child_fd < 0 || build(&why) < 0)
        fail(p, &why);
    if (start_program(p, &why) < 0 || tell_ready(p, &why) < 0)
        fail(p, &why);

    await(p, LEASH_PREPARE, &m, &input_fd);
    if (prepare(p, &m, input_fd, &why) < 0)
        fail(p, &why);
    say(p, &prepared, -1);
    exited.status = watch(p, child_fd, m.program, m.backstop_ms);
    end_all(&exited);
    say(p, &exited, -1);
    _exit(0);
}
