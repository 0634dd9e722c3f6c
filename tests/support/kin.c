#include "tests/support/kin.h"

#include <ctype.h>
#include <dirent.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/proc.h"

#define FILE_MAX 4096
#define STOP_MS  5000

struct kin {
    pid_t pid, parent;
    char state;
    int depth; /* of pid namespaces below ours */
    char words[FILE_MAX];
};

/* "NSpid: 6123 1" of one that is in a namespace of its own. */
static int depth_of(const char *status)
{
    const char *at = strstr(status, "\nNSpid:");
    int numbers = 0;

    for (at = at ? at + strlen("\nNSpid:") : ""; *at && *at != '\n'; at++)
        numbers +=
            isdigit((unsigned char)at[0]) && !isdigit((unsigned char)at[1]);
    return numbers - 1;
}

static bool look_at(const char *pid, struct kin *out)
{
    char path[300];
    AUTO_FREE char *status = NULL, *words = NULL;
    size_t size = 0;

    snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
    if (io_read_file(path, FILE_MAX, &status, NULL) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
    if (io_read_file(path, FILE_MAX, &words, &size) < 0)
        return false;
    const char *state = strstr(status, "\nState:");
    const char *parent = strstr(status, "\nPPid:");
    if (!state || !parent)
        return false;
    *out = (struct kin){.pid = atoi(pid), .depth = depth_of(status)};
    out->parent = atoi(parent + strlen("\nPPid:"));
    out->state = state[strlen("\nState:\t")];
    for (size_t i = 0; i < size && i + 1 < FILE_MAX; i++)
        out->words[i] = words[i] ? words[i] : ' ';
    return true;
}

/* The n-th child of this parent, at this depth, whose command line holds
 * word. */
static pid_t find(pid_t parent, int depth, const char *word, int n)
{
    static struct kin k;
    DIR *proc = opendir("/proc");
    pid_t found = 0;

    for (const struct dirent *e; proc && !found && (e = readdir(proc));)
        if (isdigit((unsigned char)e->d_name[0]) && look_at(e->d_name, &k) &&
            k.parent == parent && k.depth == depth && k.state != 'Z' &&
            strstr(k.words, word) && n-- == 0)
            found = k.pid;
    if (proc)
        closedir(proc);
    return found;
}

/* Of tests that run in a pid namespace themselves, too. */
static int own_depth(void)
{
    static struct kin k;

    MUST(look_at("self", &k));
    return k.depth;
}

pid_t kin_sandboxd(pid_t parent)
{
    return find(parent, own_depth(), "capibox-sandboxd", 0);
}

pid_t kin_spawner(pid_t sandboxd)
{
    return find(sandboxd, own_depth(), "--spawner", 0);
}

pid_t kin_zygote(pid_t sandboxd)
{
    return find(sandboxd, own_depth(), "zygote.py", 0);
}

pid_t kin_init(pid_t sandboxd)
{
    int depth = own_depth() + 1;
    pid_t init;

    for (int n = 0; (init = find(sandboxd, depth, "", n)); n++)
        if (find(init, depth, "", 0))
            return init;
    return 0;
}

int kin_inits(pid_t sandboxd)
{
    int n = 0;

    while (find(sandboxd, own_depth() + 1, "", n))
        n++;
    return n;
}

static int count_fds(pid_t pid, bool (*counts)(const char *path))
{
    char path[300];
    int count = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    for (const struct dirent *e; (e = readdir(dir));) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%.20s", pid, e->d_name);
        count += e->d_name[0] != '.' && (!counts || counts(path));
    }
    closedir(dir);
    return count;
}

int kin_fds(pid_t pid)
{
    return count_fds(pid, NULL);
}

static bool is_home(const char *path)
{
    struct statfs fs;
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
           statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

int kin_homes(pid_t sandboxd)
{
    return count_fds(sandboxd, is_home);
}

bool kin_is_stopped(pid_t pid)
{
    static struct kin k;
    char name[24];

    snprintf(name, sizeof(name), "%d", pid);
    return look_at(name, &k) && k.state == 'T';
}

static bool is_stopped(void *ctx)
{
    return kin_is_stopped(*(const pid_t *)ctx);
}

void kin_stop(pid_t pid)
{
    MUST(pid > 0); /* 0 would be our own group */
    MUST0(kill(pid, SIGSTOP));
    MUST(wait_until(is_stopped, &pid, STOP_MS));
}
