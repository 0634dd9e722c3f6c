/* common/resolve.h -- getaddrinfo() that keeps a deadline.
 *
 * The C library's resolver blocks for as long as its own timeouts say (half a
 * minute with two dead name servers). Names are therefore looked up by a
 * detached thread, which is left to itself when the deadline passes. Numeric
 * addresses need no thread.
 *
 * Memory:   freeaddrinfo() the answer.
 * Threads:  any.
 * Errors:   -ETIMEDOUT, -ENOMEM, -EAGAIN (no thread), -EHOSTUNREACH (no such
 *           name, no answer); *why_out then says it in words (static text).
 */
#ifndef COMMON_RESOLVE_H
#define COMMON_RESOLVE_H

#include <netdb.h>
#include <stdint.h>

int resolve(const char *host, const char *port, int64_t deadline_ms,
            struct addrinfo **list_out, const char **why_out);

#endif
