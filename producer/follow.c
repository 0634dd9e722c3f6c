#include "producer/follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "producer/text.h"

#define READ_COUNT    "256" /* entries a call */
#define BYTES_MAX     9e15  /* doubles count exactly up to here */
#define READ_GRACE_MS 5000  /* for the reply, over the time it may block */

void follow_init(struct follow *f, FILE *out, FILE *err)
{
    *f = (struct follow){.streams = {out, err}, .last = "0-0"};
}

static void show(struct follow *f, int which, const char *data, size_t size)
{
    if (size == 0)
        return;
    fwrite(data, 1, size, f->streams[which]);
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
    uint64_t seen = f->seen[which];

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

/* [id, [field, value, …]] */
static void entry(struct follow *f, const redisReply *reply)
{
    const redisReply *fields, *data = NULL;
    const char *type = "";
    uint64_t offset = 0;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    snprintf(f->last, sizeof(f->last), "%s", reply->element[0]->str);
    fields = reply->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const char *name = fields->element[i]->str;
        const redisReply *value = fields->element[i + 1];

        if (!strcmp(name, "type"))
            type = value->str;
        else if (!strcmp(name, "data"))
            data = value;
        else if (!strcmp(name, "offset"))
            offset = strtoull(value->str, NULL, 10);
    }
    follow_event(f, type, data ? data->str : "", data ? (size_t)data->len : 0,
                 offset);
}

/* [[key, [entry, …]]] or nil. */
static int entries(struct follow *f, const redisReply *reply)
{
    const redisReply *list;

    if (reply->type == REDIS_REPLY_NIL)
        return 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 ||
        reply->element[0]->type != REDIS_REPLY_ARRAY ||
        reply->element[0]->elements != 2)
        return -EPROTO;
    list = reply->element[0]->element[1];
    for (size_t i = 0; i < list->elements; i++)
        entry(f, list->element[i]);
    return (int)list->elements;
}

int follow_read(struct follow *f, struct client *c, struct redis *redis,
                const char *id, int block_ms)
{
    char key[KEY_MAX], block[16];
    const char *argv[9] = {"XREAD", "COUNT", READ_COUNT};
    int argc = 3;
    redisReply *reply = NULL;
    int rc;

    if (block_ms > 0) {
        snprintf(block, sizeof(block), "%d", block_ms);
        argv[argc++] = "BLOCK";
        argv[argc++] = block;
    }
    argv[argc++] = "STREAMS";
    argv[argc++] = protocol_key(&c->protocol, key, "events", id);
    argv[argc++] = f->last;
    rc = redis_call(redis, clock_ms() + block_ms + READ_GRACE_MS, &reply, argc,
                    argv, NULL);
    if (rc < 0)
        return rc;
    rc = entries(f, reply);
    freeReplyObject(reply);
    return rc;
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
