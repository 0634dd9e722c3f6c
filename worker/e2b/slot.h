/* worker/e2b/slot.h -- the calls of one sandbox, which another thread may end.
 *
 * Threads:  one makes the calls and naps; any may abort.
 */
#ifndef WORKER_E2B_SLOT_H
#define WORKER_E2B_SLOT_H

#include <pthread.h>
#include <stdbool.h>

#include "worker/e2b/http.h"

struct call_slot {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_call *call; /* guarded; NULL: none is under way */
    bool aborted; /* guarded; broadcast changed. Once true, calls end at once */
};

void call_slot_init(struct call_slot *slot);
void call_slot_fini(struct call_slot *slot);
/* http_do() that call_slot_abort() ends. slot may be NULL. */
int call_slot_do(struct call_slot *slot, struct http *http,
                 struct http_call *call);
void call_slot_abort(struct call_slot *slot, struct http *http);
/* Sleeps; false at once when it is aborted. */
bool call_slot_nap(struct call_slot *slot, int64_t ms);
bool call_slot_aborted(struct call_slot *slot);

#endif
