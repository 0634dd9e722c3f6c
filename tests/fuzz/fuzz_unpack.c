/* tests/fuzz/fuzz_unpack.c -- the job's files as the sandbox's init reads them.
 *
 * Whatever the file says, nothing appears beside the two folders. The file is
 * read into memory of exactly its size instead of being mapped, so that reading
 * past its end is seen (Makefile: WRAP_fuzz_unpack).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "tests/support/scratch.h"
#include "worker/sandboxd/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void *__real_mmap(void *at, size_t size, int prot, int flags, int fd,
                  off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd,
                  off_t offset);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);

static char base[SCRATCH_PATH_MAX];
static int input_fd = -1;
static void *copy; /* of the input */

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd,
                  off_t offset)
{
    if (fd < 0 || fd != input_fd)
        return __real_mmap(at, size, prot, flags, fd, offset);
    copy = malloc(size);
    MUST(copy && pread(fd, copy, size, 0) == (ssize_t)size);
    return copy;
}

int __wrap_munmap(void *at, size_t size)
{
    if (!at || at != copy)
        return __real_munmap(at, size);
    free(copy);
    copy = NULL;
    return 0;
}

static int make_folder(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", base, name);
    MUST0(mkdir(path, 0755));
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void check_beside(void)
{
    DIR *dir = opendir(base);
    const struct dirent *entry;

    MUST(dir);
    while ((entry = readdir(dir)))
        MUST(entry->d_name[0] == '.' || strcmp(entry->d_name, "home") == 0 ||
             strcmp(entry->d_name, "job") == 0);
    closedir(dir);
}

static void check_unpack(int fd)
{
    struct step why = {0};
    int home, job;

    scratch_make(base);
    home = make_folder("home");
    job = make_folder("job");
    /* It may fail half way: a file where a folder is wanted. */
    MUST(unpack(fd, home, job, &why) == 0 || why.error > 0);
    MUST(memchr(why.what, 0, sizeof(why.what)));
    check_beside();
    close(home);
    close(job);
    scratch_remove(base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;

    fd = memfd_create("input", MFD_CLOEXEC);
    MUST(fd >= 0);
    MUST0(io_write_full(fd, data, size));
    input_fd = fd;
    check_unpack(fd);
    input_fd = -1;
    close(fd);
    return 0;
}
