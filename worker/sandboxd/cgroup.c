#include "worker/sandboxd/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"

#define TEXT_BYTES_MAX   (1u << 20) /* of any cgroup or proc file */
#define FOLDER_PREFIX    "capibox-"
#define V2_LEAF          "capibox-daemons"
#define CPU_PERIOD_US    CGROUP_CPU_PERIOD_US
#define CPU_QUOTA_MIN_US 1000 /* the kernel takes no less */
#define V1_UNLIMITED     (1ll << 60)
#define KILL_ROUNDS      50
#define KILL_PAUSE_US    2000

static const char *const names[CONTROLLER_COUNT] = {"memory", "pids", "cpu",
                                                    "cpuacct"};

/* ---- where the controllers are ---------------------------------------- */

/* Does the comma-separated list hold the word? */
static bool list_holds(const char *list, size_t size, const char *word)
{
    size_t len = strlen(word);

    for (size_t at = 0; at + len <= size; at++) {
        bool starts = at == 0 || list[at - 1] == ',';
        bool ends = at + len == size || list[at + len] == ',';
        if (starts && ends && memcmp(list + at, word, len) == 0)
            return true;
    }
    return false;
}

/* The path of "N:controllers:path" lines; v2 is the line "0::path". */
static bool own_path(const char *text, const char *controller, char *out)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        const char *first = memchr(text, ':', len);
        const char *second =
            first ? memchr(first + 1, ':', len - (size_t)(first + 1 - text))
                  : NULL;
        if (second) {
            size_t list = (size_t)(second - first - 1);
            size_t path = len - (size_t)(second + 1 - text);
            bool match = *controller ? list_holds(first + 1, list, controller)
                                     : list == 0;
            if (match && path < CGROUP_PATH_MAX) {
                memcpy(out, second + 1, path);
                out[path] = '\0';
                return true;
            }
        }
        text += len + (text[len] == '\n');
    }
    return false;
}

struct mount_line {
    char root[CGROUP_PATH_MAX], point[CGROUP_PATH_MAX];
    char type[64], options[512];
};

/* id parent major:minor root point options… - type source super-options */
static bool read_mount(const char *text, size_t len, struct mount_line *m)
{
    char line[4096];

    if (len >= sizeof(line))
        return false;
    memcpy(line, text, len);
    line[len] = '\0';
    const char *tail = strstr(line, " - ");
    return tail &&
           sscanf(line, "%*s %*s %*s %767s %767s", m->root, m->point) == 2 &&
           sscanf(tail, " - %63s %*s %511s", m->type, m->options) == 2;
}

static bool mount_matches(const struct mount_line *m, const char *controller)
{
    if (!*controller)
        return strcmp(m->type, "cgroup2") == 0;
    return strcmp(m->type, "cgroup") == 0 &&
           list_holds(m->options, strlen(m->options), controller);
}

/* The mount may show only a part of the hierarchy: its root. */
static bool path_in_mount(const struct mount_line *m, const char *own,
                          struct cgroup_place *place)
{
    size_t len = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root);

    if (strncmp(own, m->root, len) != 0 || (own[len] && own[len] != '/'))
        return false;
    const char *rest = strcmp(own + len, "/") == 0 ? "" : own + len;
    return snprintf(place->path, sizeof(place->path), "%s%s", m->point, rest) <
           (int)sizeof(place->path);
}

bool cgroup_locate(const char *self_cgroup, const char *mountinfo,
                   const char *controller, struct cgroup_place *place_out)
{
    char own[CGROUP_PATH_MAX];
    struct mount_line m;

    *place_out = (struct cgroup_place){0};
    if (!own_path(self_cgroup, controller, own))
        return false;
    for (const char *at = mountinfo; *at;) {
        size_t len = strcspn(at, "\n");

        if (read_mount(at, len, &m) && mount_matches(&m, controller) &&
            path_in_mount(&m, own, place_out)) {
            place_out->version = *controller ? 1 : 2;
            return true;
        }
        at += len + (at[len] == '\n');
    }
    return false;
}

int64_t cgroup_counter(const char *text, const char *key)
{
    size_t len = strlen(key);

    while (*text) {
        if (strncmp(text, key, len) == 0 && text[len] == ' ')
            return strtoll(text + len + 1, NULL, 10);
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return -1;
}

/* ---- files ------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static bool
path_print(char *out, size_t size, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int len = vsnprintf(out, size, fmt, args);
    va_end(args);
    return len >= 0 && (size_t)len < size;
}

/* A file of a sandbox's cgroup; caller frees. NULL if it cannot be read. */
static char *read_text(const struct cgroup *cg, enum controller which,
                       const char *file)
{
    char path[PATH_MAX];
    char *text;

    if (!cg->host->places[which].version ||
        !path_print(path, sizeof(path), "%s/%s/%s",
                    cg->host->places[which].path, cg->name, file) ||
        io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return NULL;
    return text;
}

static int64_t read_number(const struct cgroup *cg, enum controller which,
                           const char *file)
{
    AUTO_FREE char *text = read_text(cg, which, file);

    return text ? strtoll(text, NULL, 10) : -1;
}

static int64_t read_counter(const struct cgroup *cg, enum controller which,
                            const char *file, const char *key)
{
    AUTO_FREE char *text = read_text(cg, which, file);

    return text ? cgroup_counter(text, key) : -1;
}

/* Writes a limit and believes only what the kernel then says it is. */
__attribute__((format(printf, 5, 6))) static int
set_value(const struct cgroup *cg, enum controller which, const char *file,
          struct step *why, const char *fmt, ...)
{
    char path[PATH_MAX], value[64];
    va_list args;

    va_start(args, fmt);
    vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    if (!path_print(path, sizeof(path), "%s/%s/%s",
                    cg->host->places[which].path, cg->name, file))
        return step_failed(why, ENAMETOOLONG, "write %s", file);
    int rc = io_write_file(path, value);
    if (rc < 0)
        return step_failed(why, -rc, "write %s to %s", value, file);

    AUTO_FREE char *text = read_text(cg, which, file);
    if (text)
        text[strcspn(text, "\n")] = '\0';
    if (!text || strcmp(text, value) != 0)
        return step_failed(why, EIO, "%s is %.40s instead of %s", file,
                           text ? text : "unreadable", value);
    return 0;
}

/* ---- limits ----------------------------------------------------------- */

static int limit_memory(const struct cgroup *cg, int64_t bytes,
                        struct step *why)
{
    bool swap = cg->host->memory_swap;
    int rc;

    if (cg->host->places[CONTROLLER_MEMORY].version == 2) {
        rc = set_value(cg, CONTROLLER_MEMORY, "memory.max", why, "%" PRId64,
                       bytes);
        if (rc == 0 && swap)
            rc = set_value(cg, CONTROLLER_MEMORY, "memory.swap.max", why, "0");
        if (rc == 0)
            rc = set_value(cg, CONTROLLER_MEMORY, "memory.oom.group", why, "1");
        return rc;
    }
    /* memsw may never be below limit: it goes up first and down second. */
    bool up = cg->memory_bytes > 0 && bytes > cg->memory_bytes;
    const char *const files[] = {"memory.limit_in_bytes",
                                 "memory.memsw.limit_in_bytes"};

    rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        int which = up ? 1 - i : i;

        if (which == 0 || swap)
            rc = set_value(cg, CONTROLLER_MEMORY, files[which], why, "%" PRId64,
                           bytes);
    }
    if (rc == 0)
        rc = set_value(cg, CONTROLLER_MEMORY, "memory.swappiness", why, "0");
    return rc;
}

static int limit_cpu(const struct cgroup *cg, int percent, struct step *why)
{
    int64_t quota = (int64_t)percent * CPU_PERIOD_US / 100;
    int rc;

    if (cg->host->places[CONTROLLER_CPU].version == 2)
        return set_value(cg, CONTROLLER_CPU, "cpu.max", why, "%" PRId64 " %d",
                         quota, CPU_PERIOD_US);
    if (quota > cg->host->cpu_quota_max_us)
        quota = cg->host->cpu_quota_max_us;
    rc = set_value(cg, CONTROLLER_CPU, "cpu.cfs_period_us", why, "%d",
                   CPU_PERIOD_US);
    if (rc == 0)
        rc = set_value(cg, CONTROLLER_CPU, "cpu.cfs_quota_us", why, "%" PRId64,
                       quota);
    return rc;
}

void cgroup_let_die(const struct cgroup *cg)
{
    struct step ignored;

    if (!cg->made || cg->cpu_percent == 0)
        return;
    if (cg->host->places[CONTROLLER_CPU].version == 2)
        set_value(cg, CONTROLLER_CPU, "cpu.max", &ignored, "max %d",
                  CPU_PERIOD_US);
    else
        set_value(cg, CONTROLLER_CPU, "cpu.cfs_quota_us", &ignored, "-1");
}

static int set_limits(struct cgroup *cg, const struct wire_create *want,
                      struct step *why)
{
    const struct cgroup_place *places = cg->host->places;
    int rc = 0;

    if (places[CONTROLLER_MEMORY].version &&
        cg->memory_bytes != want->memory_bytes)
        rc = limit_memory(cg, want->memory_bytes, why);
    /* One more for the init. */
    if (rc == 0 && places[CONTROLLER_PIDS].version && cg->pids != want->pids)
        rc = set_value(cg, CONTROLLER_PIDS, "pids.max", why, "%d",
                       want->pids + 1);
    if (rc == 0 && places[CONTROLLER_CPU].version &&
        cg->cpu_percent != want->cpu_percent)
        rc = limit_cpu(cg, want->cpu_percent, why);
    if (rc < 0)
        return rc;
    cg->memory_bytes = want->memory_bytes;
    cg->pids = want->pids;
    cg->cpu_percent = want->cpu_percent;
    return 0;
}

/* ---- one sandbox ------------------------------------------------------ */

/* Calls fn for each distinct folder of cg: v1 controllers may share one, on v2
 * all do. Stops at the first that answers non-zero. */
typedef int folder_fn(const char *path, void *ctx);

static int each_folder(const struct cgroup *cg, folder_fn *fn, void *ctx)
{
    const struct cgroup_place *p = cg->host->places;
    char path[PATH_MAX];

    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        bool again = !p[i].version;
        for (int j = 0; j < i && !again; j++)
            again = p[j].version && strcmp(p[i].path, p[j].path) == 0;
        if (again)
            continue;
        if (!path_print(path, sizeof(path), "%s/%s", p[i].path, cg->name))
            return -ENAMETOOLONG;
        int rc = fn(path, ctx);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int make_folder(const char *path, void *ctx)
{
    if (mkdir(path, 0755) < 0)
        return step_failed(ctx, errno, "mkdir %.120s", path);
    return 0;
}

int cgroup_create(const struct cgroup_host *host, const char *name,
                  struct cgroup *cg_out, struct step *why)
{
    *cg_out = (struct cgroup){.host = host, .made = true};
    snprintf(cg_out->name, sizeof(cg_out->name), "%s", name);
    int rc = each_folder(cg_out, make_folder, why);
    if (rc < 0)
        cgroup_remove(cg_out);
    return rc;
}

int cgroup_limit(struct cgroup *cg, const struct wire_create *want,
                 struct step *why)
{
    return set_limits(cg, want, why);
}

struct procs {
    int *fds;
    int count, max;
    struct step *why;
};

static int open_procs(const char *path, void *ctx)
{
    struct procs *p = ctx;
    char file[PATH_MAX];

    if (p->count == p->max ||
        !path_print(file, sizeof(file), "%s/cgroup.procs", path))
        return step_failed(p->why, ENAMETOOLONG, "open the cgroup");
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return step_failed(p->why, errno, "open %.120s", file);
    p->fds[p->count++] = fd;
    return 0;
}

int cgroup_open_procs(const struct cgroup *cg, int *fds, int max,
                      struct step *why)
{
    struct procs p = {.fds = fds, .max = max, .why = why};
    int rc = each_folder(cg, open_procs, &p);

    for (int i = 0; rc < 0 && i < p.count; i++)
        close(fds[i]);
    return rc < 0 ? rc : p.count;
}

struct enter {
    pid_t pid;
    struct step *why;
};

static int enter_folder(const char *path, void *ctx)
{
    const struct enter *e = ctx;
    char file[PATH_MAX], text[16];

    snprintf(text, sizeof(text), "%d", e->pid);
    if (!path_print(file, sizeof(file), "%s/cgroup.procs", path))
        return step_failed(e->why, ENAMETOOLONG, "enter the cgroup");
    int rc = io_write_file(file, text);
    if (rc < 0)
        return step_failed(e->why, -rc, "enter %.120s", path);
    return 0;
}

int cgroup_enter(const struct cgroup *cg, pid_t pid, struct step *why)
{
    struct enter e = {pid, why};

    return each_folder(cg, enter_folder, &e);
}

int cgroup_watch_oom(const struct cgroup *cg)
{
    const struct cgroup_place *p = &cg->host->places[CONTROLLER_MEMORY];
    char path[PATH_MAX], text[64];

    if (p->version != 1 ||
        !path_print(path, sizeof(path), "%s/%s/memory.oom_control", p->path,
                    cg->name))
        return -1;
    AUTO_FD int control = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_FD int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control < 0 || event < 0 ||
        !path_print(path, sizeof(path), "%s/%s/cgroup.event_control", p->path,
                    cg->name))
        return -1;
    snprintf(text, sizeof(text), "%d %d", event, control);
    if (io_write_file(path, text) < 0)
        return -1;
    return TAKE_FD(event);
}

static int64_t at_least_0(int64_t value)
{
    return value < 0 ? 0 : value;
}

int64_t cgroup_cpu_us(const struct cgroup *cg)
{
    if (!cg->made)
        return 0;
    if (cg->host->places[CONTROLLER_CPU].version == 2)
        return at_least_0(
            read_counter(cg, CONTROLLER_CPU, "cpu.stat", "usage_usec"));
    return at_least_0(read_number(cg, CONTROLLER_CPUACCT, "cpuacct.usage") /
                      1000);
}

void cgroup_read(const struct cgroup *cg, struct cgroup_facts *facts_out)
{
    struct cgroup_facts *f = facts_out;
    bool v2 = cg->host->places[CONTROLLER_MEMORY].version == 2;

    *f = (struct cgroup_facts){0};
    if (!cg->made)
        return;
    f->oom_kills = at_least_0(
        read_counter(cg, CONTROLLER_MEMORY,
                     v2 ? "memory.events" : "memory.oom_control", "oom_kill"));
    f->peak_memory_bytes = at_least_0(
        read_number(cg, CONTROLLER_MEMORY,
                    v2 ? "memory.peak" : "memory.max_usage_in_bytes"));
    f->pids_refused =
        at_least_0(read_counter(cg, CONTROLLER_PIDS, "pids.events", "max"));
    /* Without the init. */
    int64_t peak = read_number(cg, CONTROLLER_PIDS, "pids.peak");
    f->peak_processes = peak > 1 ? (int32_t)(peak - 1) : 0;
    f->cpu_us = cgroup_cpu_us(cg);
}

/* ---- ending ----------------------------------------------------------- */

static bool folder_holds(const char *procs, pid_t pid)
{
    char *text;
    bool found = false;

    if (io_read_file(procs, TEXT_BYTES_MAX, &text, NULL) < 0)
        return false;
    for (char *at = text; *at && !found; at += *at == '\n') {
        found = strtol(at, &at, 10) == pid;
        at += strcspn(at, "\n");
    }
    free(text);
    return found;
}

/* By pidfd, and only if the process is still in there: a number may by now be
 * somebody else's. */
static void kill_one(const char *procs, pid_t pid)
{
    AUTO_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd >= 0 && folder_holds(procs, pid))
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

static int kill_folder(const char *path, void *ctx)
{
    char file[PATH_MAX];
    char *text;

    (void)ctx;
    if (path_print(file, sizeof(file), "%s/cgroup.kill", path) &&
        io_write_file(file, "1") == 0)
        return 0;
    if (!path_print(file, sizeof(file), "%s/cgroup.procs", path) ||
        io_read_file(file, TEXT_BYTES_MAX, &text, NULL) < 0)
        return 0;
    for (char *at = text; *at; at += *at == '\n') {
        long pid = strtol(at, &at, 10);
        at += strcspn(at, "\n");
        if (pid > 1)
            kill_one(file, (pid_t)pid);
    }
    free(text);
    return 0;
}

void cgroup_kill(const struct cgroup *cg)
{
    if (cg->made)
        each_folder(cg, kill_folder, NULL);
}

static int remove_folder(const char *path, void *ctx)
{
    int *left = ctx;

    if (rmdir(path) < 0 && errno != ENOENT)
        ++*left;
    return 0;
}

int cgroup_remove(struct cgroup *cg)
{
    int left = 0;

    if (!cg->made)
        return 0;
    each_folder(cg, remove_folder, &left);
    cg->made = left > 0;
    return left;
}

/* ---- this host -------------------------------------------------------- */

/* Start time of a process in clock ticks since boot (field 22): with the pid it
 * names a process once and for all. -1 if there is none. */
static int64_t start_time(pid_t pid)
{
    char path[64];
    char *text;
    int64_t ticks = -1;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return -1;
    char *at = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        ticks = strtoll(at, NULL, 10);
    free(text);
    return ticks;
}

/* Kills and removes everything below a folder, then the folder: two levels. */
static void clear_folder(const char *path)
{
    char below[PATH_MAX];
    DIR *dir = opendir(path);

    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.' ||
            !path_print(below, sizeof(below), "%s/%s", path, e->d_name))
            continue;
        for (int i = 0; i < KILL_ROUNDS && rmdir(below) < 0; i++) {
            kill_folder(below, NULL);
            usleep(KILL_PAUSE_US);
        }
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* What a sandboxd left that is no more. */
static void sweep(const char *base)
{
    char path[PATH_MAX];
    DIR *dir = opendir(base);

    for (const struct dirent *e; dir && (e = readdir(dir));) {
        int pid;
        long long ticks;
        char end;

        if (sscanf(e->d_name, FOLDER_PREFIX "%d-%lld%c", &pid, &ticks, &end) !=
                2 ||
            start_time(pid) == ticks ||
            !path_print(path, sizeof(path), "%s/%s", base, e->d_name))
            continue;
        clear_folder(path);
    }
    if (dir)
        closedir(dir);
}

static bool file_exists(const char *dir, const char *file)
{
    char path[PATH_MAX];

    return path_print(path, sizeof(path), "%s/%s", dir, file) &&
           access(path, F_OK) == 0;
}

/* Moves a process to the leaf, so that its cgroup may have limits below. */
static int move_to_leaf(const char *base, pid_t pid)
{
    char path[PATH_MAX], text[16];

    snprintf(text, sizeof(text), "%d", pid);
    if (!path_print(path, sizeof(path), "%s/" V2_LEAF, base) ||
        (mkdir(path, 0755) < 0 && errno != EEXIST))
        return -errno;
    if (!path_print(path, sizeof(path), "%s/" V2_LEAF "/cgroup.procs", base))
        return -ENAMETOOLONG;
    return io_write_file(path, text);
}

static int hand_down(const char *base)
{
    char path[PATH_MAX];

    if (!path_print(path, sizeof(path), "%s/cgroup.subtree_control", base))
        return -ENAMETOOLONG;
    return io_write_file(path, "+memory +pids +cpu");
}

static bool program_of(pid_t pid, char *out)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    ssize_t len = readlink(path, out, PATH_MAX - 1);
    if (len < 0)
        return false;
    out[len] = '\0';
    return true;
}

/* This process, its worker, and others of that program (a supervisor, a second
 * worker of the same service). */
static bool is_ours(pid_t pid)
{
    char own[PATH_MAX], other[PATH_MAX];

    return pid == getpid() || pid == getppid() ||
           (program_of(getppid(), own) && program_of(pid, other) &&
            strcmp(own, other) == 0);
}

/* Moves all processes of base to its leaf, if they are all ours. */
static int move_ours_to_leaf(const char *base)
{
    char path[PATH_MAX];
    char *text;
    int rc = 0;

    if (!path_print(path, sizeof(path), "%s/cgroup.procs", base))
        return -ENAMETOOLONG;
    rc = io_read_file(path, TEXT_BYTES_MAX, &text, NULL);
    if (rc < 0)
        return rc;
    for (int pass = 0; pass < 2; pass++) {
        for (char *at = text; *at && rc == 0; at += *at == '\n') {
            pid_t pid = (pid_t)strtol(at, &at, 10);

            at += strcspn(at, "\n");
            if (pass == 0)
                rc = is_ours(pid) ? 0 : -EBUSY;
            else
                rc = move_to_leaf(base, pid);
        }
    }
    free(text);
    return rc;
}

static void cut_last(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = '\0';
}

/* A v2 cgroup with processes in it answers EBUSY. If those are ours alone (a
 * service), they move to a leaf. Else (a login session) the nearest cgroup
 * above it that hands controllers down is taken, which root may do. */
static int choose_v2_base(struct cgroup_place *v2)
{
    char path[CGROUP_PATH_MAX];
    int rc = hand_down(v2->path), first = rc;

    if (rc == -EBUSY && move_ours_to_leaf(v2->path) == 0)
        rc = hand_down(v2->path);
    memcpy(path, v2->path, sizeof(path));
    while (rc < 0) {
        cut_last(path);
        if (!file_exists(path, "cgroup.subtree_control"))
            return first;
        rc = hand_down(path);
    }
    memcpy(v2->path, path, sizeof(path));
    return 0;
}

/* The worker (and we) may be in the leaf already. */
static void leave_leaf(struct cgroup_place *place)
{
    const char *slash = strrchr(place->path, '/');

    if (slash && strcmp(slash + 1, V2_LEAF) == 0)
        cut_last(place->path);
}

static bool v2_has(const char *base, const char *controller)
{
    char path[PATH_MAX];
    char *text;
    bool found = false;

    if (!path_print(path, sizeof(path), "%s/cgroup.controllers", base) ||
        io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return false;
    for (char *save, *w = strtok_r(text, " \n", &save); w && !found;
         w = strtok_r(NULL, " \n", &save))
        found = strcmp(w, controller) == 0;
    free(text);
    return found;
}

/* Makes base/<own> for a controller, once for those that share it. */
static int make_own_folder(struct cgroup_place *place, const char *own)
{
    char path[PATH_MAX];

    sweep(place->path);
    if (!path_print(path, sizeof(path), "%s/%s", place->path, own) ||
        strlen(path) >= sizeof(place->path))
        return -ENAMETOOLONG;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    memcpy(place->path, path, strlen(path) + 1);
    return 0;
}

struct host_texts {
    char *self_cgroup, *mountinfo;
};

/* A controller that cannot be used, and why. */
__attribute__((format(printf, 3, 4))) static void
refuse(struct cgroup_host *host, enum controller which, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(host->why_not[which], sizeof(host->why_not[which]), fmt, args);
    va_end(args);
    host->places[which].version = 0;
}

/* On v2; base_error says why its cgroups cannot be used, 0 if they can. CPU is
 * counted there where it is limited. */
static bool find_on_v2(struct cgroup_host *host, enum controller which,
                       const struct cgroup_place *v2, int base_error)
{
    if (!v2->version || which == CONTROLLER_CPUACCT ||
        !v2_has(v2->path, names[which])) {
        refuse(host, which, "no cgroup controller %s here", names[which]);
        return false;
    }
    if (base_error < 0) {
        refuse(host, which, "%s: %s (cgroup v2 %.100s)",
               base_error == -EBUSY ? "its cgroup holds other processes"
                                    : "its cgroup is not delegated",
               strerror(-base_error), v2->path);
        return false;
    }
    host->places[which] = *v2;
    return true;
}

/* Makes this sandboxd's folder where the controller is. */
static void settle(struct cgroup_host *host, enum controller which,
                   const char *own)
{
    struct cgroup_place *place = &host->places[which];
    int rc = make_own_folder(place, own);

    if (rc < 0)
        refuse(host, which, "cannot make a cgroup: %s (below %.100s)",
               strerror(-rc), place->path);
    else if (place->version == 2)
        hand_down(place->path);
}

/* v1 where it is mounted, else v2. */
static void find_controllers(struct cgroup_host *host,
                             const struct host_texts *t, const char *own)
{
    struct cgroup_place v2 = {0};
    bool on_v1 = true;
    int error = 0;

    for (int i = 0; i < CONTROLLER_COUNT; i++)
        on_v1 = cgroup_locate(t->self_cgroup, t->mountinfo, names[i],
                              &host->places[i]) &&
                on_v1;
    if (!on_v1 && cgroup_locate(t->self_cgroup, t->mountinfo, "", &v2)) {
        leave_leaf(&v2);
        error = choose_v2_base(&v2);
    }
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        enum controller which = (enum controller)i;

        if (host->places[i].version || find_on_v2(host, which, &v2, error))
            settle(host, which, own);
    }
}

/* Whether swap can be limited. A v2 root has no such file, but our folder is
 * never the root. */
static bool has_swap_limit(const struct cgroup_host *host)
{
    const struct cgroup_place *p = &host->places[CONTROLLER_MEMORY];

    return p->version &&
           file_exists(p->path, p->version == 2
                                    ? "memory.swap.max"
                                    : "memory.memsw.limit_in_bytes");
}

static int64_t read_number_of(const char *dir, const char *file)
{
    char path[PATH_MAX];
    char *text;

    if (!path_print(path, sizeof(path), "%s/%s", dir, file) ||
        io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return -1;
    int64_t value = strtoll(text, NULL, 10);
    free(text);
    return value;
}

/* Up to the mount; above it (a container's own cgroup may be the mount) there
 * are no such files. */
static int64_t least_cpu_quota(const struct cgroup_place *place)
{
    char path[CGROUP_PATH_MAX];
    int64_t least = INT64_MAX;

    if (place->version != 1)
        return least;
    memcpy(path, place->path, sizeof(path));
    for (; *path; cut_last(path)) {
        int64_t quota = read_number_of(path, "cpu.cfs_quota_us");
        int64_t period = read_number_of(path, "cpu.cfs_period_us");

        if (quota <= 0 || period <= 0)
            continue;
        quota = quota * CPU_PERIOD_US / period;
        if (quota < least)
            least = quota < CPU_QUOTA_MIN_US ? CPU_QUOTA_MIN_US : quota;
    }
    return least;
}

void cgroup_host_open(struct cgroup_host *host)
{
    struct host_texts t = {0};
    char own[CGROUP_NAME_MAX];

    *host = (struct cgroup_host){.cpu_quota_max_us = INT64_MAX};
    snprintf(own, sizeof(own), FOLDER_PREFIX "%d-%" PRId64, getpid(),
             start_time(getpid()));
    if (io_read_file("/proc/self/cgroup", TEXT_BYTES_MAX, &t.self_cgroup,
                     NULL) < 0 ||
        io_read_file("/proc/self/mountinfo", TEXT_BYTES_MAX, &t.mountinfo,
                     NULL) < 0) {
        for (int i = 0; i < CONTROLLER_COUNT; i++)
            refuse(host, (enum controller)i,
                   "/proc/self/cgroup is not readable");
        free(t.self_cgroup);
        return;
    }
    find_controllers(host, &t, own);
    host->memory_swap = has_swap_limit(host);
    host->cpu_quota_max_us = least_cpu_quota(&host->places[CONTROLLER_CPU]);
    free(t.self_cgroup);
    free(t.mountinfo);
}

int cgroup_host_close(struct cgroup_host *host)
{
    int left = 0;

    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        if (!host->places[i].version)
            continue;
        clear_folder(host->places[i].path);
        left += access(host->places[i].path, F_OK) == 0;
    }
    return left;
}

/* v2 tells only each cgroup's own: the least of them all up to the mount. */
static int64_t memory_limit_v2(const char *own)
{
    char path[PATH_MAX], file[PATH_MAX];
    int64_t least = INT64_MAX;

    snprintf(path, sizeof(path), "%s", own);
    for (char *slash; (slash = strrchr(path, '/')); *slash = '\0') {
        char *text;

        if (!path_print(file, sizeof(file), "%s/memory.max", path) ||
            io_read_file(file, TEXT_BYTES_MAX, &text, NULL) < 0)
            continue;
        int64_t limit = strtoll(text, NULL, 10); /* "max" is 0 */
        if (limit > 0 && limit < least)
            least = limit;
        free(text);
    }
    return least == INT64_MAX ? 0 : least;
}

int64_t cgroup_memory_limit(const struct cgroup_host *host)
{
    const struct cgroup_place *p = &host->places[CONTROLLER_MEMORY];
    char path[PATH_MAX];
    char *text;

    if (p->version == 2)
        return memory_limit_v2(p->path);
    if (p->version == 0 ||
        !path_print(path, sizeof(path), "%s/memory.stat", p->path) ||
        io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return 0;
    int64_t limit = cgroup_counter(text, "hierarchical_memory_limit");
    free(text);
    return limit > V1_UNLIMITED ? 0 : at_least_0(limit);
}

void cgroup_describe(const struct cgroup_host *host, enum controller which,
                     char *out, size_t size)
{
    static const char *const files[][CONTROLLER_COUNT] = {
        {"memory.limit_in_bytes", "pids.max", "cpu.cfs_quota_us",
         "cpuacct.usage"},
        {"memory.max", "pids.max", "cpu.max", "cpu.stat"},
    };
    int version = host->places[which].version;

    if (version)
        snprintf(out, size, "cgroup v%d %s", version,
                 files[version - 1][which]);
    else
        snprintf(out, size, "no: %.90s", host->why_not[which]);
}
