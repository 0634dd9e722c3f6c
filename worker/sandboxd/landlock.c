#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/scope.h"
#include "worker/sandboxd/confine.h"

/* Newer than the headers of Debian 12; see landlock(7). */
#define ACCESS_TRUNCATE     (1ull << 14) /* ABI 3 */
#define SCOPE_ABSTRACT_UNIX (1ull << 0)  /* ABI 6 */
#define SCOPE_SIGNAL        (1ull << 1)

struct ruleset {
    uint64_t fs, net, scoped;
};

/* All that changes something. Reading is bounded by what is mounted at all. */
#define WRITES                                                       \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |     \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |   \
     LANDLOCK_ACCESS_FS_REFER)

static int allow(int ruleset_fd, const char *path, uint64_t access,
                 struct step *why)
{
    AUTO_FD int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = access,
                                              .parent_fd = fd};

    if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset_fd,
                          LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return step_failed(why, errno, "Landlock rule for %s", path);
    return 0;
}

static size_t describe(long abi, struct ruleset *r)
{
    *r = (struct ruleset){.fs = WRITES};
    if (abi >= 3)
        r->fs |= ACCESS_TRUNCATE;
    /* net stays 0: a network without a device refuses more than TCP, and its
     * "Network is unreachable" tells a user more than "Permission denied". */
    if (abi < 6)
        return offsetof(struct ruleset, net);
    r->scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
    return sizeof(*r);
}

int confine_landlock(struct step *why)
{
    static const char *const folders[] = {"/home/user", "/tmp", "/dev/shm"};
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
                       LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset r;
    int rc = 0;

    /* The first could not allow a rename from one folder to another. */
    if (abi < 2)
        return 0;
    size_t size = describe(abi, &r);
    AUTO_FD int fd = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
    if (fd < 0)
        return step_failed(why, errno, "make a Landlock ruleset");
    for (size_t i = 0; rc == 0 && i < sizeof(folders) / sizeof(*folders); i++)
        rc = allow(fd, folders[i], r.fs, why);
    if (rc == 0)
        rc = allow(fd, "/dev",
                   r.fs & (LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE),
                   why);
    if (rc == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        rc = step_failed(why, errno, "enter the Landlock ruleset");
    return rc < 0 ? rc : (int)abi;
}
