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

#define RESULT_FD   3
#define ABOVE_STDIO 10
#define BACKSTOP_MS 2000 /* past the timeout: sandboxd must be hung */
#define HOST_NAME   "sandbox"

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Closes all but the six: among the rest are leashes and job sockets of other
 * sandboxes, which must see their end of file when sandboxd dies. */
static void keep_only_own(const struct init_plan *p)
{
    int own[] = {p->leash_fd,  p->input_fd,  p->stdin_fd,
                 p->stdout_fd, p->stderr_fd, p->result_fd};
    size_t count = sizeof(own) / sizeof(*own);
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
static void await(const struct init_plan *p, uint32_t kind)
{
    struct leash_message m;

    if (io_recv_fds(p->leash_fd, &m, sizeof(m), NULL, 0) != sizeof(m) ||
        m.kind != kind)
        _exit(INIT_LEASH_GONE);
}

/* Raw calls: this process has one thread, whatever libc believes. */
static int become_user(const struct init_plan *p, struct step *why)
{
    if (p->drop_groups && syscall(SYS_setgroups, 0, NULL) < 0)
        return step_failed(why, errno, "drop the groups");
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

static int fill(const struct init_plan *p, struct step *why)
{
    AUTO_FD int home = open(MOUNTS_HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_FD int job = open(MOUNTS_JOB, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (home < 0 || job < 0)
        return step_failed(why, errno, "open the sandbox's folders");
    int rc = unpack(p->input_fd, home, job, why);
    return rc < 0 ? rc : mounts_seal(why);
}

static int build(const struct init_plan *p, struct step *why)
{
    const struct wire_create *want = &p->spec->want;
    struct mounts_plan mounts = {
        .disk_bytes = want->disk_bytes,
        .disk_inodes = want->disk_inodes,
        .interpreter = p->spec->argv[0],
    };
    int rc = become_user(p, why);

    if (rc == 0)
        rc = separate(why);
    if (rc == 0)
        rc = unpack_measure(p->input_fd, &mounts.job_bytes, &mounts.job_files,
                            why);
    if (rc == 0)
        rc = mounts_enter(&mounts, why);
    if (rc == 0)
        rc = fill(p, why);
    if (rc == 0)
        rc = confine_resources(want, p->memory_in_cgroup, p->pids_in_cgroup,
                               p->cores_are_piped, why);
    umask(077);
    if (rc == 0)
        rc = confine_privileges(why);
    return rc;
}

static void fail(const struct init_plan *p, const struct step *why)
{
    struct leash_message m = {.kind = LEASH_FAILED, .step = *why};

    say(p, &m, -1);
    _exit(INIT_FAILED);
}

static void reset_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* PID 2, up to the exec. Exactly 0..3 stay open in the program. */
static _Noreturn void become_program(const struct init_plan *p, int error_fd)
{
    setsid();
    reset_signals();
    if (confine_files() == 0 && dup2(p->stdin_fd, 0) == 0 &&
        dup2(p->stdout_fd, 1) == 1 && dup2(p->stderr_fd, 2) == 2 &&
        dup2(p->result_fd, RESULT_FD) == RESULT_FD &&
        fcntl(RESULT_FD, F_SETFD, 0) == 0 &&
        close_range(RESULT_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        execve(p->spec->argv[0], p->spec->argv, p->spec->env);
    int error = errno;
    (void)!write(error_fd, &error, sizeof(error));
    _exit(127);
}

/* Forks PID 2 and learns whether the exec worked: its end of the pipe closes
 * then. Returns its pid; *exec_error_out is 0 or why there is no program. */
static pid_t start_program(const struct init_plan *p, int *exec_error_out)
{
    int pipe_fds[2], error = 0;
    pid_t pid;

    *exec_error_out = 0;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        *exec_error_out = errno;
        return -1;
    }
    /* Out of the way of the fds that the program keeps. */
    int error_fd = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, ABOVE_STDIO);
    close(pipe_fds[1]);
    pid = error_fd < 0 ? -1 : fork();
    if (pid == 0)
        become_program(p, error_fd);
    if (pid < 0)
        *exec_error_out = errno;
    close(error_fd);
    if (pid > 0 &&
        io_read_full(pipe_fds[0], &error, sizeof(error)) == sizeof(error))
        *exec_error_out = error;
    close(pipe_fds[0]);
    return pid;
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
static int watch(const struct init_plan *p, int child_fd, pid_t program)
{
    int64_t deadline = clock_ms() + p->spec->want.timeout_ms + BACKSTOP_MS;
    struct pollfd fds[] = {{.fd = p->leash_fd, .events = 0},
                           {.fd = child_fd, .events = POLLIN}};
    struct signalfd_siginfo info;
    int status = 0;

    for (;;) {
        int left = clock_left_ms(deadline);

        if (poll(fds, 2, left) < 0 && errno != EINTR)
            _exit(INIT_LEASH_GONE);
        if (fds[0].revents & (POLLHUP | POLLERR))
            _exit(INIT_LEASH_GONE);
        if (left == 0)
            _exit(INIT_TIMED_OUT);
        if (fds[1].revents & POLLIN)
            (void)!read(child_fd, &info, sizeof(info));
        if (reap(program, &status))
            return status;
    }
}

static _Noreturn void run(const struct init_plan *p, int child_fd)
{
    struct leash_message m = {.kind = LEASH_EXITED};
    pid_t program = start_program(p, &m.exec_error);

    close(p->stdin_fd);
    close(p->stdout_fd);
    close(p->stderr_fd);
    close(p->result_fd);
    if (program > 0)
        m.status = watch(p, child_fd, program);
    say(p, &m, -1);
    _exit(0);
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

_Noreturn void init_main(const struct init_plan *p)
{
    struct leash_message ready = {.kind = LEASH_READY};
    struct step why = {0};

    keep_only_own(p);
    io_write_file("/proc/self/oom_score_adj", "1000");
    await(p, LEASH_GO);

    int child_fd = block_children(&why);
    if (child_fd < 0 || build(p, &why) < 0)
        fail(p, &why);
    int home = open(MOUNTS_HOME, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0)
        step_failed(&why, errno, "open the home folder");
    else
        seccomp_enter(p->filter, &why);
    if (why.error)
        fail(p, &why);

    say(p, &ready, home);
    close(home);
    close(p->input_fd);
    await(p, LEASH_RUN);
    run(p, child_fd);
}
