#include "worker/sandboxd/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/limits.h"
#include "common/scope.h"
#include "worker/local/wire.h"

#define PREFIX_BYTES   8 /* the longer of "home/" and "job/", and a NUL */
#define ENTRY_PATH_MAX (JOB_PATH_MAX + PREFIX_BYTES)

/* A mapped input and how far it was read. */
struct input {
    const unsigned char *data;
    size_t size, at;
    uint32_t left; /* entries */
};

struct entry {
    char path[ENTRY_PATH_MAX + 1]; /* below its folder, without the prefix */
    bool in_home;
    const unsigned char *data;
    size_t size;
};

static int input_open(int fd, struct input *in, struct step *why)
{
    struct stat st;

    *in = (struct input){0};
    if (fstat(fd, &st) < 0)
        return step_failed(why, errno, "stat the job's files");
    if (st.st_size < (off_t)sizeof(uint32_t) || st.st_size > WIRE_INPUT_MAX)
        return step_failed(why, EINVAL, "read the job's files: their size");
    /* Sealed by the worker, so it cannot shrink under the mapping. */
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return step_failed(why, errno, "map the job's files");
    in->data = data;
    in->size = (size_t)st.st_size;
    memcpy(&in->left, in->data, sizeof(in->left));
    in->at = sizeof(in->left);
    return 0;
}

static void input_close(struct input *in)
{
    if (in->data)
        munmap((void *)in->data, in->size);
}

/* Every component is a name: not empty, not "." or "..". */
static bool path_is_clean(const char *path)
{
    for (;;) {
        size_t len = strcspn(path, "/");

        if (len == 0 || len > NAME_MAX || (len == 1 && path[0] == '.') ||
            (len == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        if (path[len] == '\0')
            return true;
        path += len + 1;
    }
}

static bool take_path(struct entry *e, const unsigned char *path, uint32_t len)
{
    char text[ENTRY_PATH_MAX + 1];

    if (len == 0 || len > ENTRY_PATH_MAX || memchr(path, 0, len))
        return false;
    memcpy(text, path, len);
    text[len] = '\0';
    if (strncmp(text, "home/", 5) == 0) {
        e->in_home = true;
        memcpy(e->path, text + 5, len - 5 + 1);
    } else if (strncmp(text, "job/", 4) == 0) {
        e->in_home = false;
        memcpy(e->path, text + 4, len - 4 + 1);
    } else {
        return false;
    }
    return path_is_clean(e->path);
}

/* 1 and the next entry, 0 at the end, or a negative error. */
static int next_entry(struct input *in, struct entry *e, struct step *why)
{
    uint32_t sizes[2];

    if (in->left == 0)
        return 0;
    in->left--;
    if (in->size - in->at < sizeof(sizes))
        return step_failed(why, EINVAL, "read the job's files: cut short");
    memcpy(sizes, in->data + in->at, sizeof(sizes));
    in->at += sizeof(sizes);
    if ((uint64_t)sizes[0] + sizes[1] > in->size - in->at)
        return step_failed(why, EINVAL, "read the job's files: cut short");
    if (!take_path(e, in->data + in->at, sizes[0]))
        return step_failed(why, EINVAL, "read the job's files: a bad path");
    e->data = in->data + in->at + sizes[0];
    e->size = sizes[1];
    in->at += (size_t)sizes[0] + sizes[1];
    return 1;
}

static int open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                   RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };

    return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
}

/* Makes the folders of path below dir_fd that are not there yet. No code runs
 * in the sandbox so far, so nothing can swap a folder for a link meanwhile. */
static int make_folders(int dir_fd, const char *path)
{
    char text[ENTRY_PATH_MAX + 1];

    memcpy(text, path, strlen(path) + 1);
    for (char *slash = strchr(text, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(dir_fd, text, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int write_entry(int dir_fd, const struct entry *e)
{
    int rc = make_folders(dir_fd, e->path);

    if (rc < 0)
        return rc;
    AUTO_FD int fd =
        open_beneath(dir_fd, e->path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        return -errno;
    return io_write_full(fd, e->data, e->size);
}

int unpack(int input_fd, int home_fd, int job_fd, struct step *why)
{
    struct input in;
    struct entry e;
    int rc = input_open(input_fd, &in, why);

    if (rc < 0)
        return rc;
    while ((rc = next_entry(&in, &e, why)) > 0) {
        rc = write_entry(e.in_home ? home_fd : job_fd, &e);
        if (rc < 0) {
            step_failed(why, -rc, "write the job's file %.100s", e.path);
            break;
        }
    }
    input_close(&in);
    return rc;
}
