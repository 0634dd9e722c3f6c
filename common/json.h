/* common/json.h -- reading JSON that strangers wrote, and writing our own.
 *
 * json_check() goes over the text once, before cJSON sees it: cJSON takes what
 * is not quite JSON, cuts strings at an escaped NUL, and passes lone surrogates
 * and invalid UTF-8. After it, cJSON can fail only for lack of memory, and
 * every string in the tree is valid UTF-8 without NULs. The getters then check
 * types and ranges of one value each and complain by its field's name.
 *
 * Memory:   getters that take text out of a tree own it from then on (the tree
 *           holds NULL there); the tree stays the caller's.
 * Threads:  none of its own.
 * Errors:   -EINVAL with a complaint (-EBADMSG: not JSON at all); -ENOMEM.
 */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/strbuf.h"

/* Bytes of a field's path: roomier than a complaint's, which then shows that it
 * was cut. */
#define JSON_FIELD_MAX 160
#define JSON_SHOW_MAX  80 /* bytes of a value shown in a complaint */

/* A value to be located while checking: path as complaints write it ("id",
 * "limits.timeout", "files[3].path"), without JSON escapes. The first of that
 * name wins; size stays 0 if there is none. */
struct json_want {
    const char *path;
    size_t at, size; /* bytes from the start of the text */
};

/* Is all of text one JSON value that we are willing to read? Refused beyond the
 * grammar, with the field's name: NULs, invalid UTF-8, lone surrogates, raw
 * control characters, NaN and Infinity, nesting over JSON_DEPTH_MAX. A byte
 * order mark in front is let pass.
 *
 * -EBADMSG: not JSON. -EINVAL: JSON but for the named fault; `wants` are filled
 * all the same (of what stands before the fault, if it is the nesting).
 * *at_out (may be NULL) is the fault's offset. */
int json_check(const char *text, size_t size, struct json_want *wants,
               size_t nwants, struct complaint *why, size_t *at_out);

/* What json_check() let pass, as cJSON has it; NULL for lack of memory only. */
cJSON *json_parse(const char *text, size_t size);

/* The line (from 1) that byte `at` of text is on. */
int json_line(const char *text, size_t at);

/* In place, for a result that is to be shown: an escaped NUL, where cJSON would
 * cut the string, becomes the four characters \x00, as which output has other
 * bytes that are no text. */
void json_show_nuls(char *text);

/* Appends a checked JSON text without the white space between its parts. */
void json_minify(const char *text, size_t size, struct strbuf *out);

/* A value as a complaint shows it: text in quotes, shortened, escaped; numbers
 * and literals as they are. Return out. */
const char *json_show_text(const char *text, char out[JSON_SHOW_MAX]);
const char *json_show(const cJSON *item, char out[JSON_SHOW_MAX]);

/* "10 is a number; give <right>" */
int json_wrong_type(const cJSON *item, const char *field, const char *right,
                    struct complaint *why);

struct json_range {
    const char *unit; /* "seconds", "MB"; NULL for plain counts */
    double least, most;
    bool whole;
};

/* These write *out only on success. */
int json_number(const cJSON *item, const char *field,
                const struct json_range *range, double *out,
                struct complaint *why);
int json_bool(const cJSON *item, const char *field, bool *out,
              struct complaint *why);
/* Any text of 1 to most bytes, taken out of the tree. */
int json_text(cJSON *item, const char *field, size_t most, char **out,
              struct complaint *why);

/* A list of texts, each passed to take() with its own field ("args[2]"), which
 * returns 0 and may replace *text (heap memory). most: how many; bytes_most:
 * together, with a byte each for their ends. NULL-terminated; an empty list
 * gives NULL. */
typedef int json_take_fn(char **text, const char *field, struct complaint *why);
int json_texts(cJSON *item, const char *field, size_t most, size_t bytes_most,
               json_take_fn *take, char ***out, struct complaint *why);
void json_texts_free(char **texts);

/* The text of a member, borrowed; NULL if there is none, or it is no text. */
const char *json_member(const cJSON *object, const char *name);

/* ---- writing: appended without a tree and without printf ---------------- */

/* A string literal as it stands. */
#define json_add_lit(sb, literal) \
    strbuf_add((sb), "" literal "", sizeof(literal) - 1)

/* Text as a JSON string; null if it is NULL or "". */
void json_add_text(struct strbuf *sb, const char *text);
void json_add_bool(struct strbuf *sb, bool claim);
void json_add_int(struct strbuf *sb, int64_t number);

/* Up to six decimals. What is negative or no number is written as 0: these are
 * times, sizes and counts. json_add_fixed writes all decimals, json_add_number
 * none that are 0 at its end. */
void json_add_fixed(struct strbuf *sb, double number, unsigned decimals);
void json_add_number(struct strbuf *sb, double number, unsigned decimals);

/* "2026-01-02T03:04:05.678Z" of unix seconds, with quotes. */
void json_add_time(struct strbuf *sb, double unix_s);

#endif
