/* producer/gateway/listener.h -- the address the gateway is reached at.
 *
 * Threads:  one at a time.
 */
#ifndef PRODUCER_GATEWAY_LISTENER_H
#define PRODUCER_GATEWAY_LISTENER_H

#include "common/complaint.h"
#include "common/settings.h"

#define LISTENER_BACKLOG 4096

struct listener {
    int fd;            /* non-blocking; -1: none */
    char address[128]; /* "127.0.0.1:8080", as bound */
};

/* "host:port", "[::1]:port"; ":port" is all addresses, port 0 any port. -EINVAL
 * with a complaint: no such address, in use, or beyond loopback without keys.
 * The caller closes fd, or hands it on. */
int listener_open(struct listener *l, const struct settings *s,
                  struct complaint *why);

#endif
