#include "worker/sandboxd/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/host.h"
#include "worker/sandboxd/idmap.h"
#include "worker/sandboxd/init.h"
#include "worker/sandboxd/mounts.h"
#include "worker/sandboxd/seccomp.h"

#define ZYGOTE_FILTER_FD 4
#define ZYGOTE_ARGV_MAX  (6 + WIRE_PRELOAD_MAX)
#define REQUEST_MAX      (sizeof(struct spawn_request) + WIRE_STRINGS_MAX)

#define SANDBOX_NAMESPACES                                       \
    (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | \
     CLONE_NEWUTS | CLONE_NEWNET)

struct spawner {
    bool ids_are_root, cores_are_piped;
    struct sock_fprog program_filter, init_filter;
};

/* A child of sandboxd, not of ours. */
static pid_t clone_sibling(uint64_t flags)
{
    struct clone_args args = {
        .flags = flags | CLONE_PARENT | CLONE_CLEAR_SIGHAND,
    };

    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* ---- inits ------------------------------------------------------------- */

static pid_t spawn_init(const struct spawner *s,
                        const struct spawn_request *request, const int *fds,
                        struct step *why)
{
    struct init_plan plan = {
        .leash_fd = fds[0],
        .cold = request->cold,
        .program =
            {
                .socket_fd = fds[1],
                .pipes = {fds[2], fds[3], fds[4], fds[5]},
                .filter = &s->program_filter,
                .cores_are_piped = s->cores_are_piped,
            },
        .filter = &s->init_filter,
    };
    pid_t pid = clone_sibling(SANDBOX_NAMESPACES);

    if (pid == 0)
        init_main(&plan);
    if (pid < 0) {
        step_failed(why, errno, "clone into new namespaces");
        return -1;
    }
    /* Should this fail, sandboxd kills it. */
    idmap_write_sandbox(s->ids_are_root, pid, request->slot, why);
    return pid;
}

/* ---- zygotes ----------------------------------------------------------- */

/* The filter as a file: too large for a socket's message on some hosts. */
static int filter_file(const struct sock_fprog *filter)
{
    AUTO_FD int fd = memfd_create("seccomp", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    int rc = io_write_full(fd, filter->filter,
                           filter->len * sizeof(*filter->filter));
    return rc < 0 ? rc : TAKE_FD(fd);
}

static void zygote_failed(int control_fd, const struct step *why)
{
    struct spawn_answer answer = {.pid = -1, .why = *why};

    io_send_fds(control_fd, &answer, sizeof(answer), NULL, 0);
    _exit(1);
}

static _Noreturn void zygote_main(const struct spawner *s, int control_fd,
                                  char *const *argv)
{
    static const char *const env[] = {
        "PATH=/usr/bin:/bin",
        "LANG=C.UTF-8",
        "HOME=/tmp",
        "TMPDIR=/tmp",
        "MPLBACKEND=Agg",
        "MPLCONFIGDIR=" WIRE_CACHES,
        "OPENBLAS_NUM_THREADS=1",
        "OMP_NUM_THREADS=1",
        "MKL_NUM_THREADS=1",
        "NUMEXPR_NUM_THREADS=1",
        "PYTHONDONTWRITEBYTECODE=1",
        NULL,
    };
    struct step why = {0};

    /* Both end when sandboxd does, whatever the interpreter is busy with. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    io_write_file("/proc/self/oom_score_adj", "1000");
    AUTO_FD int filter = filter_file(&s->program_filter);
    if (filter < 0)
        step_failed(&why, -filter, "hand over the seccomp filter");
    else if (unshare(CLONE_NEWNS) < 0)
        step_failed(&why, errno, "unshare the mount namespace");
    else
        mounts_enter_zygote(&why);
    if (why.error == 0) {
        int control = fcntl(control_fd, F_DUPFD_CLOEXEC, 16);
        int program = fcntl(filter, F_DUPFD_CLOEXEC, 16);

        if (dup2(control, FAMILY_FD) == FAMILY_FD &&
            dup2(program, ZYGOTE_FILTER_FD) == ZYGOTE_FILTER_FD &&
            close_range(ZYGOTE_FILTER_FD + 1, ~0u, 0) == 0) {
            control_fd = FAMILY_FD;
            execve(argv[0], argv, (char *const *)env);
        }
        step_failed(&why, errno, "start %.100s", argv[0]);
    }
    zygote_failed(control_fd, &why);
    _exit(1);
}

/* interpreter -I zygote.py <cores are piped> module… */
static int zygote_argv(const struct spawner *s, struct spawn_request *request,
                       char *names, size_t size, char **argv)
{
    int argc = 0;

    argv[argc++] = request->interpreter;
    argv[argc++] = (char *)"-I";
    argv[argc++] = (char *)MOUNTS_RUNTIME "/zygote.py";
    argv[argc++] = (char *)(s->cores_are_piped ? "1" : "0");
    for (char *at = names; at < names + size; at += strlen(at) + 1) {
        if (argc == ZYGOTE_ARGV_MAX - 1)
            return -E2BIG;
        argv[argc++] = at;
    }
    argv[argc] = NULL;
    return 0;
}

static pid_t spawn_zygote(const struct spawner *s,
                          struct spawn_request *request, char *names,
                          size_t size, int control_fd, struct step *why)
{
    char *argv[ZYGOTE_ARGV_MAX];

    request->interpreter[sizeof(request->interpreter) - 1] = '\0';
    if (size > 0 && names[size - 1] != '\0') {
        step_failed(why, EINVAL, "read the zygote's modules");
        return -1;
    }
    if (zygote_argv(s, request, names, size, argv) < 0) {
        step_failed(why, E2BIG, "read the zygote's modules");
        return -1;
    }
    pid_t pid = clone_sibling(0);
    if (pid == 0)
        zygote_main(s, control_fd, argv);
    if (pid < 0)
        step_failed(why, errno, "fork a zygote");
    return pid;
}

/* ---- serving ----------------------------------------------------------- */

static void close_all(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int answer(uint64_t token, pid_t pid, const struct step *why)
{
    struct spawn_answer m = {.token = token, .pid = pid, .why = *why};

    return io_send_fds(FAMILY_FD, &m, sizeof(m), NULL, 0);
}

/* One request. Negative at the end. */
static int serve(const struct spawner *s)
{
    static char message[REQUEST_MAX + 1];
    struct spawn_request request;
    struct step why = {0};
    int fds[SPAWN_INIT_FDS];
    pid_t pid = -1;

    ssize_t got =
        io_recv_fds(FAMILY_FD, message, REQUEST_MAX, fds, SPAWN_INIT_FDS);
    if (got < (ssize_t)sizeof(request)) {
        close_all(fds, SPAWN_INIT_FDS);
        return -EPIPE;
    }
    memcpy(&request, message, sizeof(request));
    if (request.kind == SPAWN_INIT)
        pid = spawn_init(s, &request, fds, &why);
    else if (request.kind == SPAWN_ZYGOTE)
        pid = spawn_zygote(s, &request, message + sizeof(request),
                           (size_t)got - sizeof(request), fds[0], &why);
    close_all(fds, SPAWN_INIT_FDS);
    return answer(request.token, pid, &why);
}

static int set_up(struct spawner *s, struct step *why)
{
    static struct spawn_setup setup;

    if (io_recv_fds(FAMILY_FD, &setup, sizeof(setup), NULL, 0) !=
            sizeof(setup) ||
        setup.kind != SPAWN_SETUP)
        return step_failed(why, EPROTO, "read the spawner's setup");
    s->ids_are_root = setup.ids_are_root;
    s->cores_are_piped = host_pipes_cores();
    /* Else the zygotes, and with them the warm programs, hold the keys of the
     * session that started the worker. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 &&
        errno != ENOSYS)
        return step_failed(why, errno, "join a new keyring");
    if (s->ids_are_root && syscall(SYS_setgroups, 0, NULL) < 0)
        return step_failed(why, errno, "drop the groups");
    int rc = seccomp_build(&s->program_filter, why);
    if (rc == 0)
        rc = seccomp_build_init(&s->init_filter, why);
    if (rc < 0)
        return rc;
    const struct mounts_plan plan = {setup.interpreter, setup.runtime,
                                     setup.zygote_lib};
    return mounts_build(&plan, why);
}

int spawner_main(void)
{
    struct spawner s = {0};
    struct step why = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int rc = set_up(&s, &why);
    if (answer(0, rc < 0 ? -1 : getpid(), &why) < 0 || rc < 0)
        return 1;
    while (serve(&s) >= 0)
        ;
    return 0;
}
