/* common/strbuf.c -- text that grows. */
#include "common/strbuf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define STRBUF_CAP_MIN 64

void strbuf_fini(struct strbuf *sb)
{
    free(sb->text);
    *sb = (struct strbuf)STRBUF_INIT;
}

void strbuf_clear(struct strbuf *sb)
{
    sb->len = 0;
    sb->failed = false;
    if (sb->text)
        sb->text[0] = '\0';
}

char *strbuf_room(struct strbuf *sb, size_t len)
{
    size_t cap;
    char *text;

    if (sb->failed)
        return NULL;
    if (sb->text && len < sb->cap - sb->len)
        return sb->text + sb->len;
    /* Half the address space: neither the sum nor the doubling can wrap. */
    if (len >= SIZE_MAX / 4 - sb->len) {
        sb->failed = true;
        return NULL;
    }
    cap = sb->cap ? sb->cap : STRBUF_CAP_MIN;
    while (cap - sb->len <= len)
        cap *= 2;
    text = realloc(sb->text, cap);
    if (!text) {
        sb->failed = true;
        return NULL;
    }
    text[sb->len] = '\0';
    sb->text = text;
    sb->cap = cap;
    return text + sb->len;
}

void strbuf_add(struct strbuf *sb, const void *data, size_t len)
{
    char *room = strbuf_room(sb, len);

    if (!room)
        return;
    if (len > 0) /* data may be NULL then */
        memcpy(room, data, len);
    room[len] = '\0';
    sb->len += len;
}

void strbuf_adds(struct strbuf *sb, const char *text)
{
    strbuf_add(sb, text, strlen(text));
}

void strbuf_addc(struct strbuf *sb, char c)
{
    strbuf_add(sb, &c, 1);
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    strbuf_vaddf(sb, fmt, args);
    va_end(args);
}

void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list args)
{
    va_list again;
    size_t left;
    int len;

    if (!strbuf_room(sb, 0))
        return;
    va_copy(again, args);
    left = sb->cap - sb->len;
    len = vsnprintf(sb->text + sb->len, left, fmt, args);
    if (len >= 0 && (size_t)len >= left) {
        sb->text[sb->len] = '\0'; /* whole or not at all */
        if (strbuf_room(sb, (size_t)len))
            vsnprintf(sb->text + sb->len, (size_t)len + 1, fmt, again);
    }
    va_end(again);
    if (len < 0) {
        sb->text[sb->len] = '\0';
        sb->failed = true;
    }
    if (!sb->failed)
        sb->len += (size_t)len;
}

/* Bytes that a JSON string cannot hold as they are, or that need a look. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void add_json_escape(struct strbuf *sb, uint32_t point)
{
    static const char named[][2] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'},
                                    {'\r', 'r'}, {'\t', 't'},  {'\b', 'b'},
                                    {'\f', 'f'}};

    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (point == (unsigned char)named[i][0]) {
            strbuf_add(sb, (char[]){'\\', named[i][1]}, 2);
            return;
        }
    }
    strbuf_addf(sb, "\\u%04x", point);
}

static void add_json_bad_byte(struct strbuf *sb, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";

    strbuf_add(sb, (char[]){'\\', '\\', 'x', hex[byte >> 4], hex[byte & 15]},
               5);
}

/* How many bytes from text on can be copied as they are. */
static size_t json_run(const char *text, size_t len)
{
    size_t at = 0, step;
    uint32_t point;

    while (at < len) {
        if (is_plain((unsigned char)text[at])) {
            at++;
            continue;
        }
        if ((unsigned char)text[at] < 0x80)
            break;
        step = utf8_decode(text + at, len - at, &point);
        if (step == 0 || point == 0x2028 || point == 0x2029)
            break;
        at += step;
    }
    return at;
}

void strbuf_add_json(struct strbuf *sb, const void *data, size_t len)
{
    const char *text = data;
    uint32_t point;
    size_t run, step;

    /* Most text needs no escape: one allocation for all of it. */
    if (len < SIZE_MAX / 4)
        strbuf_room(sb, len + 2);
    strbuf_addc(sb, '"');
    for (size_t at = 0; at < len && !sb->failed;) {
        run = json_run(text + at, len - at);
        strbuf_add(sb, text + at, run);
        at += run;
        if (at == len)
            break;
        step = utf8_decode(text + at, len - at, &point);
        if (step > 0)
            add_json_escape(sb, point);
        else
            add_json_bad_byte(sb, (unsigned char)text[at]);
        at += step > 0 ? step : 1;
    }
    strbuf_addc(sb, '"');
}

/* Our own, because capibox-sandboxd builds text too and links no OpenSSL. */
void strbuf_add_base64(struct strbuf *sb, const void *data, size_t len)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    size_t size = len < SIZE_MAX / 8 ? (len + 2) / 3 * 4 : SIZE_MAX / 2;
    char *out = strbuf_room(sb, size);
    size_t at = 0;

    if (!out)
        return;
    for (; len - at >= 3; at += 3) {
        uint32_t bits = (uint32_t)in[at] << 16 | in[at + 1] << 8 | in[at + 2];

        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = digits[bits >> 6 & 63];
        *out++ = digits[bits & 63];
    }
    if (at < len) {
        bool two = len - at == 2;
        uint32_t bits = (uint32_t)in[at] << 16 | (two ? in[at + 1] << 8 : 0);

        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = two ? digits[bits >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out = '\0';
    sb->len += size;
}

char *strbuf_take(struct strbuf *sb)
{
    bool failed = !strbuf_room(sb, 0); /* "" must be memory of its own too */
    char *text = sb->text;

    if (failed) {
        free(text);
        text = NULL;
    }
    *sb = (struct strbuf){.failed = failed};
    return text;
}
