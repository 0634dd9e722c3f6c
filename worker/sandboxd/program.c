#include "worker/sandboxd/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "worker/sandboxd/confine.h"
#include "worker/sandboxd/seccomp.h"
#include "worker/sandboxd/spec.h"

#define RESULT_FD    3
#define SOCKET_FD    4
#define ABOVE        10 /* out of the way of the fds that the program keeps */
#define EXIT_NO_EXEC 127
#define EXIT_ALONE   71 /* sandboxd is gone */

int program_take_fds(struct program *p, struct step *why)
{
    int *const fds[] = {&p->pipes[0], &p->pipes[1], &p->pipes[2], &p->pipes[3],
                        &p->socket_fd};
    int count = sizeof(fds) / sizeof(*fds);

    for (int i = 0; i < count; i++) {
        *fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, ABOVE);
        if (*fds[i] < 0)
            return step_failed(why, errno, "move a descriptor");
    }
    for (int i = 0; i < count; i++) {
        if (dup3(*fds[i], i, i == SOCKET_FD ? O_CLOEXEC : 0) < 0)
            return step_failed(why, errno, "place a descriptor");
        *fds[i] = i;
    }
    if (close_range(SOCKET_FD + 1, ~0u, 0) < 0)
        return step_failed(why, errno, "close what is not the program's");
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int program_confine(const struct program *p, struct step *why)
{
    int rc;

    setsid();
    umask(077);
    rc = confine_resources(p->cores_are_piped, why);
    if (rc == 0)
        rc = confine_privileges(true, why);
    if (rc == 0) {
        rc = confine_landlock(why);
        rc = rc > 0 ? 0 : rc;
    }
    /* It is the user's own: /proc/self is theirs to read, as after an exec. */
    if (rc == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
        rc = step_failed(why, errno, "become dumpable");
    return rc < 0 ? rc : seccomp_enter(p->filter, why);
}

static void say(const struct program *p, uint32_t kind, const struct step *why)
{
    struct program_word word = {.kind = kind, .pid = getpid()};

    if (why)
        word.why = *why;
    if (io_send_fds(p->socket_fd, &word, sizeof(word), NULL, 0) < 0)
        _exit(EXIT_ALONE);
}

void program_fail(const struct program *p, const struct step *why)
{
    say(p, PROGRAM_FAILED, why);
    _exit(EXIT_NO_EXEC);
}

int program_await(const struct program *p, const char **message_out,
                  size_t *size_out, struct step *why)
{
    static char message[sizeof(struct program_start) + BOX_MESSAGE_MAX];
    struct program_start start;
    struct wire_create want;

    say(p, PROGRAM_READY, NULL);
    ssize_t got = io_recv_fds(p->socket_fd, message, sizeof(message), NULL, 0);
    if (got < (ssize_t)(sizeof(start) + sizeof(want)))
        _exit(EXIT_ALONE);
    memcpy(&start, message, sizeof(start));
    memcpy(&want, message + sizeof(start), sizeof(want));
    /* Only now: a warm one's first parent was not sandboxd. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return step_failed(why, errno, "ask to die with sandboxd");
    *message_out = message + sizeof(start);
    *size_out = (size_t)got - sizeof(start);
    return confine_job(&want, start.flags & PROGRAM_MEMORY_IN_CGROUP,
                       start.flags & PROGRAM_PIDS_IN_CGROUP, why);
}

void program_main(struct program *p)
{
    static struct box_spec spec;
    struct step why = {0};
    const char *message;
    size_t size;

    reset_signals();
    if (program_take_fds(p, &why) < 0 || program_confine(p, &why) < 0 ||
        program_await(p, &message, &size, &why) < 0 ||
        box_spec_read(message, size, &spec, &why) < 0)
        program_fail(p, &why);
    /* On success the socket closes, too. */
    execve(spec.argv[0], spec.argv, spec.env);
    step_failed(&why, errno, "start %.100s", spec.argv[0]);
    program_fail(p, &why);
}
