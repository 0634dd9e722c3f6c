/* common/log.c -- lines on stderr for whoever runs the programs. */
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/logsink.h"
#include "common/utf8.h"

#define LINE_BYTES_MAX 8192
/* Kept free for what ends a line: an ellipsis, quotes, "cut", brace, newline.
 */
#define LINE_END_BYTES 24

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
    bool json, never_blocks;
    enum log_level least;
} setup = {.least = LOG_INFO};

struct line {
    char text[LINE_BYTES_MAX];
    size_t len;
    bool cut; /* the ellipsis is in: nothing but the end may follow */
};

void log_setup(bool json, enum log_level least)
{
    setup.json = json;
    setup.least = least;
}

void log_never_block(void)
{
    setup.never_blocks = logsink_open(STDERR_FILENO);
}

/* What may still go in. Closing quotes come from the bytes kept free, so len
 * may already be past the border. */
static size_t room(const struct line *line)
{
    size_t most = sizeof line->text - LINE_END_BYTES;

    return line->len < most ? most - line->len : 0;
}

/* All of data, or an ellipsis and nothing ever after. */
static void put(struct line *line, const char *data, size_t len)
{
    static const char more[] = "…";

    if (line->cut)
        return;
    if (len > room(line)) {
        data = more;
        len = sizeof more - 1;
        line->cut = true;
    }
    memcpy(line->text + line->len, data, len);
    line->len += len;
}

static void puts_to(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Into the bytes kept free. */
static void put_end(struct line *line, const char *text)
{
    size_t len = strlen(text);

    memcpy(line->text + line->len, text, len);
    line->len += len;
}

/* What could move the cursor, start a new line or turn the text around. */
static bool is_shown(uint32_t point)
{
    return point >= 0x20 && !(point >= 0x7f && point < 0xa0) &&
           !(point >= 0x2028 && point <= 0x202e) &&
           !(point >= 0x2066 && point <= 0x2069);
}

/* The character at text into out, escaped where it must be (and where quotes
 * are around it). Returns how many bytes of text it was; *escaped_out says
 * whether it is another now. */
static size_t escape(const char *text, size_t left, bool quoted, char out[16],
                     bool *escaped_out)
{
    uint32_t point = 0;
    size_t step = utf8_decode(text, left, &point);

    *escaped_out = true;
    if (step == 0)
        snprintf(out, 16, setup.json ? "\\\\x%02x" : "\\x%02x",
                 (unsigned char)*text);
    else if (quoted && (point == '"' || point == '\\'))
        snprintf(out, 16, "\\%c", (char)point);
    else if (point == '\n')
        snprintf(out, 16, "\\n");
    else if (!is_shown(point))
        snprintf(out, 16, "\\u%04x", point);
    else {
        *escaped_out = false;
        memcpy(out, text, step);
        out[step] = '\0';
    }
    return step > 0 ? step : 1;
}

static void put_escaped(struct line *line, const char *text, bool quoted)
{
    char one[16];
    bool escaped;

    for (size_t left = strlen(text); left > 0 && !line->cut;) {
        size_t step = escape(text, left, quoted, one, &escaped);

        puts_to(line, one);
        text += step;
        left -= step;
    }
}

static void put_quoted(struct line *line, const char *text)
{
    put(line, "\"", 1);
    put_escaped(line, text, true);
    put_end(line, "\"");
}

/* Could this be taken for something else when it stands bare in a text line? */
static bool needs_quotes(const char *text)
{
    char one[16];
    bool escaped = text[0] == '\0';

    for (size_t left = strlen(text); left > 0 && !escaped;) {
        size_t step = escape(text, left, true, one, &escaped);

        if (*text == ' ' || *text == '=')
            return true;
        text += step;
        left -= step;
    }
    return escaped;
}

static void put_number(struct line *line, const struct log_field *field)
{
    char number[40];

    if (field->kind == LOG_KIND_INT)
        snprintf(number, sizeof number, "%" PRId64, field->integer);
    else if (isfinite(field->real))
        snprintf(number, sizeof number, "%.15g", field->real);
    else /* JSON has no word for it */
        snprintf(number, sizeof number, "null");
    puts_to(line, number);
}

static void put_field(struct line *line, const struct log_field *field)
{
    const char *text = field->text ? field->text : "";
    /* Name and the first bytes of the value, or neither: a cut JSON line stays
     * JSON, and a cut text line has no lonely name. */
    if (room(line) < strlen(field->name) + 48) {
        if (!setup.json)
            put(line, line->text, sizeof line->text); /* just the ellipsis */
        line->cut = true;
    }
    if (line->cut)
        return;
    puts_to(line, setup.json ? ",\"" : " ");
    puts_to(line, field->name);
    puts_to(line, setup.json ? "\":" : "=");
    if (field->kind != LOG_KIND_TEXT)
        put_number(line, field);
    else if (setup.json || needs_quotes(text))
        put_quoted(line, text);
    else
        put_escaped(line, text, false);
}

static void put_head(struct line *line, enum log_level level,
                     const char *message)
{
    struct timespec now;
    struct tm parts;
    char when[40], head[80];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(head, sizeof head,
             setup.json
                 ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":"
                 : "%s.%03ldZ %-5s ",
             when, now.tv_nsec / 1000000, level_names[level]);
    puts_to(line, head);
    if (setup.json)
        put_quoted(line, message);
    else
        put_escaped(line, message, false);
}

/* What cannot be written is dropped: a program must not stop because nobody
 * reads its log. */
static void write_line(const struct line *line)
{
    ssize_t put;

    if (setup.never_blocks) {
        int64_t dropped = logsink_put(line->text, line->len);

        if (dropped > 0)
            log_warn("nobody read the log for a while: lines are missing above",
                     LOG_I("lines", dropped), LOG_END);
        return;
    }
    do
        put = write(STDERR_FILENO, line->text, line->len);
    while (put < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *message, ...)
{
    struct line line;
    struct log_field field;
    va_list fields;
    int saved = errno;

    if (level < setup.least)
        return;
    line.len = 0;
    line.cut = false;
    put_head(&line, level, message ? message : "");
    va_start(fields, message);
    for (;;) {
        field = va_arg(fields, struct log_field);
        if (field.kind == LOG_KIND_END)
            break;
        put_field(&line, &field);
    }
    va_end(fields);
    if (setup.json)
        put_end(&line, line.cut ? ",\"cut\":true}" : "}");
    put_end(&line, "\n");
    write_line(&line);
    errno = saved;
}
