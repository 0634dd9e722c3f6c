#include "worker/sandboxd/idmap.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/family.h"

#define MAP_BYTES_MAX (64u << 10)

/* An abstract socket name is a lock that the kernel lets go with its holder. */
static int take_range(uint32_t range)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    AUTO_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1,
                       "capibox-ids-%u", range);

    if (fd < 0 || bind(fd, (struct sockaddr *)&name,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                   (size_t)len)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Does this user namespace have all of our ids? One of a container may not. */
static bool ids_are_mapped(const char *file)
{
    const unsigned long first = IDMAP_BASE,
                        end = first + (unsigned long)IDMAP_RANGES * IDMAP_SLOTS;
    unsigned long inside, count;
    bool found = false;
    char *text;

    if (io_read_file(file, MAP_BYTES_MAX, &text, NULL) < 0)
        return false;
    for (const char *at = text; *at && !found; at += *at == '\n') {
        found = sscanf(at, "%lu %*u %lu", &inside, &count) == 2 &&
                inside <= first && end - inside <= count;
        at += strcspn(at, "\n");
    }
    free(text);
    return found;
}

int idmap_open(struct idmap *map, struct step *why)
{
    *map = (struct idmap){.lock_fd = -1};
    map->root = geteuid() == 0 && ids_are_mapped("/proc/self/uid_map") &&
                ids_are_mapped("/proc/self/gid_map");
    if (!map->root)
        return 0;
    for (uint32_t range = 0; range < IDMAP_RANGES; range++) {
        map->lock_fd = take_range(range);
        if (map->lock_fd >= 0) {
            map->base = IDMAP_BASE + range * IDMAP_SLOTS;
            return 0;
        }
        if (map->lock_fd != -EADDRINUSE)
            return step_failed(why, -map->lock_fd, "take a range of user ids");
    }
    return step_failed(why, EUSERS, "take a range of user ids: all are taken");
}

void idmap_close(struct idmap *map)
{
    if (map->lock_fd >= 0)
        close(map->lock_fd);
    map->lock_fd = -1;
}

static int write_map(pid_t pid, const char *file, const char *text,
                     struct step *why)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    int rc = io_write_file(path, text);
    if (rc < 0)
        return step_failed(why, -rc, "write %s", file);
    return 0;
}

int idmap_write_spawner(const struct idmap *map, pid_t pid, struct step *why)
{
    char uids[128], gids[128];
    int rc = 0;

    if (map->root) {
        snprintf(uids, sizeof(uids), "0 0 1\n1 %u %d", map->base, IDMAP_SLOTS);
        snprintf(gids, sizeof(gids), "%s", uids);
    } else {
        snprintf(uids, sizeof(uids), "0 %u 1", geteuid());
        snprintf(gids, sizeof(gids), "0 %u 1", getegid());
        /* The kernel wants this before an ordinary user maps a group. */
        rc = write_map(pid, "setgroups", "deny", why);
    }
    if (rc == 0)
        rc = write_map(pid, "uid_map", uids, why);
    return rc < 0 ? rc : write_map(pid, "gid_map", gids, why);
}

int idmap_write_sandbox(bool root, pid_t pid, int slot, struct step *why)
{
    char ids[64];

    snprintf(ids, sizeof(ids), "%d %d 1", SANDBOX_UID, root ? 1 + slot : 0);
    int rc = write_map(pid, "uid_map", ids, why);
    return rc < 0 ? rc : write_map(pid, "gid_map", ids, why);
}
