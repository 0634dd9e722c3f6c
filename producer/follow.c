#include "producer/follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "producer/text.h"

#define READ_COUNT    256  /* entries a call */
#define BYTES_MAX     9e15 /* doubles count exactly up to here */
#define READ_GRACE_MS 5000 /* for the reply, over the time it may block */

void follow_init(struct follow *f, FILE *out, FILE *err)
{
    *f = (struct follow){
        .streams = {out, err},
        .tame = {isatty(fileno(out)) == 1, isatty(fileno(err)) == 1},
        .last = "0",
    };
}

void follow_resume(struct follow *f)
{
    f->resumed[0] = f->resumed[1] = true;
}

static void put(struct follow *f, int which, const struct strbuf *text)
{
    if (text->len > 0)
        fwrite(text->text, 1, text->len, f->streams[which]);
}

static void show(struct follow *f, int which, const char *data, size_t size)
{
    AUTO_STRBUF struct strbuf tame = STRBUF_INIT;

    if (size == 0)
        return;
    if (f->tame[which]) {
        text_tame(&f->tamers[which], &tame, data, size);
        put(f, which, &tame);
    } else {
        fwrite(data, 1, size, f->streams[which]);
    }
    fflush(f->streams[which]);
    f->open_line[which] = data[size - 1] != '\n';
}

static void gap(struct follow *f, uint64_t bytes)
{
    fprintf(f->streams[1], "%scapibox: %llu bytes of output were not kept\n",
            f->open_line[1] ? "\n" : "", (unsigned long long)bytes);
    f->open_line[1] = false;
}

static void output(struct follow *f, int which, const char *data, size_t size,
                   uint64_t offset)
{
    uint64_t seen;

    if (f->resumed[which])
        f->seen[which] = offset;
    f->resumed[which] = false;
    seen = f->seen[which];
    if (offset > seen) {
        gap(f, offset - seen);
        seen = offset;
    }
    if (seen - offset < size)
        show(f, which, data + (seen - offset), size - (seen - offset));
    if (offset + size > f->seen[which])
        f->seen[which] = offset + size;
}

static void state(struct follow *f, const char *data, size_t size)
{
    char word[24];

    snprintf(word, sizeof(word), "%.*s", (int)size, data);
    if (client_ended(word))
        f->ended = true;
    if (strcmp(word, "running") != 0 || ++f->starts == 1)
        return;
    if (f->seen[0] || f->seen[1]) {
        fprintf(f->streams[1],
                "%scapibox: the worker was lost; the job runs again\n",
                f->open_line[1] ? "\n" : "");
        f->open_line[1] = false;
    }
    f->seen[0] = f->seen[1] = 0;
}

void follow_event(struct follow *f, const char *type, const char *data,
                  size_t size, uint64_t offset)
{
    if (!strcmp(type, "stdout"))
        output(f, 0, data, size, offset);
    else if (!strcmp(type, "stderr"))
        output(f, 1, data, size, offset);
    else if (!strcmp(type, "state"))
        state(f, data, size);
    else if (!strcmp(type, "end"))
        f->ended = true;
}

static void take(void *ctx, const struct event *event)
{
    struct follow *f = ctx;

    snprintf(f->last, sizeof(f->last), "%s", event->id);
    follow_event(f, event->type, event->data, event->size, event->offset);
}

int follow_read(struct follow *f, struct client *c, struct redis *redis,
                const char *id, int block_ms)
{
    char after[EVENT_ID_MAX + 1];

    memcpy(after, f->last, sizeof(after));
    return protocol_events_read(&c->protocol, redis,
                                clock_ms() + block_ms + READ_GRACE_MS, id,
                                after, READ_COUNT, block_ms, take, f);
}

void follow_end_lines(struct follow *f)
{
    for (int i = 0; i < 2; i++) {
        AUTO_STRBUF struct strbuf rest = STRBUF_INIT;

        text_tame_end(&f->tamers[i], &rest);
        put(f, i, &rest);
        fflush(f->streams[i]);
    }
    if (f->open_line[1] ||
        (f->open_line[0] && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO)))
        fputc('\n', f->streams[1]);
    f->open_line[1] = false;
}

/* What was dropped out of the middle is said where it is missing. */
static void rest_of_two(struct follow *f, int which, const char *head,
                        const char *tail, uint64_t total)
{
    size_t nhead = strlen(head), ntail = strlen(tail);
    uint64_t seen = f->seen[which];

    if (seen < nhead)
        show(f, which, head + seen, nhead - (size_t)seen);
    if (seen < nhead)
        seen = nhead;
    if (total > seen + ntail) {
        gap(f, total - seen - ntail);
        seen = total - ntail;
    }
    show(f, which, tail + (seen + ntail - total), (size_t)(total - seen));
}

/* The logs show a byte that is no UTF-8 as four; when part of such a stream was
 * shown already, the rest is counted from its end. */
static void rest_of_one(struct follow *f, int which, const char *all,
                        uint64_t total)
{
    size_t len = strlen(all);
    uint64_t missing = total - f->seen[which];

    if (f->seen[which] == 0 || missing > len)
        missing = len;
    show(f, which, all + (len - missing), (size_t)missing);
}

/* How many bytes the code printed: never fewer than two pieces show. */
static uint64_t total_of(const cJSON *bytes, uint64_t least)
{
    double claimed = cJSON_IsNumber(bytes) ? bytes->valuedouble : 0;

    if (!(claimed > (double)least))
        return least;
    return claimed > BYTES_MAX ? (uint64_t)BYTES_MAX : (uint64_t)claimed;
}

static void rest(struct follow *f, int which, const cJSON *pieces,
                 const cJSON *bytes)
{
    const cJSON *head = cJSON_GetArrayItem(pieces, 0);
    const cJSON *tail = cJSON_GetArrayItem(pieces, 1);
    uint64_t total;

    if (!cJSON_IsString(head))
        return;
    if (!cJSON_IsString(tail)) {
        /* Escaped bytes may make the text longer than what was printed. */
        total = cJSON_IsNumber(bytes) ? total_of(bytes, 0)
                                      : strlen(head->valuestring);
        if (f->seen[which] < total)
            rest_of_one(f, which, head->valuestring, total);
    } else {
        total = total_of(bytes,
                         strlen(head->valuestring) + strlen(tail->valuestring));
        if (f->seen[which] < total)
            rest_of_two(f, which, head->valuestring, tail->valuestring, total);
    }
    if (f->seen[which] < total)
        f->seen[which] = total;
}

void follow_rest(struct follow *f, const cJSON *result)
{
    const cJSON *logs = cJSON_GetObjectItemCaseSensitive(result, "logs");
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(result, "usage");

    rest(f, 0, cJSON_GetObjectItemCaseSensitive(logs, "stdout"),
         cJSON_GetObjectItemCaseSensitive(usage, "stdout_bytes"));
    rest(f, 1, cJSON_GetObjectItemCaseSensitive(logs, "stderr"),
         cJSON_GetObjectItemCaseSensitive(usage, "stderr_bytes"));
}
