/* common/complaint.c -- what is wrong with something a user gave us. */
#include "common/complaint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

static bool is_shown(uint32_t point)
{
    bool control = point < 0x20 || (point >= 0x7f && point < 0xa0);

    return !control && point != 0x2028 && point != 0x2029;
}

/* Copies what a terminal and a log may show; '?' stands for the rest. Ends with
 * "…" where the text does not fit, never inside a character. */
static void copy_shown(char *out, size_t size, const char *text)
{
    static const char more[] = "…";
    size_t len = strlen(text), at = 0, end = 0, fits = 0, step;
    uint32_t point;

    while (at < len) {
        step = utf8_decode(text + at, len - at, &point);
        bool shown = step > 0 && is_shown(point);
        size_t need = shown ? step : 1;

        if (end + need >= size) {
            memcpy(out + fits, more, sizeof more);
            return;
        }
        if (shown)
            memcpy(out + end, text + at, step);
        else
            out[end] = '?';
        at += step > 0 ? step : 1;
        end += need;
        if (end + sizeof more <= size)
            fits = end;
    }
    out[end] = '\0';
}

int complain(struct complaint *c, const char *field, const char *fmt, ...)
{
    /* Roomier than the field, so that what is too long shows as such. */
    char text[2 * sizeof c->text];
    va_list args;

    if (!c)
        return -EINVAL;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    copy_shown(c->text, sizeof c->text, text);
    copy_shown(c->field, sizeof c->field, field ? field : "");
    return -EINVAL;
}

void complaint_print(const struct complaint *c, char *out, unsigned long size)
{
    char both[sizeof c->field + sizeof c->text + 4];

    if (size == 0)
        return;
    snprintf(both, sizeof both, "%s%s%s", c->field, c->field[0] ? ": " : "",
             c->text);
    /* An ellipsis needs four bytes itself. */
    if (size < sizeof "…")
        snprintf(out, size, "%s", "");
    else
        copy_shown(out, size, both);
}
