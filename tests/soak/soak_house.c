#include "tests/soak/soak_house.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/scope.h"
#include "tests/support/stage.h"
#include "worker/sandboxd/idmap.h"

#define STATUS_BYTES_MAX 8192
#define MOUNTS_BYTES_MAX (4 << 20)

static long status_number(pid_t pid, const char *name)
{
    char path[64];
    AUTO_FREE char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (io_read_file(path, STATUS_BYTES_MAX, &text, NULL) < 0)
        return -1;
    const char *at = strstr(text, name);
    return at ? atol(at + strlen(name)) : -1;
}

/* Names in a folder that count() wants. */
static int count_names(const char *path, bool (*count)(int dir, const char *))
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int n = 0;

    while (dir && (entry = readdir(dir)))
        n += entry->d_name[0] != '.' &&
             (!count || count(dirfd(dir), entry->d_name));
    if (dir)
        closedir(dir);
    return n;
}

static bool is_of_a_sandbox(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_uid >= IDMAP_BASE &&
           st.st_uid < IDMAP_BASE + IDMAP_SLOTS * IDMAP_RANGES;
}

static int count_litter(void)
{
    static const char *const folders[] = {"/tmp", "/var/tmp", "/dev/shm",
                                          "/run", "/dev/mqueue"};
    int n = 0;

    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
        n += count_names(folders[i], is_of_a_sandbox);
    return n;
}

static int count_fds(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    return count_names(path, NULL);
}

static int count_mounts(pid_t pid)
{
    char path[64];
    AUTO_FREE char *text = NULL;
    int n = 0;

    snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
    if (io_read_file(path, MOUNTS_BYTES_MAX, &text, NULL) < 0)
        return -1;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

static pid_t find_sandboxd(const struct household *h, pid_t worker)
{
    for (int i = 0; i < h->count; i++) {
        char path[64], *name = NULL;
        bool found;

        snprintf(path, sizeof(path), "/proc/%d/comm", h->members[i].pid);
        if (io_read_file(path, STATUS_BYTES_MAX, &name, NULL) < 0)
            continue;
        found = strncmp(name, "capibox-sandbox", 15) == 0 &&
                status_number(h->members[i].pid, "\nPPid:") == worker;
        free(name);
        if (found)
            return h->members[i].pid;
    }
    return 0;
}

void soak_house_look(pid_t worker, struct soak_house *out)
{
    static struct household h;

    household_list(worker, &h);
    *out = (struct soak_house){
        .pids = {worker, find_sandboxd(&h, worker)},
        .processes = household_alive(&h),
        .cgroups = household_cgroups(&h),
        .litter = count_litter(),
    };
    for (int i = 0; i < SOAK_WHO; i++) {
        out->fds[i] = count_fds(out->pids[i]);
        out->mounts[i] = count_mounts(out->pids[i]);
        out->threads[i] = (int)status_number(out->pids[i], "\nThreads:");
        out->rss_kb[i] = status_number(out->pids[i], "\nVmRSS:");
    }
}

void soak_house_compare(const struct soak_house *before,
                        const struct soak_house *now, char *why, size_t size)
{
    const struct {
        const char *what;
        int before, now;
    } rows[] = {
        {"processes", before->processes, now->processes},
        {"cgroup folders", before->cgroups, now->cgroups},
        {"files of sandboxes", before->litter, now->litter},
        {"worker's fds", before->fds[0], now->fds[0]},
        {"sandboxd's fds", before->fds[1], now->fds[1]},
        {"worker's mounts", before->mounts[0], now->mounts[0]},
        {"sandboxd's mounts", before->mounts[1], now->mounts[1]},
        {"worker's threads", before->threads[0], now->threads[0]},
        {"sandboxd's threads", before->threads[1], now->threads[1]},
    };
    size_t at = 0;

    why[0] = '\0';
    if (before->pids[SOAK_SANDBOXD] != now->pids[SOAK_SANDBOXD])
        at = (size_t)snprintf(why, size, "sandboxd is another one; ");
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows) && at < size; i++)
        if (rows[i].now > rows[i].before)
            at += (size_t)snprintf(why + at, size - at, "%d %s, not %d; ",
                                   rows[i].now, rows[i].what, rows[i].before);
}
