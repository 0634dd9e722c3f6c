/* common/io.c -- reading and writing that does not stop half way. */
#include "common/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"

#define READ_FIRST_BYTES 4096

ssize_t io_read_full(int fd, void *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t got = read(fd, (char *)data + done, size - done);

        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            return -errno;
    }
    return (ssize_t)done;
}

int io_write_full(int fd, const void *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t put = write(fd, (const char *)data + done, size - done);

        if (put > 0)
            done += (size_t)put;
        else if (put == 0)
            return -EIO; /* or we would spin */
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* The size a file claims is only a hint: proc and cgroup files say 0. */
static size_t first_guess(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size < PTRDIFF_MAX)
        return (size_t)st.st_size + 1;
    return READ_FIRST_BYTES;
}

static int read_all(int fd, size_t max_bytes, char **text_out, size_t *size_out)
{
    AUTO_FREE char *text = NULL;
    size_t cap, done = 0;
    /* One byte over the limit tells "exactly full" from "too long". */
    size_t most = max_bytes < PTRDIFF_MAX ? max_bytes + 1 : PTRDIFF_MAX;

    for (cap = first_guess(fd);; cap *= 2) {
        cap = cap < most ? cap : most;
        char *grown = realloc(text, cap + 1);
        if (!grown)
            return -ENOMEM;
        text = grown;
        ssize_t got = io_read_full(fd, text + done, cap - done);
        if (got < 0)
            return (int)got;
        done += (size_t)got;
        if (done > max_bytes)
            return -EFBIG;
        if (done < cap)
            break;
    }
    text[done] = '\0';
    *text_out = TAKE(text);
    if (size_out)
        *size_out = done;
    return 0;
}

int io_read_file_at(int dir_fd, const char *path, size_t max_bytes,
                    char **text_out, size_t *size_out)
{
    AUTO_FD int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return -errno;
    return read_all(fd, max_bytes, text_out, size_out);
}

int io_read_file(const char *path, size_t max_bytes, char **text_out,
                 size_t *size_out)
{
    return io_read_file_at(AT_FDCWD, path, max_bytes, text_out, size_out);
}

int io_write_file(const char *path, const char *text)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
    size_t size = strlen(text);
    ssize_t put;

    if (fd < 0)
        return -errno;
    do
        put = write(fd, text, size);
    while (put < 0 && errno == EINTR);
    if (put < 0)
        return -errno;
    return (size_t)put == size ? 0 : -EIO;
}

void io_hold_stdio(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", O_RDONLY) != fd)
            abort(); /* nothing can be said, either */
}

void io_wake(int event_fd)
{
    uint64_t one = 1;
    ssize_t wrote = write(event_fd, &one, sizeof(one));

    (void)wrote; /* full means that a wake-up is already waiting */
}

union fd_space {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(IO_FDS_MAX * sizeof(int))];
};

int io_send_fds(int socket_fd, const void *data, size_t size, const int *fds,
                size_t nfds)
{
    union fd_space space = {0};
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t sent;

    /* An empty message would look like the end of the file. */
    if (nfds > IO_FDS_MAX || size == 0)
        return -EINVAL;
    if (nfds > 0) {
        message.msg_control = space.bytes;
        message.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, nfds * sizeof(int));
    }
    do
        sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return -errno;
    return (size_t)sent == size ? 0 : -EMSGSIZE;
}

/* Puts each descriptor of the message in its slot. False if there were more
 * than slots; those are closed. */
static bool collect_fds(struct msghdr *message, int *fds, size_t nfds)
{
    struct cmsghdr *head;
    size_t used = 0;
    bool fit = true;

    for (head = CMSG_FIRSTHDR(message); head;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (used < nfds) {
                fds[used++] = fd;
            } else {
                close(fd);
                fit = false;
            }
        }
    }
    return fit;
}

ssize_t io_recv_fds(int socket_fd, void *data, size_t size, int *fds,
                    size_t nfds)
{
    union fd_space space;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space.bytes};
    ssize_t got;

    if (nfds > IO_FDS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < nfds; i++)
        fds[i] = -1;
    message.msg_controllen = nfds > 0 ? CMSG_SPACE(nfds * sizeof(int)) : 0;
    do
        got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    bool fit = collect_fds(&message, fds, nfds);
    if (fit && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return got;
    for (size_t i = 0; i < nfds; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
    return -EMSGSIZE;
}
