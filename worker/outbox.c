#include "worker/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "worker/delivery.h"
#include "worker/worker.h"

int outbox_init(struct outbox *box)
{
    int rc;

    *box = (struct outbox){.wake = -1};
    box->last = &box->first;
    box->piece_last = &box->piece_first;
    box->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (box->wake < 0)
        return -errno;
    rc = -pthread_mutex_init(&box->lock, NULL);
    if (rc < 0) {
        close(box->wake);
        box->wake = -1;
    }
    return rc;
}

void outbox_fini(struct outbox *box)
{
    if (!box->last || box->wake < 0)
        return;
    while (box->piece_first) {
        struct output_piece *piece = box->piece_first;

        box->piece_first = piece->next;
        free(piece);
    }
    close(box->wake);
    box->wake = -1;
    pthread_mutex_destroy(&box->lock);
}

/* True if the caller must write to the eventfd, outside the lock. */
static bool rouse_locked(struct outbox *box)
{
    if (box->reader_awake)
        return false;
    box->reader_awake = true;
    return true;
}

void outbox_post(struct outbox *box, struct delivery *d)
{
    bool rouse;

    d->next = NULL;
    MUST0(pthread_mutex_lock(&box->lock));
    *box->last = d;
    box->last = &d->next;
    rouse = rouse_locked(box);
    MUST0(pthread_mutex_unlock(&box->lock));
    if (rouse)
        io_wake(box->wake);
}

void outbox_post_output(struct outbox *box, struct output_piece *piece)
{
    bool rouse = false;

    piece->next = NULL;
    MUST0(pthread_mutex_lock(&box->lock));
    if (box->output_bytes + piece->size <= OUTBOX_OUTPUT_MAX) {
        *box->piece_last = piece;
        box->piece_last = &piece->next;
        box->output_bytes += piece->size;
        piece = NULL;
        rouse = rouse_locked(box);
    }
    MUST0(pthread_mutex_unlock(&box->lock));
    free(piece);
    if (rouse)
        io_wake(box->wake);
}

void outbox_take(struct outbox *box, bool sleeping, struct delivery **first_out,
                 struct output_piece **pieces_out)
{
    MUST0(pthread_mutex_lock(&box->lock));
    *first_out = box->first;
    *pieces_out = box->piece_first;
    box->first = NULL;
    box->last = &box->first;
    box->piece_first = NULL;
    box->piece_last = &box->piece_first;
    box->output_bytes = 0;
    box->reader_awake = !sleeping || *first_out || *pieces_out;
    MUST0(pthread_mutex_unlock(&box->lock));
}
