/* producer/gateway/peers.h -- connections: how many, and how long they may
 * dawdle.
 *
 * A connection has PEERS_HEAD_S from its opening, or from its last answer, to
 * send the next whole head of a request, then PEERS_BODY_S for the body, and
 * PEERS_ANSWER_S to take an answer. How often it sends a byte meanwhile is all
 * the same. Whoever is waiting for a job or following one has all the time.
 *
 * Memory:   a peer is made when a connection is taken and freed when it ends.
 * Threads:  the loop's.
 */
#ifndef PRODUCER_GATEWAY_PEERS_H
#define PRODUCER_GATEWAY_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PEERS_HEAD_S    30
#define PEERS_BODY_S    60
#define PEERS_ANSWER_S  120
#define PEERS_BUCKETS   1024
#define PEERS_ADDRESSES 65536 /* remembered at a time: one a connection */

enum peer_phase {
    PEER_HEAD,
    PEER_BODY,
    PEER_WAITING, /* for us: no bound */
    PEER_ANSWER,
};

struct peer_address {
    struct peer_address *next;
    unsigned char bytes[16]; /* IPv6, or IPv4 mapped into it */
    int64_t open;
};

struct peer {
    struct peer *next, *prev;
    struct peer_address *address; /* NULL: not counted */
    int fd;
    int64_t deadline_ms; /* 0: none */
};

struct peers {
    struct peer *list;
    struct peer_address *buckets[PEERS_BUCKETS];
    size_t count;
    int64_t per_address; /* 0: no bound */
};

/* Whether one more connection of this address is let in. Loopback is: behind a
 * proxy everybody comes from there. */
bool peers_let_in(struct peers *set, const struct sockaddr *from);

/* NULL for lack of memory. */
struct peer *peers_add(struct peers *set, const struct sockaddr *from, int fd);
void peers_remove(struct peers *set, struct peer *peer);

void peer_enter(struct peer *peer, enum peer_phase phase);

/* Shuts down those that had their time: once a second or so. */
void peers_sweep(struct peers *set);

#endif
