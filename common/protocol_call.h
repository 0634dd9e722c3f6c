/* common/protocol_call.h -- what the parts of protocol_*.c share: the words of
 * a script call, sending it, and what an error reply means.
 *
 * Memory:   struct words lives in the caller's scope (AUTO_WORDS); words added
 *           as they are stay the caller's until the call is sent, words made up
 *           (words_addf, words_key) belong to it.
 * Errors:   sticky: a failed allocation shows when the call is sent (-ENOMEM).
 */
#ifndef COMMON_PROTOCOL_CALL_H
#define COMMON_PROTOCOL_CALL_H

#include "common/protocol.h"

struct words_chunk;

struct words {
    const char **text;
    size_t *size;
    int count, room;
    struct words_chunk *chunks;
    enum script_id script;
    char *packing, *packed; /* where the word begins, where it goes on */
    bool failed;
};

void words_fini(struct words *w);
#define AUTO_WORDS __attribute__((cleanup(words_fini)))

/* Text that outlives the call. NULL counts as "". */
void words_add(struct words *w, const char *text, size_t size);
void words_adds(struct words *w, const char *text);
__attribute__((format(printf, 2, 3))) void words_addf(struct words *w,
                                                      const char *fmt, ...);
void words_addi(struct words *w, int64_t number);
void words_key(struct words *w, const struct protocol *p, const char *kind,
               const char *name);
#define MINUTE_TTL_S 90000 /* 25 h */
/* "P:stats:minute:<now>" */
void words_minute_key(struct words *w, const struct protocol *p);
/* "P:p:<wid>:<queue>" */
void words_private_key(struct words *w, const struct protocol *p,
                       const char *wid, const char *queue);

/* One word made of several, as msgpack strings: room for all their bytes, then
 * the parts, then the end. */
void words_pack_begin(struct words *w, size_t bytes, int parts);
void words_pack(struct words *w, const char *text, size_t size);
void words_packs(struct words *w, const char *text);
void words_pack_end(struct words *w);

/* Begins a call: EVALSHA (by_text: EVAL) and room for the number of keys, which
 * words_keys_end() fills in once all keys were added. */
void words_script(struct words *w, const struct protocol *p, enum script_id id,
                  bool by_text);
void words_keys_end(struct words *w);

/* One reply (never an error reply). A script Redis does not know is sent as
 * text. Errors as in protocol.h. */
int words_call(struct words *w, const struct protocol *p, struct redis *r,
               int64_t deadline_ms, redisReply **reply_out);
int words_append(struct words *w, struct redis *r);

/* Is this an array of at least n? */
bool reply_is_array(const redisReply *reply, size_t n);
int64_t reply_int(const redisReply *array, size_t index);
const char *reply_text(const redisReply *array, size_t index);

/* 0, or what an error reply means (-EAGAIN, -ENOSPC, -EACCES, -ESTALE for
 * NOSCRIPT, -EPROTO), remembered for protocol_error(). */
int reply_failure(const redisReply *reply);

static inline void reply_free(redisReply **reply)
{
    if (*reply)
        freeReplyObject(*reply);
}
#define AUTO_REPLY __attribute__((cleanup(reply_free)))

#endif
