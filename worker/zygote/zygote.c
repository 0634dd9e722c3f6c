/* worker/zygote/zygote.c -- the part of a Python zygote that is C.
 *
 * Built as capibox-zygote.so and loaded by worker/runtime/zygote.py with
 * ctypes.PyDLL. It uses no header of Python's: the three functions around a
 * fork are part of Python's stable ABI and looked up by name, so any CPython
 * from 3.8 on will do.
 *
 * A program is forked in three steps. The first child (vfork: it shares our
 * memory and we wait) enters the sandbox's namespaces, of which the pid
 * namespace holds for children only. So it makes the second one (vfork, too),
 * which is inside. That forks the program, with our memory copied on write, and
 * ends; so the sandbox's init becomes the program's parent. The program alone
 * enters the sandbox's cgroups, which count the most there ever were.
 *
 * Threads:  one; asserted before the first fork.
 * Errors:   sent to sandboxd with the step that failed.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/program.h"

#define FILTER_FD    4
#define FILTER_MAX   4096 /* instructions */
#define ALL_JOIN_FDS (JOIN_FDS + JOIN_CGROUPS_MAX)
#define HUGE_BYTES   (2ul << 20)
#define ADVICE_HUGE  25 /* MADV_COLLAPSE, Linux 6.1 */
#define JOINED_SPACES                                            \
    (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | \
     CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP)

/* Called from Python. */
#pragma GCC visibility push(default)
int zygote_open(bool cores_are_piped);
int zygote_serve(void);
long zygote_await(const char **strings_out, unsigned counts_out[2]);
void zygote_fail(const char *reason);
void zygote_exit(int code);
#pragma GCC visibility pop

typedef void hook_fn(void);

static struct {
    hook_fn *before, *in_parent, *in_child;
    struct sock_filter filter[FILTER_MAX];
    struct sock_fprog fprog;
    struct program program; /* of the child */
    bool cores_are_piped;
} zygote;

static int answer(uint64_t token, pid_t pid, const struct step *why)
{
    struct spawn_answer m = {.token = token, .pid = pid, .why = *why};

    return io_send_fds(FAMILY_FD, &m, sizeof(m), NULL, 0);
}

/* ---- opening ------------------------------------------------------------ */

static int find_hooks(struct step *why)
{
    zygote.before = (hook_fn *)dlsym(RTLD_DEFAULT, "PyOS_BeforeFork");
    zygote.in_parent = (hook_fn *)dlsym(RTLD_DEFAULT, "PyOS_AfterFork_Parent");
    zygote.in_child = (hook_fn *)dlsym(RTLD_DEFAULT, "PyOS_AfterFork_Child");
    if (!zygote.before || !zygote.in_parent || !zygote.in_child)
        return step_failed(why, ENOSYS, "find Python's fork functions");
    return 0;
}

static int read_filter(struct step *why)
{
    ssize_t got = pread(FILTER_FD, zygote.filter, sizeof(zygote.filter), 0);

    close(FILTER_FD);
    if (got <= 0 || (size_t)got == sizeof(zygote.filter) ||
        (size_t)got % sizeof(*zygote.filter))
        return step_failed(why, EINVAL, "read the seccomp filter");
    zygote.fprog = (struct sock_fprog){
        .len = (unsigned short)((size_t)got / sizeof(*zygote.filter)),
        .filter = zygote.filter,
    };
    return 0;
}

/* A thread would not be there after a fork, but the locks it held would. */
static int count_threads(struct step *why)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;

    if (!dir)
        return step_failed(why, errno, "read /proc/self/task");
    for (const struct dirent *e; (e = readdir(dir));)
        count += e->d_name[0] != '.';
    closedir(dir);
    if (count != 1)
        return step_failed(why, EBUSY,
                           "fork with %d threads: one of the "
                           "preloaded packages started some",
                           count);
    return 0;
}

/* A program keeps none of ours: an object that holds one would break there. */
static int check_files(struct step *why)
{
    DIR *dir = opendir("/proc/self/fd");
    char path[PATH_MAX] = "";

    if (!dir)
        return step_failed(why, errno, "read /proc/self/fd");
    for (const struct dirent *e; !path[0] && (e = readdir(dir));) {
        int fd = atoi(e->d_name);
        ssize_t len =
            fd > FAMILY_FD && fd != dirfd(dir)
                ? readlinkat(dirfd(dir), e->d_name, path, sizeof(path) - 1)
                : 0;
        path[len > 0 ? len : 0] = '\0';
    }
    closedir(dir);
    if (path[0])
        return step_failed(why, EBUSY,
                           "fork: a preloaded package keeps %.80s open", path);
    return 0;
}

/* Of one mapping in smaps: can all that hold it see what one of them writes? */
static bool is_shared(const char *flags)
{
    return strstr(flags, " sh") && strstr(flags, " mw");
}

/* Memory that a fork shares with us instead of copying it: what one program
 * wrote there the next would read. */
static int check_memory(struct step *why)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    char line[PATH_MAX + 128], name[81] = "";
    uintptr_t from, to;
    bool found = false;

    if (!maps)
        return step_failed(why, errno, "read /proc/self/smaps");
    while (!found && fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2) {
            name[0] = '\0';
            sscanf(line, "%*s %*s %*s %*s %*s %80s", name);
        }
        found = strncmp(line, "VmFlags:", 8) == 0 && is_shared(line);
    }
    fclose(maps);
    if (found)
        return step_failed(why, EBUSY,
                           "fork: a preloaded package shares memory: %s",
                           name[0] ? name : "unnamed");
    return 0;
}

/* Large pages make the page tables, which each fork copies, small. Best
 * effort: older kernels do not know the advice. */
static void collapse_memory(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t from, to;
    char line[512], flags[8];
    uint64_t inode;

    while (maps && fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %" SCNu64,
                   &from, &to, flags, &inode) != 4 ||
            inode != 0 || strncmp(flags, "rw-p", 4) != 0 ||
            strstr(line, "[stack]"))
            continue;
        from = (from + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
        to &= ~(HUGE_BYTES - 1);
        if (from < to)
            madvise((void *)from, to - from, ADVICE_HUGE);
    }
    if (maps)
        fclose(maps);
}

int zygote_open(bool cores_are_piped)
{
    struct step why = {0};

    zygote.cores_are_piped = cores_are_piped;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int rc = find_hooks(&why);
    if (rc == 0)
        rc = read_filter(&why);
    if (rc == 0)
        rc = count_threads(&why);
    if (rc == 0)
        rc = check_files(&why);
    if (rc == 0)
        rc = check_memory(&why);
    if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        rc = step_failed(&why, errno, "become undumpable");
    if (rc == 0)
        collapse_memory();
    if (answer(0, rc < 0 ? -1 : getpid(), &why) < 0)
        return -EPIPE;
    return rc;
}

/* ---- forking ------------------------------------------------------------ */

/* In the program, which is in its namespaces. Whether it may move is asked of
 * who opened the files; of the mover, too, before Linux 5.16, so ids come last.
 */
static int enter_sandbox(const int *fds, struct step *why)
{
    for (int i = JOIN_FDS; i < ALL_JOIN_FDS && fds[i] >= 0; i++)
        if (write(fds[i], "0", 1) != 1)
            return step_failed(why, errno, "enter the sandbox's cgroup");
    if (syscall(SYS_setresgid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0 ||
        syscall(SYS_setresuid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0)
        return step_failed(why, errno, "become the sandbox's user");
    if (chdir("/home/user") < 0)
        return step_failed(why, errno, "enter the home folder");
    return 0;
}

/* Waits for a child that only had a step to do. */
static int wait_step(pid_t pid, struct step *why)
{
    int status;

    if (pid < 0)
        return step_failed(why, errno, "vfork the zygote");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (why->error)
        return -why->error;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return step_failed(why, ECHILD, "fork the zygote: its child died");
    return 0;
}

/* Returns twice: in the zygote, 0 or an error; in the program, 1. Never inline:
 * the program goes on in this frame, which nobody else uses then. */
__attribute__((noinline)) static int fork_program(const int *fds,
                                                  struct step *why)
{
    pid_t first = vfork();

    if (first == 0) {
        /* It shares our memory, but neither fds nor namespaces. */
        if (setns(fds[0], JOINED_SPACES) < 0) {
            step_failed(why, errno, "enter the sandbox's namespaces");
            _exit(1);
        }
        pid_t second = vfork();
        if (second == 0) {
            pid_t program = fork();

            if (program == 0)
                return 1;
            if (program < 0)
                step_failed(why, errno, "fork the zygote");
            _exit(program < 0);
        }
        _exit(wait_step(second, why) < 0);
    }
    return wait_step(first, why);
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* The program, still at the zygote's place in Python. */
static void become_program(const int *fds)
{
    struct step why = {0};

    zygote.program = (struct program){
        .socket_fd = fds[1],
        .pipes = {fds[2], fds[3], fds[4], fds[5]},
        .filter = &zygote.fprog,
        .cores_are_piped = zygote.cores_are_piped,
    };
    if (enter_sandbox(fds, &why) < 0 ||
        program_take_fds(&zygote.program, &why) < 0 ||
        program_confine(&zygote.program, &why) < 0)
        program_fail(&zygote.program, &why);
    zygote.in_child();
}

/* One request: 1 in the program, 0 in the zygote, negative at the end. */
static int serve_one(void)
{
    struct join_request request;
    struct step why = {0};
    int fds[ALL_JOIN_FDS];

    ssize_t got =
        io_recv_fds(FAMILY_FD, &request, sizeof(request), fds, ALL_JOIN_FDS);
    if (got != sizeof(request)) {
        close_all(fds, ALL_JOIN_FDS);
        return -EPIPE;
    }
    zygote.before();
    if (fork_program(fds, &why) == 1) {
        become_program(fds);
        return 1;
    }
    zygote.in_parent();
    close_all(fds, ALL_JOIN_FDS);
    return answer(request.token, why.error ? -1 : 0, &why);
}

int zygote_serve(void)
{
    int rc;

    while ((rc = serve_one()) == 0)
        ;
    return rc > 0;
}

/* The job's strings (argv, then env; see wire.h) and how many of each. */
long zygote_await(const char **strings_out, unsigned counts_out[2])
{
    struct step why = {0};
    struct wire_create want;
    const char *message;
    size_t size;

    if (program_await(&zygote.program, &message, &size, &why) < 0)
        program_fail(&zygote.program, &why);
    memcpy(&want, message, sizeof(want));
    if (want.strings_bytes != size - sizeof(want)) {
        step_failed(&why, EPROTO, "read the job");
        program_fail(&zygote.program, &why);
    }
    close(zygote.program.socket_fd);
    *strings_out = message + sizeof(want);
    counts_out[0] = want.argc;
    counts_out[1] = want.envc;
    return (long)want.strings_bytes;
}

/* The program cannot be made ready: sandboxd is told why. */
void zygote_fail(const char *reason)
{
    struct step why;

    step_failed(&why, ECHILD, "ready a fork of the zygote: %.110s", reason);
    program_fail(&zygote.program, &why);
}

/* With what C code has printed, but without the exit handlers and destructors
 * of the zygote's libraries. */
void zygote_exit(int code)
{
    fflush(NULL);
    _exit(code);
}
