/* common/json.c -- reading JSON that strangers wrote, and writing our own. */
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/strbuf.h"
#include "common/utf8.h"

/* cJSON reads numbers through a buffer of 64 bytes and fails beyond it. */
#define JSON_NUMBER_MAX 60
#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* ---- the check -------------------------------------------------------- */

struct frame { /* one open object or array */
    bool object;
    const char *key; /* NULL while a key itself is read */
    size_t key_len;
    size_t index; /* arrays */
};

struct scan {
    const char *start, *at, *end;
    struct frame frames[JSON_DEPTH_MAX];
    size_t depth;
    struct json_want *wants;
    size_t nwants;
    struct complaint *why;
    size_t fault_at;
    int refused; /* -EINVAL once something was; only the first is told */
};

static int scan_value(struct scan *s);

static void print_path(const struct scan *s, char out[JSON_FIELD_MAX])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < s->depth && len < JSON_FIELD_MAX; i++) {
        const struct frame *f = &s->frames[i];
        int added;

        if (f->object && !f->key)
            break;
        if (f->object)
            added =
                snprintf(out + len, JSON_FIELD_MAX - len, "%s%.*s",
                         len ? "." : "", (int)(f->key_len & 0xffff), f->key);
        else
            added =
                snprintf(out + len, JSON_FIELD_MAX - len, "[%zu]", f->index);
        len += added > 0 ? (size_t)added : 0;
    }
}

static int broken(struct scan *s, const char *expected)
{
    size_t at = (size_t)(s->at - s->start), line_start = at;

    while (line_start > 0 && s->start[line_start - 1] != '\n')
        line_start--;
    s->fault_at = at;
    complain(s->why, NULL, "%s at line %d, column %zu: expected %s",
             s->at == s->end ? "the JSON ends too early" : "not JSON",
             json_line(s->start, at), at - line_start + 1, expected);
    return -EBADMSG;
}

/* What JSON cannot say or we will not read: told by the field's name, and the
 * scan goes on, to learn whether the rest is JSON. */
static void refuse(struct scan *s, const char *text)
{
    char field[JSON_FIELD_MAX];
    bool in_key = s->depth > 0 && s->frames[s->depth - 1].object &&
                  !s->frames[s->depth - 1].key;

    if (s->refused)
        return;
    print_path(s, field);
    s->refused = -EINVAL;
    s->fault_at = (size_t)(s->at - s->start);
    complain(s->why, field, "%s%s", in_key ? "a field's name " : "", text);
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' ||
                              *s->at == '\t' || *s->at == '\r'))
        s->at++;
}

static int hex4(const struct scan *s, const char *at, unsigned *out)
{
    unsigned value = 0;

    if (s->end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (unsigned)((c | 0x20) - 'a' + 10);
        else
            return -1;
        value = value << 4 | digit;
    }
    *out = value;
    return 0;
}

static int scan_unicode(struct scan *s)
{
    unsigned code, low;

    if (hex4(s, s->at + 2, &code) < 0)
        return broken(s, "four hex digits after \\u");
    if (code == 0)
        refuse(s, "holds a NUL (\\u0000); leave it out");
    s->at += 6;
    if (code < 0xd800 || code > 0xdfff)
        return 0;
    if (code < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' &&
        s->at[1] == 'u' && hex4(s, s->at + 2, &low) == 0 && low >= 0xdc00 &&
        low <= 0xdfff) {
        s->at += 6;
        return 0;
    }
    refuse(s, "holds half a surrogate pair (\\ud800 to \\udfff alone); give "
              "whole characters");
    return 0;
}

static int scan_escape(struct scan *s)
{
    if (s->end - s->at >= 2) {
        if (s->at[1] == 'u')
            return scan_unicode(s);
        if (s->at[1] && strchr("\"\\/bfnrt", s->at[1])) {
            s->at += 2;
            return 0;
        }
    }
    return broken(s, "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX after a "
                     "backslash");
}

static void scan_odd_byte(struct scan *s)
{
    unsigned char c = (unsigned char)*s->at;
    uint32_t point;
    size_t len = 1;
    char text[80];

    if (c < 0x20) {
        snprintf(text, sizeof text, "holds a raw control byte (0x%02x); %s", c,
                 c == 0 ? "leave it out" : "write it as a \\u00XX escape");
        refuse(s, text);
    } else {
        len = utf8_decode(s->at, (size_t)(s->end - s->at), &point);
        if (len == 0) {
            snprintf(text, sizeof text,
                     "is not UTF-8 (byte 0x%02x at %zu); encode it as UTF-8", c,
                     (size_t)(s->at - s->start));
            refuse(s, text);
            len = 1;
        }
    }
    s->at += len;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' &&
           c != '\\';
}

/* From the opening quote to behind the closing one. */
static int scan_string(struct scan *s)
{
    int rc;

    s->at++;
    for (;;) {
        while (s->at < s->end && is_plain(*s->at))
            s->at++;
        if (s->at == s->end)
            return broken(s, "a closing quote");
        if (*s->at == '"')
            break;
        if (*s->at != '\\') {
            scan_odd_byte(s);
            continue;
        }
        rc = scan_escape(s);
        if (rc < 0)
            return rc;
    }
    s->at++;
    return 0;
}

static bool skip_digits(struct scan *s)
{
    const char *first = s->at;

    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > first;
}

static bool skip_one_of(struct scan *s, const char *set)
{
    if (s->at == s->end || !*s->at || !strchr(set, *s->at))
        return false;
    s->at++;
    return true;
}

static bool skip_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
        return false;
    s->at += len;
    return true;
}

static int scan_number(struct scan *s)
{
    const char *first = s->at;

    skip_one_of(s, "-");
    if (skip_word(s, "Infinity")) {
        refuse(s, "Infinity is no number in JSON; give a finite one");
        return 0;
    }
    if (!skip_one_of(s, "0") && !skip_digits(s))
        return broken(s, "a digit");
    if (skip_one_of(s, ".") && !skip_digits(s))
        return broken(s, "a digit after the decimal point");
    if (skip_one_of(s, "eE")) {
        skip_one_of(s, "+-");
        if (!skip_digits(s))
            return broken(s, "a digit in the exponent");
    }
    if (s->at - first > JSON_NUMBER_MAX)
        refuse(s, "is too long a number; give it as text");
    return 0;
}

static int scan_literal(struct scan *s)
{
    if (skip_word(s, "true") || skip_word(s, "false") || skip_word(s, "null"))
        return 0;
    if (skip_word(s, "NaN")) {
        refuse(s, "NaN is no number in JSON; give a finite one");
        return 0;
    }
    return broken(s, "a value: text in double quotes, a number, true, false, "
                     "null, { or [");
}

static int scan_key(struct scan *s, struct frame *f)
{
    int rc;

    skip_space(s);
    if (s->at == s->end || *s->at != '"')
        return broken(s, "a field's name in double quotes");
    f->key = NULL;
    const char *key = s->at + 1;
    rc = scan_string(s);
    if (rc < 0)
        return rc;
    f->key = key;
    f->key_len = (size_t)(s->at - 1 - key);
    skip_space(s);
    if (!skip_one_of(s, ":"))
        return broken(s, "a colon after the field's name");
    return 0;
}

/* The inside of an object or array, from behind its bracket on. */
static int scan_members(struct scan *s, struct frame *f)
{
    const char *close = f->object ? "}" : "]";
    int rc = 0;

    skip_space(s);
    if (skip_one_of(s, close))
        return 0;
    for (;;) {
        if (f->object)
            rc = scan_key(s, f);
        if (rc == 0)
            rc = scan_value(s);
        if (rc < 0)
            return rc;
        skip_space(s);
        if (skip_one_of(s, close))
            return 0;
        if (!skip_one_of(s, ","))
            return broken(s, f->object ? "a comma or }" : "a comma or ]");
        f->index++;
    }
}

static int scan_container(struct scan *s)
{
    struct frame *f;
    int rc;

    if (s->depth == JSON_DEPTH_MAX) {
        char text[80];

        snprintf(text, sizeof text,
                 "is nested too deep; at most %d levels can be read",
                 JSON_DEPTH_MAX);
        refuse(s, text);
        return -EINVAL;
    }
    f = &s->frames[s->depth];
    *f = (struct frame){.object = *s->at == '{'};
    s->at++;
    s->depth++;
    rc = scan_members(s, f);
    s->depth--;
    return rc;
}

/* Is the value that begins here the one of that path? */
static bool path_is(const struct scan *s, const char *path)
{
    char index[24];

    for (size_t i = 0; i < s->depth; i++) {
        const struct frame *f = &s->frames[i];
        const char *part = f->key;
        size_t len = f->key_len;

        if (!f->object) {
            len = (size_t)snprintf(index, sizeof index, "[%zu]", f->index);
            part = index;
        } else if (i > 0 && *path++ != '.') {
            return false;
        }
        if (strnlen(path, len) < len || memcmp(path, part, len) != 0)
            return false;
        path += len;
    }
    return *path == '\0';
}

static struct json_want *wanted_here(const struct scan *s)
{
    if (s->depth == 0)
        return NULL;
    for (size_t i = 0; i < s->nwants; i++)
        if (s->wants[i].size == 0 && path_is(s, s->wants[i].path))
            return &s->wants[i];
    return NULL;
}

static int scan_value(struct scan *s)
{
    struct json_want *want;
    const char *from;
    int rc;

    skip_space(s);
    if (s->at == s->end)
        return broken(s, "a value");
    want = s->nwants ? wanted_here(s) : NULL;
    from = s->at;
    if (*s->at == '"')
        rc = scan_string(s);
    else if (*s->at == '{' || *s->at == '[')
        rc = scan_container(s);
    else if (*s->at == '-' || (*s->at >= '0' && *s->at <= '9') || *s->at == 'I')
        rc = scan_number(s);
    else
        rc = scan_literal(s);
    if (want && rc == 0) {
        want->at = (size_t)(from - s->start);
        want->size = (size_t)(s->at - from);
    }
    return rc;
}

int json_check(const char *text, size_t size, struct json_want *wants,
               size_t nwants, struct complaint *why, size_t *at_out)
{
    struct scan s;
    int rc;

    /* Not zeroed as a whole: each frame is set when it opens. */
    s.start = s.at = text;
    s.end = text + size;
    s.depth = 0;
    s.wants = wants;
    s.nwants = nwants;
    s.why = why;
    s.fault_at = 0;
    s.refused = 0;
    for (size_t i = 0; i < nwants; i++)
        wants[i].at = wants[i].size = 0;
    skip_word(&s, BYTE_ORDER_MARK);
    rc = scan_value(&s);
    if (rc == 0) {
        skip_space(&s);
        if (s.at < s.end)
            rc = broken(&s, "nothing more behind the end of the JSON");
    }
    if (rc == 0)
        rc = s.refused;
    if (at_out)
        *at_out = s.fault_at;
    return rc;
}

cJSON *json_parse(const char *text, size_t size)
{
    size_t skip = strlen(BYTE_ORDER_MARK);

    /* cJSON does so itself, but not before a text of one character. */
    if (size < skip || memcmp(text, BYTE_ORDER_MARK, skip) != 0)
        skip = 0;
    return cJSON_ParseWithLength(text + skip, size - skip);
}

int json_line(const char *text, size_t at)
{
    int line = 1;

    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return line;
}

void json_show_nuls(char *text)
{
    char *to = text;

    for (const char *at = text; *at;) {
        if (strncmp(at, "\\u0000", 6) == 0) {
            memcpy(to, "\\\\x00", 5);
            to += 5;
            at += 6;
            continue;
        }
        /* The backslash of a pair begins nothing. */
        for (int n = at[0] == '\\' && at[1] ? 2 : 1; n > 0; n--)
            *to++ = *at++;
    }
    *to = '\0';
}

void json_minify(const char *text, size_t size, struct strbuf *out)
{
    bool in_string = false;
    char *room = strbuf_room(out, size);
    size_t len = 0;

    if (!room)
        return;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (!in_string && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        room[len++] = c;
        if (c == '"')
            in_string = !in_string;
        else if (c == '\\' && i + 1 < size) /* only inside strings */
            room[len++] = text[++i];
    }
    room[len] = '\0';
    out->len += len;
}

/* ---- showing values --------------------------------------------------- */

const char *json_show_text(const char *text, char out[JSON_SHOW_MAX])
{
    /* Room for one escape, the ellipsis, the quote and the NUL. */
    const size_t room = JSON_SHOW_MAX - 4 - sizeof "…\"";
    size_t len = 0, left = strlen(text), step;
    uint32_t point;

    out[len++] = '"';
    for (; left > 0 && len < room; text += step, left -= step) {
        step = utf8_decode(text, left, &point);
        if (step == 0 || point < 0x20 || point == 0x7f) {
            step = 1;
            len += (size_t)sprintf(out + len, "\\x%02x", (unsigned char)*text);
            continue;
        }
        if (*text == '"' || *text == '\\')
            out[len++] = '\\';
        memcpy(out + len, text, step);
        len += step;
    }
    sprintf(out + len, "%s\"", left > 0 ? "…" : "");
    return out;
}

static void show_number(double number, char *out, size_t size)
{
    snprintf(out, size, "%.15g", number);
    if (strtod(out, NULL) != number && !isnan(number))
        snprintf(out, size, "%.17g", number);
}

const char *json_show(const cJSON *item, char out[JSON_SHOW_MAX])
{
    if (cJSON_IsString(item))
        return json_show_text(item->valuestring, out);
    if (cJSON_IsNumber(item))
        show_number(item->valuedouble, out, JSON_SHOW_MAX);
    else
        snprintf(out, JSON_SHOW_MAX, "%s",
                 cJSON_IsObject(item)  ? "{…}"
                 : cJSON_IsArray(item) ? "[…]"
                 : cJSON_IsTrue(item)  ? "true"
                 : cJSON_IsFalse(item) ? "false"
                                       : "null");
    return out;
}

static const char *type_name(const cJSON *item)
{
    return cJSON_IsString(item)   ? "text"
           : cJSON_IsNumber(item) ? "a number"
           : cJSON_IsObject(item) ? "an object"
           : cJSON_IsArray(item)  ? "a list"
           : cJSON_IsBool(item)   ? "true or false"
                                  : "null";
}

int json_wrong_type(const cJSON *item, const char *field, const char *right,
                    struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (cJSON_IsBool(item) || cJSON_IsNull(item))
        return complain(why, field, "%s is the wrong type; give %s",
                        json_show(item, shown), right);
    return complain(why, field, "%s is %s; give %s", json_show(item, shown),
                    type_name(item), right);
}

/* ---- getters ---------------------------------------------------------- */

static void show_range(const struct json_range *range, char *out, size_t size)
{
    char least[32], most[32];

    show_number(range->least, least, sizeof least);
    show_number(range->most, most, sizeof most);
    snprintf(out, size, "a %snumber%s%s from %s to %s",
             range->whole ? "whole " : "", range->unit ? " of " : "",
             range->unit ? range->unit : "", least, most);
}

int json_number(const cJSON *item, const char *field,
                const struct json_range *range, double *out,
                struct complaint *why)
{
    char right[128], shown[JSON_SHOW_MAX];
    double number = item->valuedouble;

    if (cJSON_IsNumber(item) && number >= range->least &&
        number <= range->most && (!range->whole || number == floor(number))) {
        *out = number;
        return 0;
    }
    show_range(range, right, sizeof right);
    if (!cJSON_IsNumber(item))
        return json_wrong_type(item, field, right, why);
    return complain(why, field, "%s is %s; give %s", json_show(item, shown),
                    number >= range->least && number <= range->most
                        ? "not whole"
                        : "out of range",
                    right);
}

int json_bool(const cJSON *item, const char *field, bool *out,
              struct complaint *why)
{
    char shown[JSON_SHOW_MAX];

    if (!cJSON_IsBool(item))
        return complain(why, field, "%s is %s; give true or false",
                        json_show(item, shown), type_name(item));
    *out = cJSON_IsTrue(item);
    return 0;
}

int json_text(cJSON *item, const char *field, size_t most, char **out,
              struct complaint *why)
{
    size_t len;

    if (!cJSON_IsString(item))
        return json_wrong_type(item, field, "text in double quotes", why);
    len = strlen(item->valuestring);
    if (len == 0)
        return complain(why, field, "is empty; give 1 to %zu bytes of text",
                        most);
    if (len > most)
        return complain(why, field, "is %zu bytes long; give at most %zu", len,
                        most);
    *out = item->valuestring;
    item->valuestring = NULL;
    return 0;
}

const char *json_member(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

void json_texts_free(char **texts)
{
    for (char **text = texts; text && *text; text++)
        free(*text);
    free(texts);
}

static int take_texts(cJSON *item, const char *field, size_t bytes_most,
                      json_take_fn *take, char **texts, struct complaint *why)
{
    char name[JSON_FIELD_MAX];
    size_t count = 0, bytes = 0;
    cJSON *each;
    int rc;

    cJSON_ArrayForEach(each, item)
    {
        snprintf(name, sizeof name, "%s[%zu]", field, count);
        if (!cJSON_IsString(each))
            return json_wrong_type(each, name, "text in double quotes", why);
        bytes += strlen(each->valuestring) + 1;
        if (bytes > bytes_most)
            return complain(why, field,
                            "holds more than %zu bytes together; give less",
                            bytes_most);
        texts[count++] = each->valuestring;
        each->valuestring = NULL;
        rc = take ? take(&texts[count - 1], name, why) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int json_texts(cJSON *item, const char *field, size_t most, size_t bytes_most,
               json_take_fn *take, char ***out, struct complaint *why)
{
    size_t count;
    char **texts;
    int rc;

    if (!cJSON_IsArray(item))
        return json_wrong_type(item, field, "a list of texts", why);
    count = (size_t)cJSON_GetArraySize(item);
    if (count > most)
        return complain(why, field, "holds %zu; give at most %zu", count, most);
    if (count == 0)
        return 0;
    texts = calloc(count + 1, sizeof *texts);
    if (!texts)
        return -ENOMEM;
    rc = take_texts(item, field, bytes_most, take, texts, why);
    if (rc < 0) {
        json_texts_free(texts);
        return rc;
    }
    *out = texts;
    return 0;
}

/* ---- writing ---------------------------------------------------------- */

#define FIXED_MAX 9e12 /* in millionths still exact in 64 bits */

void json_add_text(struct strbuf *sb, const char *text)
{
    if (text && *text)
        strbuf_add_json(sb, text, strlen(text));
    else
        json_add_lit(sb, "null");
}

void json_add_bool(struct strbuf *sb, bool claim)
{
    strbuf_adds(sb, claim ? "true" : "false");
}

/* Digits from behind: at least `width` of them. Returns where they begin. */
static char *put_digits(char *end, uint64_t number, unsigned width)
{
    while (number > 0 || width > 0) {
        *--end = (char)('0' + number % 10);
        number /= 10;
        width -= width > 0;
    }
    return end;
}

void json_add_int(struct strbuf *sb, int64_t number)
{
    char text[24], *end = text + sizeof text, *at;
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    at = put_digits(end, size, 1);
    if (number < 0)
        *--at = '-';
    strbuf_add(sb, at, (size_t)(end - at));
}

static void add_decimals(struct strbuf *sb, double number, unsigned decimals,
                         bool trim)
{
    static const double scales[] = {1, 10, 100, 1e3, 1e4, 1e5, 1e6};
    char text[40], *end = text + sizeof text, *at;
    uint64_t scale, whole, part;

    if (decimals > 6)
        decimals = 6;
    if (!(number > 0))
        number = 0;
    if (number > FIXED_MAX)
        number = FIXED_MAX;
    scale = (uint64_t)scales[decimals];
    whole = (uint64_t)(number * scales[decimals] + 0.5);
    part = whole % scale;
    while (trim && decimals > 0 && part % 10 == 0) {
        part /= 10;
        decimals--;
    }
    at = end;
    if (decimals > 0) {
        at = put_digits(at, part, decimals);
        *--at = '.';
    }
    at = put_digits(at, whole / scale, 1);
    strbuf_add(sb, at, (size_t)(end - at));
}

void json_add_fixed(struct strbuf *sb, double number, unsigned decimals)
{
    add_decimals(sb, number, decimals, false);
}

void json_add_number(struct strbuf *sb, double number, unsigned decimals)
{
    add_decimals(sb, number, decimals, true);
}

#define LAST_SECOND 253402300799.0 /* of the year 9999 */

static int64_t leap_days_before(int64_t year)
{
    year--;
    return year / 4 - year / 100 + year / 400;
}

static int64_t days_before(int64_t year)
{
    return 365 * (year - 1970) + leap_days_before(year) -
           leap_days_before(1970);
}

/* gmtime_r() takes the time zone's lock, which all executors would share. */
static void split_days(int64_t days, int64_t *year, int *month, int *day)
{
    static const unsigned char lengths[] = {31, 28, 31, 30, 31, 30,
                                            31, 31, 30, 31, 30, 31};
    int length;

    *year = 1970 + days / 365;
    while (days_before(*year) > days)
        --*year;
    days -= days_before(*year);
    bool leap = days_before(*year + 1) - days_before(*year) == 366;

    for (*month = 1;; ++*month) {
        length = lengths[*month - 1] + (leap && *month == 2);
        if (days < length)
            break;
        days -= length;
    }
    *day = (int)days + 1;
}

void json_add_time(struct strbuf *sb, double unix_s)
{
    char text[] = "\"0000-00-00T00:00:00.000Z\"";
    int64_t ms, s, year;
    int month, day;

    if (!(unix_s > 0))
        unix_s = 0;
    if (unix_s > LAST_SECOND)
        unix_s = LAST_SECOND;
    ms = (int64_t)(unix_s * 1000);
    s = ms / 1000;
    split_days(s / 86400, &year, &month, &day);
    put_digits(text + 5, (uint64_t)year, 4);
    put_digits(text + 8, (uint64_t)month, 2);
    put_digits(text + 11, (uint64_t)day, 2);
    put_digits(text + 14, (uint64_t)(s / 3600 % 24), 2);
    put_digits(text + 17, (uint64_t)(s / 60 % 60), 2);
    put_digits(text + 20, (uint64_t)(s % 60), 2);
    put_digits(text + 24, (uint64_t)(ms % 1000), 3);
    strbuf_add(sb, text, sizeof text - 1);
}
