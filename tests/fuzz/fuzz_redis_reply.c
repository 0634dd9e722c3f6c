/* tests/fuzz/fuzz_redis_reply.c -- any bytes a server may send, cut anywhere.
 *
 * The first byte chooses how the rest is cut into reads.
 */
#include <stdint.h>
#include <stdlib.h>

#include "common/redis.h"
#include "common/replies.h"

#define BYTES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct replies rs;
    redisReply *reply;
    size_t cut;
    int rc = 0;

    if (size == 0 || replies_init(&rs, BYTES_MAX) < 0)
        return 0;
    cut = (size_t)data[0] + 1;
    data++;
    size--;
    while (size > 0 && rc == 0) {
        size_t piece = size < cut ? size : cut;

        rc = replies_feed(&rs, (const char *)data, piece);
        data += piece;
        size -= piece;
        while ((reply = replies_take(&rs))) {
            if (redis_kind(reply) == REDIS_FINE &&
                reply->type == REDIS_REPLY_ERROR)
                abort();
            freeReplyObject(reply);
        }
    }
    replies_fini(&rs);
    return 0;
}
