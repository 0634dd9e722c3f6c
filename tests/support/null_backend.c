#include "tests/support/null_backend.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/must.h"

#define GATE_POLL_MS 2

struct backend {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    bool killed;
    int running;
    int interrupts; /* of creates */
};

struct sandbox {
    struct backend *backend;
    const struct job *job;
    bool cancelled; /* guarded by the backend's lock */
};

/* Shared with forked workers once null_backend_share() was called. */
static struct {
    _Atomic int runs, running, most, open, full, put_off;
} own_counts, *counts = (void *)&own_counts;

void null_backend_share(void)
{
    void *shared = mmap(NULL, sizeof(own_counts), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    MUST(shared != MAP_FAILED);
    counts = shared;
}

void null_backend_reset(void)
{
    _Atomic int *const all[] = {&counts->runs, &counts->running,
                                &counts->most, &counts->open,
                                &counts->full, &counts->put_off};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        atomic_store(all[i], 0);
}

int null_backend_runs(void)
{
    return atomic_load(&counts->runs);
}

int null_backend_most(void)
{
    return atomic_load(&counts->most);
}

int null_backend_running(void)
{
    return atomic_load(&counts->running);
}

void null_backend_open_gate(void)
{
    atomic_store(&counts->open, 1);
}

void null_backend_full(bool full)
{
    atomic_store(&counts->full, full);
}

int null_backend_put_off(void)
{
    return atomic_load(&counts->put_off);
}

static int null_open(const struct settings *settings,
                     struct backend **backend_out, struct complaint *why)
{
    struct backend *b = calloc(1, sizeof(*b));

    (void)settings;
    if (!b)
        return complain(why, NULL, "no memory");
    MUST0(pthread_mutex_init(&b->lock, NULL));
    cond_init(&b->changed);
    *backend_out = b;
    return 0;
}

static void null_close(struct backend *b)
{
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* False if it was interrupted so often. */
static bool make_deaf(struct backend *b, int64_t ms)
{
    int64_t deadline = clock_ms() + ms;
    int rc = 0;

    MUST0(pthread_mutex_lock(&b->lock));
    b->interrupts = 0;
    while (b->interrupts < 2 && rc == 0)
        rc = cond_wait_until(&b->changed, &b->lock, deadline);
    MUST0(pthread_mutex_unlock(&b->lock));
    return rc != 0;
}

static int null_create(struct backend *b, const struct job *job,
                       const struct spec *spec, struct sandbox **sandbox_out,
                       struct outcome *o)
{
    struct sandbox *s;
    long ms;

    (void)spec;
    if (sscanf(job->code, "place %ld", &ms) == 1 &&
        atomic_load(&counts->full)) {
        atomic_fetch_add(&counts->put_off, 1);
        o->put_off_ms = ms;
        outcome_error(o, "told to be full");
        return -EAGAIN;
    }
    if (strncmp(job->code, "setup", 5) == 0) {
        o->verdict = VERDICT_SETUP_FAILED;
        outcome_error(o, "told to fail");
        return -EIO;
    }
    while (strcmp(job->code, "create gate") == 0 && !atomic_load(&counts->open))
        usleep(GATE_POLL_MS * 1000);
    if (sscanf(job->code, "deaf %ld", &ms) == 1 && !make_deaf(b, ms))
        return -ECANCELED;
    s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct sandbox){.backend = b, .job = job};
    *sandbox_out = s;
    return 0;
}

/* -ECANCELED if killed meanwhile; 1 if cancelled. */
static int nap(struct sandbox *s, int64_t ms)
{
    struct backend *b = s->backend;
    int64_t deadline = clock_ms() + ms;
    int rc = 0;

    MUST0(pthread_mutex_lock(&b->lock));
    while (!b->killed && !s->cancelled && rc == 0)
        rc = cond_wait_until(&b->changed, &b->lock, deadline);
    rc = b->killed ? -ECANCELED : s->cancelled;
    MUST0(pthread_mutex_unlock(&b->lock));
    return rc;
}

/* As nap() answers. */
static int wait_at_gate(struct sandbox *s)
{
    int rc = 0;

    while (rc == 0 && !atomic_load(&counts->open))
        rc = nap(s, GATE_POLL_MS);
    return rc;
}

static int act(struct sandbox *s, const struct run_sink *sink,
               struct outcome *o)
{
    const char *code = s->job->code;
    long ms;

    o->verdict = VERDICT_OK;
    o->exit_code = 0;
    if (sscanf(code, "sleep %ld", &ms) == 1 ||
        sscanf(code, "gate %ld", &ms) == 1) {
        int rc = *code == 'g' ? wait_at_gate(s) : 0;

        if (rc == 0)
            rc = nap(s, ms);
        if (rc == 1)
            o->verdict = VERDICT_CANCELLED;
        return rc < 0 ? rc : 0;
    }
    if (strcmp(code, "backend") == 0) {
        o->verdict = VERDICT_BACKEND_ERROR;
        outcome_error(o, "told to fail");
        return -EIO;
    }
    if (strcmp(code, "user") == 0) {
        o->verdict = VERDICT_USER_ERROR;
        o->exit_code = 1;
    }
    if (strcmp(code, "crash") == 0)
        kill(getpid(), SIGKILL);
    if (strncmp(code, "print ", 6) == 0) {
        capture_add(&o->out, code + 6, strlen(code + 6));
        if (sink)
            sink->output(sink->ctx, false, code + 6, strlen(code + 6));
    }
    return 0;
}

static int null_run(struct sandbox *s, const struct run_sink *sink,
                    struct outcome *o)
{
    int running = atomic_fetch_add(&counts->running, 1) + 1;
    int seen = atomic_load(&counts->most), rc;

    while (running > seen &&
           !atomic_compare_exchange_weak(&counts->most, &seen, running))
        ;
    rc = act(s, sink, o);
    atomic_fetch_sub(&counts->running, 1);
    atomic_fetch_add(&counts->runs, 1);
    return rc;
}

static int null_collect(struct sandbox *s, struct outcome *o)
{
    (void)s;
    (void)o;
    return 0;
}

static void null_destroy(struct sandbox *s, struct outcome *o)
{
    (void)o;
    free(s);
}

static void null_interrupt(struct sandbox *s, enum verdict why)
{
    MUST0(pthread_mutex_lock(&s->backend->lock));
    s->cancelled = why == VERDICT_CANCELLED;
    MUST0(pthread_cond_broadcast(&s->backend->changed));
    MUST0(pthread_mutex_unlock(&s->backend->lock));
}

static void null_interrupt_create(struct backend *b, const struct job *job)
{
    (void)job;
    MUST0(pthread_mutex_lock(&b->lock));
    b->interrupts++;
    MUST0(pthread_cond_broadcast(&b->changed));
    MUST0(pthread_mutex_unlock(&b->lock));
}

static void set_killed(struct backend *b, bool killed)
{
    MUST0(pthread_mutex_lock(&b->lock));
    b->killed = killed;
    MUST0(pthread_cond_broadcast(&b->changed));
    MUST0(pthread_mutex_unlock(&b->lock));
}

static int null_kill_all(struct backend *b, int64_t deadline_ms)
{
    (void)deadline_ms;
    set_killed(b, true);
    return 0;
}

static void null_resume(struct backend *b)
{
    set_killed(b, false);
}

static int64_t null_budget(struct backend *b)
{
    (void)b;
    return 0;
}

const struct backend_ops backend_null = {
    .name = "null",
    .open = null_open,
    .close = null_close,
    .create = null_create,
    .run = null_run,
    .collect = null_collect,
    .destroy = null_destroy,
    .interrupt = null_interrupt,
    .interrupt_create = null_interrupt_create,
    .kill_all = null_kill_all,
    .resume = null_resume,
    .memory_budget = null_budget,
};
