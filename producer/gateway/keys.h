/* producer/gateway/keys.h -- who may ask, how often, and for how much at once.
 *
 * A file of `name:key` lines (empty lines and those with # in front are passed
 * over). Only SHA-256 sums of the keys stay in memory; a key that is shown is
 * hashed and compared with all of them in constant time. A name is the tenant
 * of all its jobs, and may have several keys, so that one can be replaced
 * without a gap: add the new one, SIGHUP, move the clients, take the old one
 * out, SIGHUP. Two names may not have the same key.
 *
 * Memory:   a holder lives until keys_fini(), also when a reload dropped it:
 *           jobs and requests point to it.
 * Threads:  the loop's.
 * Errors:   -EINVAL with a complaint that names the line, never the key;
 *           -ENOMEM.
 */
#ifndef PRODUCER_GATEWAY_KEYS_H
#define PRODUCER_GATEWAY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/limits.h"

#define KEYS_MAX            1024
#define KEYS_FILE_BYTES_MAX (1u << 20)
#define KEYS_LENGTH_MIN     16 /* bytes of a key: shorter ones can be guessed */
#define KEYS_LENGTH_MAX     512
#define KEYS_SUM_BYTES      32

/* Tokens for requests: `rate` a second, as many at once. */
struct bucket {
    double tokens;
    int64_t filled_ms; /* 0: never used, so full */
};

/* Takes one. 0, or how many seconds until there is one again. rate 0: no
 * bound. */
double bucket_take(struct bucket *b, int64_t rate, int64_t now_ms);

struct holder { /* of one or more keys: a tenant */
    struct holder *next;
    char name[JOB_NAME_MAX + 1];
    struct bucket requests;
    struct bucket strays; /* tombstones of what nobody knows: cancel.c */
    int64_t jobs;         /* of theirs that have not ended, as far as we know */
};

struct keys {
    struct key {
        unsigned char sum[KEYS_SUM_BYTES];
        struct holder *holder;
    } * list;
    size_t count;
    struct holder *holders;
};

/* Reads the file, in place of what was read before. On failure nothing
 * changes. *open_out: others than its owner may read it. */
int keys_load(struct keys *keys, const char *file, bool *open_out,
              struct complaint *why);
void keys_fini(struct keys *keys);

/* Whose key this is, or NULL. */
struct holder *keys_find(const struct keys *keys, const char *key, size_t size);

#endif
