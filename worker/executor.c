#include "worker/executor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"
#include "common/noise.h"
#include "worker/delivery.h"

/* The first try after capibox's own failure, doubled for each further one. */
#define RETRY_FIRST_MS 500
#define RETRY_MOST_MS  30000

struct executors {
    struct worker *worker;
    int count;
    pthread_t threads[];
};

/* What one executor does one job with. */
struct execution {
    struct worker *w;
    struct delivery *d;
    struct outcome outcome;
    uint64_t sent[2]; /* live output so far: stdout, stderr */
};

static double seconds_since(int64_t start_us)
{
    return (double)(clock_us() - start_us) / 1e6;
}

static int64_t redis_now_ms(struct worker *w)
{
    return clock_ms() + atomic_load(&w->self.redis_offset_ms);
}

/* What was put off may come late for a clock that is not known well, but not
 * early, and again at once. */
static int64_t redis_latest_ms(struct worker *w)
{
    return redis_now_ms(w) + atomic_load(&w->self.redis_slack_ms);
}

static int64_t retry_delay_ms(const struct delivery *d)
{
    int attempt = delivery_attempts_used(d);
    int64_t delay = RETRY_FIRST_MS << (attempt < 6 ? attempt : 6);

    if (delay > RETRY_MOST_MS)
        delay = RETRY_MOST_MS;
    return delay / 2 + noise() % (uint32_t)(delay / 2);
}

/* Hands it back to the exchange thread, which owns what follows. */
static void hand_over(struct worker *w, struct delivery *d, int rc)
{
    if (rc < 0 && delivery_release(d) < 0) {
        /* No memory even to give it back: the lease will. */
        log_error("no memory to finish a job; its lease will run out",
                  LOG_S("job", d->job_id), LOG_END);
        d->stage = DELIVERY_ABANDONED;
    }
    outbox_post(&w->outbox, d);
}

static bool is_cancelled(const struct delivery *d)
{
    return atomic_load(&d->cancel.cancelled);
}

static bool give_up(void *ctx)
{
    struct execution *x = ctx;

    return is_cancelled(x->d) || atomic_load(&x->w->stopping) != STOP_NOT ||
           !incarnation_holds(&x->w->self, x->d->generation);
}

static void live_output(void *ctx, bool is_stderr, const char *data,
                        size_t size)
{
    struct execution *x = ctx;
    uint64_t *sent = &x->sent[is_stderr];
    uint64_t limit = (uint64_t)x->d->spec.limits.output_bytes;
    struct output_piece *piece;

    if (*sent >= limit)
        return;
    if (size > limit - *sent)
        size = (size_t)(limit - *sent);
    piece = malloc(sizeof(*piece) + size);
    if (piece) {
        piece->generation = x->d->generation;
        memcpy(piece->job_id, x->d->job_id, sizeof(piece->job_id));
        piece->is_stderr = is_stderr;
        piece->offset = *sent;
        piece->size = size;
        memcpy(piece->data, data, size);
        outbox_post_output(&x->w->outbox, piece);
    }
    *sent += size;
}

/* run and collect; the sandbox is there. */
static int use_sandbox(struct execution *x, struct sandbox *sandbox)
{
    const struct backend_ops *ops = x->w->ops;
    struct run_sink sink = {.output = live_output, .ctx = x};
    struct outcome *o = &x->outcome;
    int64_t start = clock_us();
    int rc;

    if (!cancels_run(&x->w->cancels, &x->d->cancel, sandbox))
        return -ECANCELED;
    o->code_started = true;
    rc = ops->run(sandbox, x->d->job->stream ? &sink : NULL, o);
    cancels_run_over(&x->w->cancels, &x->d->cancel);
    o->timings.run = seconds_since(start);
    if (rc < 0)
        return rc;
    start = clock_us();
    rc = ops->collect(sandbox, o);
    o->timings.collect = seconds_since(start);
    return rc;
}

static int in_sandbox(struct execution *x)
{
    const struct backend_ops *ops = x->w->ops;
    struct outcome *o = &x->outcome;
    struct sandbox *sandbox = NULL;
    int64_t start = clock_us();
    int rc;

    atomic_store(&x->d->running_since_us, start);
    atomic_store(&x->d->phase, PHASE_RUNNING);
    if (!cancels_make(&x->w->cancels, &x->d->cancel, x->d->job))
        return -ECANCELED;
    rc = ops->create(x->w->backend, x->d->job, &x->d->spec, &sandbox, o);
    cancels_run_over(&x->w->cancels, &x->d->cancel);
    o->timings.create = seconds_since(start);
    if (sandbox) {
        o->sandbox_created = true;
        /* Made after the killing of an old identity's sandboxes was over. */
        if (rc == 0 && !incarnation_holds(&x->w->self, x->d->generation))
            rc = -ECANCELED;
        if (rc == 0)
            rc = use_sandbox(x, sandbox);
        start = clock_us();
        ops->destroy(sandbox, o);
        o->timings.destroy = seconds_since(start);
        o->sandbox_destroyed = true;
    }
    if (rc == 0 && o->verdict == VERDICT_NONE) {
        o->verdict = VERDICT_BACKEND_ERROR;
        outcome_error(o, "the %s backend gave no verdict", ops->name);
        rc = -EPROTO;
    }
    return rc;
}

/* Our own failure: once more while attempts are left, else dead. */
static int settle_failure(struct execution *x, int rc)
{
    struct delivery *d = x->d;
    struct outcome *o = &x->outcome;

    if (!verdict_retryable(o->verdict))
        o->verdict = VERDICT_BACKEND_ERROR;
    if (!o->error)
        outcome_error(o, "the %s backend failed: %s", x->w->ops->name,
                      strerror(-rc));
    log_warn("sandbox failed", LOG_S("job", d->job_id),
             LOG_S("verdict", verdict_name(o->verdict)),
             LOG_S("error", o->error),
             LOG_I("attempt", delivery_attempts_used(d) + 1),
             LOG_I("of", d->job->max_attempts), LOG_END);
    if (delivery_attempts_used(d) + 1 < d->job->max_attempts)
        return delivery_retry(d, o, redis_latest_ms(x->w), retry_delay_ms(d));
    return delivery_end(d, o, x->w->ops->name);
}

/* No place for a sandbox: later, with nothing used up. */
static int put_off(struct execution *x)
{
    int rc;

    log_info("job put off", LOG_S("job", x->d->job_id),
             LOG_I("ms", x->outcome.put_off_ms), LOG_S("why", x->outcome.error),
             LOG_END);
    rc = delivery_delay(x->d, redis_latest_ms(x->w) + x->outcome.put_off_ms);
    x->d->finish.sandbox_created = x->outcome.sandbox_created;
    x->d->finish.sandbox_destroyed = x->outcome.sandbox_destroyed;
    return rc;
}

/* It did not come to a run, or the run was given up for another reason: what
 * was asked for is true all the same. */
static int settle_cancelled(struct execution *x)
{
    struct outcome *o = &x->outcome;

    o->verdict = VERDICT_CANCELLED;
    outcome_error(o, o->code_started ? "cancelled"
                                     : "cancelled before it started");
    return delivery_end(x->d, o, x->w->ops->name);
}

static int settle(struct execution *x, int rc)
{
    if (!incarnation_holds(&x->w->self, x->d->generation)) {
        x->d->stage = DELIVERY_ABANDONED;
        return 0;
    }
    if (rc < 0 && is_cancelled(x->d))
        return settle_cancelled(x);
    if (rc == -ECANCELED) {
        rc = delivery_release(x->d);
        x->d->finish.sandbox_created = x->outcome.sandbox_created;
        x->d->finish.sandbox_destroyed = x->outcome.sandbox_destroyed;
        return rc;
    }
    if (rc == -EAGAIN)
        return put_off(x);
    if (rc < 0)
        return settle_failure(x, rc);
    return delivery_end(x->d, &x->outcome, x->w->ops->name);
}

static void end_early(struct worker *w, struct delivery *d)
{
    hand_over(w, d, delivery_end_early(d, w->ops->name));
}

/* It may have waited long: for its start mark, a seat, memory. */
static int run_in_time(struct execution *x)
{
    int rc;

    if (delivery_expired(x->d)) {
        x->d->early = VERDICT_EXPIRED;
        return 0;
    }
    atomic_fetch_add(&x->w->active, 1);
    rc = in_sandbox(x);
    x->d->took_us = clock_us() - atomic_load(&x->d->running_since_us) + 1;
    if (atomic_exchange(&x->d->phase, PHASE_DONE) == PHASE_MARKED)
        x->d->started = true;
    atomic_fetch_sub(&x->w->active, 1);
    return rc;
}

/* A job that may run. */
static void execute(struct worker *w, struct delivery *d)
{
    struct execution x = {.w = w, .d = d};
    int64_t memory = d->spec.limits.memory_bytes;
    int rc = outcome_init(&x.outcome, (size_t)d->spec.limits.output_bytes);

    if (d->job->callback_url)
        outcome_warn(&x.outcome, "callback_url: this version sends no "
                                 "callbacks; wait for the id on the done "
                                 "channel, or read the job's hash");
    if (rc == 0) {
        rc = admission_enter(&w->admission, memory, give_up, &x);
        if (rc == 0) {
            rc = run_in_time(&x);
            admission_leave(&w->admission, memory);
        }
        if (d->early == VERDICT_NONE)
            rc = settle(&x, rc);
    }
    outcome_fini(&x.outcome);
    if (d->early != VERDICT_NONE)
        end_early(w, d);
    else
        hand_over(w, d, rc);
}

/* True if it may go on at once; else it was handed over. */
static bool check(struct worker *w, struct delivery *d)
{
    struct template_set *templates = worker_templates(w);
    int rc = delivery_check(d, templates, w->settings);
    int64_t due;

    template_set_unref(templates);
    if (rc < 0) {
        hand_over(w, d, rc);
        return false;
    }
    due = delivery_due_ms(d, redis_now_ms(w));
    if (due > 0) {
        hand_over(w, d, delivery_delay(d, due));
        return false;
    }
    if (d->must_start) {
        outbox_post(&w->outbox, d);
        return false;
    }
    return true;
}

/* False if what was kept is of no use: then it runs. */
static bool end_cached(struct worker *w, struct delivery *d)
{
    int rc = delivery_end_cached(d, w->ops->name);

    if (rc == -EINVAL) {
        free(d->kept);
        d->kept = NULL;
        d->stage = DELIVERY_CLEARED;
        return false;
    }
    hand_over(w, d, rc);
    return true;
}

/* Draining: a job that is shown as running does run. */
static bool given_back(struct worker *w, const struct delivery *d)
{
    int stopping = atomic_load(&w->stopping);

    return stopping == STOP_NOW ||
           (stopping == STOP_DRAIN && d->stage == DELIVERY_CLAIMED);
}

static void process(struct worker *w, struct delivery *d)
{
    if (!incarnation_holds(&w->self, d->generation)) {
        d->stage = DELIVERY_ABANDONED;
        outbox_post(&w->outbox, d);
        return;
    }
    if (given_back(w, d)) {
        hand_over(w, d, delivery_release(d));
        return;
    }
    if (d->stage == DELIVERY_CLAIMED && !check(w, d))
        return;
    if (is_cancelled(d) && d->early != VERDICT_REJECTED)
        d->early = VERDICT_CANCELLED;
    if (d->early != VERDICT_NONE)
        end_early(w, d);
    else if (d->kept && end_cached(w, d))
        return;
    else
        execute(w, d);
}

static void *executor_main(void *arg)
{
    struct worker *w = arg;
    struct delivery *d;

    while ((d = runqueue_take(&w->runqueue)))
        process(w, d);
    return NULL;
}

int executors_start(struct worker *w, int count, struct executors **out)
{
    struct executors *e =
        calloc(1, sizeof(*e) + (size_t)count * sizeof(pthread_t));
    pthread_attr_t attr;
    int rc = 0;

    if (!e)
        return -ENOMEM;
    e->worker = w;
    MUST0(pthread_attr_init(&attr));
    MUST0(pthread_attr_setstacksize(&attr, EXECUTOR_STACK_BYTES));
    while (e->count < count && rc == 0) {
        rc = -pthread_create(&e->threads[e->count], &attr, executor_main, w);
        if (rc == 0)
            e->count++;
    }
    pthread_attr_destroy(&attr);
    if (rc < 0) {
        runqueue_close(&w->runqueue);
        executors_join(e);
        return rc;
    }
    *out = e;
    return 0;
}

void executors_join(struct executors *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->count; i++)
        MUST0(pthread_join(e->threads[i], NULL));
    free(e);
}
