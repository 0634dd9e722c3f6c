#include "worker/local/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io.h"
#include "worker/local/wire.h"

static void note(struct input *in, int rc)
{
    if (rc < 0 && !in->error)
        in->error = rc;
}

static void put(struct input *in, const void *data, size_t size)
{
    if (in->error)
        return;
    if (size > WIRE_INPUT_MAX - in->size) {
        note(in, -EFBIG);
        return;
    }
    note(in, io_write_full(in->fd, data, size));
    in->size += size;
}

void input_init(struct input *in)
{
    *in = (struct input){0};
    in->fd = memfd_create("capibox-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (in->fd < 0)
        note(in, -errno);
    put(in, &in->count, sizeof(in->count)); /* written again when sealed */
}

void input_fini(struct input *in)
{
    if (in->fd >= 0)
        close(in->fd);
    in->fd = -1;
}

void input_add(struct input *in, const char *folder, const char *path,
               const void *data, size_t size)
{
    size_t folder_len = strlen(folder), path_len = strlen(path);
    uint32_t sizes[2] = {(uint32_t)(folder_len + 1 + path_len), (uint32_t)size};

    if (path_len > WIRE_INPUT_MAX || size > WIRE_INPUT_MAX) {
        note(in, -EFBIG);
        return;
    }
    put(in, sizes, sizeof(sizes));
    put(in, folder, folder_len);
    put(in, "/", 1);
    put(in, path, path_len);
    put(in, data, size);
    in->count++;
}

int input_seal(struct input *in)
{
    int fd = in->fd;

    if (in->error)
        return in->error;
    if (pwrite(fd, &in->count, sizeof(in->count), 0) != sizeof(in->count))
        return -EIO;
    if (fcntl(fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    in->fd = -1;
    return fd;
}
