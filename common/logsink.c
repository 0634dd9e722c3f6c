#include "common/logsink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

static struct {
    pthread_mutex_t lock;
    int fd; /* of our own */
    bool is_socket;
    /* Guarded by lock. */
    bool deaf; /* the last line found no room */
    bool torn; /* a line's end is missing */
    int64_t dropped;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

bool logsink_open(int fd)
{
    char path[40];
    struct stat about;

    if (fstat(fd, &about) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    sink.is_socket = S_ISSOCK(about.st_mode);
    if (sink.is_socket)
        sink.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    else if (S_ISFIFO(about.st_mode))
        sink.fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return sink.fd >= 0;
}

void logsink_close(void)
{
    if (sink.fd >= 0)
        close(sink.fd);
    sink.fd = -1;
    sink.deaf = sink.torn = false;
    sink.dropped = 0;
}

static ssize_t put_some(const char *text, size_t len)
{
    ssize_t put;

    do
        put = sink.is_socket
                  ? send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                  : write(sink.fd, text, len);
    while (put < 0 && errno == EINTR);
    return put;
}

/* How much of it found its way by then. */
static size_t put_until(const char *text, size_t len, int64_t until)
{
    struct pollfd fd = {.fd = sink.fd, .events = POLLOUT};
    size_t done = 0;

    while (done < len) {
        ssize_t put = put_some(text + done, len - done);

        if (put > 0)
            done += (size_t)put;
        else if (errno != EAGAIN || poll(&fd, 1, clock_left_ms(until)) <= 0)
            break;
    }
    return done;
}

/* A pipe takes lines of up to PIPE_BUF whole or not at all; larger ones, and
 * those for a socket, may be cut short. */
static bool put_line(const char *line, size_t len)
{
    int64_t until = clock_ms() + (sink.deaf ? 0 : LOGSINK_WAIT_MS);
    size_t done;

    if (sink.torn && put_until("\n", 1, until) == 1)
        sink.torn = false;
    done = sink.torn ? 0 : put_until(line, len, until);
    sink.deaf = done < len;
    sink.torn = sink.torn || (sink.deaf && done > 0);
    return !sink.deaf;
}

int64_t logsink_put(const char *line, size_t len)
{
    int64_t before = -1;

    pthread_mutex_lock(&sink.lock);
    if (put_line(line, len)) {
        before = sink.dropped;
        sink.dropped = 0;
    } else {
        sink.dropped++;
    }
    pthread_mutex_unlock(&sink.lock);
    return before;
}
