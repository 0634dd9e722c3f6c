/* worker/e2b/e2b.c -- the backend that runs jobs in E2B's microVMs.
 *
 * One sandbox a job: create (control plane), execute or start (its interpreter,
 * its envd), files, DELETE. What cannot be placed goes back to its queue; what
 * is lost in the middle is our failure, not the code's; every path ends in a
 * DELETE, at the latest by the janitor.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/backend.h"
#include "worker/e2b/collect.h"
#include "worker/e2b/e2b_impl.h"
#include "worker/e2b/placing.h"
#include "worker/e2b/prelude.h"
#include "worker/e2b/run.h"

/* E2B kills a sandbox that nobody did: this long after the job's timeout. */
#define TTL_MARGIN_S    120
#define PAUSE_MS        500 /* before a further DELETE, doubled for each */
#define DELETE_HURRY_MS 3000
#define DELETE_TRIES    3
#define DELETE_WAIT_S   5 /* asked to wait longer, the janitor does */
#define DELETE_MS       10000
/* Code in a microVM has but its stream to harm a worker with: that of fifty
 * jobs need not wait for minutes. */
#define PROBATION_MS 500

_Static_assert(HTTP_CONNECTIONS_MORE > CONTROL_KILLS_MAX,
               "no call has to wait for another one's connection");

/* ---- the list of sandboxes --------------------------------------------- */

static int enlist(struct backend *be, struct sandbox *sb)
{
    int rc = 0;

    MUST0(pthread_mutex_lock(&be->lock));
    if (be->closed) {
        rc = -ECANCELED;
    } else {
        sb->next = be->sandboxes;
        be->sandboxes = sb;
    }
    MUST0(pthread_mutex_unlock(&be->lock));
    return rc;
}

static void delist(struct backend *be, struct sandbox *sb)
{
    MUST0(pthread_mutex_lock(&be->lock));
    for (struct sandbox **at = &be->sandboxes; *at; at = &(*at)->next) {
        if (*at == sb) {
            *at = sb->next;
            break;
        }
    }
    MUST0(pthread_cond_broadcast(&be->changed));
    MUST0(pthread_mutex_unlock(&be->lock));
}

/* May come under the backend's lock; takes the slot's (never the other way
 * round). */
static void interrupt_with(struct sandbox *sb, int why)
{
    int now = atomic_load(&sb->interrupted);

    while (now < why &&
           !atomic_compare_exchange_weak(&sb->interrupted, &now, why))
        ;
    call_slot_abort(&sb->guest.slot, sb->backend->http);
}

static void free_sandbox(struct sandbox *sb)
{
    guest_fini(&sb->guest);
    free(sb);
}

/* ---- open and close ---------------------------------------------------- */

static void init_lock(struct backend *be)
{
    MUST0(pthread_mutex_init(&be->lock, NULL));
    cond_init(&be->changed);
}

static int e2b_open(const struct settings *settings,
                    struct backend **backend_out, struct complaint *why)
{
    int concurrency = settings_concurrency(settings);
    struct backend *be = calloc(1, sizeof(*be));
    int rc;

    if (!be)
        return -ENOMEM;
    rc = settings_check_e2b(settings, why);
    if (rc == 0)
        rc = http_open(settings->e2b_ca, concurrency + HTTP_CONNECTIONS_MORE,
                       &be->http);
    if (rc < 0)
        goto undo_alloc;
    rc = control_init(&be->control, settings, be->http);
    if (rc < 0)
        goto undo_http;
    place_init(&be->place, concurrency);
    rc = janitor_start(&be->control, &be->janitor);
    if (rc < 0)
        goto undo_place;
    guest_route_init(&be->route, settings);
    init_lock(be);
    *backend_out = be;
    return 0;

undo_place:
    place_fini(&be->place);
undo_http:
    http_close(be->http);
undo_alloc:
    free(be);
    return rc;
}

static void e2b_close(struct backend *be)
{
    if (!be)
        return;
    janitor_stop(be->janitor);
    http_close(be->http);
    place_fini(&be->place);
    pthread_cond_destroy(&be->changed);
    pthread_mutex_destroy(&be->lock);
    free(be);
}

/* ---- create ------------------------------------------------------------ */

/* Our failure, or nobody's when the run was given up. */
int e2b_fail(struct sandbox *sb, struct outcome *o, int rc)
{
    if (atomic_load(&sb->interrupted) == ABANDONED)
        rc = -ECANCELED;
    o->verdict = rc == -ECANCELED ? VERDICT_NONE : VERDICT_BACKEND_ERROR;
    return rc;
}

int e2b_cancelled(struct sandbox *sb, struct outcome *o)
{
    if (atomic_load(&sb->interrupted) != CANCELLED)
        return e2b_fail(sb, o, -ECANCELED);
    o->verdict = VERDICT_CANCELLED;
    outcome_error(o, o->code_started ? "cancelled while it ran"
                                     : "cancelled before it started");
    return 0;
}

/* How a step ended that did not come to its end: nobody's failure if it was
 * given up, else ours. */
static int ended_badly(struct sandbox *sb, struct outcome *o, int rc)
{
    return call_slot_aborted(&sb->guest.slot) ? e2b_cancelled(sb, o)
                                              : e2b_fail(sb, o, rc);
}

/* After a call that ran no code, to a sandbox that never answered: back to the
 * queue if it is E2B that is away (place.h). */
static int not_reached(struct sandbox *sb, enum fault fault, const char *text,
                       struct outcome *o, int rc)
{
    struct place *place = &sb->backend->place;
    int64_t again = 0;

    if (!fault_is_outage(fault)) {
        place_note(place, PLANE_SANDBOX, fault, text);
        return rc;
    }
    if (!place_missed(place, sb->job->id, sb->job->wants.template_name, fault,
                      text, &again))
        return rc;
    o->verdict = VERDICT_NONE;
    return placing_put_off(o, again, text);
}

/* The network thread's: its host is well. What code then does to its own
 * sandbox says nothing of E2B. */
static void note_answer(void *ctx)
{
    struct sandbox *sb = ctx;

    place_note(&sb->backend->place, PLANE_SANDBOX, FAULT_NONE, "");
    place_answered(&sb->backend->place, sb->job->id);
}

static int upload(struct sandbox *sb, struct outcome *o)
{
    char text[CONTROL_TEXT_MAX];
    enum fault fault;
    int rc = run_upload(&sb->guest, sb->job, sb->spec, o, &fault, text);

    if (rc < 0 && !sb->guest.heard && !call_slot_aborted(&sb->guest.slot))
        rc = not_reached(sb, fault, text, o, rc);
    return rc;
}

static int create_with(struct sandbox *sb,
                       const struct template_variant *variant,
                       struct outcome *o)
{
    struct backend *be = sb->backend;
    char fleet[CONTROL_VALUE_MAX + 1], wid[WORKER_ID_MAX + 1];
    struct control_create want = {
        .template_id = variant->template_id,
        .ttl_s =
            (int)((sb->spec->limits.timeout_ms + 999) / 1000) + TTL_MARGIN_S,
        .internet = sb->spec->limits.network,
    };
    int rc;

    MUST0(pthread_mutex_lock(&be->lock));
    memcpy(fleet, be->fleet, sizeof(fleet));
    memcpy(wid, be->wid, sizeof(wid));
    MUST0(pthread_mutex_unlock(&be->lock));
    want.meta[0] = (struct control_meta){"capibox", fleet};
    want.meta[1] = (struct control_meta){"capibox_worker", wid};
    want.meta[2] = (struct control_meta){"capibox_job", sb->job->id};
    rc = placing_ask(sb, &want, o);
    if (!sb->exists)
        return rc;
    sb->dies_at_ms = clock_ms() + want.ttl_s * INT64_C(1000);
    snprintf(o->sandbox_id, sizeof(o->sandbox_id), "%s", sb->guest.sandbox.id);
    snprintf(o->start, sizeof(o->start), "microVM");
    o->created_at = clock_unix_s();
    o->sandbox_created = true;
    o->usage.unknown = true;
    prelude_enforced(sb->spec, variant, want.ttl_s, &o->enforced);
    return upload(sb, o);
}

static int e2b_create(struct backend *be, const struct job *job,
                      const struct spec *spec, struct sandbox **sandbox_out,
                      struct outcome *o)
{
    struct template_variant named;
    const struct template_variant *variant;
    struct sandbox *sb = calloc(1, sizeof(*sb));
    int rc;

    *sandbox_out = NULL;
    if (!sb)
        return -ENOMEM;
    sb->backend = be;
    sb->job = job;
    sb->spec = spec;
    guest_init(&sb->guest, &be->control, &be->route);
    sb->guest.answered = note_answer;
    sb->guest.ctx = sb;
    variant = placing_variant(sb, &named);
    if (!variant) {
        rc = placing_reject_size(sb, o);
        free_sandbox(sb);
        return rc;
    }
    rc = enlist(be, sb);
    if (rc < 0) {
        free_sandbox(sb);
        return rc;
    }
    rc = create_with(sb, variant, o);
    if (sb->exists) { /* destroy() is due, whatever happened after */
        *sandbox_out = sb;
        return rc < 0 && rc != -EAGAIN ? ended_badly(sb, o, rc) : rc;
    }
    place_note(&be->place, PLANE_SANDBOX, FAULT_ABORTED, "");
    delist(be, sb);
    free_sandbox(sb);
    return rc;
}

/* ---- run and collect --------------------------------------------------- */

/* The call that runs the code ended without a 2xx: for all that is known. */
static void not_taken(enum fault fault, const char *text, struct outcome *o)
{
    if (fault == FAULT_UNSURE)
        outcome_error(o,
                      "the E2B sandbox gave no answer to the job's code, and "
                      "whether its code ran is not known: %s",
                      text);
    else if (fault != FAULT_NONE)
        outcome_error(o, "the E2B sandbox did not take the job's code: %s",
                      text);
}

static int cancelled_run(struct sandbox *sb, struct outcome *o)
{
    int rc = e2b_cancelled(sb, o);

    if (o->verdict == VERDICT_CANCELLED && !o->code_started)
        outcome_error(o, "cancelled before its sandbox answered");
    return rc;
}

/* Code counts as started once its sandbox took it: answered with a 2xx. */
static int e2b_run(struct sandbox *sb, const struct run_sink *sink,
                   struct outcome *o)
{
    bool heard_before;
    struct run_end end;
    int rc;

    if (!sb)
        return 0;
    o->code_started = false;
    if (call_slot_aborted(&sb->guest.slot))
        return e2b_cancelled(sb, o);
    heard_before = sb->guest.heard;
    sb->guest.heard = false;
    rc = run_code(&sb->guest, sb->job, sb->spec, sb->dies_at_ms, sink, o, &end);
    o->code_started = sb->guest.heard;
    sb->guest.heard = sb->guest.heard || heard_before;
    if (rc < 0 && !o->code_started)
        not_taken(end.fault, end.text, o);
    if (end.fault == FAULT_ABORTED)
        return cancelled_run(sb, o);
    if (!sb->guest.heard)
        rc = not_reached(sb, end.fault, end.text, o, rc);
    return rc < 0 && rc != -EAGAIN ? e2b_fail(sb, o, rc) : rc;
}

static int e2b_collect(struct sandbox *sb, struct outcome *o)
{
    if (!sb || !sb->job->output_files || o->verdict == VERDICT_CANCELLED)
        return 0;
    int rc = collect_guest_files(&sb->guest, sb->job->output_files, o);

    return rc < 0 ? ended_badly(sb, o, rc) : rc;
}

/* ---- destroy ----------------------------------------------------------- */

/* *wait_s_out: how long E2B asked to wait before the next try; -1: it did not.
 * text says why it is not gone. */
static enum fault delete_it(struct sandbox *sb, bool hurry, int *wait_s_out,
                            char *text)
{
    const struct control *control = &sb->backend->control;
    int tries = hurry ? 1 : DELETE_TRIES;
    enum fault fault;

    for (int try = 1;; try++) {
        int64_t pause = placing_jitter(PAUSE_MS << try);

        fault =
            control_kill(control, NULL, sb->guest.sandbox.id,
                         hurry ? DELETE_HURRY_MS : DELETE_MS, wait_s_out, text);
        if (fault == FAULT_NONE || try == tries || *wait_s_out > DELETE_WAIT_S)
            return fault;
        if (*wait_s_out >= 0) /* never sooner than it asked for */
            pause = *wait_s_out * INT64_C(1000) + placing_jitter(PAUSE_MS);
        /* Of one that was cancelled, the janitor waits in its stead. */
        if (!call_slot_nap(&sb->guest.slot, pause))
            return fault;
    }
}

static void e2b_destroy(struct sandbox *sb, struct outcome *o)
{
    char text[CONTROL_TEXT_MAX];
    struct backend *be;
    int wait_s;

    if (!sb)
        return;
    be = sb->backend;
    /* Who stops now does not wait for E2B: the janitor, or whoever finds them.
     */
    bool hurry = atomic_load(&sb->interrupted) == ABANDONED;

    if (delete_it(sb, hurry, &wait_s, text) != FAULT_NONE) {
        janitor_kill(be->janitor, sb->guest.sandbox.id,
                     wait_s > 0 ? wait_s * INT64_C(1000) : 0, sb->dies_at_ms);
        outcome_warn(o,
                     "the sandbox's end was not seen (%s); it is tried again, "
                     "and E2B ends it by itself",
                     text);
    }
    o->sandbox_destroyed = true;
    if (!sb->guest.heard) /* if others wait for its word, it has none */
        place_note(&be->place, PLANE_SANDBOX, FAULT_ABORTED, "");
    place_left(&be->place);
    delist(be, sb);
    free_sandbox(sb);
}

/* ---- from any thread --------------------------------------------------- */

static void e2b_interrupt(struct sandbox *sb, enum verdict why)
{
    if (sb)
        interrupt_with(sb, why == VERDICT_NONE ? ABANDONED : CANCELLED);
}

static void e2b_interrupt_create(struct backend *be, const struct job *job)
{
    MUST0(pthread_mutex_lock(&be->lock));
    for (struct sandbox *sb = be->sandboxes; sb; sb = sb->next)
        if (sb->job == job)
            interrupt_with(sb, CANCELLED);
    MUST0(pthread_mutex_unlock(&be->lock));
}

/* Their executors kill them: an aborted call returns at once. */
static int e2b_kill_all(struct backend *be, int64_t deadline_ms)
{
    int rc = 0;

    MUST0(pthread_mutex_lock(&be->lock));
    be->closed = true;
    for (struct sandbox *sb = be->sandboxes; sb; sb = sb->next)
        interrupt_with(sb, ABANDONED);
    while (be->sandboxes && rc == 0)
        rc = cond_wait_until(&be->changed, &be->lock, deadline_ms);
    rc = be->sandboxes ? -ETIMEDOUT : 0;
    MUST0(pthread_mutex_unlock(&be->lock));
    return rc;
}

static void e2b_resume(struct backend *be)
{
    MUST0(pthread_mutex_lock(&be->lock));
    be->closed = false;
    MUST0(pthread_mutex_unlock(&be->lock));
}

static int64_t e2b_memory_budget(struct backend *be)
{
    (void)be;
    return 0; /* the memory is E2B's */
}

static void e2b_identify(struct backend *be, const char *fleet, const char *wid)
{
    MUST0(pthread_mutex_lock(&be->lock));
    snprintf(be->fleet, sizeof(be->fleet), "%s", fleet);
    snprintf(be->wid, sizeof(be->wid), "%s", wid);
    MUST0(pthread_mutex_unlock(&be->lock));
    janitor_identify(be->janitor, fleet, wid);
}

static int e2b_strangers(struct backend *be,
                         char (*wids_out)[WORKER_ID_MAX + 1], int max)
{
    return janitor_strangers(be->janitor, wids_out, max);
}

static void e2b_bury(struct backend *be, const char *wid)
{
    janitor_bury(be->janitor, wid);
}

static int e2b_room(struct backend *be, int64_t *grows_at_ms_out)
{
    return place_room(&be->place, grows_at_ms_out);
}

static void e2b_watch_room(struct backend *be, int wake_fd)
{
    place_watch(&be->place, wake_fd);
}

static void e2b_state(struct backend *be, struct strbuf *out)
{
    place_to_json(&be->place, out);
}

const struct backend_ops backend_e2b = {
    .name = "e2b",
    .probation_ms = PROBATION_MS,
    .open = e2b_open,
    .close = e2b_close,
    .create = e2b_create,
    .run = e2b_run,
    .collect = e2b_collect,
    .destroy = e2b_destroy,
    .interrupt = e2b_interrupt,
    .interrupt_create = e2b_interrupt_create,
    .kill_all = e2b_kill_all,
    .resume = e2b_resume,
    .memory_budget = e2b_memory_budget,
    .identify = e2b_identify,
    .strangers = e2b_strangers,
    .bury = e2b_bury,
    .room = e2b_room,
    .watch_room = e2b_watch_room,
    .state = e2b_state,
};
