#include "tests/support/proxy.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"

#define PAIRS_MAX 64

/* One connection: what the client has, what the server has; -1: closed. */
struct pair {
    int ends[2];
    bool swallowed;
};

struct line {
    struct sockaddr_un server;
    int listening, control;
    struct pair pairs[PAIRS_MAX];
    int count;
    bool paused, answers_held;
};

static void name_socket(struct sockaddr_un *addr,
                        const struct redis_server *server, const char *name)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(addr->sun_path, sizeof(addr->sun_path), "%.80s/%s", server->dir,
             name);
}

static void take_client(struct line *line)
{
    struct pair pair = {.swallowed = false};

    MUST(line->count < PAIRS_MAX);
    pair.ends[0] = accept4(line->listening, NULL, NULL, SOCK_CLOEXEC);
    pair.ends[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(pair.ends[0] >= 0 && pair.ends[1] >= 0);
    if (connect(pair.ends[1], (struct sockaddr *)&line->server,
                sizeof(line->server)) == 0) {
        line->pairs[line->count++] = pair;
        return;
    }
    close(pair.ends[0]);
    close(pair.ends[1]);
}

static void close_end(struct pair *pair, int end)
{
    if (pair->ends[end] >= 0)
        close(pair->ends[end]);
    pair->ends[end] = -1;
}

/* What comes from a server whose client was cut off is thrown away. */
static void pass_on(struct pair *pair, int from)
{
    char bytes[65536];
    ssize_t got = read(pair->ends[from], bytes, sizeof(bytes));
    int to = pair->ends[!from];

    if (got > 0 && (to < 0 || io_write_full(to, bytes, (size_t)got) >= 0))
        return;
    close_end(pair, 0);
    close_end(pair, 1);
}

static void obey(struct line *line)
{
    char order;

    if (read(line->control, &order, 1) != 1)
        _exit(0);
    line->paused = order == 'p' || (order == 'c' && line->paused);
    line->answers_held = order == 'h' || (order == 'c' && line->answers_held);
    for (int i = 0; order == 'c' && i < line->count; i++)
        close_end(&line->pairs[i], 0);
    for (int i = 0; order == 's' && i < line->count; i++)
        line->pairs[i].swallowed = true;
    MUST(write(line->control, &order, 1) == 1);
}

static bool may_pass(const struct line *line, int pair, int from)
{
    return !line->paused && !line->pairs[pair].swallowed &&
           !(line->answers_held && from == 1);
}

static void relay_once(struct line *line)
{
    struct pollfd fds[2 + 2 * PAIRS_MAX] = {
        {.fd = line->control, .events = POLLIN},
        {.fd = line->paused ? -1 : line->listening, .events = POLLIN}};
    int count = line->count;

    for (int i = 0; i < 2 * count; i++)
        fds[2 + i] = (struct pollfd){.fd = may_pass(line, i / 2, i % 2)
                                               ? line->pairs[i / 2].ends[i % 2]
                                               : -1,
                                     .events = POLLIN};
    if (poll(fds, (nfds_t)(2 + 2 * count), -1) < 0)
        return;
    for (int i = 0; i < 2 * count; i++)
        if (fds[2 + i].revents && line->pairs[i / 2].ends[i % 2] >= 0)
            pass_on(&line->pairs[i / 2], i % 2);
    if (fds[1].revents)
        take_client(line);
    if (fds[0].revents)
        obey(line);
    for (int i = line->count - 1; i >= 0; i--)
        if (line->pairs[i].ends[0] < 0 && line->pairs[i].ends[1] < 0)
            line->pairs[i] = line->pairs[--line->count];
}

static _Noreturn void be_proxy(struct line *line)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;)
        relay_once(line);
}

void proxy_start(struct proxy *p, const struct redis_server *server)
{
    struct line line = {.count = 0};
    struct sockaddr_un here;
    int control[2];

    name_socket(&line.server, server, "redis.sock");
    name_socket(&here, server, "proxy.sock");
    snprintf(p->url, sizeof(p->url), "unix://%s", here.sun_path);
    MUST0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control));
    line.listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(line.listening >= 0);
    MUST0(bind(line.listening, (struct sockaddr *)&here, sizeof(here)));
    MUST0(listen(line.listening, 16));
    line.control = control[1];
    p->control = control[0];
    fflush(stdout);
    p->pid = fork();
    MUST(p->pid >= 0);
    if (p->pid == 0) {
        close(control[0]);
        be_proxy(&line);
    }
    close(control[1]);
    close(line.listening);
}

static void order(struct proxy *p, char what)
{
    char answer;

    MUST(write(p->control, &what, 1) == 1);
    MUST(read(p->control, &answer, 1) == 1);
}

void proxy_cut(struct proxy *p)
{
    order(p, 'c');
}

void proxy_swallow(struct proxy *p)
{
    order(p, 's');
}

void proxy_pause(struct proxy *p)
{
    order(p, 'p');
}

void proxy_hold_answers(struct proxy *p)
{
    order(p, 'h');
}

void proxy_resume(struct proxy *p)
{
    order(p, 'r');
}

void proxy_stop(struct proxy *p)
{
    if (p->pid <= 0)
        return;
    close(p->control);
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}
