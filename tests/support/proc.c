/* tests/support/proc.c -- programs started, watched and ended by a test. */
#include "tests/support/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"

#define PRINTED_BYTES_MAX (64u << 20)
#define POLL_NS           2000000
#define EXIT_NO_START     127
#define PROGRAMS_MAX      4

extern char **environ;

bool wait_until(proc_predicate *holds, void *ctx, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    struct timespec pause = {.tv_nsec = POLL_NS};

    while (!holds(ctx)) {
        if (clock_ms() >= deadline)
            return holds(ctx); /* we may have slept long ourselves */
        nanosleep(&pause, NULL);
    }
    return true;
}

/* ---- starting ---------------------------------------------------------- */

static void find_program(const char *name, char *out, size_t size)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    MUST(len > 0);
    self[len] = '\0';
    /* …/build/<san>/tests/<layer>/test_x */
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = '\0';
    bool plain = strcmp(strrchr(self, '/'), "/none") == 0;
    if (plain)
        for (int up = 0; up < 2; up++)
            *strrchr(self, '/') = '\0';
    MUST((size_t)snprintf(out, size, "%s/bin/%s", self, name) < size);
}

const char *proc_program(const char *name)
{
    static struct {
        char name[32], path[PATH_MAX + 64];
    } known[PROGRAMS_MAX];

    for (size_t i = 0; i < PROGRAMS_MAX; i++) {
        if (!known[i].name[0]) {
            MUST(strlen(name) < sizeof known[i].name);
            strcpy(known[i].name, name);
            find_program(name, known[i].path, sizeof known[i].path);
        }
        if (strcmp(known[i].name, name) == 0)
            return known[i].path;
    }
    MUST(!"so many programs");
    return NULL;
}

static int open_in(const struct proc *p, const char *name, int flags)
{
    char path[sizeof p->dir + 8];
    int fd;

    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    fd = open(path, flags | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    return fd;
}

static void make_folder(struct proc *p)
{
    MUST(mkdir("build", 0755) == 0 || errno == EEXIST);
    MUST(mkdir("build/tmp", 0755) == 0 || errno == EEXIST);
    snprintf(p->dir, sizeof p->dir, "build/tmp/proc-XXXXXX");
    MUST(mkdtemp(p->dir));
}

static bool is_named(const char *entry, const char *change)
{
    size_t len = strcspn(change, "=");

    return strncmp(entry, change, len) == 0 && entry[len] == '=';
}

/* Our environment with the changes; the strings are borrowed. */
static const char **make_environment(const char *const *changes)
{
    size_t ours = 0, theirs = 0, used = 0;
    const char **env;

    while (environ && environ[ours])
        ours++;
    while (changes && changes[theirs])
        theirs++;
    env = calloc(ours + theirs + 1, sizeof *env);
    MUST(env);
    for (size_t i = 0; i < ours; i++) {
        bool changed = false;

        for (size_t j = 0; j < theirs; j++)
            changed |= is_named(environ[i], changes[j]);
        if (!changed)
            env[used++] = environ[i];
    }
    for (size_t j = 0; j < theirs; j++)
        if (strchr(changes[j], '='))
            env[used++] = changes[j];
    return env;
}

static int open_stdin(const struct proc *p, const char *text)
{
    int fd;

    if (!text) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        MUST(fd >= 0);
        return fd;
    }
    fd = open_in(p, "in", O_RDWR | O_CREAT | O_EXCL);
    MUST0(io_write_full(fd, text, strlen(text)));
    MUST0(lseek(fd, 0, SEEK_SET));
    return fd;
}

/* Between fork and exec: async-signal-safe calls only. */
__attribute__((noreturn)) static void become(const struct proc_start *how,
                                             const char **env, pid_t parent,
                                             const int fds[3])
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before we asked for its signal */
        _exit(EXIT_NO_START);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(EXIT_NO_START);
    execvpe(how->argv[0], (char *const *)how->argv, (char *const *)env);
    _exit(EXIT_NO_START);
}

void proc_start(struct proc *p, const struct proc_start *how)
{
    pid_t parent = getpid();

    memset(p, 0, sizeof *p);
    make_folder(p);
    AUTO_FD int in = open_stdin(p, how->stdin_text);
    AUTO_FD int out = open_in(p, "out", O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    AUTO_FD int err = open_in(p, "err", O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    AUTO_FREE const char **env = make_environment(how->env);
    p->pid = fork();
    MUST(p->pid >= 0);
    if (p->pid == 0)
        become(how, env, parent, (int[]){in, out, err});
}

/* ---- watching ---------------------------------------------------------- */

static bool has_ended(void *ctx)
{
    struct proc *p = ctx;
    int status;

    if (p->pid == 0)
        return true;
    pid_t got = waitpid(p->pid, &status, WNOHANG);
    if (got == 0)
        return false;
    MUST(got == p->pid);
    p->ending = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    p->pid = 0;
    return true;
}

int proc_wait(struct proc *p, int timeout_ms)
{
    return wait_until(has_ended, p, timeout_ms) ? p->ending : PROC_RUNNING;
}

void proc_signal(const struct proc *p, int signal)
{
    if (p->pid > 0)
        MUST0(kill(p->pid, signal));
}

static char *read_printed(const struct proc *p, const char *name)
{
    char path[sizeof p->dir + 8], *text = NULL;

    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    MUST0(io_read_file(path, PRINTED_BYTES_MAX, &text, NULL));
    return text;
}

char *proc_out(const struct proc *p)
{
    return read_printed(p, "out");
}

char *proc_err(const struct proc *p)
{
    return read_printed(p, "err");
}

struct saying {
    struct proc *p;
    const char *text;
    bool ended, said;
};

static bool said_or_ended(void *ctx)
{
    struct saying *saying = ctx;

    /* In this order: what it says last, it says before it ends. */
    saying->ended = has_ended(saying->p);
    AUTO_FREE char *out = proc_out(saying->p);
    AUTO_FREE char *err = proc_err(saying->p);
    saying->said = strstr(out, saying->text) || strstr(err, saying->text);
    return saying->said || saying->ended;
}

bool proc_says(struct proc *p, const char *text, int timeout_ms)
{
    struct saying saying = {.p = p, .text = text};

    wait_until(said_or_ended, &saying, timeout_ms);
    return saying.said;
}

/* ---- ending ------------------------------------------------------------ */

void proc_stop(struct proc *p)
{
    static const char *const names[] = {"in", "out", "err"};
    int status;

    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
            ;
        p->pid = 0;
        p->ending = -SIGKILL;
    }
    if (!p->dir[0])
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[sizeof p->dir + 8];

        snprintf(path, sizeof path, "%s/%s", p->dir, names[i]);
        unlink(path);
    }
    rmdir(p->dir);
    p->dir[0] = '\0';
}

int proc_run(const struct proc_start *how, int timeout_ms, char **out,
             char **err)
{
    struct proc p;
    int ending;

    proc_start(&p, how);
    ending = proc_wait(&p, timeout_ms);
    if (out)
        *out = proc_out(&p);
    if (err)
        *err = proc_err(&p);
    proc_stop(&p);
    return ending;
}
