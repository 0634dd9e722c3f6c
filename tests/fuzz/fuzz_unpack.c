/* tests/fuzz/fuzz_unpack.c -- the job's files as the sandbox's init reads them.
 *
 * Whatever the file says, nothing appears beside the two folders. An odd first
 * byte puts a file in front that fills up the page, so that reading past the
 * end of the mapping is seen.
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

#define PAGE   4096
#define FILLER "job/~" /* its name */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[SCRATCH_PATH_MAX];

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

/* Count, the filler, then what the fuzzer made. */
static void write_filled(int fd, const uint8_t *data, size_t size)
{
    static const char zeros[PAGE];
    uint32_t count, sizes[2] = {sizeof(FILLER) - 1, 0};
    size_t fixed = sizeof(sizes) + sizes[0];

    memcpy(&count, data, sizeof(count));
    count++;
    sizes[1] = (uint32_t)((PAGE - (fixed + size) % PAGE) % PAGE);
    MUST0(io_write_full(fd, &count, sizeof(count)));
    MUST0(io_write_full(fd, sizes, sizeof(sizes)));
    MUST0(io_write_full(fd, FILLER, sizes[0]));
    MUST0(io_write_full(fd, zeros, sizes[1]));
    MUST0(io_write_full(fd, data + sizeof(count), size - sizeof(count)));
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
    struct step why = {0};
    size_t bytes = 0, files = 0;
    int fd, rc;

    if (size == 0)
        return 0;
    fd = memfd_create("input", MFD_CLOEXEC);
    MUST(fd >= 0);
    if (data[0] % 2 == 1 && size - 1 >= sizeof(uint32_t))
        write_filled(fd, data + 1, size - 1);
    else
        MUST0(io_write_full(fd, data + 1, size - 1));
    rc = unpack_measure(fd, &bytes, &files, &why);
    MUST(rc == 0 || (why.error > 0 && memchr(why.what, 0, sizeof(why.what))));
    if (rc == 0)
        check_unpack(fd);
    close(fd);
    return 0;
}
