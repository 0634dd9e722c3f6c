/* common/envelope.c -- the delivery prefix of a list entry. */
#include "common/envelope.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum kind { KIND_INT, KIND_INT64, KIND_TEXT };

/* In the order they are printed. Any order is read. */
static const struct row {
    char letter;
    enum kind kind;
    size_t offset, size; /* size: of a text with its NUL */
    const char *marks;   /* what a text may hold besides letters and digits */
} rows[] = {
    {'c', KIND_INT, offsetof(struct envelope, suspicions), 0, NULL},
    {'d', KIND_INT, offsetof(struct envelope, deliveries), 0, NULL},
    {'a', KIND_INT, offsetof(struct envelope, attempts), 0, NULL},
    {'t', KIND_INT64, offsetof(struct envelope, enqueued_ms), 0, NULL},
    {'i', KIND_TEXT, offsetof(struct envelope, id), JOB_ID_MAX + 1, "._:-"},
    {'p', KIND_TEXT, offsetof(struct envelope, parent), TOKEN_MAX + 1,
     "._:-@/"},
    {'u', KIND_INT64, offsetof(struct envelope, due_ms), 0, NULL},
};
#define ROWS (sizeof rows / sizeof *rows)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_text(const char *text, size_t len, const struct row *row)
{
    if (len == 0 || len >= row->size)
        return false;
    for (size_t i = 0; i < len; i++) {
        char low = text[i] | 0x20;

        if (!is_digit(text[i]) && !(low >= 'a' && low <= 'z') &&
            (text[i] == '\0' || !strchr(row->marks, text[i])))
            return false;
    }
    return true;
}

static bool read_number(const char *text, size_t len, int64_t most,
                        int64_t *number_out)
{
    int64_t number = 0;

    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]) || number > (most - (text[i] - '0')) / 10)
            return false;
        number = number * 10 + (text[i] - '0');
    }
    *number_out = number;
    return len > 0;
}

static bool read_value(const struct row *row, const char *text, size_t len,
                       struct envelope *e)
{
    char *field = (char *)e + row->offset;
    int64_t number;

    if (row->kind == KIND_TEXT) {
        if (!is_text(text, len, row))
            return false;
        memcpy(field, text, len);
        field[len] = '\0';
        return true;
    }
    if (!read_number(text, len, row->kind == KIND_INT ? INT_MAX : INT64_MAX,
                     &number))
        return false;
    if (row->kind == KIND_INT)
        *(int *)(void *)field = (int)number;
    else
        *(int64_t *)(void *)field = number;
    return true;
}

/* One "c1" between separators; *seen has a bit for each row already read. An
 * empty one starts with its separator, which is no row's letter. */
static bool read_field(const char *text, size_t len, unsigned *seen,
                       struct envelope *e)
{
    for (unsigned i = 0; i < ROWS; i++) {
        if (rows[i].letter != text[0])
            continue;
        if (*seen & 1u << i)
            return false;
        *seen |= 1u << i;
        return read_value(&rows[i], text + 1, len - 1, e);
    }
    return false;
}

size_t envelope_parse(const char *entry, size_t size, struct envelope *e)
{
    struct envelope got = {0};
    unsigned seen = 0;
    size_t most = size < ENVELOPE_BYTES_MAX ? size : ENVELOPE_BYTES_MAX;

    memset(e, 0, sizeof *e);
    if (most == 0 || entry[0] != '!')
        return 0;
    for (size_t start = 1, end = 1; end < most; end++) {
        if (entry[end] != ';' && entry[end] != '|')
            continue;
        if (!read_field(entry + start, end - start, &seen, &got))
            return 0;
        if (entry[end] == '|') {
            *e = got;
            return end + 1;
        }
        start = end + 1;
    }
    return 0;
}

static void print_row(const struct row *row, const struct envelope *e,
                      char *before, struct strbuf *out)
{
    const char *field = (const char *)e + row->offset;
    int64_t number = 0;

    /* A text that would not read back is left out: it must not turn the whole
     * entry into something else. */
    if (row->kind == KIND_TEXT) {
        if (!is_text(field, strnlen(field, row->size), row))
            return;
        strbuf_addf(out, "%c%c%s", *before, row->letter, field);
    } else {
        if (row->kind == KIND_INT)
            number = *(const int *)(const void *)field;
        else
            number = *(const int64_t *)(const void *)field;
        if (number <= 0)
            return;
        strbuf_addf(out, "%c%c%" PRId64, *before, row->letter, number);
    }
    *before = ';';
}

void envelope_print(const struct envelope *e, struct strbuf *out)
{
    char before = '!';

    for (size_t i = 0; i < ROWS; i++)
        print_row(&rows[i], e, &before, out);
    if (before == ';')
        strbuf_addc(out, '|');
}
