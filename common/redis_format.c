/* common/redis_format.c -- commands as Redis reads them.
 *
 * Byte for byte what hiredis' redisFormatCommandArgv() makes (a unit test holds
 * the two together), but written straight into the output buffer: no
 * allocation, no printf and no second copy per command on the hot path.
 */
#include <string.h>

#include "common/redis_private.h"

#define HEAD_BYTES_MAX 23 /* '*' or '$', 20 digits, CR LF */
#define TAIL_BYTES     2

static char *put_head(char *at, char kind, size_t number)
{
    char digits[20];
    size_t n = 0;

    *at++ = kind;
    do
        digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    while (n > 0)
        *at++ = digits[--n];
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static char *put_word(char *at, const char *word, size_t len)
{
    at = put_head(at, '$', len);
    memcpy(at, word, len);
    at += len;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

bool redis_format(struct strbuf *out, int argc, const char **argv,
                  const size_t *lens)
{
    size_t need = HEAD_BYTES_MAX;
    char *room, *at;

    for (int i = 0; i < argc; i++)
        need +=
            HEAD_BYTES_MAX + TAIL_BYTES + (lens ? lens[i] : strlen(argv[i]));
    room = strbuf_room(out, need);
    if (!room)
        return false;
    at = put_head(room, '*', (size_t)argc);
    for (int i = 0; i < argc; i++)
        at = put_word(at, argv[i], lens ? lens[i] : strlen(argv[i]));
    *at = '\0';
    out->len += (size_t)(at - room);
    return true;
}
