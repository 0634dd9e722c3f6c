#include "worker/cancel.h"

#include <string.h>

#include "common/must.h"
#include "worker/backend.h"

int cancels_init(struct cancels *cs, const struct backend_ops *ops,
                 struct backend *backend)
{
    *cs = (struct cancels){.ops = ops, .backend = backend};
    return -pthread_mutex_init(&cs->lock, NULL);
}

void cancels_fini(struct cancels *cs)
{
    if (cs->ops)
        pthread_mutex_destroy(&cs->lock);
    cs->ops = NULL;
}

void cancels_add(struct cancels *cs, struct cancellable *c, const char *job_id)
{
    MUST0(pthread_mutex_lock(&cs->lock));
    if (!c->job_id) {
        c->job_id = job_id;
        c->before = NULL;
        c->after = cs->first;
        if (cs->first)
            cs->first->before = c;
        cs->first = c;
    }
    MUST0(pthread_mutex_unlock(&cs->lock));
}

void cancels_remove(struct cancels *cs, struct cancellable *c)
{
    MUST0(pthread_mutex_lock(&cs->lock));
    if (c->job_id) {
        if (c->before)
            c->before->after = c->after;
        else
            cs->first = c->after;
        if (c->after)
            c->after->before = c->before;
        c->job_id = NULL;
    }
    MUST0(pthread_mutex_unlock(&cs->lock));
}

static void mark_locked(struct cancels *cs, struct cancellable *c)
{
    bool before = atomic_exchange(&c->cancelled, true);

    if (!before && c->sandbox)
        cs->ops->interrupt(c->sandbox, VERDICT_CANCELLED);
    if (c->made && cs->ops->interrupt_create)
        cs->ops->interrupt_create(cs->backend, c->made);
}

void cancels_mark(struct cancels *cs, struct cancellable *c)
{
    MUST0(pthread_mutex_lock(&cs->lock));
    mark_locked(cs, c);
    MUST0(pthread_mutex_unlock(&cs->lock));
}

bool cancels_notice(struct cancels *cs, const char *job_id)
{
    bool any = false;

    MUST0(pthread_mutex_lock(&cs->lock));
    for (struct cancellable *c = cs->first; c; c = c->after) {
        if (strcmp(c->job_id, job_id) != 0)
            continue;
        mark_locked(cs, c);
        any = true;
    }
    MUST0(pthread_mutex_unlock(&cs->lock));
    return any;
}

static bool enter(struct cancels *cs, struct cancellable *c,
                  const struct job *made, struct sandbox *sandbox)
{
    bool go;

    MUST0(pthread_mutex_lock(&cs->lock));
    go = !atomic_load(&c->cancelled);
    c->made = go ? made : NULL;
    c->sandbox = go ? sandbox : NULL;
    MUST0(pthread_mutex_unlock(&cs->lock));
    return go;
}

bool cancels_make(struct cancels *cs, struct cancellable *c,
                  const struct job *job)
{
    return enter(cs, c, job, NULL);
}

bool cancels_run(struct cancels *cs, struct cancellable *c,
                 struct sandbox *sandbox)
{
    return enter(cs, c, NULL, sandbox);
}

void cancels_run_over(struct cancels *cs, struct cancellable *c)
{
    MUST0(pthread_mutex_lock(&cs->lock));
    c->made = NULL;
    c->sandbox = NULL;
    MUST0(pthread_mutex_unlock(&cs->lock));
}
