#include "worker/admission.h"

#include <errno.h>

#include "common/must.h"

int admission_init(struct admission *a, int64_t budget_bytes)
{
    int rc;

    *a = (struct admission){.budget = budget_bytes};
    rc = -pthread_mutex_init(&a->lock, NULL);
    if (rc < 0)
        return rc;
    rc = -pthread_cond_init(&a->changed, NULL);
    if (rc < 0)
        pthread_mutex_destroy(&a->lock);
    return rc;
}

void admission_fini(struct admission *a)
{
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
}

static bool fits_locked(const struct admission *a, int64_t bytes)
{
    return a->budget == 0 || a->taken == 0 || a->taken + bytes <= a->budget;
}

int admission_enter(struct admission *a, int64_t bytes,
                    bool (*give_up)(void *ctx), void *ctx)
{
    int rc = 0;
    uint64_t ticket;

    MUST0(pthread_mutex_lock(&a->lock));
    ticket = a->next_ticket++;
    /* In turn even when giving up, so that no ticket is ever left unserved. */
    while (ticket != a->serving ||
           (!fits_locked(a, bytes) && !a->closed && !(give_up && give_up(ctx))))
        MUST0(pthread_cond_wait(&a->changed, &a->lock));
    a->serving++;
    if (a->closed || !fits_locked(a, bytes))
        rc = -ECANCELED;
    else
        a->taken += bytes;
    MUST0(pthread_cond_broadcast(&a->changed));
    MUST0(pthread_mutex_unlock(&a->lock));
    return rc;
}

void admission_leave(struct admission *a, int64_t bytes)
{
    MUST0(pthread_mutex_lock(&a->lock));
    a->taken -= bytes;
    MUST0(pthread_cond_broadcast(&a->changed));
    MUST0(pthread_mutex_unlock(&a->lock));
}

int64_t admission_taken(struct admission *a)
{
    int64_t taken;

    MUST0(pthread_mutex_lock(&a->lock));
    taken = a->taken;
    MUST0(pthread_mutex_unlock(&a->lock));
    return taken;
}

void admission_poke(struct admission *a)
{
    MUST0(pthread_mutex_lock(&a->lock));
    MUST0(pthread_cond_broadcast(&a->changed));
    MUST0(pthread_mutex_unlock(&a->lock));
}

void admission_close(struct admission *a)
{
    MUST0(pthread_mutex_lock(&a->lock));
    a->closed = true;
    MUST0(pthread_cond_broadcast(&a->changed));
    MUST0(pthread_mutex_unlock(&a->lock));
}
