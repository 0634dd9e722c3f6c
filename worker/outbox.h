/* worker/outbox.h -- what executors hand to the exchange thread.
 *
 * Deliveries that want a start mark or are finished, and pieces of live output.
 *
 * Memory:   post moves in, take moves everything out.
 * Threads:  posts from any thread, take from the exchange thread.
 * Errors:   init: negated errno. An output piece that finds OUTBOX_OUTPUT_MAX
 *           bytes waiting is dropped: readers see the gap by its offset, and
 * the result still has the text.
 */
#ifndef WORKER_OUTBOX_H
#define WORKER_OUTBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"

#define OUTBOX_OUTPUT_MAX (8u << 20)

struct delivery;

struct output_piece {
    struct output_piece *next;
    uint64_t generation;
    char job_id[JOB_ID_MAX + 1];
    bool is_stderr;
    uint64_t offset;
    size_t size;
    char data[];
};

struct outbox {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct delivery *first, **last;
    struct output_piece *piece_first, **piece_last;
    size_t output_bytes;
    bool reader_awake; /* no wake-up needed: it will look before it sleeps */
    int wake;          /* eventfd the exchange thread polls */
};

int outbox_init(struct outbox *box);
void outbox_fini(struct outbox *box);

void outbox_post(struct outbox *box, struct delivery *d);
void outbox_post_output(struct outbox *box, struct output_piece *piece);

/* Everything that waits, as chains in the order of posting. sleeping says that
 * the caller will poll `wake` unless it got something: posts then write to it.
 */
void outbox_take(struct outbox *box, bool sleeping, struct delivery **first_out,
                 struct output_piece **pieces_out);

#endif
