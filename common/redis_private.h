/* common/redis_private.h -- the inside of a connection, for redis.c and
 * redis_connect.c alone.
 */
#ifndef COMMON_REDIS_PRIVATE_H
#define COMMON_REDIS_PRIVATE_H

#include "common/redis.h"
#include "common/replies.h"
#include "common/strbuf.h"
#include "common/transport.h"

#define REDIS_NAME_MAX   128 /* bytes of a client name */
#define REDIS_RUN_ID_MAX 64
#define REDIS_IN_BYTES   65536

struct redis {
    const struct redis_target *target;
    struct transport transport;
    struct strbuf out; /* commands; those before `sent` are on their way */
    size_t sent;
    struct replies replies;
    size_t outstanding; /* replies not yet taken by the caller */
    bool connecting;
    bool drained; /* the last read emptied the socket (as far as we know) */
    int64_t client_id;
    char name[REDIS_NAME_MAX + 1]; /* "": none */
    char run_id[REDIS_RUN_ID_MAX + 1];
    char error[512];
    char in[REDIS_IN_BYTES];
};

/* Closes, and puts "connect to URL: words" or "URL: words" into error. Returns
 * rc. words NULL: the transport's, or strerror()'s. */
int redis_fail(struct redis *r, int rc, const char *words);

/* Appends one command in Redis' protocol (RESP2). lens may be NULL. Returns
 * false when out of memory. */
bool redis_format(struct strbuf *out, int argc, const char **argv,
                  const size_t *lens);

#endif
