/* tests/fuzz/fuzz_show.c -- what a sandbox said, on its way to a terminal and
 * into a folder of the user.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "producer/follow.h"
#include "producer/save.h"
#include "producer/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Relative, no part of it "..", nothing a terminal acts on. */
static void check_name(const char *text)
{
    char name[SAVE_NAME_MAX + 1], again[SAVE_NAME_MAX + 1];

    save_name(text, name);
    MUST(name[0] && name[0] != '/' && strlen(name) <= JOB_PATH_MAX);
    for (const char *part = name; part;) {
        size_t len = strcspn(part, "/");

        MUST(len > 0 && !(len == 1 && part[0] == '.') &&
             !(len == 2 && memcmp(part, "..", 2) == 0));
        part = part[len] ? part + len + 1 : NULL;
    }
    for (const char *at = name; *at; at++)
        MUST((unsigned char)*at >= 0x20 && *at != 0x7f);
    save_name(name, again);
    MUST(strcmp(name, again) == 0);
}

static void check_escape(const char *text, size_t len)
{
    struct strbuf out = STRBUF_INIT, again = STRBUF_INIT;

    text_escape(&out, text, len);
    for (size_t i = 0; i < out.len; i++)
        MUST((unsigned char)out.text[i] >= 0x20 && out.text[i] != 0x7f);
    text_escape(&again, out.text ? out.text : "", out.len);
    MUST(again.len == out.len);
    MUST(out.len == 0 || memcmp(out.text, again.text, out.len) == 0);
    strbuf_fini(&out);
    strbuf_fini(&again);
}

/* Records: stream, offset, length, bytes. */
static void play_events(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    struct follow f;

    if (!nowhere)
        MUST(nowhere = fopen("/dev/null", "w"));
    follow_init(&f, nowhere, nowhere);
    while (size >= 3) {
        size_t len = data[2] < size - 3 ? data[2] : size - 3;
        uint64_t offset = data[1] == 255 ? UINT64_MAX - len : data[1];
        uint64_t before[2] = {f.seen[0], f.seen[1]};

        follow_event(&f, data[0] % 2 ? "stdout" : "stderr",
                     (const char *)data + 3, len, offset);
        MUST(f.seen[0] >= before[0] && f.seen[1] >= before[1]);
        data += 3 + len;
        size -= 3 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);

    MUST(text);
    check_name(text);
    check_escape((const char *)data, size);
    play_events(data, size);
    free(text);
    return 0;
}
