#include "worker/e2b/events.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/utf8.h"

#define NAME_BYTES_MAX 1024 /* of an exception's name */
#define LAST_BYTES_MAX 1024 /* of a last line without its end */

int events_init(struct events *e, struct outcome *o,
                const struct run_sink *sink, int64_t output_limit)
{
    *e = (struct events){.o = o, .sink = sink, .output_limit = output_limit};
    int rc = frames_init(&e->frames, o);

    e->frames.known = "type";
    return rc;
}

void events_fini(struct events *e)
{
    frames_fini(&e->frames);
    strbuf_fini(&e->line);
}

static int nonsense(struct events *e, const char *what)
{
    snprintf(e->why, sizeof(e->why), "%s", what);
    return -EPROTO;
}

int output_add(struct outcome *o, const struct run_sink *sink,
               int64_t output_limit, bool is_stderr, const char *data,
               size_t size)
{
    struct capture *c = is_stderr ? &o->err : &o->out;

    if (sink && sink->output && c->total < (uint64_t)output_limit)
        sink->output(sink->ctx, is_stderr, data, size);
    capture_add(c, data, size);
    return c->total > (uint64_t)output_limit * OUTPUT_FLOOD ? -ENOBUFS : 0;
}

void strip_escapes(char *text)
{
    char *to = text;

    for (const char *at = text; *at; at++) {
        if (at[0] == '\033' && at[1] == '[') {
            /* Parameters, then one letter (ECMA-48 section 5.4). */
            at += 2;
            at += strspn(at, "0123456789;:<=>?!\"#$%&'()*+,-./ ");
            if (!*at)
                break;
            continue;
        }
        *to++ = *at;
    }
    *to = '\0';
}

/* ---- one event --------------------------------------------------------- */

static int take_output(struct events *e, const cJSON *event, bool is_stderr)
{
    const char *text = json_member(event, "text");

    if (!text)
        return nonsense(e, "output without text");
    return output_add(e->o, e->sink, e->output_limit, is_stderr, text,
                      strlen(text));
}

/* The server's own words for a kernel or a line that it lost. Code can raise
 * an exception of that name, but its traceback then has lines. */
static bool is_servers(const char *name, const char *traceback)
{
    static const char *const names[] = {"ContextRestarting", "WebSocketError",
                                        "ExecutionAborted",
                                        "UnexpectedEndOfExecution"};

    if (strchr(traceback, '\n'))
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void add_cut(struct strbuf *out, const char *text, size_t most)
{
    strbuf_add_json(out, text, utf8_cut(text, most));
}

static int take_error(struct events *e, const cJSON *event)
{
    const char *name = json_member(event, "name");
    const char *value = json_member(event, "value");
    const char *traceback = json_member(event, "traceback");
    AUTO_STRBUF struct strbuf error = STRBUF_INIT;

    /* Of one that was cut, the end is not there. */
    if (e->cut)
        value = value ? value : "", traceback = traceback ? traceback : "";
    if (!name || !value || !traceback)
        return nonsense(e, "an error without name, value and traceback");
    e->failed = true;
    if (is_servers(name, traceback) && !e->cut && !e->lost[0])
        snprintf(e->lost, sizeof(e->lost), "%s", name);
    if (*traceback)
        strip_escapes((char *)(uintptr_t)traceback);
    /* Code makes them as long as it likes; frames take no more than so much,
     * each byte escaped. */
    json_add_lit(&error, "{\"name\":");
    add_cut(&error, name, NAME_BYTES_MAX);
    json_add_lit(&error, ",\"value\":");
    add_cut(&error, value, ERROR_TEXT_MAX);
    json_add_lit(&error, ",\"traceback\":");
    add_cut(&error, traceback, TRACEBACK_BYTES_MAX);
    strbuf_addc(&error, '}');
    return error.failed ? -ENOMEM
                        : frames_take(&e->frames, 'E', error.text, error.len);
}

static int take_event(struct events *e, const cJSON *event)
{
    const char *type = json_member(event, "type");

    if (!type)
        return nonsense(e, "a line without a type");
    if (strcmp(type, "stdout") == 0 || strcmp(type, "stderr") == 0)
        return take_output(e, event, type[3] == 'e');
    if (strcmp(type, "error") == 0)
        return take_error(e, event);
    if (strcmp(type, "end_of_execution") == 0)
        e->ended = true;
    return 0;
}

/* ---- one line ---------------------------------------------------------- */

static bool says_type(const struct strbuf *line, const char *type)
{
    char one[64];

    for (int space = 0; space < 2; space++) {
        int size = snprintf(one, sizeof(one), "{\"type\":%s\"%s\"",
                            space ? " " : "", type);

        if (line->len >= (size_t)size &&
            memcmp(line->text, one, (size_t)size) == 0)
            return true;
    }
    return false;
}

/* The four hex digits of a \\uXXXX at text, or -1. */
static int escape_at(const char *text)
{
    char digits[5];

    if (text[0] != '\\' || text[1] != 'u' ||
        strspn(text + 2, "0123456789abcdefABCDEF") < 4)
        return -1;
    memcpy(digits, text + 2, 4);
    digits[4] = '\0';
    return (int)strtol(digits, NULL, 16);
}

/* Half a pair of surrogates becomes U+FFFD: json.dumps writes what Python has,
 * and Python may have that. */
static void mend_surrogates(char *text)
{
    for (char *at = text; *at;) {
        int code = escape_at(at);
        int next = code >= 0xd800 && code < 0xdc00 ? escape_at(at + 6) : -1;

        if (next >= 0xdc00 && next < 0xe000) {
            at += 12;
            continue;
        }
        if (code >= 0xd800 && code < 0xe000)
            memcpy(at + 2, "fffd", 4);
        at += code >= 0 ? 6 : *at == '\\' && at[1] ? 2 : 1;
    }
}

/* What code may well print and our reading of JSON refuses. */
static void mend(struct strbuf *line)
{
    if (memchr(line->text, '\0', line->len))
        return;
    if (strstr(line->text, "\\u0000")) {
        json_show_nuls(line->text);
        line->len = strlen(line->text);
    }
    if (strcasestr(line->text, "\\ud"))
        mend_surrogates(line->text);
}

static int take_line(struct events *e)
{
    struct strbuf *line = &e->line;
    cJSON *event;
    int rc;

    while (line->len > 0 && strchr("\r \t", line->text[line->len - 1]))
        line->text[--line->len] = '\0';
    if (line->len == 0)
        return 0;
    mend(line);
    /* A picture is not worth a tree. */
    if (says_type(line, "result"))
        return frames_take(&e->frames, 'R', line->text, line->len);
    if (json_check(line->text, line->len, NULL, 0, NULL, NULL) < 0)
        return nonsense(e, "a line that is not JSON");
    event = json_parse(line->text, line->len);
    if (!event)
        return -ENOMEM;
    if (!cJSON_IsObject(event))
        rc = nonsense(e, "a line that is no object");
    else if (json_member(event, "type") &&
             strcmp(json_member(event, "type"), "result") == 0)
        rc = frames_take(&e->frames, 'R', line->text, line->len);
    else
        rc = take_event(e, event);
    cJSON_Delete(event);
    return rc;
}

/* The beginning of an output or an error that is too long for a line: what of
 * it came is kept. Cut where no escape and no character is torn. */
static int take_beginning(struct events *e)
{
    struct strbuf *line = &e->line;

    while (line->len > 0 &&
           (memchr(line->text + line->len - 1, '\\', 1) ||
            (line->len > 6 && memchr(line->text + line->len - 6, '\\', 6)) ||
            (unsigned char)line->text[line->len - 1] >= 0x80))
        line->len--;
    line->text[line->len] = '\0';
    strbuf_adds(line, "\"}");
    if (line->failed)
        return -ENOMEM;
    e->cut = true;
    take_line(e); /* what is no event then is none */
    e->cut = false;
    e->why[0] = '\0';
    return 0;
}

/* What the code made large costs the code; else E2B has lost its mind. */
static int too_long(struct events *e)
{
    bool is_output =
        says_type(&e->line, "stdout") || says_type(&e->line, "stderr");
    bool is_error = says_type(&e->line, "error");
    int rc = 0;

    e->failed = e->failed || is_error;
    if (is_output || is_error)
        rc = take_beginning(e);
    else if (says_type(&e->line, "result"))
        outcome_warn(e->o, "result_rejected: a result of more than %u bytes",
                     EVENT_LINE_MAX);
    else
        rc = nonsense(e, "a line without an end");
    strbuf_fini(&e->line);
    e->skipping = true;
    return rc == 0 && is_output ? -ENOBUFS : rc;
}

static int add_to_line(struct events *e, const char *data, size_t size)
{
    if (e->skipping)
        return 0;
    if (size > EVENT_LINE_MAX - e->line.len)
        return too_long(e);
    strbuf_add(&e->line, data, size);
    return e->line.failed ? -ENOMEM : 0;
}

static int end_line(struct events *e)
{
    int rc = e->skipping ? 0 : take_line(e);

    e->skipping = false;
    if (e->line.cap > (64u << 10))
        strbuf_fini(&e->line);
    strbuf_clear(&e->line);
    return rc;
}

int events_feed(void *events, const char *data, size_t size)
{
    struct events *e = events;
    int rc = 0;

    e->bytes += size;
    if (e->bytes > EVENTS_BYTES_MAX)
        return -ENOBUFS;
    /* The end is the end: what follows is not waited for. */
    if (e->ended && size > 0)
        return nonsense(e, "data after end_of_execution");
    while (size > 0 && rc == 0 && !e->ended) {
        const char *end = memchr(data, '\n', size);
        size_t part = end ? (size_t)(end - data) : size;

        rc = add_to_line(e, data, part);
        if (rc == 0 && end)
            rc = end_line(e);
        part += end ? 1 : 0;
        data += part;
        size -= part;
    }
    return rc;
}

void events_last(struct events *e)
{
    static const char type[] = "\"end_of_execution\"";
    const struct strbuf *line = &e->line;

    if (line->len > 0 && line->len <= LAST_BYTES_MAX && !e->ended &&
        !e->skipping && memmem(line->text, line->len, type, strlen(type)) &&
        json_check(line->text, line->len, NULL, 0, NULL, NULL) == 0)
        take_line(e);
}
