#include "worker/local/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "worker/local/wire.h"

#define PROGRAM      "capibox-sandboxd"
#define CONTROL_FD   3
#define END_MS       12000 /* more than sandboxd itself waits for its sandboxes */
#define END_POLL_US  2000
#define TAKE_MS_MAX  5000 /* until it must take a job socket: else it hangs */
#define TAKE_POLL_US 2000

int link_find(struct link *link, struct complaint *why)
{
    const char *named = getenv("CAPIBOX_SANDBOXD");
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    *link = (struct link){.control_fd = -1};
    link->greeting = (struct strbuf)STRBUF_INIT;
    if (named && *named) {
        if (snprintf(link->program, sizeof(link->program), "%s", named) >=
            (int)sizeof(link->program))
            return -ENAMETOOLONG;
    } else {
        if (len < 0)
            return -errno;
        self[len] = '\0';
        slash = strrchr(self, '/');
        if (!slash)
            return -EINVAL;
        *slash = '\0';
        if (snprintf(link->program, sizeof(link->program), "%s/" PROGRAM,
                     self) >= (int)sizeof(link->program))
            return -ENAMETOOLONG;
    }
    if (access(link->program, X_OK) == 0)
        return 0;
    complain(why, NULL,
             "%.300s is missing; it is built and installed with capibox-worker",
             link->program);
    return -ENOENT;
}

static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attr, &none);
    posix_spawnattr_setsigdefault(attr, &all);
    /* A session of its own: Ctrl-C on the worker's terminal is not for it. */
    return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETSID);
}

/* posix_spawn, since this program has threads; the environment is made up, so
 * that no secret of the worker's is in it. */
static int spawn(const char *program, int control_fd, pid_t *pid_out)
{
    char *argv[] = {(char *)program, (char *)"--fd", (char *)"3", NULL};
    char *env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                   (char *)"LANG=C", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc;

    MUST0(posix_spawn_file_actions_init(&actions));
    MUST0(posix_spawnattr_init(&attr));
    rc = set_attributes(&attr);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR,
                                              0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, 0, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, control_fd, CONTROL_FD);
    if (rc == 0)
        rc = posix_spawn(pid_out, program, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* It may be lost (no memory, a sandboxd that does not listen): sandboxes are
 * then made when they are asked for. */
static void greet_locked(struct link *link)
{
    const struct strbuf *g = &link->greeting;
    uint32_t size;

    for (size_t at = 0; at + sizeof(size) <= g->len; at += size) {
        memcpy(&size, g->text + at, sizeof(size));
        at += sizeof(size);
        io_send_fds(link->control_fd, g->text + at, size, NULL, 0);
    }
}

static int start_locked(struct link *link)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    int rc = spawn(link->program, fds[1], &link->pid);
    close(fds[1]);
    if (rc < 0) {
        close(fds[0]);
        return rc;
    }
    /* A full socket must not block a sender who holds the lock. */
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    link->control_fd = fds[0];
    link->started_ms = clock_ms();
    greet_locked(link);
    return 0;
}

/* It is our child and not reaped yet, so its number is still its own. */
static void end_locked(struct link *link, bool gently)
{
    int64_t deadline = clock_ms() + (gently ? END_MS : 0);

    if (link->control_fd < 0)
        return;
    close(link->control_fd);
    link->control_fd = -1;
    while (clock_ms() < deadline) {
        if (waitpid(link->pid, NULL, WNOHANG) != 0)
            return;
        usleep(END_POLL_US);
    }
    kill(link->pid, SIGKILL);
    while (waitpid(link->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int link_open(struct link *link, struct complaint *why)
{
    MUST0(pthread_mutex_init(&link->lock, NULL));
    int rc = start_locked(link);
    if (rc < 0) {
        complain(why, NULL, "cannot start %.300s: %s", link->program,
                 strerror(-rc));
        pthread_mutex_destroy(&link->lock);
    }
    return rc;
}

void link_greet(struct link *link, struct strbuf *greeting)
{
    MUST0(pthread_mutex_lock(&link->lock));
    strbuf_fini(&link->greeting);
    link->greeting = *greeting;
    *greeting = (struct strbuf)STRBUF_INIT;
    if (link->control_fd >= 0)
        greet_locked(link);
    MUST0(pthread_mutex_unlock(&link->lock));
}

void link_close(struct link *link)
{
    end_locked(link, true);
    strbuf_fini(&link->greeting);
    pthread_mutex_destroy(&link->lock);
}

static int send_job_locked(struct link *link, int fd)
{
    struct wire_word word = {.kind = WIRE_CREATE};

    if (link->control_fd < 0)
        return -EPIPE;
    return io_send_fds(link->control_fd, &word, sizeof(word), &fd, 1);
}

/* Other errors are about this one message (no memory, too many fds on their
 * way) and no reason to end all sandboxes. */
static bool is_gone(int rc)
{
    return rc == -EPIPE || rc == -ECONNRESET || rc == -ENOTCONN ||
           rc == -ECONNREFUSED;
}

/* -EAGAIN: it has not taken what it was sent before. */
static int offer_job(struct link *link, int fd, int64_t since_ms)
{
    MUST0(pthread_mutex_lock(&link->lock));
    int rc = send_job_locked(link, fd);
    if (since_ms < link->started_ms)
        since_ms = link->started_ms;
    if (is_gone(rc) ||
        (rc == -EAGAIN && clock_ms() - since_ms >= TAKE_MS_MAX)) {
        end_locked(link, false);
        rc = start_locked(link);
        if (rc == 0)
            rc = send_job_locked(link, fd);
    }
    MUST0(pthread_mutex_unlock(&link->lock));
    return rc;
}

int link_job(struct link *link, bool (*give_up)(const void *ctx),
             const void *ctx)
{
    int64_t since_ms = clock_ms();
    int fds[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    while ((rc = offer_job(link, fds[1], since_ms)) == -EAGAIN) {
        if (give_up && give_up(ctx)) {
            rc = -ECANCELED;
            break;
        }
        usleep(TAKE_POLL_US);
    }
    close(fds[1]);
    if (rc < 0) {
        close(fds[0]);
        return rc;
    }
    return fds[0];
}

void link_kill(struct link *link)
{
    MUST0(pthread_mutex_lock(&link->lock));
    end_locked(link, false);
    MUST0(pthread_mutex_unlock(&link->lock));
}
