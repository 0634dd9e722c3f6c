/* producer/gateway/loop.h -- one thread that waits for many descriptors.
 *
 * Memory:   a watch is its owner's, and stays where it is from loop_add() to
 *           loop_remove().
 * Threads:  one: all calls and all act() run in it.
 * Errors:   negated errno.
 */
#ifndef PRODUCER_GATEWAY_LOOP_H
#define PRODUCER_GATEWAY_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_EVENTS_MAX 256 /* taken from the kernel at a time */

struct loop_watch {
    int fd;
    void (*act)(void *ctx, uint32_t events);
    void *ctx;
    uint32_t events; /* as added or changed last; 0: not watched */
};

struct loop {
    int epoll;
    struct epoll_event ready[LOOP_EVENTS_MAX];
    int nready, at;
};

int loop_init(struct loop *loop);
void loop_fini(struct loop *loop);

/* Watches w->fd for events (EPOLLIN…). Errors and hang-ups always come. */
int loop_add(struct loop *loop, struct loop_watch *w, uint32_t events);
/* Costs nothing if they are the same already. */
int loop_change(struct loop *loop, struct loop_watch *w, uint32_t events);
/* Before the descriptor is closed. Harmless if it is not watched; no act() of
 * this watch comes after it, also of events that are being worked on. */
void loop_remove(struct loop *loop, struct loop_watch *w);

/* Waits for at most timeout_ms (-1: for ever), then acts on what there is. */
void loop_turn(struct loop *loop, int timeout_ms);

#endif
