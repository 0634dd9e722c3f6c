/* common/utf8.h -- one strict UTF-8 decoder for everything that needs one.
 *
 * Strict as in RFC 3629: no overlong forms, no surrogates, nothing above
 * U+10FFFF.
 */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character at text (1..4), of `size` bytes there; 0 if they are
 * not one. *point_out gets the code point. size must not be 0. */
static inline size_t utf8_decode(const char *text, size_t size,
                                 uint32_t *point_out)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *byte = (const unsigned char *)text;
    uint32_t point = byte[0];
    size_t len;

    if (point < 0x80) {
        *point_out = point;
        return 1;
    }
    if (point < 0xc2 || point > 0xf4)
        return 0;
    len = point < 0xe0 ? 2 : point < 0xf0 ? 3 : 4;
    if (len > size)
        return 0;
    point &= 0xffu >> (len + 1);
    for (size_t i = 1; i < len; i++) {
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (byte[i] & 0x3f);
    }
    if (point < least[len] || point > 0x10ffff ||
        (point >= 0xd800 && point <= 0xdfff))
        return 0;
    *point_out = point;
    return len;
}

/* Bytes of a character at the end of text that its rest is missing from. */
static inline size_t utf8_torn_at_end(const char *text, size_t len)
{
    size_t back = 0;
    unsigned char lead;

    while (back < 3 && back < len &&
           ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back == len)
        return 0;
    lead = (unsigned char)text[len - 1 - back];
    if ((lead >= 0xf0 && back < 3) || (lead >= 0xe0 && back < 2) ||
        (lead >= 0xc0 && back < 1))
        return back + 1;
    return 0;
}

/* Bytes of text, at most so many, that tear no character. */
static inline size_t utf8_cut(const char *text, size_t most)
{
    size_t len = strnlen(text, most + 1);

    return len > most ? most - utf8_torn_at_end(text, most) : len;
}

#endif
