#include "worker/admission.h"

#include <errno.h>

#include "common/must.h"

int admission_init(struct admission *a, int64_t budget_bytes)
{
    int rc;

    *a = (struct admission){.budget = budget_bytes};
    a->last = &a->first;
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

/* Lies on the stack of who waits. */
struct admission_waiter {
    struct admission_waiter *next;
};

static void line_up_locked(struct admission *a, struct admission_waiter *self)
{
    *a->last = self;
    a->last = &self->next;
}

static void leave_line_locked(struct admission *a,
                              struct admission_waiter *self)
{
    struct admission_waiter **at = &a->first;

    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    if (!self->next)
        a->last = at;
}

int admission_enter(struct admission *a, int64_t bytes,
                    bool (*give_up)(void *ctx), void *ctx)
{
    int rc = 0;
    struct admission_waiter self = {NULL};

    MUST0(pthread_mutex_lock(&a->lock));
    line_up_locked(a, &self);
    while (!(a->first == &self && fits_locked(a, bytes)) && !a->closed &&
           !(give_up && give_up(ctx)))
        MUST0(pthread_cond_wait(&a->changed, &a->lock));
    if (a->closed || a->first != &self || !fits_locked(a, bytes))
        rc = -ECANCELED;
    else
        a->taken += bytes;
    leave_line_locked(a, &self);
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
