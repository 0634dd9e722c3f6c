#include "common/protocol_call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define CHUNK_BYTES 4000

struct words_chunk {
    struct words_chunk *next;
    size_t used, size;
    char text[];
};

void words_fini(struct words *w)
{
    while (w->chunks) {
        struct words_chunk *next = w->chunks->next;

        free(w->chunks);
        w->chunks = next;
    }
    free(w->text);
    free(w->size);
    *w = (struct words){0};
}

static bool make_room(struct words *w)
{
    if (w->failed || w->count < w->room)
        return !w->failed;

    int room = w->room ? 2 * w->room : 64;
    const char **text = realloc(w->text, (size_t)room * sizeof(*text));
    if (text)
        w->text = text;
    size_t *size = realloc(w->size, (size_t)room * sizeof(*size));
    if (size)
        w->size = size;
    w->failed = !text || !size;
    if (!w->failed)
        w->room = room;
    return !w->failed;
}

/* Chunks never move, so words may point into them. */
static char *chunk_room(struct words *w, size_t size)
{
    if (!w->chunks || w->chunks->size - w->chunks->used < size) {
        size_t bytes = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        struct words_chunk *chunk = malloc(sizeof(*chunk) + bytes);

        if (!chunk) {
            w->failed = true;
            return NULL;
        }
        *chunk = (struct words_chunk){.next = w->chunks, .size = bytes};
        w->chunks = chunk;
    }
    return w->chunks->text + w->chunks->used;
}

void words_add(struct words *w, const char *text, size_t size)
{
    if (!make_room(w))
        return;
    w->text[w->count] = text ? text : "";
    w->size[w->count] = text ? size : 0;
    w->count++;
}

void words_adds(struct words *w, const char *text)
{
    words_add(w, text, text ? strlen(text) : 0);
}

void words_addf(struct words *w, const char *fmt, ...)
{
    char *at = chunk_room(w, KEY_MAX);
    va_list args;

    if (!at)
        return;
    va_start(args, fmt);
    int len = vsnprintf(at, KEY_MAX, fmt, args);
    va_end(args);
    if (len < 0 || len >= KEY_MAX) {
        w->failed = true;
        return;
    }
    w->chunks->used += (size_t)len + 1;
    words_add(w, at, (size_t)len);
}

void words_addi(struct words *w, int64_t number)
{
    words_addf(w, "%lld", (long long)number);
}

void words_key(struct words *w, const struct protocol *p, const char *kind,
               const char *name)
{
    if (name)
        words_addf(w, "%s:%s:%s", p->prefix, kind, name);
    else
        words_addf(w, "%s:%s", p->prefix, kind);
}

void words_minute_key(struct words *w, const struct protocol *p)
{
    words_addf(w, "%s:stats:minute:%lld", p->prefix,
               (long long)(clock_unix_s() / 60));
}

void words_private_key(struct words *w, const struct protocol *p,
                       const char *wid, const char *queue)
{
    words_addf(w, "%s:p:%s:%s", p->prefix, wid, queue);
}

/* A part is led by at most this many bytes. */
#define PACK_HEAD 5

void words_pack_begin(struct words *w, size_t bytes, int parts)
{
    w->packing = chunk_room(w, bytes + (size_t)parts * PACK_HEAD);
    w->packed = w->packing;
}

void words_pack(struct words *w, const char *text, size_t size)
{
    unsigned char *at = (unsigned char *)w->packed;

    if (!at)
        return;
    if (size < 32) {
        *at++ = (unsigned char)(0xa0 | size);
    } else if (size < 65536) {
        *at++ = 0xda;
        *at++ = (unsigned char)(size >> 8);
        *at++ = (unsigned char)size;
    } else {
        *at++ = 0xdb;
        for (int shift = 24; shift >= 0; shift -= 8)
            *at++ = (unsigned char)(size >> shift);
    }
    if (size > 0)
        memcpy(at, text, size);
    w->packed = (char *)at + size;
}

void words_packs(struct words *w, const char *text)
{
    words_pack(w, text, strlen(text));
}

void words_pack_end(struct words *w)
{
    size_t size = (size_t)(w->packed - w->packing);

    if (!w->packing)
        return;
    w->chunks->used += size;
    words_add(w, w->packing, size);
    w->packing = w->packed = NULL;
}

void words_script(struct words *w, const struct protocol *p, enum script_id id,
                  bool by_text)
{
    w->script = id;
    words_adds(w, by_text ? "EVAL" : "EVALSHA");
    words_adds(w, by_text ? p->scripts[id].text : p->scripts[id].sha);
    words_adds(w, "0");
}

void words_keys_end(struct words *w)
{
    int keys = w->count - 3;

    words_addi(w, keys);
    if (w->failed)
        return;
    w->count--;
    w->text[2] = w->text[w->count];
    w->size[2] = w->size[w->count];
}

static int call_once(struct words *w, struct redis *r, int64_t deadline_ms,
                     redisReply **reply_out)
{
    redisReply *reply = NULL;
    int rc = redis_call(r, deadline_ms, &reply, w->count, w->text, w->size);

    if (rc < 0)
        return rc;
    rc = reply_failure(reply);
    if (rc < 0)
        freeReplyObject(reply);
    else
        *reply_out = reply;
    return rc;
}

int words_call(struct words *w, const struct protocol *p, struct redis *r,
               int64_t deadline_ms, redisReply **reply_out)
{
    if (w->failed)
        return -ENOMEM;

    int rc = call_once(w, r, deadline_ms, reply_out);
    if (rc != -ESTALE)
        return rc;
    w->text[0] = "EVAL";
    w->size[0] = strlen("EVAL");
    w->text[1] = p->scripts[w->script].text;
    w->size[1] = strlen(w->text[1]);
    return call_once(w, r, deadline_ms, reply_out);
}

int words_append(struct words *w, struct redis *r)
{
    if (w->failed)
        return -ENOMEM;
    return redis_append(r, w->count, w->text, w->size);
}

bool reply_is_array(const redisReply *reply, size_t n)
{
    return reply && reply->type == REDIS_REPLY_ARRAY && reply->elements >= n;
}

int64_t reply_int(const redisReply *array, size_t index)
{
    const redisReply *item = array->element[index];

    return item->type == REDIS_REPLY_INTEGER ? item->integer : 0;
}

const char *reply_text(const redisReply *array, size_t index)
{
    const redisReply *item = array->element[index];

    return item->type == REDIS_REPLY_STRING ? item->str : "";
}

static __thread char last_error[256];

const char *protocol_error(void)
{
    return last_error;
}

int reply_failure(const redisReply *reply)
{
    if (!reply)
        return -EPROTO;
    if (reply->type != REDIS_REPLY_ERROR)
        return 0;
    snprintf(last_error, sizeof(last_error), "%s", reply->str);
    switch (redis_kind(reply)) {
    case REDIS_NOSCRIPT:
        return -ESTALE;
    case REDIS_LATER:
    case REDIS_MOVED:
    case REDIS_UNBLOCKED:
        return -EAGAIN;
    case REDIS_FULL:
        return -ENOSPC;
    case REDIS_AUTH:
        return -EACCES;
    case REDIS_FINE:
    case REDIS_WRONG:
        break;
    }
    return -EPROTO;
}
