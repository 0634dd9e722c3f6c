#include "worker/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/protocol.h"
#include "common/scope.h"

#define GOOD_RUN_MS 60000 /* after this a crash starts the backoff anew */
#define REAP_MS     2000

struct child {
    pid_t pid;
    int announced;               /* pipe */
    char wid[WORKER_ID_MAX + 1]; /* the last identity it announced */
    int64_t started_ms;
};

/* Keeps the last whole line. */
static void read_identity(struct child *child)
{
    char text[WORKER_ID_MAX * 8 + 1];
    ssize_t got = read(child->announced, text, sizeof(text) - 1);
    char *line;

    if (got <= 0)
        return;
    text[got] = '\0';
    if (text[got - 1] == '\n')
        text[got - 1] = '\0';
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (strlen(line) <= WORKER_ID_MAX)
        memcpy(child->wid, line, strlen(line) + 1);
}

static void bring_back(const struct settings *settings,
                       const struct redis_target *target, const char *wid)
{
    struct protocol protocol;
    struct redis *redis = NULL;
    int64_t deadline = clock_ms() + REAP_MS, moved = 0;
    int rc = protocol_init(&protocol, settings->prefix, settings->result_ttl_s,
                           settings->lease_ms);

    if (rc == 0)
        rc = redis_create(target, "capibox:supervisor", &redis);
    if (rc == 0)
        rc = redis_connect(redis, deadline);
    if (rc == 0)
        rc = protocol_reap(&protocol, redis, deadline, wid, true, &moved);
    if (rc < 0)
        log_warn("a dead worker's jobs wait for its lease", LOG_S("dead", wid),
                 LOG_S("reason", strerror(-rc)), LOG_END);
    else
        log_warn("dead worker's jobs are back in their queues",
                 LOG_S("dead", wid), LOG_I("jobs", moved),
                 LOG_S("why", "its supervisor saw it die"), LOG_END);
    redis_destroy(redis);
}

/* Returns 0 in the parent, 1 in the child. */
static int spawn(struct child *child, int *announce_fd_out)
{
    pid_t parent = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    *child = (struct child){.announced = ends[0], .started_ms = clock_ms()};
    child->pid = fork();
    if (child->pid < 0) {
        int rc = -errno;

        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        /* Ctrl-C reaches it once, through us: twice would mean at once. */
        setpgid(0, 0);
        close(ends[0]);
        *announce_fd_out = ends[1];
        return 1;
    }
    close(ends[1]);
    return 0;
}

/* Passes signals on until the child has ended. Returns its wait status. */
static int watch(struct child *child, int signals, bool *stopping)
{
    struct pollfd fds[2] = {{.fd = signals, .events = POLLIN},
                            {.fd = child->announced, .events = POLLIN}};
    struct signalfd_siginfo info;
    int status;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents & POLLIN)
            read_identity(child);
        else if (fds[1].revents & POLLHUP)
            fds[1].fd = -1;
        while (read(signals, &info, sizeof(info)) == sizeof(info)) {
            if (info.ssi_signo == SIGCHLD)
                continue;
            *stopping |= info.ssi_signo != SIGHUP;
            kill(child->pid, (int)info.ssi_signo);
        }
        if (waitpid(child->pid, &status, WNOHANG) == child->pid)
            return status;
    }
    return -1;
}

static void pause_before_restart(struct backoff *backoff, int signals,
                                 bool *stopping)
{
    struct pollfd fd = {.fd = signals, .events = POLLIN};
    int64_t until = clock_ms() + backoff_next_ms(backoff);
    struct signalfd_siginfo info;

    while (!*stopping && clock_ms() < until)
        if (poll(&fd, 1, clock_left_ms(until)) > 0 &&
            read(signals, &info, sizeof(info)) == sizeof(info))
            *stopping = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* It stopped as it was told, or it never came to work: another start would not
 * mend its settings or its host. */
static bool needs_nothing(const struct child *child, int status, bool stopping)
{
    return WIFEXITED(status) &&
           ((stopping && WEXITSTATUS(status) == 0) || !child->wid[0]);
}

int supervisor_run(const struct settings *settings,
                   const struct redis_target *target, int *announce_fd_out)
{
    struct backoff backoff = {0};
    bool stopping = false;
    struct child child;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    AUTO_FD int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        return 1;
    for (;;) {
        int status, rc = spawn(&child, announce_fd_out);

        if (rc != 0)
            return rc == 1 ? -1 : 1;
        status = watch(&child, signals, &stopping);
        read_identity(&child);
        close(child.announced);
        if (needs_nothing(&child, status, stopping))
            return exit_code(status);
        log_error("worker died", LOG_S("worker", child.wid),
                  LOG_I("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
                  LOG_I("exit", exit_code(status)), LOG_END);
        if (child.wid[0])
            bring_back(settings, target, child.wid);
        if (stopping)
            return exit_code(status);
        if (clock_ms() - child.started_ms > GOOD_RUN_MS)
            backoff_reset(&backoff);
        pause_before_restart(&backoff, signals, &stopping);
        if (stopping)
            return exit_code(status);
    }
}
