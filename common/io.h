/* common/io.h -- reading and writing that does not stop half way.
 *
 * Errors: negated errno. EINTR is retried everywhere.
 */
#ifndef COMMON_IO_H
#define COMMON_IO_H

#include <stdint.h>
#include <sys/types.h>

/* Reads up to size bytes, stopping only at end of file. Returns how many. */
ssize_t io_read_full(int fd, void *data, size_t size);

/* Writes all of it, or fails. */
int io_write_full(int fd, const void *data, size_t size);

/* A whole file of at most max_bytes, with a NUL behind it (not counted in
 * size_out, which may be NULL). -EFBIG if it is larger. Caller frees. */
int io_read_file(const char *path, size_t max_bytes, char **text_out,
                 size_t *size_out);

/* The same below a folder's fd. */
int io_read_file_at(int dir_fd, const char *path, size_t max_bytes,
                    char **text_out, size_t *size_out);

/* Writes text to an existing file (cgroup and proc files: one write()). */
int io_write_file(const char *path, const char *text);

/* First of all in main(): no descriptor that is opened later, a socket say, may
 * get the number of a standard stream that was closed, and with it what is
 * printed. Such a stream is one that cannot be written to (EBADF). */
void io_hold_stdio(void);

/* Makes an eventfd readable; never blocks. */
void io_wake(int event_fd);

/* Descriptors one message may carry; more is -EINVAL. */
#define IO_FDS_MAX 16

/* Sends `size` bytes (at least 1) with up to nfds descriptors as one message on
 * a SOCK_SEQPACKET socket, or receives one. recv returns the byte count, 0 at
 * end of file; received fds are O_CLOEXEC, unused slots -1; -EMSGSIZE and all
 * fds closed if bytes or fds were truncated. */
int io_send_fds(int socket_fd, const void *data, size_t size, const int *fds,
                size_t nfds);
ssize_t io_recv_fds(int socket_fd, void *data, size_t size, int *fds,
                    size_t nfds);

#endif
