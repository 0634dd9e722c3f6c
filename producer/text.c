#include "producer/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/utf8.h"

static bool unprintable(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) ||
           (code >= 0x200e && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0x061c ||
           code == 0xfeff;
}

static void escape(struct strbuf *out, const char *text, size_t len,
                   const char *keep)
{
    for (size_t i = 0; i < len;) {
        uint32_t code = 0;
        size_t n = utf8_decode(text + i, len - i, &code);

        if (n > 0 && (!unprintable(code) ||
                      (n == 1 && code && strchr(keep, (int)code)))) {
            strbuf_add(out, text + i, n);
            i += n;
            continue;
        }
        for (size_t end = i + (n ? n : 1); i < end; i++)
            strbuf_addf(out, "\\x%02x", (unsigned char)text[i]);
    }
}

void text_escape(struct strbuf *out, const char *text, size_t len)
{
    escape(out, text, len, "");
}

/* ---- a job's output on a terminal --------------------------------------- */

enum tame { TAME_RAW, TAME_ESCAPED, TAME_UNFINISHED };

/* ESC [ 1;31 m: colours and the like, which stay where they are. */
static enum tame judge_escape(const char *text, size_t size, size_t *len_out)
{
    size_t len = 1;

    *len_out = 1;
    if (len < size && text[len] != '[')
        return TAME_ESCAPED;
    if (len < size)
        len++;
    while (len < size && len < TEXT_HELD_MAX && text[len] &&
           strchr("0123456789;:", text[len]))
        len++;
    if (len == TEXT_HELD_MAX)
        return TAME_ESCAPED;
    if (len == size)
        return TAME_UNFINISHED;
    if (text[len] != 'm')
        return TAME_ESCAPED;
    *len_out = len + 1;
    return TAME_RAW;
}

/* Do these bytes, fewer than a character has, begin one? */
static bool begins_character(const char *text, size_t size)
{
    char whole[4];
    uint32_t point;

    if (size >= sizeof(whole))
        return false;
    for (int low = 0x80; low <= 0xbf; low += 0x10) { /* of the second byte */
        memset(whole, 0x80, sizeof(whole));
        memcpy(whole, text, size);
        if (size == 1)
            whole[1] = (char)low;
        if (utf8_decode(whole, sizeof(whole), &point) > size)
            return true;
    }
    return false;
}

static enum tame judge(const char *text, size_t size, size_t *len_out)
{
    uint32_t point = 0;
    size_t len = utf8_decode(text, size, &point);

    *len_out = len ? len : 1;
    if (len == 0)
        return begins_character(text, size) ? TAME_UNFINISHED : TAME_ESCAPED;
    if (point == 0x1b)
        return judge_escape(text, size, len_out);
    if (point == '\n' || point == '\t' || point == '\r')
        return TAME_RAW;
    return point < 0x20 || (point >= 0x7f && point < 0xa0) ? TAME_ESCAPED
                                                           : TAME_RAW;
}

static void note_colour(struct text_tamer *t, const char *text, size_t len)
{
    if (*text == 0x1b)
        t->coloured = len != 3 && !(len == 4 && text[2] == '0');
}

static void tame(struct text_tamer *t, struct strbuf *out, const char *text,
                 size_t size, bool last)
{
    for (size_t i = 0, len; i < size; i += len) {
        enum tame is = judge(text + i, size - i, &len);

        if (is == TAME_UNFINISHED && !last) {
            t->nheld = size - i;
            memcpy(t->held, text + i, t->nheld);
            return;
        }
        if (is == TAME_RAW) {
            strbuf_add(out, text + i, len);
            note_colour(t, text + i, len);
            continue;
        }
        for (size_t j = 0; j < len; j++)
            strbuf_addf(out, "\\x%02x", (unsigned char)text[i + j]);
    }
}

void text_tame(struct text_tamer *t, struct strbuf *out, const char *data,
               size_t size)
{
    AUTO_STRBUF struct strbuf all = STRBUF_INIT;

    strbuf_add(&all, t->held, t->nheld);
    strbuf_add(&all, data, size);
    t->nheld = 0;
    if (!all.failed && all.len > 0)
        tame(t, out, all.text, all.len, false);
}

void text_tame_end(struct text_tamer *t, struct strbuf *out)
{
    tame(t, out, t->held, t->nheld, true);
    t->nheld = 0;
    if (t->coloured)
        strbuf_adds(out, "\033[0m");
    t->coloured = false;
}

static void put_indented(FILE *out, const char *text, int indent)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        AUTO_STRBUF struct strbuf line = STRBUF_INIT;

        escape(&line, text, len, "\t");
        fprintf(out, "%*s%s\n", indent, "", line.text ? line.text : "");
        text += len;
        if (*text)
            text++;
    }
}

void text_put(FILE *out, const char *text, int indent)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT;

    if (indent >= 0) {
        put_indented(out, text, indent);
        return;
    }
    text_escape(&line, text, strlen(text));
    fputs(line.text ? line.text : "", out);
}

void text_say(const char *fmt, ...)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT;
    va_list args;

    va_start(args, fmt);
    strbuf_vaddf(&line, fmt, args);
    va_end(args);
    fputs("capibox: ", stderr);
    text_put(stderr, line.text ? line.text : "out of memory", -1);
    fputc('\n', stderr);
}

void text_cut(char *out, size_t size, const char *text)
{
    static const char more[] = "…";
    size_t len = strlen(text), end = size - sizeof(more);

    if (len < size) {
        memcpy(out, text, len + 1);
        return;
    }
    while (end > 0 && ((unsigned char)text[end] >> 6) == 2)
        end--;
    memcpy(out, text, end);
    memcpy(out + end, more, sizeof(more));
}

const char *text_seconds(char out[TEXT_SHORT], double s)
{
    if (!isfinite(s) || s < 0)
        snprintf(out, TEXT_SHORT, "?");
    else if (s < 0.9995)
        snprintf(out, TEXT_SHORT, s < 0.01 ? "%.1f ms" : "%.0f ms", s * 1e3);
    else if (s < 120)
        snprintf(out, TEXT_SHORT, s < 10 ? "%.2f s" : "%.1f s", s);
    else if (s < 3600)
        snprintf(out, TEXT_SHORT, "%.0f min %.0f s", floor(s / 60),
                 floor(fmod(s, 60)));
    else if (s < 172800)
        snprintf(out, TEXT_SHORT, "%.0f h %.0f min", floor(s / 3600),
                 floor(fmod(s, 3600) / 60));
    else
        snprintf(out, TEXT_SHORT, "%.4g days", s / 86400);
    return out;
}

const char *text_bytes(char out[TEXT_SHORT], double bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    size_t unit = 0;

    while (bytes >= 1000 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, TEXT_SHORT, unit && bytes < 9.95 ? "%.1f %s" : "%.0f %s",
             bytes, units[unit]);
    return out;
}

void grid_cell(struct grid *g, const char *fmt, ...)
{
    AUTO_STRBUF struct strbuf raw = STRBUF_INIT;
    AUTO_STRBUF struct strbuf cell = STRBUF_INIT;
    va_list args;

    if (g->count == GRID_CELLS_MAX)
        return;
    if (g->count == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 64;
        char **cells = realloc(g->cells, cap * sizeof(*cells));

        if (!cells)
            return;
        g->cells = cells;
        g->cap = cap;
    }
    va_start(args, fmt);
    strbuf_vaddf(&raw, fmt, args);
    va_end(args);
    text_escape(&cell, raw.text ? raw.text : "", raw.len);
    g->cells[g->count++] = strbuf_take(&cell);
}

/* Columns of a terminal, near enough: one per character. */
static int width(const char *cell)
{
    int n = 0;

    for (; cell && *cell; cell++)
        n += ((unsigned char)*cell >> 6) != 2;
    return n;
}

void grid_print(struct grid *g, FILE *out)
{
    int widths[GRID_COLUMNS_MAX] = {0};
    size_t columns = (size_t)g->columns;

    for (size_t i = 0; i < g->count; i++) {
        int w = width(g->cells[i]);

        if (w > widths[i % columns])
            widths[i % columns] = w;
    }
    for (size_t i = 0; i < g->count; i++) {
        bool last = i % columns == columns - 1 || i + 1 == g->count;
        const char *cell = g->cells[i] ? g->cells[i] : "";

        fputs(cell, out);
        if (last)
            fputc('\n', out);
        else
            fprintf(out, "%*s", widths[i % columns] - width(cell) + 2, "");
    }
    grid_fini(g);
}

void grid_fini(struct grid *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->cells[i]);
    free(g->cells);
    g->cells = NULL;
    g->count = g->cap = 0;
}
