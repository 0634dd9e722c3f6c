#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "worker/exchange_impl.h"

int64_t exchange_probation_ms = EXCHANGE_PROBATION_MS;

void list_init(struct delivery_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(struct delivery_list *list, struct delivery *d)
{
    d->next = NULL;
    *list->last = d;
    list->last = &d->next;
}

static struct delivery *list_pop(struct delivery_list *list)
{
    struct delivery *d = list->first;

    if (!d)
        return NULL;
    list->first = d->next;
    if (!list->first)
        list->last = &list->first;
    d->next = NULL;
    return d;
}

/* ---- held -------------------------------------------------------------- */

static void hold(struct exchange *x, struct delivery *d)
{
    d->older = x->youngest;
    d->younger = NULL;
    if (x->youngest)
        x->youngest->younger = d;
    else
        x->oldest = d;
    x->youngest = d;
    x->held++;
    x->slots++;
}

static void leave_seat(struct exchange *x, struct delivery *d)
{
    if (x->seat == d)
        x->seat = NULL;
}

void jobs_forget(struct exchange *x, struct delivery *d)
{
    leave_seat(x, d);
    if (d->older)
        d->older->younger = d->younger;
    else
        x->oldest = d->younger;
    if (d->younger)
        d->younger->older = d->older;
    else
        x->youngest = d->older;
    x->held--;
    cancels_remove(&x->w->cancels, &d->cancel);
    delivery_destroy(d);
}

void jobs_look_at_capacity(struct exchange *x)
{
    x->capacity = x->w->concurrency;
    x->capacity_grows_ms = 0;
    if (x->w->ops->room)
        x->capacity = x->w->ops->room(x->w->backend, &x->capacity_grows_ms);
}

int jobs_room(const struct exchange *x)
{
    double ahead = x->w->concurrency * EXCHANGE_AHEAD_US;

    if (atomic_load(&x->w->paused))
        return 0;
    /* With fewer sandboxes than executors, nothing is claimed ahead. */
    if (x->capacity < x->w->concurrency)
        return x->capacity > x->slots ? x->capacity - x->slots : 0;
    ahead = x->mean_us > 1 ? ahead / x->mean_us : ahead;
    if (ahead > EXCHANGE_AHEAD_MAX)
        ahead = EXCHANGE_AHEAD_MAX;
    return x->w->concurrency + (int)ahead - x->slots;
}

/* ---- what executors posted --------------------------------------------- */

static void note_duration(struct exchange *x, const struct delivery *d)
{
    if (d->took_us > 0)
        x->mean_us = x->mean_us * 0.9 + (double)d->took_us * 0.1;
}

static void route_checked(struct exchange *x, struct delivery *d)
{
    if (!d->suspect) {
        list_add(&x->checked, d);
        return;
    }
    list_add(&x->suspects, d);
    if (x->suspects_waiting < EXCHANGE_SUSPECTS_MAX)
        x->slots--; /* taken again when it gets the seat */
    x->suspects_waiting++;
}

static void route_one(struct exchange *x, struct delivery *d)
{
    if (d->generation != x->generation || d->stage == DELIVERY_ABANDONED) {
        if (d->generation == x->generation && exchange_draining(x))
            x->lost++;
        calls_disown(x, d); /* its start mark may still be under way */
        x->slots--;
        jobs_forget(x, d);
    } else if (d->stage == DELIVERY_CHECKED) {
        route_checked(x, d);
    } else {
        note_duration(x, d);
        x->slots--;
        list_add(&x->finished, d);
    }
}

void jobs_route(struct exchange *x, struct delivery *posted)
{
    while (posted) {
        struct delivery *next = posted->next;

        route_one(x, posted);
        posted = next;
    }
}

/* ---- what Redis answered ----------------------------------------------- */

static void release_now(struct exchange *x, struct delivery *d)
{
    x->slots--;
    if (delivery_release(d) < 0) {
        log_error("no memory to give a job back; its lease will run out",
                  LOG_S("worker", d->wid), LOG_I("claim", d->number), LOG_END);
        jobs_forget(x, d);
        return;
    }
    list_add(&x->finished, d);
}

/* What is compared with times made elsewhere must not be our own clock's. */
static void use_redis_clock(const struct exchange *x, struct delivery *d)
{
    int64_t offset_ms = atomic_load(&x->w->self.redis_offset_ms);

    d->claimed_unix = (double)(d->claimed_us + offset_ms * 1000) / 1e6;
}

/* Takes a chain, oldest first. What is given back last is served first. */
static void release_all(struct exchange *x, struct delivery *first)
{
    struct delivery *reversed = NULL;

    while (first) {
        struct delivery *next = first->next;

        first->next = reversed;
        reversed = first;
        first = next;
    }
    while (reversed) {
        struct delivery *next = reversed->next;

        release_now(x, reversed);
        reversed = next;
    }
}

void jobs_claimed(struct exchange *x, const struct exchange_reply *reply)
{
    struct delivery *first = NULL, **last = &first;
    struct delivery *surplus = NULL, **surplus_last = &surplus;
    int room = jobs_room(x);

    for (int i = 0; i < reply->nclaims; i++) {
        struct claim claim = reply->claims[i];
        /* The order array may be shuffled: names live in the settings. */
        const char *queue = NULL;
        struct delivery *d;

        for (int q = 0; q < x->w->settings->nqueues; q++)
            if (strcmp(x->w->settings->queues[q].name,
                       x->order[claim.queue].name) == 0)
                queue = x->w->settings->queues[q].name;
        d = delivery_create(&claim, x->wid, x->generation, queue);
        if (!d) {
            log_error("no memory for a claimed job; its lease will run out",
                      LOG_I("claim", claim.number), LOG_END);
            free(claim.entry);
            continue;
        }
        use_redis_clock(x, d);
        hold(x, d);
        if (i >= room || atomic_load(&x->w->stopping) != STOP_NOT) {
            *surplus_last = d;
            surplus_last = &d->next;
            continue;
        }
        *last = d;
        last = &d->next;
    }
    x->tick_ms = clock_ms() + EXCHANGE_TICK_MS;
    release_all(x, surplus);
    if (first)
        runqueue_put_chain(&x->w->runqueue, first);
}

static void say_late(const struct delivery *d)
{
    log_warn("result refused: the job had been given to another worker",
             LOG_S("job", d->job_id), LOG_S("worker", d->wid),
             LOG_I("claim", d->number), LOG_END);
}

void jobs_finished(struct exchange *x, const struct exchange_reply *reply)
{
    for (int i = 0; i < x->request.nfinishes; i++) {
        struct delivery *d = x->finishing[i];

        if (reply->acks[i] == ACK_LATE)
            say_late(d);
        if (d->finish.kind == FINISH_RETRY || d->finish.kind == FINISH_DELAY)
            io_wake(x->w->keeper_wake_fd); /* it may be due before others */
        jobs_forget(x, d);
    }
}

static void take_slot_again(struct exchange *x)
{
    x->suspects_waiting--;
    if (x->suspects_waiting < EXCHANGE_SUSPECTS_MAX)
        x->slots++;
}

static void duplicate(struct exchange *x, struct delivery *d)
{
    leave_seat(x, d);
    cancels_remove(&x->w->cancels, &d->cancel);
    d->seated = false; /* the mark was not set, or is another one's by now */
    if (d->rejected) {
        /* A bad job must not touch the good one that has its id: its result
         * goes under an id of its own. */
        snprintf(d->job_id, sizeof(d->job_id), "%s.%" PRId64, d->wid,
                 d->number);
        d->stage = DELIVERY_CLEARED;
        runqueue_put(&x->w->runqueue, d);
        return;
    }
    log_info("job dropped: its id is taken", LOG_S("job", d->job_id), LOG_END);
    delivery_duplicate(d);
    x->slots--;
    list_add(&x->finished, d);
}

void jobs_start_answer(struct exchange *x, struct delivery *d,
                       enum start_answer answer)
{
    if (answer == START_CANCELLED)
        cancels_mark(&x->w->cancels, &d->cancel);
    if (!d->must_start || d->started)
        return; /* a mark for show: it runs already, or has ended */
    if (answer == START_DUPLICATE) {
        duplicate(x, d);
    } else if (answer == START_FENCED) {
        x->slots--;
        jobs_forget(x, d);
        exchange_fenced(x);
    } else {
        d->started = true;
        d->stage = DELIVERY_CLEARED;
        runqueue_put(&x->w->runqueue, d);
    }
}

/* ---- what is to be sent ------------------------------------------------ */

static int send_start(struct exchange *x, struct delivery *d)
{
    int rc = 0;

    if (d->cache_key[0]) /* answered before the start: see delivery_check() */
        rc = calls_add(x, (struct call){.kind = CALL_LOOKUP, .delivery = d});
    if (rc == 0)
        rc = calls_add(x, (struct call){.kind = CALL_START, .delivery = d});
    return rc;
}

static int send_checked(struct exchange *x)
{
    int rc = 0;

    while (rc == 0 && x->checked.first && !calls_full(x))
        rc = send_start(x, list_pop(&x->checked));
    if (rc == 0 && !x->seat && x->suspects.first && !calls_full(x)) {
        struct delivery *d = list_pop(&x->suspects);

        take_slot_again(x);
        x->seat = d;
        d->seated = true;
        rc = send_start(x, d);
    }
    return rc;
}

int jobs_send_marks(struct exchange *x)
{
    int rc = 0;

    while (rc == 0 && x->pieces && !calls_full(x)) {
        struct output_piece *piece = x->pieces;

        x->pieces = piece->next;
        if (!x->pieces)
            x->pieces_last = &x->pieces;
        if (piece->generation == x->generation)
            rc =
                calls_add(x, (struct call){.kind = CALL_PIECE, .piece = piece});
        else
            free(piece);
    }
    return rc == 0 ? send_checked(x) : rc;
}

/* All executors are busy, and may be for long: nobody else ends them. */
static void end_cancelled(struct exchange *x)
{
    struct delivery *d = runqueue_drain_cancelled(&x->w->runqueue);

    while (d) {
        struct delivery *next = d->next;

        if (d->early != VERDICT_REJECTED)
            d->early = VERDICT_CANCELLED;
        if (delivery_end_early(d, x->w->ops->name) < 0) {
            release_now(x, d);
        } else {
            x->slots--;
            list_add(&x->finished, d);
        }
        d = next;
    }
}

/* True if there was any. */
static bool give_back(struct exchange *x, int64_t before_us)
{
    struct delivery *d = runqueue_drain(&x->w->runqueue, before_us);
    bool any = d;

    release_all(x, d);
    return any;
}

/* A waiting suspect was counted out of its slot. */
static void give_back_suspects(struct exchange *x)
{
    struct delivery *d;

    while ((d = list_pop(&x->suspects))) {
        take_slot_again(x);
        release_now(x, d);
    }
}

/* Who told first may have come before the backend knew of the create. */
static void tell_again(struct exchange *x)
{
    for (struct delivery *d = x->oldest; d; d = d->younger)
        if (atomic_load(&d->cancel.cancelled) &&
            atomic_load(&d->phase) == PHASE_RUNNING)
            cancels_mark(&x->w->cancels, &d->cancel);
}

/* A job that runs for a while is said to be running. Sets *more when one may
 * come to that later. */
static int mark_running(struct exchange *x, bool *more)
{
    int64_t since = clock_us() - EXCHANGE_MARK_AFTER_MS * 1000;
    int rc = 0;

    for (struct delivery *d = x->oldest; d && rc == 0; d = d->younger) {
        int phase = atomic_load(&d->phase);

        /* Killed with its identity: its number may be another job's now. */
        if (d->generation != x->generation)
            continue;
        if (phase == PHASE_RUNNING && !d->must_start && !calls_full(x) &&
            atomic_load(&d->running_since_us) <= since &&
            atomic_compare_exchange_strong(&d->phase, &phase, PHASE_MARKED))
            rc = send_start(x, d);
        else if (phase == PHASE_WAITING || phase == PHASE_RUNNING)
            *more = true;
    }
    return rc;
}

static int end_probation(struct exchange *x)
{
    struct delivery *d = x->seat;
    int own_ms = x->w->ops->probation_ms;
    int64_t ran;

    if (!d || atomic_load(&d->phase) != PHASE_RUNNING || calls_full(x))
        return 0;
    ran = clock_us() - atomic_load(&d->running_since_us);
    if (ran < (own_ms > 0 ? own_ms : exchange_probation_ms) * 1000)
        return 0;
    x->seat = NULL;
    d->seated = false;
    return calls_add(x, (struct call){.kind = CALL_UNSUSPECT, .delivery = d});
}

int jobs_tick(struct exchange *x)
{
    bool more = false;
    int rc;

    end_cancelled(x);
    tell_again(x);
    if (atomic_load(&x->w->stopping) != STOP_NOT) {
        /* Cleared ones are shown as running: the executors decide. */
        release_all(x, runqueue_drain_fresh(&x->w->runqueue));
        give_back_suspects(x);
    } else if (give_back(x, clock_us() - EXCHANGE_STALE_MS * 1000)) {
        /* Jobs are longer than they were: no running ahead of them, or what
         * was given back would be claimed again. */
        x->mean_us = EXCHANGE_MEAN_US;
    }
    rc = mark_running(x, &more);
    if (rc == 0)
        rc = end_probation(x);
    x->tick_ms = more || x->seat ? clock_ms() + EXCHANGE_TICK_MS : 0;
    return rc;
}

void jobs_abandon(struct exchange *x)
{
    struct delivery_list *lists[] = {&x->finished, &x->checked, &x->suspects};
    struct delivery *d;
    int lost = 0;

    x->slots += x->suspects_waiting < EXCHANGE_SUSPECTS_MAX
                    ? x->suspects_waiting
                    : EXCHANGE_SUSPECTS_MAX;
    x->suspects_waiting = 0;
    x->seat = NULL;
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        while ((d = list_pop(lists[i]))) {
            if (i > 0)
                x->slots--;
            jobs_forget(x, d);
            lost++;
        }
    }
    d = runqueue_drain(&x->w->runqueue, INT64_MAX);
    while (d) {
        struct delivery *next = d->next;

        x->slots--;
        jobs_forget(x, d);
        lost++;
        d = next;
    }
    if (lost || x->held)
        log_warn("claims lost with the old identity", LOG_S("worker", x->wid),
                 LOG_I("waiting", lost), LOG_I("running", x->held), LOG_END);
}
