/* common/base64.c -- base64 decoded. */
#include "common/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/scope.h"

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

struct decoder {
    uint32_t bits;
    unsigned digits, pads; /* of the group that is being read */
    unsigned char *out;
    size_t len;
};

static void end_group(struct decoder *d)
{
    d->out[d->len++] = (unsigned char)(d->bits >> 16);
    if (d->pads < 2)
        d->out[d->len++] = (unsigned char)(d->bits >> 8);
    if (d->pads < 1)
        d->out[d->len++] = (unsigned char)d->bits;
    d->bits = d->digits = 0;
}

static int take_char(struct decoder *d, char c)
{
    int value = digit_value(c);

    if (c == '\r' || c == '\n')
        return 0;
    if (c == '=' && d->digits >= 2) {
        d->pads++;
        value = 0;
    } else if (value < 0 || d->pads > 0) {
        return -EINVAL;
    }
    d->bits = d->bits << 6 | (uint32_t)value;
    /* Bits under the padding must be 0: one text for one content. */
    if (++d->digits == 4) {
        if (d->bits & ((1u << 8 * d->pads) - 1))
            return -EINVAL;
        end_group(d);
    }
    return 0;
}

int base64_decode(const char *text, size_t size, unsigned char **data_out,
                  size_t *size_out, size_t *bad_at_out)
{
    AUTO_FREE unsigned char *out = malloc(size / 4 * 3 + 3);
    struct decoder d = {.out = out};

    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < size; i++) {
        if (take_char(&d, text[i]) < 0) {
            *bad_at_out = i;
            return -EINVAL;
        }
    }
    if (d.digits > 0) {
        *bad_at_out = size;
        return -EINVAL;
    }
    *data_out = TAKE(out);
    *size_out = d.len;
    return 0;
}
