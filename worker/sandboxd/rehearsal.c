#include "worker/sandboxd/rehearsal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/local/wire.h"
#include "worker/sandboxd/daemon.h"

#define STEP_MS 10000
#define HELLO   "hello\n"

static const char strings[] = "/bin/sh\0-c\0echo hello\0PATH=/usr/bin:/bin";

/* What sandboxd may answer. */
union answer {
    uint32_t kind;
    struct wire_created created;
    struct wire_failed failed;
    struct wire_ended ended;
    struct wire_gone gone;
};

static int no_files(void)
{
    uint32_t count = 0;
    AUTO_FD int fd = memfd_create("capibox-input", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    int rc = io_write_full(fd, &count, sizeof(count));
    return rc < 0 ? rc : TAKE_FD(fd);
}

static int send_create(int job_fd, struct step *why)
{
    struct wire_create m = {
        .kind = WIRE_CREATE,
        .timeout_ms = STEP_MS,
        .memory_bytes = 64 << 20,
        .disk_bytes = 4 << 20,
        .disk_inodes = 64,
        .cpu_percent = 100,
        .pids = 8,
        .argc = 3,
        .envc = 1,
        .strings_bytes = sizeof(strings),
    };
    char message[sizeof(m) + sizeof(strings)];
    AUTO_FD int input = no_files();

    if (input < 0)
        return step_failed(why, -input, "make an input file");
    memcpy(message, &m, sizeof(m));
    memcpy(message + sizeof(m), strings, sizeof(strings));
    int rc = io_send_fds(job_fd, message, sizeof(message), &input, 1);
    return rc < 0 ? step_failed(why, -rc, "ask for a sandbox") : 0;
}

/* The next answer, which must be of this kind. fds: 5, or NULL. */
static int await(int job_fd, uint32_t kind, union answer *m, int *fds,
                 struct step *why)
{
    struct pollfd ready = {.fd = job_fd, .events = POLLIN};

    if (poll(&ready, 1, STEP_MS) <= 0)
        return step_failed(why, ETIMEDOUT, "wait for the sandbox");
    ssize_t got = io_recv_fds(job_fd, m, sizeof(*m), fds, fds ? 5 : 0);
    if (got < (ssize_t)sizeof(m->kind))
        return step_failed(why, EPIPE, "wait for the sandbox");
    if (m->kind == WIRE_FAILED && got == sizeof(m->failed)) {
        m->failed.step[sizeof(m->failed.step) - 1] = '\0';
        return step_failed(why, m->failed.error, "%s", m->failed.step);
    }
    if (m->kind != kind)
        return step_failed(why, EPROTO, "wait for the sandbox");
    return 0;
}

static int send_word(int job_fd, uint32_t kind, struct step *why)
{
    struct wire_word word = {.kind = kind};
    int rc = io_send_fds(job_fd, &word, sizeof(word), NULL, 0);

    return rc < 0 ? step_failed(why, -rc, "talk to sandboxd") : 0;
}

static int run_hello(int job_fd, int stdout_fd, struct step *why)
{
    char said[64] = "";
    union answer m;
    int rc = send_word(job_fd, WIRE_RUN, why);

    if (rc == 0)
        rc = await(job_fd, WIRE_ENDED, &m, NULL, why);
    if (rc < 0)
        return rc;
    if (m.ended.exec_error)
        return step_failed(why, m.ended.exec_error, "start /bin/sh");
    ssize_t got = io_read_full(stdout_fd, said, sizeof(said) - 1);
    if (m.ended.exit_code != 0 || got != (ssize_t)strlen(HELLO) ||
        strcmp(said, HELLO) != 0)
        return step_failed(why, EIO, "run /bin/sh: exit code %d, signal %d",
                           m.ended.exit_code, m.ended.signal);
    return 0;
}

static int play(int job_fd, struct step *why)
{
    int fds[5] = {-1, -1, -1, -1, -1};
    union answer m;
    int rc = send_create(job_fd, why);

    if (rc == 0)
        rc = await(job_fd, WIRE_CREATED, &m, fds, why);
    if (rc == 0)
        rc = run_hello(job_fd, fds[1], why);
    for (int i = 0; i < 5; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (rc == 0)
        rc = send_word(job_fd, WIRE_DESTROY, why);
    if (rc == 0)
        rc = await(job_fd, WIRE_GONE, &m, NULL, why);
    if (rc == 0 && m.gone.leftovers)
        rc = step_failed(why, EBUSY, "remove the sandbox's cgroups");
    return rc;
}

static int play_over(int control_fd, struct step *why)
{
    struct wire_word word = {.kind = WIRE_CREATE};
    int job[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, job) < 0)
        return step_failed(why, errno, "make a socket pair");
    int rc = io_send_fds(control_fd, &word, sizeof(word), &job[1], 1);
    close(job[1]);
    if (rc < 0)
        step_failed(why, -rc, "talk to sandboxd");
    else
        rc = play(job[0], why);
    close(job[0]);
    return rc;
}

int rehearse(const struct host *host, struct step *why)
{
    struct step ignored = {0};
    int control[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
        return step_failed(why, errno, "make a socket pair");
    pid = fork();
    if (pid == 0) {
        close(control[0]);
        _exit(daemon_serve(host, control[1], &ignored) < 0);
    }
    close(control[1]);
    int rc =
        pid < 0 ? step_failed(why, errno, "fork") : play_over(control[0], why);
    close(control[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0); /* its control socket is closed: it ends */
    return rc;
}
