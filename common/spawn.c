#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/scope.h"
#include "common/strbuf.h"

#define REAP_POLL_MS 2

static int start(const char *const *argv, const char *const *env, bool quiet,
                 int out, pid_t *pid_out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t defaults, none;
    int rc;

    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
                                     O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (quiet)
        posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null",
                                         O_WRONLY, 0);
    rc = posix_spawn(pid_out, argv[0], &files, &attr, (char **)(uintptr_t)argv,
                     env ? (char **)(uintptr_t)env : environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return -rc;
}

static int collect(int fd, size_t max, int64_t deadline_ms, struct strbuf *out)
{
    for (;;) {
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        char piece[4096];
        ssize_t got;
        int rc = poll(&poller, 1, clock_left_ms(deadline_ms));

        if (rc == 0)
            return -ETIMEDOUT;
        if (rc < 0 && errno != EINTR)
            return -errno;
        if (rc < 0)
            continue;
        got = read(fd, piece, sizeof(piece));
        if (got == 0)
            return out->failed ? -ENOMEM : 0;
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            strbuf_add(out, piece, (size_t)got);
        if (out->len > max)
            return -EFBIG;
    }
}

/* A program may close its output and stay: it has until the deadline. */
static int reap(pid_t pid, int64_t deadline_ms)
{
    int status = 0;
    pid_t got;

    while ((got = waitpid(pid, &status, WNOHANG)) == 0) {
        if (clock_left_ms(deadline_ms) == 0)
            kill(pid, SIGKILL);
        poll(NULL, 0, REAP_POLL_MS);
    }
    if (got < 0)
        return 128;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int spawn_read(const char *const *argv, const char *const *env, bool quiet,
               size_t max_bytes, int64_t deadline_ms, char **text_out,
               int *exit_out)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;
    int ends[2], rc, code;
    pid_t pid = -1;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    AUTO_FD int from = ends[0];
    AUTO_FD int to = ends[1];
    rc = start(argv, env, quiet, to, &pid);
    if (rc < 0)
        return rc;
    close(TAKE_FD(to));
    rc = collect(from, max_bytes, deadline_ms, &out);
    code = reap(pid, rc < 0 ? 0 : deadline_ms);
    if (rc < 0)
        return rc;
    *text_out = strbuf_take(&out);
    *exit_out = code;
    return *text_out ? 0 : -ENOMEM;
}
