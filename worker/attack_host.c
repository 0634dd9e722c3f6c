#include "worker/attack_host.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/utsname.h>

#include "common/clock.h"
#include "common/io.h"

#define TEXT_BYTES_MAX      (1u << 20)
#define CLOCK_MAY_JUMP      5000 /* by a time server */
#define PROCESSES_MAX       65536
#define KERNEL_LOG_READ_ALL 3 /* see syslog(2) */
#define CGROUPS             "/sys/fs/cgroup"
#define CGROUP_DEPTH_MAX    12

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const files[] = {
    "/etc/passwd",
    "/etc/shadow",
    "/usr",
    "/dev/null",
};

static const char *const numbers[] = {
    "/proc/sys/user/max_user_namespaces",  "/proc/sys/user/max_mnt_namespaces",
    "/proc/sys/kernel/core_uses_pid",      "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/panic",
};

static const char *const marked_folders[] = {
    "/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue",
    "/",    "/etc",     "/usr",     "/usr/bin",  "/usr/lib",
};

_Static_assert(COUNT(files) == ATTACK_HOST_FILES, "one stat each");
_Static_assert(COUNT(numbers) == ATTACK_HOST_NUMBERS, "one number each");

/* ---- unchanged -------------------------------------------------------- */

static int64_t read_number(const char *path)
{
    char *text;

    if (io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return -1;
    int64_t number = strtoll(text, NULL, 10);
    free(text);
    return number;
}

static int count_mounts(void)
{
    char *text;
    int lines = 0;

    if (io_read_file("/proc/self/mountinfo", TEXT_BYTES_MAX, &text, NULL) < 0)
        return 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    free(text);
    return lines;
}

/* Lines of the kernel's log that say it came to harm. Its kills for lack of
 * memory are no harm. */
static int count_alarms(void)
{
    static const char *const words[] = {
        "BUG: ",     "Oops: ",     "WARNING: CPU", "general protection fault: ",
        "hung_task", "soft lockup"};
    char *text = calloc(1, TEXT_BYTES_MAX + 1);
    int found = 0;

    if (text && klogctl(KERNEL_LOG_READ_ALL, text, TEXT_BYTES_MAX) > 0)
        for (size_t i = 0; i < COUNT(words); i++)
            for (const char *at = text; (at = strstr(at, words[i])); at++)
                found++;
    free(text);
    return found;
}

void attack_host_look(struct attack_host *out)
{
    struct utsname name;

    *out = (struct attack_host){0};
    uname(&name);
    snprintf(out->host_name, sizeof(out->host_name), "%s", name.nodename);
    out->clock_ahead_ms = (int64_t)(clock_unix_s() * 1000) - clock_ms();
    out->mounts = count_mounts();
    out->alarms = count_alarms();
    for (size_t i = 0; i < COUNT(files); i++)
        if (stat(files[i], &out->files[i]) < 0)
            out->files[i] = (struct stat){0};
    for (size_t i = 0; i < COUNT(numbers); i++)
        out->numbers[i] = read_number(numbers[i]);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
           a->st_uid == b->st_uid && a->st_rdev == b->st_rdev &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The first thing with our mark where attacks try to leave one. */
static bool find_mark(char why[ATTACK_HOST_WHY_MAX])
{
    bool found = false;

    for (size_t i = 0; i < COUNT(marked_folders) && !found; i++) {
        DIR *dir = opendir(marked_folders[i]);

        for (const struct dirent *e; dir && !found && (e = readdir(dir));) {
            found = strncmp(e->d_name, ATTACK_MARK, strlen(ATTACK_MARK)) == 0;
            if (found)
                snprintf(why, ATTACK_HOST_WHY_MAX, "%s holds %.100s",
                         marked_folders[i], e->d_name);
        }
        if (dir)
            closedir(dir);
    }
    return found;
}

static const char *find_change(const struct attack_host *a,
                               const struct attack_host *b)
{
    int64_t jump = a->clock_ahead_ms - b->clock_ahead_ms;

    if (strcmp(a->host_name, b->host_name) != 0)
        return "the host's name";
    if (jump > CLOCK_MAY_JUMP || jump < -CLOCK_MAY_JUMP)
        return "the host's clock";
    if (a->mounts != b->mounts)
        return "the number of mounts";
    if (b->alarms > a->alarms)
        return "the kernel's log, by an alarm,";
    for (size_t i = 0; i < COUNT(files); i++)
        if (!same_file(&a->files[i], &b->files[i]))
            return files[i];
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (a->numbers[i] != b->numbers[i])
            return numbers[i];
    return NULL;
}

bool attack_host_same(const struct attack_host *before,
                      char why[ATTACK_HOST_WHY_MAX])
{
    struct attack_host now;

    why[0] = '\0';
    attack_host_look(&now);
    const char *change = find_change(before, &now);
    if (change)
        snprintf(why, ATTACK_HOST_WHY_MAX, "%s changed", change);
    return !change && !find_mark(why);
}

/* ---- nothing left ----------------------------------------------------- */

struct process {
    pid_t pid, parent;
    bool below;
};

static bool look_at(pid_t pid, struct process *out)
{
    char path[64], state = 'X';
    char *text;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (io_read_file(path, TEXT_BYTES_MAX, &text, NULL) < 0)
        return false;
    /* The name, in parentheses, may hold anything. */
    const char *after = strrchr(text, ')');
    *out = (struct process){.pid = pid};
    bool read = after && sscanf(after, ") %c %d", &state, &out->parent) == 2;
    free(text);
    return read && state != 'Z' && state != 'X';
}

/* Caller frees; NULL: none, or no memory. */
static struct process *list_processes(size_t *count_out)
{
    struct process *list = calloc(PROCESSES_MAX, sizeof(*list));
    DIR *proc = opendir("/proc");

    *count_out = 0;
    for (const struct dirent *e; list && proc && (e = readdir(proc));)
        if (isdigit((unsigned char)e->d_name[0]) &&
            *count_out < PROCESSES_MAX &&
            look_at(atoi(e->d_name), &list[*count_out]))
            ++*count_out;
    if (proc)
        closedir(proc);
    return list;
}

static bool is_below(const struct process *list, size_t count, pid_t parent,
                     pid_t root)
{
    if (parent == root)
        return true;
    for (size_t i = 0; i < count; i++)
        if (list[i].pid == parent)
            return list[i].below;
    return false;
}

/* Marks them; a child may have a smaller number than its parent. */
static int mark_below(struct process *list, size_t count, pid_t root)
{
    int all = 0, before = -1;

    while (all != before) {
        before = all;
        for (size_t i = 0; i < count; i++) {
            if (list[i].below || !is_below(list, count, list[i].parent, root))
                continue;
            list[i].below = true;
            all++;
        }
    }
    return all;
}

int attack_host_processes(pid_t root)
{
    size_t count;
    struct process *list = list_processes(&count);
    int below = list ? mark_below(list, count, root) : 0;

    free(list);
    return below;
}

static int count_folders(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;

    for (const struct dirent *e; dir && (e = readdir(dir));)
        count += e->d_type == DT_DIR && e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

/* Folders of sandboxes lie in capibox-<pid of sandboxd>-<its start>. */
static int count_in(const char *path, int depth, const struct process *list,
                    size_t count)
{
    DIR *dir = opendir(path);
    int found = 0;

    for (const struct dirent *e; dir && (e = readdir(dir));) {
        char below[PATH_MAX];
        pid_t pid = 0;

        if (e->d_type != DT_DIR || e->d_name[0] == '.' ||
            snprintf(below, sizeof(below), "%s/%s", path, e->d_name) >=
                (int)sizeof(below))
            continue;
        if (sscanf(e->d_name, "capibox-%d-", &pid) != 1) {
            if (depth > 0)
                found += count_in(below, depth - 1, list, count);
            continue;
        }
        for (size_t i = 0; i < count; i++)
            if (list[i].pid == pid && list[i].below)
                found += count_folders(below);
    }
    if (dir)
        closedir(dir);
    return found;
}

int attack_host_cgroups(pid_t root)
{
    size_t count;
    struct process *list = list_processes(&count);
    int found = 0;

    if (list && mark_below(list, count, root) > 0)
        found = count_in(CGROUPS, CGROUP_DEPTH_MAX, list, count);
    free(list);
    return found;
}
