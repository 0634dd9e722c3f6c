#include "worker/sandboxd/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"

/* The spawner's own root: this, and nothing else. */
#define STAGE  "/tmp" /* where it is mounted until it is the root */
#define ROOT   "/root"
#define ZYGOTE "/zygote"

#define OLD          "/oldroot"  /* the host's, while ROOT is filled */
#define DISK         "/run/lock" /* until its parts are bound elsewhere */
#define SMALL_TMPFS  "size=256k,nr_inodes=256,mode=0755"
#define ZYGOTE_TMPFS "size=64m,nr_inodes=4096,mode=1777"
/* Bounds what unpack() writes there, which the worker bounds, too. */
#define JOB_TMPFS "size=32m,nr_inodes=256,mode=0755"
#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

static const char *const folders[] = {
    "/usr",         "/etc",         "/etc/ssl",   "/proc", "/dev",
    "/dev/shm",     "/home",        "/home/user", "/tmp",  "/run",
    "/run/capibox", MOUNTS_RUNTIME, "/run/lock",  "/var",  "/opt",
};

/* Links at the root of the host that lead into /usr, or real folders there. */
static const char *const usr_links[] = {
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
};

/* Of the host's /etc: what programs need and tells nothing about the host. */
static const char *const etc_shown[] = {
    "/etc/alternatives", "/etc/fonts",        "/etc/ssl/certs",
    "/etc/ld.so.cache",  "/etc/matplotlibrc", "/etc/mime.types",
};

static const char *const devices[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
};

struct small_file {
    const char *path, *text;
};

static const struct small_file etc_files[] = {
    {"/etc/passwd", "user:x:1000:1000:user:/home/user:/bin/bash\n"
                    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"},
    {"/etc/group", "user:x:1000:\nnogroup:x:65534:\n"},
    {"/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"},
    {"/etc/hostname", "sandbox\n"},
    {"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
};

struct small_link {
    const char *path, *target;
};

static const struct small_link links[] = {
    {"/dev/fd", "/proc/self/fd"},
    {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"},
    {"/var/tmp", "/tmp"},
    {"/etc/mtab", "/proc/self/mounts"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int set_attributes(const char *path, bool deep, uint64_t set,
                          struct step *why)
{
    struct mount_attr attr = {.attr_set = set};

    if (syscall(SYS_mount_setattr, AT_FDCWD, path, deep ? AT_RECURSIVE : 0,
                &attr, sizeof(attr)) < 0)
        return step_failed(why, errno, "make %s read-only", path);
    return 0;
}

/* Shows OLD/source at target, read-only. */
static int bind_read_only(const char *source, const char *target,
                          struct step *why)
{
    char from[PATH_MAX];

    if (snprintf(from, sizeof(from), OLD "%s", source) >= (int)sizeof(from))
        return step_failed(why, ENAMETOOLONG, "bind %.100s", source);
    if (mount(from, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return step_failed(why, errno, "bind %.100s", source);
    return set_attributes(target, true, READ_ONLY, why);
}

static int write_file(const char *path, const char *text, struct step *why)
{
    AUTO_FD int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return step_failed(why, errno, "create %.100s", path);
    int rc = io_write_full(fd, text, strlen(text));
    if (rc < 0)
        return step_failed(why, -rc, "write %.100s", path);
    return 0;
}

static int make_folder(const char *path, struct step *why)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return step_failed(why, errno, "mkdir %.100s", path);
    return 0;
}

/* mkdir -p. */
static int make_folders(const char *path, struct step *why)
{
    char text[PATH_MAX];
    int rc = 0;

    if (snprintf(text, sizeof(text), "%s", path) >= (int)sizeof(text))
        return step_failed(why, ENAMETOOLONG, "mkdir %.100s", path);
    for (char *at = text + 1; rc == 0 && (at = strchr(at, '/')); at++) {
        *at = '\0';
        rc = make_folder(text, why);
        *at = '/';
    }
    return rc < 0 ? rc : make_folder(text, why);
}

/* /bin and the like: the same link as on the host, or the folder itself. */
static int show_usr_link(const char *path, struct step *why)
{
    char old[64], target[PATH_MAX];
    struct stat st;
    int rc;

    snprintf(old, sizeof(old), OLD "%s", path);
    if (lstat(old, &st) < 0)
        return 0;
    if (S_ISLNK(st.st_mode)) {
        ssize_t len = readlink(old, target, sizeof(target) - 1);
        if (len < 0)
            return step_failed(why, errno, "readlink %s", path);
        target[len] = '\0';
        if (symlink(target, path) < 0)
            return step_failed(why, errno, "symlink %s", path);
        return 0;
    }
    rc = make_folder(path, why);
    return rc < 0 ? rc : bind_read_only(path, path, why);
}

static int show_usr(struct step *why)
{
    int rc = bind_read_only("/usr", "/usr", why);

    for (size_t i = 0; rc == 0 && i < COUNT(usr_links); i++)
        rc = show_usr_link(usr_links[i], why);
    return rc;
}

static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

/* Folders that a sandbox has of its own: what the host has there cannot be
 * shown as well. */
static bool is_hidden(const char *path)
{
    static const char *const hidden[] = {
        "/tmp", "/var/tmp", "/dev",      "/proc", "/run",
        "/etc", "/sys",     MOUNTS_HOME, OLD,
    };

    for (size_t i = 0; i < COUNT(hidden); i++)
        if (is_below(path, hidden[i]))
            return true;
    return false;
}

/* Cuts the last component off; "" at the root. */
static void cut_last(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = '\0';
}

int mounts_tree_of(const char *path, char *out, size_t size)
{
    size_t depth = 0;

    out[0] = '\0';
    if (is_below(path, "/usr"))
        return 0;
    for (size_t i = 0; i < COUNT(usr_links); i++)
        if (is_below(path, usr_links[i]))
            return 0;
    if (strstr(path, "/../") || strlen(path) >= size || is_hidden(path))
        return -EINVAL;
    memcpy(out, path, strlen(path) + 1);
    cut_last(out); /* the program */
    cut_last(out); /* bin */
    for (const char *at = out; *at; at++)
        depth += *at == '/';
    /* /opt/x is a tree; /opt, /root or /home/me is somebody's everything. */
    if (depth < 2 || (is_below(out, "/home") && depth < 3)) {
        out[0] = '\0';
        return -EINVAL;
    }
    return 0;
}

static int show_tree(const char *path, struct step *why)
{
    char tree[PATH_MAX];
    int rc;

    if (mounts_tree_of(path, tree, sizeof(tree)) < 0)
        return step_failed(why, EINVAL,
                           "show %.60s: an interpreter outside /usr needs a "
                           "folder of its own, as in /opt/x/bin",
                           path);
    if (!tree[0])
        return 0;
    rc = make_folders(tree, why);
    return rc < 0 ? rc : bind_read_only(tree, tree, why);
}

/* An interpreter outside /usr comes with its tree; so does what it links to (a
 * virtual environment links to the python it was made from). */
static int show_interpreter(const char *path, struct step *why)
{
    char old[PATH_MAX], target[PATH_MAX];
    int rc = show_tree(path, why);

    if (rc < 0 ||
        snprintf(old, sizeof(old), OLD "%s", path) >= (int)sizeof(old))
        return rc;
    ssize_t len = readlink(old, target, sizeof(target) - 1);
    if (len <= 0 || target[0] != '/')
        return 0;
    target[len] = '\0';
    return show_tree(target, why);
}

static int show_etc(struct step *why)
{
    char old[128];
    struct stat st;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < COUNT(etc_files); i++)
        rc = write_file(etc_files[i].path, etc_files[i].text, why);
    for (size_t i = 0; rc == 0 && i < COUNT(etc_shown); i++) {
        snprintf(old, sizeof(old), OLD "%s", etc_shown[i]);
        if (stat(old, &st) < 0)
            continue;
        rc = S_ISDIR(st.st_mode) ? make_folder(etc_shown[i], why)
                                 : write_file(etc_shown[i], "", why);
        if (rc == 0)
            rc = bind_read_only(etc_shown[i], etc_shown[i], why);
    }
    return rc;
}

static int show_dev(struct step *why)
{
    char old[64];

    for (size_t i = 0; i < COUNT(devices); i++) {
        int rc = write_file(devices[i], "", why);
        if (rc < 0)
            return rc;
        snprintf(old, sizeof(old), OLD "%s", devices[i]);
        if (mount(old, devices[i], NULL, MS_BIND, NULL) < 0)
            return step_failed(why, errno, "bind %s", devices[i]);
        rc = set_attributes(
            devices[i], false,
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, why);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < COUNT(links); i++)
        if (symlink(links[i].target, links[i].path) < 0)
            return step_failed(why, errno, "symlink %s", links[i].path);
    return 0;
}

static int bind_part(const char *part, const char *target, mode_t mode,
                     struct step *why)
{
    char from[64];

    snprintf(from, sizeof(from), DISK "%s", part);
    if (mkdir(from, mode) < 0 || chmod(from, mode) < 0)
        return step_failed(why, errno, "mkdir %s", from);
    if (make_folder(target, why) < 0)
        return -why->error;
    if (mount(from, target, NULL, MS_BIND, NULL) < 0)
        return step_failed(why, errno, "bind %s", target);
    return 0;
}

/* One file system for all the code may write, so one limit holds for all. */
static int make_disk(struct step *why)
{
    int rc;

    if (mount("tmpfs", DISK, "tmpfs", MS_NOSUID | MS_NODEV, SMALL_TMPFS) < 0)
        return step_failed(why, errno, "mount the disk tmpfs");
    rc = bind_part("/home", MOUNTS_HOME, 0755, why);
    if (rc == 0)
        rc = bind_part("/tmp", "/tmp", 01777, why);
    if (rc == 0)
        rc = bind_part("/shm", "/dev/shm", 01777, why);
    if (rc == 0 && umount2(DISK, MNT_DETACH) < 0)
        rc = step_failed(why, errno, "put the disk tmpfs away");
    return rc;
}

/* ---- the spawner ------------------------------------------------------- */

/* A file or folder of the host below the stage, read-only. By its descriptor:
 * the stage may cover its path. */
static int stage_bind(int fd, const char *target, struct step *why)
{
    struct stat st;
    char source[32];
    int rc;

    snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    if (stat(source, &st) < 0)
        return step_failed(why, errno, "find what belongs at %s", target);
    rc = S_ISDIR(st.st_mode) ? make_folder(target, why)
                             : write_file(target, "", why);
    if (rc == 0 && mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        rc = step_failed(why, errno, "bind %.100s", source);
    return rc < 0 ? rc : set_attributes(target, true, READ_ONLY, why);
}

static int open_stage(const struct mounts_plan *plan, struct step *why)
{
    bool warm = plan->zygote_lib[0];
    AUTO_FD int runtime = open(plan->runtime, O_PATH | O_CLOEXEC);
    AUTO_FD int lib = warm ? open(plan->zygote_lib, O_PATH | O_CLOEXEC) : -1;
    int rc;

    if (runtime < 0)
        return step_failed(why, errno, "open the drivers' folder \"%.90s\"",
                           plan->runtime);
    if (warm && lib < 0)
        return step_failed(why, errno, "open %.100s", plan->zygote_lib);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return step_failed(why, errno, "make mounts private");
    if (mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, SMALL_TMPFS) < 0)
        return step_failed(why, errno, "mount the stage");
    rc = make_folder(STAGE ROOT, why);
    if (rc == 0)
        rc = make_folder(STAGE ZYGOTE, why);
    if (rc == 0)
        rc = make_folder(STAGE "/proc", why);
    if (rc == 0)
        rc = make_folder(STAGE OLD, why);
    /* Whole, as a later mount of another /proc wants to see it. */
    if (rc == 0 &&
        mount("/proc", STAGE "/proc", NULL, MS_BIND | MS_REC, NULL) < 0)
        rc = step_failed(why, errno, "bind /proc");
    if (rc == 0)
        rc = stage_bind(runtime, STAGE ZYGOTE "/runtime", why);
    if (rc == 0 && warm)
        rc = stage_bind(lib, STAGE ZYGOTE "/zygote.so", why);
    return rc;
}

/* Goes into the empty root that is to be filled, with the host's in it. */
static int enter_root(struct step *why)
{
    if (mount("tmpfs", STAGE ROOT, "tmpfs", MS_NOSUID | MS_NODEV, SMALL_TMPFS) <
        0)
        return step_failed(why, errno, "mount the root tmpfs");
    if (mkdir(STAGE ROOT OLD, 0755) < 0 ||
        mount("/", STAGE ROOT OLD, NULL, MS_BIND | MS_REC, NULL) < 0)
        return step_failed(why, errno, "bind the host's root");
    if (chroot(STAGE ROOT) < 0 || chdir("/") < 0)
        return step_failed(why, errno, "enter the new root");
    return 0;
}

static int fill_root(const struct mounts_plan *plan, struct step *why)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < COUNT(folders); i++)
        rc = make_folder(folders[i], why);
    if (rc == 0)
        rc = show_usr(why);
    if (rc == 0)
        rc = show_interpreter(plan->interpreter, why);
    if (rc == 0)
        rc = show_etc(why);
    if (rc == 0)
        rc = show_dev(why);
    /* The stage is in the host's root, which is bound at OLD. */
    if (rc == 0 && mount(OLD STAGE ZYGOTE "/runtime", MOUNTS_RUNTIME, NULL,
                         MS_BIND, NULL) < 0)
        rc = step_failed(why, errno, "bind the drivers' folder");
    if (rc == 0)
        rc = set_attributes(MOUNTS_RUNTIME, false, READ_ONLY, why);
    if (rc == 0 && (umount2(OLD, MNT_DETACH) < 0 || rmdir(OLD) < 0))
        rc = step_failed(why, errno, "unmount the host's root");
    return rc < 0 ? rc : set_attributes("/", false, READ_ONLY, why);
}

/* The stage becomes the root; host_fd is the way back out of the chroot. */
static int close_stage(int host_fd, struct step *why)
{
    if (fchdir(host_fd) < 0 || chroot(".") < 0)
        return step_failed(why, errno, "go back to the host's root");
    if (syscall(SYS_pivot_root, STAGE, STAGE OLD) < 0 || chdir("/") < 0)
        return step_failed(why, errno, "pivot_root to the stage");
    if (umount2(OLD, MNT_DETACH) < 0)
        return step_failed(why, errno, "unmount the host's root");
    return 0;
}

int mounts_build(const struct mounts_plan *plan, struct step *why)
{
    int rc = open_stage(plan, why);

    if (rc < 0)
        return rc;
    AUTO_FD int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (host < 0)
        return step_failed(why, errno, "open the host's root");
    rc = enter_root(why);
    if (rc == 0)
        rc = fill_root(plan, why);
    return rc < 0 ? rc : close_stage(host, why);
}

/* ---- in a mount namespace copied from the spawner's --------------------- */

/* A mount that came from a more privileged namespace is locked; its copy can
 * become the root, and what it came with stays read-only. */
static int copy_root(struct step *why)
{
    if (mount(ROOT, ROOT, NULL, MS_BIND | MS_REC, NULL) < 0)
        return step_failed(why, errno, "copy the root");
    return 0;
}

static int leave_stage(struct step *why)
{
    if (chdir(ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return step_failed(why, errno, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return step_failed(why, errno, "unmount the stage");
    return 0;
}

/* The kernel wants to see a whole /proc. In a container whose own is masked it
 * says EPERM; then there is none in here either (the probe tells), which most
 * programs bear. */
static int show_proc(struct step *why)
{
    if (mount("proc", ROOT "/proc", "proc",
              MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
              "subset=pid,hidepid=2") < 0 &&
        errno != EPERM)
        return step_failed(why, errno, "mount /proc");
    return 0;
}

int mounts_enter(struct step *why)
{
    int rc = copy_root(why);

    if (rc == 0)
        rc = show_proc(why);
    if (rc == 0)
        rc = leave_stage(why);
    if (rc == 0)
        rc = make_disk(why);
    if (rc == 0 && mount("tmpfs", MOUNTS_JOB, "tmpfs",
                         MS_NOSUID | MS_NODEV | MS_NOEXEC, JOB_TMPFS) < 0)
        rc = step_failed(why, errno, "mount the job's tmpfs");
    if (rc == 0 && chdir(MOUNTS_HOME) < 0)
        rc = step_failed(why, errno, "chdir " MOUNTS_HOME);
    return rc;
}

int mounts_limit_disk(int64_t bytes, int64_t inodes, struct step *why)
{
    char options[128];

    snprintf(options, sizeof(options), "size=%lld,nr_inodes=%lld",
             (long long)bytes, (long long)inodes);
    if (mount(NULL, MOUNTS_HOME, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV,
              options) < 0)
        return step_failed(why, errno, "limit the disk");
    return 0;
}

int mounts_seal(struct step *why)
{
    return set_attributes(MOUNTS_JOB, false, READ_ONLY, why);
}

int mounts_enter_zygote(struct step *why)
{
    int rc = copy_root(why);

    if (rc == 0 &&
        (mount(ZYGOTE, ROOT MOUNTS_JOB, NULL, MS_BIND | MS_REC, NULL) < 0 ||
         mount("/proc", ROOT "/proc", NULL, MS_BIND | MS_REC, NULL) < 0 ||
         mount("tmpfs", ROOT "/tmp", "tmpfs", MS_NOSUID | MS_NODEV,
               ZYGOTE_TMPFS) < 0))
        rc = step_failed(why, errno, "mount what a zygote needs");
    return rc < 0 ? rc : leave_stage(why);
}
