/* common/outcome.c -- what became of one run: facts, output, verdict. */
#include "common/outcome.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const verdict_names[VERDICT_COUNT] = {
    [VERDICT_NONE] = "",
    [VERDICT_OK] = "ok",
    [VERDICT_USER_ERROR] = "user_error",
    [VERDICT_TIMEOUT] = "timeout",
    [VERDICT_OOM] = "oom",
    [VERDICT_PIDS_LIMIT] = "pids_limit",
    [VERDICT_DISK_LIMIT] = "disk_limit",
    [VERDICT_OUTPUT_LIMIT] = "output_limit",
    [VERDICT_SIGNAL] = "signal",
    [VERDICT_DENIED_SYSCALL] = "denied_syscall",
    [VERDICT_CANCELLED] = "cancelled",
    [VERDICT_EXPIRED] = "expired",
    [VERDICT_REJECTED] = "rejected",
    [VERDICT_SETUP_FAILED] = "setup_failed",
    [VERDICT_BACKEND_ERROR] = "backend_error",
    [VERDICT_LOST] = "lost",
};

const char *verdict_name(enum verdict verdict)
{
    return (unsigned)verdict < VERDICT_COUNT ? verdict_names[verdict] : "";
}

enum verdict verdict_from_name(const char *name)
{
    for (int i = VERDICT_NONE + 1; i < VERDICT_COUNT; i++)
        if (strcmp(name, verdict_names[i]) == 0)
            return (enum verdict)i;
    return VERDICT_NONE;
}

const char *verdict_status(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_OK:
        return "succeeded";
    case VERDICT_CANCELLED:
        return "cancelled";
    case VERDICT_EXPIRED:
        return "expired";
    case VERDICT_SETUP_FAILED:
    case VERDICT_BACKEND_ERROR:
    case VERDICT_LOST:
        return "dead";
    default:
        return "failed";
    }
}

bool verdict_retryable(enum verdict verdict)
{
    return verdict == VERDICT_SETUP_FAILED || verdict == VERDICT_BACKEND_ERROR;
}

/* ---- captured streams ------------------------------------------------- */

int capture_init(struct capture *c, size_t limit)
{
    /* The ring comes with the first byte that needs it: most jobs are short. */
    *c = (struct capture){.limit = limit, .ring_size = limit / 4};
    return 0;
}

void capture_fini(struct capture *c)
{
    strbuf_fini(&c->head);
    free(c->ring);
    *c = (struct capture){0};
}

/* Overwrites the oldest bytes of the ring; returns how many were. */
static size_t ring_add(struct capture *c, const char *data, size_t size)
{
    size_t lost = 0, first;

    if (size > c->ring_size) {
        lost = size - c->ring_size;
        data += lost;
        size = c->ring_size;
    }
    if (c->ring_len + size > c->ring_size) {
        size_t over = c->ring_len + size - c->ring_size;

        c->ring_at = (c->ring_at + over) % c->ring_size;
        c->ring_len -= over;
        lost += over;
    }
    size_t end = (c->ring_at + c->ring_len) % c->ring_size;

    first = size < c->ring_size - end ? size : c->ring_size - end;
    memcpy(c->ring + end, data, first);
    memcpy(c->ring, data + first, size - first);
    c->ring_len += size;
    return lost;
}

void capture_add(struct capture *c, const char *data, size_t size)
{
    size_t head_limit = c->limit - c->ring_size;
    size_t room = c->head.len < head_limit ? head_limit - c->head.len : 0;
    size_t first = size < room ? size : room;

    c->total += size;
    if (first > 0 && !c->head.failed) {
        strbuf_add(&c->head, data, first);
        if (c->head.failed)
            c->dropped += first;
    } else {
        c->dropped += first;
    }
    data += first;
    size -= first;
    if (size == 0)
        return;
    if (!c->ring && c->ring_size > 0)
        c->ring = malloc(c->ring_size);
    c->dropped += c->ring ? ring_add(c, data, size) : size;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static size_t torn_at_start(const struct capture *c)
{
    size_t n = 0;

    while (n < 3 && n < c->ring_len &&
           is_continuation(c->ring[(c->ring_at + n) % c->ring_size]))
        n++;
    return n;
}

/* Only whole characters stand beside the gap. */
static void trim_gap(struct capture *c)
{
    size_t torn = utf8_torn_at_end(c->head.text, c->head.len);

    c->head.len -= torn;
    c->dropped += torn;
    torn = torn_at_start(c);
    if (torn > 0) {
        c->ring_at = (c->ring_at + torn) % c->ring_size;
        c->ring_len -= torn;
        c->dropped += torn;
    }
}

/* Moves the ring's bytes to the end of out, in order. */
static void drain_ring(struct capture *c, struct strbuf *out)
{
    size_t first = c->ring_size - c->ring_at;

    if (first > c->ring_len)
        first = c->ring_len;
    strbuf_add(out, c->ring + c->ring_at, first);
    strbuf_add(out, c->ring, c->ring_len - first);
}

void capture_to_json(struct capture *c, struct strbuf *out)
{
    struct strbuf tail = STRBUF_INIT;

    if (c->dropped > 0)
        trim_gap(c);
    if (c->ring_len > 0)
        drain_ring(c, c->dropped > 0 ? &tail : &c->head);
    if (c->dropped == 0)
        c->ring_at = c->ring_len = 0;
    strbuf_addc(out, '[');
    if (c->head.len > 0)
        strbuf_add_json(out, c->head.text, c->head.len);
    if (c->head.len > 0 && tail.len > 0)
        strbuf_addc(out, ',');
    if (tail.len > 0)
        strbuf_add_json(out, tail.text, tail.len);
    strbuf_addc(out, ']');
    if (c->head.failed || tail.failed)
        out->failed = true;
    strbuf_fini(&tail);
}

/* ---- the outcome ------------------------------------------------------ */

int outcome_init(struct outcome *o, size_t output_limit_bytes)
{
    memset(o, 0, sizeof *o);
    o->exit_code = -1;
    capture_init(&o->out, output_limit_bytes);
    return capture_init(&o->err, output_limit_bytes);
}

void outcome_fini(struct outcome *o)
{
    capture_fini(&o->out);
    capture_fini(&o->err);
    free(o->error);
    free(o->error_name);
    free(o->error_value);
    free(o->error_traceback);
    strbuf_fini(&o->results);
    strbuf_fini(&o->files);
    for (size_t i = 0; i < o->nwarnings; i++)
        free(o->warnings[i]);
    memset(o, 0, sizeof *o);
}

/* At most ERROR_TEXT_MAX bytes of it, whole characters only; NULL on no memory.
 */
__attribute__((format(printf, 1, 0))) static char *print_short(const char *fmt,
                                                               va_list args)
{
    char *text = NULL;
    size_t len;

    if (vasprintf(&text, fmt, args) < 0)
        return NULL;
    len = strnlen(text, ERROR_TEXT_MAX + 1);
    if (len > ERROR_TEXT_MAX) {
        len = ERROR_TEXT_MAX - strlen("…");
        len -= utf8_torn_at_end(text, len);
        strcpy(text + len, "…");
    }
    return text;
}

void outcome_error(struct outcome *o, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = print_short(fmt, args); /* may quote the one it replaces */
    va_end(args);
    free(o->error);
    o->error = text;
}

void outcome_warn(struct outcome *o, const char *fmt, ...)
{
    va_list args;
    char *text;

    if (o->nwarnings == JOB_WARNINGS_MAX)
        return;
    va_start(args, fmt);
    text = print_short(fmt, args);
    va_end(args);
    if (text)
        o->warnings[o->nwarnings++] = text;
}
