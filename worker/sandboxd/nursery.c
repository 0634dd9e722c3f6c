#include "worker/sandboxd/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/mounts.h"

#define SPAWNER_RETRY_MS 1000
#define BACKOFF_MS_MIN   1000
#define BACKOFF_MS_MAX   60000
#define START_MS_MAX     60000 /* a zygote's imports */
#define ANSWER_MS_MAX    5000
#define SPAWNER_MS_MAX   10000 /* its start and an answer */
#define STATUS_BYTES_MAX 65536
#define SPAWNER_NAMESPACES \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* ---- finding the files --------------------------------------------------- */

static void find_beside(const char *dir, const char *const *places,
                        size_t count, const char *test, char *out)
{
    char path[2 * PATH_MAX];

    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s/%s%s", dir, places[i], test);
        if (access(path, R_OK) < 0)
            continue;
        path[strlen(path) - strlen(test)] = '\0';
        if (!realpath(path, out))
            out[0] = '\0';
        return;
    }
    out[0] = '\0';
}

static void find_files(struct nursery *n)
{
    static const char *const runtimes[] = {"../worker/runtime",
                                           "../share/capibox/runtime",
                                           "../../../worker/runtime"};
    static const char *const libs[] = {"capibox-zygote.so",
                                       "../lib/capibox/capibox-zygote.so"};
    char dir[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

    if (len <= 0)
        return;
    dir[len] = '\0';
    *strrchr(dir, '/') = '\0';
    find_beside(dir, runtimes, 3, "/zygote.py", n->runtime);
    find_beside(dir, libs, 2, "", n->zygote_lib);
}

/* ---- processes ------------------------------------------------------------
 */

/* Our own child, not reaped yet, so its number is still its own. Its end may
 * take long; it is reaped with the strays (daemon.c). */
static void end_process(pid_t *pid)
{
    if (*pid > 0)
        kill(*pid, SIGKILL);
    *pid = 0;
}

static void end_and_reap(pid_t *pid)
{
    pid_t child = *pid;

    end_process(pid);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static _Noreturn void become_spawner(int fd)
{
    static const char *const argv[] = {"capibox-sandboxd", "--spawner", NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LANG=C", NULL};
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    /* What sandboxd ignores is not to be ignored in programs. */
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);

    /* The setup comes once our ids are mapped; only then an exec keeps the
     * rights that we have in here. */
    while (poll(&ready, 1, -1) < 0 && errno == EINTR)
        ;
    if (fd == FAMILY_FD ? fcntl(fd, F_SETFD, 0) == 0
                        : dup2(fd, FAMILY_FD) == FAMILY_FD) {
        close_range(FAMILY_FD + 1, ~0u, 0);
        execve("/proc/self/exe", (char *const *)argv, (char *const *)env);
    }
    _exit(127);
}

static int send_setup(const struct spawner_link *s, int fd)
{
    static struct spawn_setup m;

    m = (struct spawn_setup){
        .kind = SPAWN_SETUP,
        .ids_are_root = s->nursery->host->ids.root,
    };
    memcpy(m.interpreter, s->interpreter, sizeof(m.interpreter));
    memcpy(m.runtime, s->nursery->runtime, sizeof(m.runtime));
    memcpy(m.zygote_lib, s->nursery->zygote_lib, sizeof(m.zygote_lib));
    return io_send_fds(fd, &m, sizeof(m), NULL, 0);
}

static void owe_answer(struct spawner_link *s)
{
    if (s->pending++ == 0)
        s->oldest_ms = clock_ms();
}

static void on_spawner(void *owner);

static int start_spawner(struct spawner_link *s)
{
    struct clone_args args = {
        .flags = SPAWNER_NAMESPACES | CLONE_CLEAR_SIGHAND,
        .exit_signal = SIGCHLD,
    };
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return step_failed(&s->why, errno, "make a socket pair");
    s->pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (s->pid == 0) {
        close(fds[0]);
        become_spawner(fds[1]);
    }
    int error = errno;
    close(fds[1]);
    if (s->pid < 0) {
        close(fds[0]);
        return step_failed(&s->why, error, "clone a spawner");
    }
    int rc = idmap_write_spawner(&s->nursery->host->ids, s->pid, &s->why);
    if (rc == 0 && (rc = send_setup(s, fds[0])) < 0)
        step_failed(&s->why, -rc, "set the spawner up");
    if (rc < 0)
        close(fds[0]);
    else if ((rc = loop_watch(s->nursery->epoll_fd, &s->socket, fds[0],
                              on_spawner, s)) < 0)
        step_failed(&s->why, -rc, "watch the spawner");
    if (rc < 0)
        end_process(&s->pid);
    else
        owe_answer(s);
    return rc;
}

/* It is killed first: at its socket's end it would run down by itself. */
static void close_zygote(struct zygote_process *p)
{
    end_process(&p->pid);
    loop_unwatch(p->zygote->spawner->nursery->epoll_fd, &p->socket);
    *p = (struct zygote_process){.zygote = p->zygote, .socket.fd = -1};
}

/* A zygote died, or would not start. */
static void zygote_failed(struct zygote_process *p, const struct step *why)
{
    struct zygote *z = p->zygote;
    struct nursery *n = z->spawner->nursery;

    snprintf(z->trouble, sizeof(z->trouble), "%.100s: %.50s", why->what,
             strerror(why->error));
    close_zygote(p);
    z->backoff_ms = z->backoff_ms ? z->backoff_ms * 2 : BACKOFF_MS_MIN;
    if (z->backoff_ms > BACKOFF_MS_MAX)
        z->backoff_ms = BACKOFF_MS_MAX;
    z->retry_ms = clock_ms() + z->backoff_ms;
    if (p == &z->now)
        n->lost(n->ctx, NULL, z);
}

static void spawner_lost(struct spawner_link *s)
{
    struct nursery *n = s->nursery;
    struct step why;

    loop_unwatch(n->epoll_fd, &s->socket);
    end_process(&s->pid);
    s->retry_ms = s->up ? 0 : clock_ms() + SPAWNER_RETRY_MS;
    s->up = false;
    s->pending = 0;
    if (!s->why.error)
        step_failed(&s->why, ECHILD, "make a sandbox: the spawner died");
    why = s->why;
    /* First, as what is lost may be asked of the next spawner at once, and
     * what that one owes is not lost. */
    n->lost(n->ctx, s, NULL);
    for (struct kind *k = n->kinds; k; k = k->next) {
        struct zygote *z = k->zygote;

        /* Their rights are in its user namespace: they could enter none of the
         * sandboxes that the next one makes. */
        if (!z || z->spawner != s)
            continue;
        if (z->now.socket.fd >= 0)
            zygote_failed(&z->now, &why);
        close_zygote(&z->next);
    }
}

/* ---- answers ---------------------------------------------------------------
 */

static struct zygote_process *zygote_of_token(struct nursery *n, uint64_t token)
{
    for (struct kind *k = n->kinds; k; k = k->next) {
        if (!k->zygote)
            continue;
        if (k->zygote->now.token == token)
            return &k->zygote->now;
        if (k->zygote->next.token == token)
            return &k->zygote->next;
    }
    return NULL;
}

static void on_spawner(void *owner)
{
    struct spawner_link *s = owner;
    struct nursery *n = s->nursery;
    struct spawn_answer m;

    ssize_t got = io_recv_fds(s->socket.fd, &m, sizeof(m), NULL, 0);
    if (got == -EAGAIN)
        return;
    if (got != sizeof(m)) {
        spawner_lost(s);
        return;
    }
    m.why.what[sizeof(m.why.what) - 1] = '\0';
    s->pending--;
    s->oldest_ms = clock_ms();
    if (m.token == 0) {
        s->why = m.why; /* of its setup; if it failed, its end follows */
        s->up = m.pid > 0;
        s->refused = !s->up;
        return;
    }
    struct zygote_process *p = zygote_of_token(n, m.token);
    if (!p) {
        n->answered(n->ctx, m.token, m.pid, &m.why);
        return;
    }
    p->pid = m.pid > 0 ? m.pid : 0;
    if (m.pid <= 0)
        zygote_failed(p, &m.why);
}

/* What it holds in memory, which its forks share until they write to it. */
static int64_t resident_bytes(pid_t pid)
{
    char path[64];
    AUTO_FREE char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (io_read_file(path, STATUS_BYTES_MAX, &text, NULL) < 0)
        return 0;
    const char *at = strstr(text, "VmRSS:");
    return at ? strtoll(at + strlen("VmRSS:"), NULL, 10) * 1024 : 0;
}

static void zygote_warm(struct zygote_process *p)
{
    struct zygote *z = p->zygote;

    p->ready = true;
    p->shared_bytes = resident_bytes(p->pid);
    z->backoff_ms = 0;
    z->trouble[0] = '\0';
}

static void on_zygote_process(struct zygote_process *p);

static void on_zygote(void *owner)
{
    struct zygote *z = owner;

    on_zygote_process(&z->now);
}

static void on_next_zygote(void *owner)
{
    struct zygote *z = owner;

    on_zygote_process(&z->next);
}

static void on_zygote_process(struct zygote_process *p)
{
    struct nursery *n = p->zygote->spawner->nursery;
    struct spawn_answer m;
    struct step why;

    ssize_t got = io_recv_fds(p->socket.fd, &m, sizeof(m), NULL, 0);
    if (got == -EAGAIN)
        return;
    if (got != sizeof(m)) {
        step_failed(&why, ECHILD,
                    p->ready ? "fork: the zygote died"
                             : "warm a zygote up: it died");
        zygote_failed(p, &why);
        return;
    }
    m.why.what[sizeof(m.why.what) - 1] = '\0';
    if (m.token == 0) {
        if (m.pid > 0)
            zygote_warm(p);
        else
            zygote_failed(p, &m.why);
        return;
    }
    p->pending--;
    p->oldest_ms = clock_ms();
    n->answered(n->ctx, m.token, m.pid, &m.why);
}

/* ---- requests ---------------------------------------------------------------
 */

uint64_t nursery_token(struct nursery *n)
{
    return ++n->last_token;
}

static int ensure_spawner(struct spawner_link *s, struct step *why)
{
    if (s->socket.fd >= 0)
        return 0;
    if (clock_ms() < s->retry_ms) {
        *why = s->why;
        return s->refused ? -why->error : -EAGAIN;
    }
    s->why = (struct step){0};
    int rc = start_spawner(s);
    s->refused = rc < 0;
    if (rc < 0) {
        s->retry_ms = clock_ms() + SPAWNER_RETRY_MS;
        *why = s->why;
    }
    return rc;
}

int nursery_spawn(struct spawner_link *s, bool cold, int slot, uint64_t token,
                  const int *fds, int count, struct step *why)
{
    struct spawn_request m = {
        .kind = SPAWN_INIT, .slot = slot, .token = token, .cold = cold};
    int rc = ensure_spawner(s, why);

    if (rc < 0)
        return rc;
    rc = io_send_fds(s->socket.fd, &m, sizeof(m), fds, (size_t)count);
    if (rc == -EPIPE || rc == -ECONNRESET)
        rc = -EAGAIN; /* its end of file is on its way */
    if (rc < 0)
        return step_failed(why, -rc, "ask for a sandbox");
    owe_answer(s);
    return 0;
}

int nursery_join(struct zygote *z, uint64_t token, const int *fds, int count,
                 struct step *why)
{
    struct join_request m = {.token = token};

    if (!z->now.ready)
        return step_failed(why, EAGAIN, "fork: the zygote is not ready");
    int rc = io_send_fds(z->now.socket.fd, &m, sizeof(m), fds, (size_t)count);
    if (rc < 0)
        return step_failed(why, -rc, "ask the zygote for a fork");
    z->now.forks++;
    if (z->now.pending++ == 0)
        z->now.oldest_ms = clock_ms();
    return 0;
}

static int start_zygote(struct zygote *z, struct zygote_process *p)
{
    struct nursery *n = z->spawner->nursery;
    struct spawn_request m = {.kind = SPAWN_ZYGOTE, .token = nursery_token(n)};
    struct step why = {0};
    int fds[2];
    int rc = ensure_spawner(z->spawner, &why);

    *p = (struct zygote_process){.zygote = z, .socket.fd = -1};
    p->token = m.token;
    p->started_ms = clock_ms();
    memcpy(m.interpreter, z->interpreter, sizeof(m.interpreter));
    AUTO_FREE char *message = malloc(sizeof(m) + z->names_size);
    if (rc < 0 || !message ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return rc < 0 ? rc : -ENOMEM;
    memcpy(message, &m, sizeof(m));
    memcpy(message + sizeof(m), z->names, z->names_size);
    rc = io_send_fds(z->spawner->socket.fd, message, sizeof(m) + z->names_size,
                     &fds[1], 1);
    close(fds[1]);
    if (rc < 0) {
        close(fds[0]);
        return rc;
    }
    owe_answer(z->spawner);
    return loop_watch(n->epoll_fd, &p->socket, fds[0],
                      p == &z->now ? on_zygote : on_next_zygote, z);
}

static void try_start(struct zygote *z, struct zygote_process *p)
{
    struct step why;
    int rc = start_zygote(z, p);

    if (rc < 0) {
        step_failed(&why, -rc, "start a zygote");
        zygote_failed(p, &why);
    }
}

bool zygote_is_ready(struct zygote *z)
{
    if (z->now.socket.fd < 0 && clock_ms() >= z->retry_ms)
        try_start(z, &z->now);
    return z->now.ready;
}

/* ---- kinds ------------------------------------------------------------------
 */

/* It and what it links to: then every sandbox shows it. */
static bool is_in_usr(const char *interpreter)
{
    char tree[PATH_MAX], target[PATH_MAX];
    ssize_t len = readlink(interpreter, target, sizeof(target) - 1);

    if (len > 0 && target[0] == '/') {
        target[len] = '\0';
        if (mounts_tree_of(target, tree, sizeof(tree)) < 0 || tree[0])
            return false;
    }
    return mounts_tree_of(interpreter, tree, sizeof(tree)) == 0 && !tree[0];
}

static struct spawner_link *find_spawner(struct nursery *n,
                                         const char *interpreter)
{
    const char *key = is_in_usr(interpreter) ? "" : interpreter;
    struct spawner_link *s;

    for (s = n->spawners; s; s = s->next)
        if (strcmp(s->key, key) == 0)
            return s;
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->nursery = n;
    s->socket.fd = -1;
    snprintf(s->interpreter, sizeof(s->interpreter), "%s", interpreter);
    snprintf(s->key, sizeof(s->key), "%s", key);
    s->next = n->spawners;
    n->spawners = s;
    return s;
}

static size_t names_size(char *const *names)
{
    size_t size = 0;

    for (; names && *names; names++)
        size += strlen(*names) + 1;
    return size;
}

static bool is_zygote_of(const struct zygote *z, const char *interpreter,
                         char *const *preload)
{
    const char *at = z->names;

    if (strcmp(z->interpreter, interpreter) != 0 ||
        names_size(preload) != z->names_size)
        return false;
    for (; *preload; preload++, at += strlen(at) + 1)
        if (strcmp(at, *preload) != 0)
            return false;
    return true;
}

static struct zygote *make_zygote(struct spawner_link *s,
                                  const char *interpreter, char *const *preload)
{
    struct zygote *z = calloc(1, sizeof(*z));

    if (!z)
        return NULL;
    z->spawner = s;
    z->names_size = names_size(preload);
    z->names = malloc(z->names_size + 1);
    if (!z->names) {
        free(z);
        return NULL;
    }
    for (char *at = z->names; *preload; preload++, at += strlen(at) + 1)
        memcpy(at, *preload, strlen(*preload) + 1);
    snprintf(z->interpreter, sizeof(z->interpreter), "%s", interpreter);
    z->now = z->next = (struct zygote_process){.zygote = z, .socket.fd = -1};
    return z;
}

struct kind *nursery_kind(struct nursery *n, const char *interpreter, bool warm,
                          char *const *preload)
{
    struct spawner_link *s = find_spawner(n, interpreter);
    struct kind *k;
    int count = 0;

    if (!s)
        return NULL;
    warm = warm && n->zygote_lib[0];
    for (k = n->kinds; k; k = k->next, count++)
        if (k->spawner == s && !k->zygote == !warm &&
            (!warm || is_zygote_of(k->zygote, interpreter, preload)))
            return k;
    if (count == NURSERY_KINDS_MAX)
        return NULL;
    k = calloc(1, sizeof(*k));
    if (k && warm && !(k->zygote = make_zygote(s, interpreter, preload))) {
        free(k);
        k = NULL;
    }
    if (!k)
        return NULL;
    k->spawner = s;
    k->next = n->kinds;
    n->kinds = k;
    return k;
}

/* ---- time -------------------------------------------------------------------
 */

static bool is_old(const struct zygote_process *p, int64_t now_ms)
{
    return p->ready && (p->forks >= ZYGOTE_FORKS_MAX ||
                        now_ms - p->started_ms >= ZYGOTE_MS_MAX);
}

static bool hangs(const struct zygote_process *p, int64_t now_ms)
{
    if (p->socket.fd < 0)
        return false;
    if (!p->ready)
        return now_ms - p->started_ms >= START_MS_MAX;
    return p->pending > 0 && now_ms - p->oldest_ms >= ANSWER_MS_MAX;
}

/* The new one takes over once the old one owes no answer. */
static void replace(struct zygote *z)
{
    struct nursery *n = z->spawner->nursery;
    int fd = fcntl(z->next.socket.fd, F_DUPFD_CLOEXEC, 0);
    struct step why;

    /* A watch is known by its address, so this one is made again. */
    loop_unwatch(n->epoll_fd, &z->next.socket);
    close_zygote(&z->now);
    z->now = z->next;
    z->next = (struct zygote_process){.zygote = z, .socket.fd = -1};
    z->generation++;
    if (fd < 0 ||
        loop_watch(n->epoll_fd, &z->now.socket, fd, on_zygote, z) < 0) {
        step_failed(&why, EMFILE, "watch the zygote");
        zygote_failed(&z->now, &why);
    }
}

static void tick_zygote(struct zygote *z, int64_t now_ms)
{
    struct zygote_process *const both[] = {&z->now, &z->next};
    struct step why;

    for (int i = 0; i < 2; i++) {
        if (hangs(both[i], now_ms)) {
            step_failed(&why, ETIMEDOUT, "wait for a zygote");
            zygote_failed(both[i], &why);
        }
    }
    if (z->next.ready && z->now.pending == 0)
        replace(z);
    else if (is_old(&z->now, now_ms) && z->next.socket.fd < 0 &&
             now_ms >= z->retry_ms)
        try_start(z, &z->next);
}

static void tick_spawner(struct spawner_link *s, int64_t now_ms)
{
    if (s->pending == 0 || now_ms - s->oldest_ms < ANSWER_MS_MAX)
        return;
    step_failed(&s->why, ETIMEDOUT, "wait for the spawner");
    spawner_lost(s);
}

void nursery_tick(struct nursery *n, int64_t now_ms)
{
    for (struct spawner_link *s = n->spawners; s; s = s->next)
        tick_spawner(s, now_ms);
    for (struct kind *k = n->kinds; k; k = k->next)
        if (k->zygote)
            tick_zygote(k->zygote, now_ms);
}

bool nursery_is_quiet(const struct nursery *n)
{
    for (const struct spawner_link *s = n->spawners; s; s = s->next)
        if (s->pending > 0)
            return false;
    return true;
}

bool nursery_owns(const struct nursery *n, pid_t pid)
{
    for (const struct spawner_link *s = n->spawners; s; s = s->next)
        if (s->pid == pid)
            return true;
    for (const struct kind *k = n->kinds; k; k = k->next)
        if (k->zygote &&
            (k->zygote->now.pid == pid || k->zygote->next.pid == pid))
            return true;
    return false;
}

void nursery_init(struct nursery *n, const struct host *host, int epoll_fd)
{
    *n = (struct nursery){.host = host, .epoll_fd = epoll_fd};
    find_files(n);
}

void nursery_fini(struct nursery *n)
{
    while (n->kinds) {
        struct kind *k = n->kinds;

        n->kinds = k->next;
        if (k->zygote) {
            end_and_reap(&k->zygote->now.pid);
            close_zygote(&k->zygote->now);
            end_and_reap(&k->zygote->next.pid);
            close_zygote(&k->zygote->next);
            free(k->zygote->names);
            free(k->zygote);
        }
        free(k);
    }
    while (n->spawners) {
        struct spawner_link *s = n->spawners;

        n->spawners = s->next;
        loop_unwatch(n->epoll_fd, &s->socket);
        end_and_reap(&s->pid);
        free(s);
    }
}
