/* tests/support/redis_server.c -- starts, kills and restarts a redis-server. */
#include "tests/support/redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"

#define START_TIMEOUT_MS 30000
#define STOP_TIMEOUT_MS  10000
#define START_TRIES      5
#define RESTART_MS       200
#define WORDS_MAX        64
#define PATH_BYTES       320

static const size_t SUN_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path);

__attribute__((noreturn)) static void give_up(const struct redis_server *s,
                                              const char *why)
{
    char path[PATH_BYTES], text[4096];

    fprintf(stderr, "redis-server in %s: %s\n", s->dir, why);
    snprintf(path, sizeof(path), "%s/redis.log", s->dir);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof(text));
    if (got > 0)
        fwrite(text, 1, (size_t)got, stderr);
    abort();
}

static void make_folder(struct redis_server *s)
{
    char cwd[PATH_BYTES] = "";

    MUST(mkdir("build", 0755) == 0 || errno == EEXIST);
    MUST(mkdir("build/tmp", 0755) == 0 || errno == EEXIST);
    /* A socket's path is short by law: deep checkouts use /tmp. */
    if (!getcwd(cwd, sizeof(cwd)) ||
        strlen(cwd) + sizeof("/build/tmp/redis-XXXXXX/redis.sock") >
            SUN_PATH_MAX)
        snprintf(s->dir, sizeof(s->dir), "/tmp/capibox-redis-XXXXXX");
    else
        snprintf(s->dir, sizeof(s->dir), "%.200s/build/tmp/redis-XXXXXX", cwd);
    MUST(mkdtemp(s->dir));
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int free_port(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);
    AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    MUST(fd >= 0);
    MUST0(bind(fd, (struct sockaddr *)&addr, size));
    MUST0(getsockname(fd, (struct sockaddr *)&addr, &size));
    return ntohs(addr.sin_port);
}

/* "--port auto" and "--tls-port auto" get a free port; a number stays. */
static void choose_port(struct redis_server *s, const char *flag, int *port_out,
                        char *text, size_t size)
{
    *port_out = 0;
    for (int i = 0; s->extra[i] && s->extra[i + 1]; i++) {
        if (strcmp(s->extra[i], flag) != 0)
            continue;
        if (s->extra[i + 1] == text || !strcmp(s->extra[i + 1], "auto")) {
            snprintf(text, size, "%d", free_port());
            s->extra[i + 1] = text;
        }
        *port_out = atoi(s->extra[i + 1]);
    }
}

static void choose_ports(struct redis_server *s)
{
    choose_port(s, "--port", &s->port, s->port_text, sizeof(s->port_text));
    choose_port(s, "--tls-port", &s->tls_port, s->tls_port_text,
                sizeof(s->tls_port_text));
}

/* The child, between fork and exec: async-signal-safe calls only. */
__attribute__((noreturn)) static void become_server(char **argv, int log_fd,
                                                    pid_t parent)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it died before the line above could notice */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    close_range(3, ~0u, 0);
    execvp(argv[0], argv);
    _exit(127);
}

static void launch(struct redis_server *s)
{
    char sock[PATH_BYTES], log[PATH_BYTES];
    const char *argv[WORDS_MAX] = {"redis-server",
                                   "--port",
                                   "0",
                                   "--bind",
                                   "127.0.0.1",
                                   "--unixsocket",
                                   sock,
                                   "--dir",
                                   s->dir,
                                   "--daemonize",
                                   "no",
                                   "--save",
                                   "",
                                   "--appendonly",
                                   "no",
                                   "--enable-debug-command",
                                   "yes"};
    size_t words = 0;

    snprintf(sock, sizeof(sock), "%s/redis.sock", s->dir);
    snprintf(log, sizeof(log), "%s/redis.log", s->dir);
    while (argv[words])
        words++;
    for (int i = 0; s->extra[i]; i++) {
        MUST(words + 1 < WORDS_MAX);
        argv[words++] = s->extra[i];
    }
    AUTO_FD int log_fd =
        open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    MUST(log_fd >= 0);
    pid_t parent = getpid();
    s->pid = fork();
    MUST(s->pid >= 0);
    if (s->pid == 0)
        become_server((char **)(uintptr_t)argv, log_fd, parent);
}

/* Whether it answers a PING; a server that still loads, or wants a password,
 * is told apart: the second is up. */
static bool answers(const struct redis_server *s)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char reply[64] = "";
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    MUST(fd >= 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%.90s/redis.sock", s->dir);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        send(fd, "PING\r\n", 6, MSG_NOSIGNAL) != 6 ||
        poll(&readable, 1, 1000) != 1 ||
        recv(fd, reply, sizeof(reply) - 1, 0) <= 0)
        return false;
    return strncmp(reply, "-LOADING", 8) != 0;
}

/* False when it ended by itself (a port taken by another, say). */
static bool wait_until_up(struct redis_server *s)
{
    int64_t deadline_ms = clock_ms() + START_TIMEOUT_MS;

    while (!answers(s)) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            s->pid = 0;
            return false;
        }
        if (clock_ms() > deadline_ms)
            give_up(s, "does not answer PING");
        poll(NULL, 0, 2);
    }
    return true;
}

static void copy_words(struct redis_server *s, const char *const *extra)
{
    size_t used = 0;

    for (size_t i = 0; extra && extra[i]; i++) {
        size_t size = strlen(extra[i]) + 1;

        MUST(i + 1 < sizeof(s->extra) / sizeof(s->extra[0]));
        MUST(used + size <= sizeof(s->words));
        s->extra[i] = memcpy(s->words + used, extra[i], size);
        used += size;
    }
}

void redis_server_start(struct redis_server *s, const char *const *extra)
{
    *s = (struct redis_server){0};
    copy_words(s, extra);
    make_folder(s);
    snprintf(s->url, sizeof(s->url), "unix://%s/redis.sock", s->dir);
    for (int tries = 0; tries < START_TRIES; tries++) {
        choose_ports(s);
        launch(s);
        if (wait_until_up(s))
            return;
    }
    give_up(s, "ends at once (is redis-server installed?)");
}

static void end(struct redis_server *s, int signal_number)
{
    int64_t deadline_ms = clock_ms() + STOP_TIMEOUT_MS;

    if (s->pid <= 0)
        return;
    kill(s->pid, signal_number);
    kill(s->pid, SIGCONT); /* a test may have stopped it */
    while (waitpid(s->pid, NULL, WNOHANG) == 0) {
        if (clock_ms() > deadline_ms)
            kill(s->pid, SIGKILL);
        poll(NULL, 0, 1);
    }
    s->pid = 0;
}

void redis_server_kill(struct redis_server *s)
{
    end(s, SIGKILL);
}

void redis_server_restart(struct redis_server *s)
{
    end(s, SIGTERM);
    /* Its port was free for a moment: a client may have got it for its end of
     * a connection. */
    for (int tries = 0; tries < START_TRIES; tries++) {
        launch(s);
        if (wait_until_up(s))
            return;
        poll(NULL, 0, RESTART_MS);
    }
    give_up(s, "does not start again");
}

void redis_server_stop(struct redis_server *s)
{
    end(s, SIGTERM);
    if (s->dir[0])
        nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    s->dir[0] = '\0';
}
