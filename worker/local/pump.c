#include "worker/local/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "worker/frames.h"

#define READ_BYTES   (64u << 10)
#define READS_MAX    16    /* of one pipe before the others get their turn */
#define DRAIN_MS     50    /* after the last process is gone */
#define BACKSTOP_MS  15000 /* past the timeout: sandboxd must be hung */
#define RESULT_FLOOD ((uint64_t)PUMP_FLOOD * RESULT_BYTES_MAX)

enum { SLOT_JOB = PUMP_PIPES, SLOT_EVENT, SLOTS };

struct state {
    const struct pump *p;
    struct outcome *o;
    struct frames frames;
    struct wire_ended *ended;
    size_t stdin_at;
    uint64_t result_bytes;
    bool has_ended, killed;
    int64_t deadline_ms;
};

static void close_pipe(const struct pump *p, int which)
{
    if (p->pipes[which] >= 0)
        close(p->pipes[which]);
    p->pipes[which] = -1;
}

static void send_word(const struct pump *p, uint32_t kind, int32_t reason)
{
    struct wire_word word = {.kind = kind, .reason = reason};

    /* If sandboxd is gone, reading the socket says so. */
    io_send_fds(p->job_fd, &word, sizeof(word), NULL, 0);
}

static void kill_once(struct state *s, int32_t reason)
{
    if (!s->killed)
        send_word(s->p, WIRE_KILL, reason);
    s->killed = true;
}

static void take_output(struct state *s, bool is_stderr, const char *data,
                        size_t size)
{
    struct capture *c = is_stderr ? &s->o->err : &s->o->out;
    const struct run_sink *sink = s->p->sink;

    /* What is dropped from the result is not streamed either. */
    if (sink && sink->output && c->total < (uint64_t)s->p->output_limit)
        sink->output(sink->ctx, is_stderr, data, size);
    capture_add(c, data, size);
    if (c->total > (uint64_t)s->p->output_limit * PUMP_FLOOD)
        kill_once(s, WIRE_OUTPUT);
}

static int take_result(struct state *s, const char *data, size_t size)
{
    s->result_bytes += size;
    if (s->result_bytes > RESULT_FLOOD)
        kill_once(s, WIRE_OUTPUT);
    return frames_feed(&s->frames, data, size);
}

static int read_pipe(struct state *s, int which)
{
    char data[READ_BYTES];

    for (int i = 0; i < READS_MAX; i++) {
        ssize_t got = read(s->p->pipes[which], data, sizeof(data));

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (got <= 0) {
            close_pipe(s->p, which);
            return 0;
        }
        if (which == PUMP_RESULT) {
            int rc = take_result(s, data, (size_t)got);
            if (rc < 0)
                return rc;
        } else {
            take_output(s, which == PUMP_STDERR, data, (size_t)got);
        }
    }
    return 0;
}

static void write_stdin(struct state *s)
{
    const struct job *job = s->p->job;
    size_t left = job->stdin_bytes - s->stdin_at;

    if (left > 0) {
        ssize_t put =
            write(s->p->pipes[PUMP_STDIN], job->stdin_text + s->stdin_at, left);

        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (put >= 0)
            s->stdin_at += (size_t)put;
        left = put < 0 ? 0 : left - (size_t)put;
    }
    if (left == 0)
        close_pipe(s->p, PUMP_STDIN);
}

static int read_job_socket(struct state *s)
{
    struct wire_ended m;
    ssize_t got = io_recv_fds(s->p->job_fd, &m, sizeof(m), NULL, 0);

    if (got <= 0)
        return -EPIPE;
    if (got != sizeof(m) || m.kind != WIRE_ENDED)
        return -EPROTO;
    *s->ended = m;
    s->has_ended = true;
    s->deadline_ms = clock_ms() + DRAIN_MS;
    return 0;
}

static void read_event(struct state *s)
{
    uint64_t count;

    (void)!read(s->p->event_fd, &count, sizeof(count));
    kill_once(s, s->p->reason(s->p->reason_ctx));
}

static void fill_slots(const struct state *s, struct pollfd *slots)
{
    for (int i = 0; i < PUMP_PIPES; i++)
        slots[i] = (struct pollfd){
            .fd = s->p->pipes[i],
            .events = i == PUMP_STDIN ? POLLOUT : POLLIN,
        };
    slots[SLOT_JOB] = (struct pollfd){
        .fd = s->has_ended ? -1 : s->p->job_fd,
        .events = POLLIN,
    };
    slots[SLOT_EVENT] = (struct pollfd){
        .fd = s->has_ended ? -1 : s->p->event_fd,
        .events = POLLIN,
    };
}

static int serve_round(struct state *s)
{
    struct pollfd slots[SLOTS];
    int rc = 0;

    fill_slots(s, slots);
    if (poll(slots, SLOTS, clock_left_ms(s->deadline_ms)) < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = PUMP_STDOUT; rc == 0 && i < PUMP_PIPES; i++)
        if (slots[i].revents)
            rc = read_pipe(s, i);
    if (rc == 0 && slots[PUMP_STDIN].revents)
        write_stdin(s);
    if (rc == 0 && slots[SLOT_JOB].revents)
        rc = read_job_socket(s);
    if (rc == 0 && slots[SLOT_EVENT].revents)
        read_event(s);
    return rc;
}

static bool is_drained(const struct state *s)
{
    return s->p->pipes[PUMP_STDOUT] < 0 && s->p->pipes[PUMP_STDERR] < 0 &&
           s->p->pipes[PUMP_RESULT] < 0;
}

static int pump(struct state *s)
{
    while (!s->has_ended || !is_drained(s)) {
        int rc = serve_round(s);

        if (rc < 0)
            return rc;
        if (clock_ms() >= s->deadline_ms)
            return s->has_ended ? 0 : -ETIMEDOUT;
    }
    return 0;
}

static int set_nonblocking(const struct pump *p)
{
    for (int i = 0; i < PUMP_PIPES; i++)
        if (fcntl(p->pipes[i], F_SETFL, O_NONBLOCK) < 0)
            return -errno;
    return 0;
}

int pump_run(const struct pump *p, struct outcome *o,
             struct wire_ended *ended_out)
{
    struct state s = {.p = p, .o = o, .ended = ended_out};
    int rc = set_nonblocking(p);

    if (rc == 0)
        rc = frames_init(&s.frames, o);
    if (rc < 0)
        return rc;
    if (!p->job->stdin_bytes)
        close_pipe(p, PUMP_STDIN);
    s.deadline_ms = clock_ms() + p->timeout_ms + BACKSTOP_MS;
    send_word(p, WIRE_RUN, 0);
    rc = pump(&s);
    frames_end(&s.frames);
    frames_fini(&s.frames);
    return rc;
}
