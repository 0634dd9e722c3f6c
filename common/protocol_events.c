/* Reading a job's live output. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/protocol_call.h"

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* Redis' own numbers have up to 20 digits. */
bool protocol_event_id_valid(const char *id)
{
    size_t ms = digits(id), n;

    if (ms == 0 || ms > 20)
        return false;
    if (!id[ms])
        return true;
    n = id[ms] == '-' ? digits(id + ms + 1) : 0;
    return n > 0 && n <= 20 && !id[ms + 1 + n];
}

/* [id, [field, value, …]] */
static bool hand_over(const redisReply *entry, protocol_event_fn *take,
                      void *ctx)
{
    struct event event = {.type = "", .data = ""};
    const redisReply *fields;

    if (!reply_is_array(entry, 2) || !reply_is_array(entry->element[1], 0))
        return false;
    event.id = reply_text(entry, 0);
    fields = entry->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const char *name = reply_text(fields, i);
        const redisReply *value = fields->element[i + 1];

        if (value->type != REDIS_REPLY_STRING)
            return false;
        if (!strcmp(name, "type")) {
            event.type = value->str;
        } else if (!strcmp(name, "data") || !strcmp(name, "verdict")) {
            event.data = value->str;
            event.size = (size_t)value->len;
        } else if (!strcmp(name, "offset")) {
            event.offset = strtoull(value->str, NULL, 10);
        }
    }
    take(ctx, &event);
    return true;
}

/* [[key, [entry, …]]], or nil: nothing came. */
static int hand_over_all(const redisReply *reply, protocol_event_fn *take,
                         void *ctx)
{
    const redisReply *list;

    if (reply->type == REDIS_REPLY_NIL)
        return 0;
    if (!reply_is_array(reply, 1) || !reply_is_array(reply->element[0], 2) ||
        !reply_is_array(reply->element[0]->element[1], 0))
        return -EPROTO;
    list = reply->element[0]->element[1];
    for (size_t i = 0; i < list->elements; i++)
        if (!hand_over(list->element[i], take, ctx))
            return -EPROTO;
    return (int)list->elements;
}

int protocol_events_read(const struct protocol *p, struct redis *r,
                         int64_t deadline_ms, const char *job_id,
                         const char *after, int most, int block_ms,
                         protocol_event_fn *take, void *ctx)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;
    int rc;

    words_adds(&w, "XREAD");
    words_adds(&w, "COUNT");
    words_addi(&w, most);
    if (block_ms > 0) {
        words_adds(&w, "BLOCK");
        words_addi(&w, block_ms);
    }
    words_adds(&w, "STREAMS");
    words_key(&w, p, "events", job_id);
    words_adds(&w, after);
    if (w.failed)
        return -ENOMEM;
    rc = redis_call(r, deadline_ms, &reply, w.count, w.text, w.size);
    if (rc == 0)
        rc = reply_failure(reply);
    return rc < 0 ? rc : hand_over_all(reply, take, ctx);
}
