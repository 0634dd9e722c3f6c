/* worker/admission.h -- no more promised memory than the host has.
 *
 * The sum of the memory limits of running sandboxes stays under a budget. Who
 * asks first is served first; who gives up leaves the line at once. A job
 * larger than the whole budget runs alone.
 *
 * Threads:  any, except init and fini.
 * Errors:   enter: -ECANCELED once closed or when `give_up` says so.
 */
#ifndef WORKER_ADMISSION_H
#define WORKER_ADMISSION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct admission_waiter;

struct admission {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    int64_t budget; /* bytes; 0: no bound */
    int64_t taken;
    struct admission_waiter *first, **last; /* in the order they came */
    bool closed;
};

int admission_init(struct admission *a, int64_t budget_bytes);
void admission_fini(struct admission *a);

/* Waits for room. While there is none give_up (may be NULL) is asked, again at
 * every change. */
int admission_enter(struct admission *a, int64_t bytes,
                    bool (*give_up)(void *ctx), void *ctx);
void admission_leave(struct admission *a, int64_t bytes);
int64_t admission_taken(struct admission *a);
/* Makes every waiter look at give_up again. */
void admission_poke(struct admission *a);
void admission_close(struct admission *a);

#endif
