/* common/strbuf.h -- text that grows.
 *
 * Memory:   the struct is the caller's, zeroed (STRBUF_INIT) before first use;
 *           the text inside is the strbuf's until strbuf_take().
 * Threads:  none of its own; one thread at a time.
 * Errors:   sticky: after a failed allocation every call is harmless and
 *           `failed` stays true, so a long build is checked once, at its end.
 *           text is always NUL-terminated once anything was added (the NUL is
 *           not counted in len; len counts NULs inside).
 */
#ifndef COMMON_STRBUF_H
#define COMMON_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *text;
    size_t len, cap;
    bool failed;
};

#define STRBUF_INIT \
    {               \
        0           \
    }

void strbuf_fini(struct strbuf *sb);
void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_adds(struct strbuf *sb, const char *text);
void strbuf_addc(struct strbuf *sb, char c);
__attribute__((format(printf, 2, 3))) void strbuf_addf(struct strbuf *sb,
                                                       const char *fmt, ...);
void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list args);

/* Appends data as a JSON string with its quotes. Valid UTF-8 passes (U+2028,
 * U+2029 and control characters escaped); each invalid byte NN becomes the four
 * characters \xNN (so "\\xNN" in the JSON), which the README documents. */
void strbuf_add_json(struct strbuf *sb, const void *data, size_t len);

/* Appends base64 (RFC 4648 section 4, with padding). */
void strbuf_add_base64(struct strbuf *sb, const void *data, size_t len);

/* Empties without giving memory back. A new build starts: failed is false
 * again. */
void strbuf_clear(struct strbuf *sb);

/* Makes room for len more bytes and returns where they go, or NULL (failed).
 * The caller then adds to len what it wrote, and sets the NUL. */
char *strbuf_room(struct strbuf *sb, size_t len);

/* Hands the text over (caller frees) and empties; NULL if failed, "" if empty.
 */
char *strbuf_take(struct strbuf *sb);

#define AUTO_STRBUF __attribute__((cleanup(strbuf_fini)))

#endif
