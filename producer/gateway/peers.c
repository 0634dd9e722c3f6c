#include "producer/gateway/peers.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

/* False for loopback and what has no address (unix sockets). */
static bool address_of(const struct sockaddr *from, unsigned char out[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    memset(out, 0, 16);
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)from;

        memcpy(out, mapped, sizeof(mapped));
        memcpy(out + 12, &in->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)from;

        memcpy(out, &in6->sin6_addr, 16);
        if (IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr))
            return false;
        /* Whoever has one IPv6 address has a whole /64 of them. */
        if (memcmp(out, mapped, sizeof(mapped)) != 0)
            memset(out + 8, 0, 8);
    } else {
        return false;
    }
    return memcmp(out, mapped, sizeof(mapped)) != 0 || out[12] != 127;
}

static struct peer_address **bucket_of(struct peers *set,
                                       const unsigned char bytes[16])
{
    uint32_t hash = 2166136261u;

    for (int i = 0; i < 16; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return &set->buckets[hash % PEERS_BUCKETS];
}

static struct peer_address *find(struct peers *set,
                                 const unsigned char bytes[16])
{
    struct peer_address *a = *bucket_of(set, bytes);

    while (a && memcmp(a->bytes, bytes, 16) != 0)
        a = a->next;
    return a;
}

bool peers_let_in(struct peers *set, const struct sockaddr *from)
{
    unsigned char bytes[16];
    const struct peer_address *a;

    if (set->per_address == 0 || !address_of(from, bytes))
        return true;
    a = find(set, bytes);
    return !a || a->open < set->per_address;
}

static struct peer_address *count_in(struct peers *set,
                                     const struct sockaddr *from)
{
    unsigned char bytes[16];
    struct peer_address *a, **bucket;

    if (!from || !address_of(from, bytes))
        return NULL;
    a = find(set, bytes);
    if (!a) {
        a = calloc(1, sizeof(*a));
        if (!a)
            return NULL;
        memcpy(a->bytes, bytes, 16);
        bucket = bucket_of(set, bytes);
        a->next = *bucket;
        *bucket = a;
    }
    a->open++;
    return a;
}

static void count_out(struct peers *set, struct peer_address *a)
{
    struct peer_address **at;

    if (!a || --a->open > 0)
        return;
    at = bucket_of(set, a->bytes);
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    free(a);
}

struct peer *peers_add(struct peers *set, const struct sockaddr *from, int fd)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->fd = fd;
    peer->address = count_in(set, from);
    peer->next = set->list;
    if (peer->next)
        peer->next->prev = peer;
    set->list = peer;
    set->count++;
    peer_enter(peer, PEER_HEAD);
    return peer;
}

void peers_remove(struct peers *set, struct peer *peer)
{
    if (!peer)
        return;
    if (peer->next)
        peer->next->prev = peer->prev;
    if (peer->prev)
        peer->prev->next = peer->next;
    else
        set->list = peer->next;
    set->count--;
    count_out(set, peer->address);
    free(peer);
}

void peer_enter(struct peer *peer, enum peer_phase phase)
{
    static const int seconds[] = {
        [PEER_HEAD] = PEERS_HEAD_S,
        [PEER_BODY] = PEERS_BODY_S,
        [PEER_ANSWER] = PEERS_ANSWER_S,
    };

    if (peer)
        peer->deadline_ms =
            phase == PEER_WAITING ? 0 : clock_ms() + seconds[phase] * 1000;
}

void peers_sweep(struct peers *set)
{
    int64_t now = clock_ms();

    /* The other side of the daemon sees the end and frees it. */
    for (struct peer *peer = set->list; peer; peer = peer->next)
        if (peer->deadline_ms > 0 && now >= peer->deadline_ms) {
            shutdown(peer->fd, SHUT_RDWR);
            peer->deadline_ms = 0;
        }
}
