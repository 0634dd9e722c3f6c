#include "worker/worker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/must.h"

struct template_set *worker_templates(struct worker *w)
{
    struct template_set *set;

    MUST0(pthread_mutex_lock(&w->templates_lock));
    set = template_set_ref(w->templates);
    MUST0(pthread_mutex_unlock(&w->templates_lock));
    return set;
}

void worker_swap_templates(struct worker *w, struct template_set *set)
{
    struct template_set *old;

    MUST0(pthread_mutex_lock(&w->templates_lock));
    old = w->templates;
    w->templates = set;
    MUST0(pthread_mutex_unlock(&w->templates_lock));
    template_set_unref(old);
}

bool incarnation_get(struct incarnation *self, char wid[WORKER_ID_MAX + 1],
                     uint64_t *generation_out)
{
    bool live;

    MUST0(pthread_mutex_lock(&self->lock));
    memcpy(wid, self->wid, sizeof(self->wid));
    *generation_out = self->generation;
    live = self->live;
    MUST0(pthread_mutex_unlock(&self->lock));
    return live;
}

void incarnation_set(struct incarnation *self, const char *wid, bool live)
{
    MUST0(pthread_mutex_lock(&self->lock));
    if (strcmp(self->wid, wid) != 0) {
        snprintf(self->wid, sizeof(self->wid), "%s", wid);
        self->generation++;
    }
    self->live = live;
    MUST0(pthread_mutex_unlock(&self->lock));
}

bool incarnation_holds(struct incarnation *self, uint64_t generation)
{
    bool holds;

    MUST0(pthread_mutex_lock(&self->lock));
    holds = self->live && self->generation == generation;
    MUST0(pthread_mutex_unlock(&self->lock));
    return holds;
}
