/* worker/frames.c -- reads the result pipe. */
#include "worker/frames.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/complaint.h"
#include "common/json.h"
#include "common/scope.h"
#include "worker/local/wire.h"

/* An item lies in `results` of the result: two levels down. */
#define ITEM_DEPTH (JSON_DEPTH_MAX - 2)
/* Payload memory kept from one frame to the next. */
#define PAYLOAD_KEPT_MAX (64u << 10)

enum shape { SHAPE_TEXT, SHAPE_BASE64, SHAPE_NESTED, SHAPE_OBJECT, SHAPE_BOOL };

static const struct form {
    const char *name;
    enum shape shape;
} forms[] = {
    /* In the order of contract section 4. */
    {"text", SHAPE_TEXT},     {"html", SHAPE_TEXT},
    {"markdown", SHAPE_TEXT}, {"svg", SHAPE_TEXT},
    {"png", SHAPE_BASE64},    {"jpeg", SHAPE_BASE64},
    {"pdf", SHAPE_BASE64},    {"latex", SHAPE_TEXT},
    {"json", SHAPE_NESTED},   {"javascript", SHAPE_TEXT},
    {"data", SHAPE_NESTED},   {"chart", SHAPE_NESTED},
    {"extra", SHAPE_OBJECT},  {"is_main_result", SHAPE_BOOL},
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

struct slice {
    const char *at;
    size_t size;
};

/* The values of one item as they stand in its payload; size 0: absent. */
struct item {
    struct slice values[FORMS];
    bool is_main;
    struct slice unknown; /* one of the keys we do not know */
};

int frames_init(struct frames *f, struct outcome *o)
{
    *f = (struct frames){.o = o};
    return 0;
}

void frames_fini(struct frames *f)
{
    strbuf_fini(&f->payload);
}

__attribute__((format(printf, 2, 3))) static void warn(struct frames *f,
                                                       const char *fmt, ...)
{
    char text[FRAMES_WARNING_BYTES_MAX + 1];
    va_list args;

    if (f->warnings >= FRAMES_WARNINGS_MAX)
        return;
    f->warnings++;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    outcome_warn(f->o, "%s", text);
}

static void end_reading(struct frames *f, const char *why)
{
    warn(f, "result_rejected: %s; what followed was not read", why);
    f->ended = true;
    strbuf_fini(&f->payload);
}

static void warn_full(struct frames *f)
{
    if (!f->warned_full)
        warn(f,
             "result_rejected: more than %d results or %u bytes of them; the "
             "rest was left out",
             RESULT_ITEMS_MAX, RESULT_BYTES_MAX);
    f->warned_full = true;
}

static bool base64_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '+' || c == '/';
}

/* text with its quotes. */
static bool is_base64(const char *text, size_t size)
{
    const char *at = text + 1, *end = text + size - 1;

    if ((end - at) % 4 != 0)
        return false;
    if (end > at && end[-1] == '=')
        end--;
    if (end > at && end[-1] == '=')
        end--;
    while (at < end && base64_char(*at))
        at++;
    return at == end;
}

static bool has_shape(struct slice value, enum shape shape)
{
    switch (shape) {
    case SHAPE_TEXT:
        return *value.at == '"';
    case SHAPE_BASE64:
        return *value.at == '"' && is_base64(value.at, value.size);
    case SHAPE_NESTED:
        return *value.at == '{' || *value.at == '[';
    case SHAPE_OBJECT:
        return *value.at == '{';
    case SHAPE_BOOL:
        return *value.at == 't' || *value.at == 'f';
    }
    return false;
}

/* The index of a key given with its quotes, or FORMS. */
static size_t find_form(struct slice key)
{
    for (size_t i = 0; i < FORMS; i++)
        if (strlen(forms[i].name) == key.size - 2 &&
            memcmp(forms[i].name, key.at + 1, key.size - 2) == 0)
            return i;
    return FORMS;
}

static bool keep_value(struct frames *f, struct item *item, struct slice key,
                       struct slice value)
{
    size_t form = find_form(key);

    if (form == FORMS) {
        if (!f->known || strlen(f->known) != key.size - 2 ||
            memcmp(f->known, key.at + 1, key.size - 2) != 0)
            item->unknown = key;
        return true;
    }
    if (*value.at == 'n')
        return true;
    if (item->values[form].size > 0) {
        warn(f, "result_rejected: %s is given twice", forms[form].name);
        return false;
    }
    if (!has_shape(value, forms[form].shape)) {
        warn(f, "result_rejected: %s has the wrong type", forms[form].name);
        return false;
    }
    item->values[form] = value;
    if (forms[form].shape == SHAPE_BOOL)
        item->is_main = *value.at == 't';
    return true;
}

/* The walk below is over text that json_check() found good, so it only has to
 * know where things end. */

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

/* How deep the value is nested goes to *depth_out. */
static const char *skip_value(const char *at, int *depth_out)
{
    int depth = 0;

    *depth_out = 0;
    if (*at == '"')
        return skip_string(at);
    if (*at != '{' && *at != '[')
        return at + strcspn(at, ",} \t\r\n");
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '{' || *at == '[')
            depth++;
        else if (*at == '}' || *at == ']')
            depth--;
        if (depth > *depth_out)
            *depth_out = depth;
        at++;
    } while (depth > 0);
    return at;
}

/* One "key": value; *at stands on the key. */
static bool read_member(struct frames *f, struct item *item, const char **at)
{
    struct slice key = {.at = *at}, value;
    int depth;

    *at = skip_string(*at);
    key.size = (size_t)(*at - key.at);
    value.at = skip_space(skip_space(*at) + 1); /* over the colon */
    *at = skip_value(value.at, &depth);
    value.size = (size_t)(*at - value.at);
    if (depth >= ITEM_DEPTH) {
        warn(f, "result_rejected: nested more than %d levels deep", ITEM_DEPTH);
        return false;
    }
    return keep_value(f, item, key, value);
}

static bool payload_is_object(struct frames *f, const char *what)
{
    struct complaint why = {0};

    if (json_check(f->payload.text, f->payload.len, NULL, 0, &why, NULL) < 0) {
        warn(f, "result_rejected: %s: %s%s%s", what, why.field,
             why.field[0] ? ": " : "", why.text);
        return false;
    }
    if (*skip_space(f->payload.text) != '{') {
        warn(f, "result_rejected: %s: not a JSON object", what);
        return false;
    }
    return true;
}

static bool read_item(struct frames *f, struct item *item)
{
    const char *at;

    if (!payload_is_object(f, "a result"))
        return false;
    at = skip_space(skip_space(f->payload.text) + 1);
    while (*at != '}') {
        if (!read_member(f, item, &at))
            return false;
        at = skip_space(at);
        if (*at == ',')
            at = skip_space(at + 1);
    }
    return true;
}

/* The printed item is at most this long. */
static size_t item_size(const struct item *item)
{
    size_t size = 2;

    for (size_t i = 0; i < FORMS; i++)
        size += strlen(forms[i].name) + 4 +
                (item->values[i].size > 0 ? item->values[i].size : 5);
    return size;
}

static void print_item(struct strbuf *out, const struct item *item)
{
    for (size_t i = 0; i < FORMS; i++) {
        strbuf_addf(out, "%s\"%s\":", i == 0 ? "{" : ",", forms[i].name);
        if (forms[i].shape == SHAPE_BOOL)
            strbuf_adds(out, item->is_main ? "true" : "false");
        else if (item->values[i].size > 0)
            strbuf_add(out, item->values[i].at, item->values[i].size);
        else
            strbuf_adds(out, "null");
    }
    strbuf_addc(out, '}');
}

static void warn_unknown(struct frames *f, struct slice key)
{
    if (key.size == 0 || f->warned_unknown)
        return;
    f->warned_unknown = true;
    warn(f, "unknown keys of a result were left out, such as %.*s",
         key.size > 64 ? 64 : (int)key.size, key.at);
}

static int finish_item(struct frames *f)
{
    struct item item = {0};
    struct strbuf *results = &f->o->results;

    if (!read_item(f, &item))
        return 0;
    warn_unknown(f, item.unknown);
    if (item_size(&item) > RESULT_BYTES_MAX - f->result_bytes) {
        warn_full(f);
        return 0;
    }
    item.is_main = item.is_main && !f->has_main;
    f->has_main = f->has_main || item.is_main;
    f->result_bytes += item_size(&item);
    if (f->o->nresults > 0)
        strbuf_addc(results, ',');
    print_item(results, &item);
    f->o->nresults++;
    return results->failed ? -ENOMEM : 0;
}

/* A copy of at most max bytes that ends with a whole character. */
static char *copy_text(const char *text, size_t max)
{
    size_t size = strnlen(text, max + 1);

    if (size > max) {
        size = max;
        while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80)
            size--;
    }
    return strndup(text, size);
}

static int set_error(struct outcome *o, const char *name, const char *value,
                     const char *traceback)
{
    AUTO_FREE char *name_copy = copy_text(name, ERROR_TEXT_MAX);
    AUTO_FREE char *value_copy = copy_text(value, ERROR_TEXT_MAX);
    AUTO_FREE char *traceback_copy = copy_text(traceback, TRACEBACK_BYTES_MAX);

    if (!name_copy || !value_copy || !traceback_copy)
        return -ENOMEM;
    o->error_name = TAKE(name_copy);
    o->error_value = TAKE(value_copy);
    o->error_traceback = TAKE(traceback_copy);
    return 0;
}

static int finish_error(struct frames *f)
{
    const char *name, *value, *traceback;
    cJSON *error;
    int rc = 0;

    if (f->has_error || !payload_is_object(f, "an error"))
        return 0;
    error = cJSON_ParseWithLength(f->payload.text, f->payload.len);
    if (!error)
        return -ENOMEM;
    name = json_member(error, "name");
    value = json_member(error, "value");
    traceback = json_member(error, "traceback");
    if (name && value && traceback) {
        rc = set_error(f->o, name, value, traceback);
        f->has_error = true;
    } else {
        warn(f, "result_rejected: an error without name, value and traceback");
    }
    cJSON_Delete(error);
    return rc;
}

static int finish_frame(struct frames *f)
{
    if (f->skip)
        return 0;
    strbuf_add(&f->payload, "", 0); /* never NULL */
    if (f->payload.failed || !f->payload.text)
        return -ENOMEM;
    switch (f->head[0]) {
    case RESULT_FRAME_ITEM:
        return finish_item(f);
    case RESULT_FRAME_ERROR:
        return finish_error(f);
    default:
        warn(f, "%.*s", (int)f->payload.len, f->payload.text);
        return 0;
    }
}

static void begin_frame(struct frames *f)
{
    f->left = (uint32_t)f->head[1] | (uint32_t)f->head[2] << 8 |
              (uint32_t)f->head[3] << 16 | (uint32_t)f->head[4] << 24;
    f->skip = false;
    switch (f->head[0]) {
    case RESULT_FRAME_ITEM:
        if (f->left > RESULT_BYTES_MAX) {
            end_reading(f, "a frame larger than all results may be");
        } else if (f->o->nresults >= RESULT_ITEMS_MAX ||
                   f->left > RESULT_BYTES_MAX - f->result_bytes) {
            warn_full(f);
            f->skip = true;
        }
        break;
    case RESULT_FRAME_ERROR:
        if (f->left > FRAMES_ERROR_BYTES_MAX)
            end_reading(f, "an error larger than any may be");
        break;
    case RESULT_FRAME_WARNING:
        if (f->left > FRAMES_WARNING_BYTES_MAX)
            end_reading(f, "a warning larger than any may be");
        break;
    default:
        end_reading(f, "not a frame");
    }
}

static size_t take_head(struct frames *f, const char *data, size_t size)
{
    size_t want = FRAMES_HEAD_BYTES - f->head_len;

    if (size > want)
        size = want;
    memcpy(f->head + f->head_len, data, size);
    f->head_len += size;
    if (f->head_len == FRAMES_HEAD_BYTES)
        begin_frame(f);
    return size;
}

static size_t take_payload(struct frames *f, const char *data, size_t size)
{
    if (size > f->left)
        size = f->left;
    if (!f->skip)
        strbuf_add(&f->payload, data, size);
    f->left -= (uint32_t)size;
    return size;
}

int frames_feed(struct frames *f, const char *data, size_t size)
{
    while (size > 0 && !f->ended) {
        size_t took = f->head_len < FRAMES_HEAD_BYTES
                          ? take_head(f, data, size)
                          : take_payload(f, data, size);

        data += took;
        size -= took;
        if (f->ended || f->head_len < FRAMES_HEAD_BYTES || f->left > 0)
            continue;
        int rc = finish_frame(f);

        f->head_len = 0;
        if (f->payload.cap > PAYLOAD_KEPT_MAX)
            strbuf_fini(&f->payload);
        strbuf_clear(&f->payload);
        if (rc < 0) {
            f->ended = true;
            return rc;
        }
    }
    return 0;
}

int frames_take(struct frames *f, char kind, const char *payload, size_t size)
{
    int rc;

    if (f->ended || size > UINT32_MAX)
        return 0;
    f->head[0] = (unsigned char)kind;
    for (int i = 0; i < 4; i++)
        f->head[1 + i] = (unsigned char)(size >> (8 * i));
    begin_frame(f);
    if (f->ended)
        return 0;
    if (!f->skip)
        strbuf_add(&f->payload, payload, size);
    rc = finish_frame(f);
    if (f->payload.cap > PAYLOAD_KEPT_MAX)
        strbuf_fini(&f->payload);
    strbuf_clear(&f->payload);
    f->left = 0;
    f->ended = rc < 0;
    return rc;
}

void frames_end(struct frames *f)
{
    if (!f->ended && f->head_len > 0)
        warn(f, "result_rejected: the last result was cut short");
    f->ended = true;
}
