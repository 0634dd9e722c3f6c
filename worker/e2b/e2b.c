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
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/backend.h"
#include "worker/e2b/collect.h"
#include "worker/e2b/guest.h"
#include "worker/e2b/janitor.h"
#include "worker/e2b/place.h"
#include "worker/e2b/prelude.h"
#include "worker/e2b/run.h"

/* E2B kills a sandbox that nobody did: this long after the job's timeout. */
#define TTL_MARGIN_S     120
#define CREATE_TRIES     3
#define PAUSE_MS         500   /* doubled for each further try, with jitter */
#define ACCOUNT_MS       10000 /* for one of our own to end */
#define ACCOUNT_SLICE_MS 250
#define PUT_OFF_MS       2000  /* a job that found no place */
#define RATE_MS_MAX      15000 /* longer than this, the job waits in its queue */
#define DELETE_HURRY_MS  3000
#define DELETE_TRIES     3
#define DELETE_MS        10000
#define NONCE_CHARS      24
/* Code in a microVM has but its stream to harm a worker with: that of fifty
 * jobs need not wait for minutes. */
#define PROBATION_MS 500

enum interruption { NOT_INTERRUPTED, CANCELLED, ABANDONED };

struct backend {
    struct http *http;
    struct control control;
    struct guest_route route;
    struct place place;
    struct janitor *janitor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed when a sandbox leaves. */
    struct sandbox *sandboxes;
    bool closed; /* kill_all() until resume() */
    char fleet[CONTROL_VALUE_MAX + 1], wid[WORKER_ID_MAX + 1];
};

struct sandbox {
    struct backend *backend;
    const struct job *job; /* borrowed */
    const struct spec *spec;
    struct guest guest;
    bool exists;            /* create said so */
    atomic_int interrupted; /* enum interruption; only ever grows */
    struct sandbox *next;   /* guarded by the backend's lock */
};

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
    pthread_condattr_t attr;

    MUST0(pthread_mutex_init(&be->lock, NULL));
    MUST0(pthread_condattr_init(&attr));
    MUST0(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    MUST0(pthread_cond_init(&be->changed, &attr));
    pthread_condattr_destroy(&attr);
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
    if (rc == 0)
        rc = place_init(&be->place, concurrency);
    if (rc < 0)
        goto undo_http;
    rc = janitor_start(&be->control, &be->place, &be->janitor);
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

static uint32_t noise(void)
{
    uint32_t n = 0;

    if (getrandom(&n, sizeof(n), GRND_NONBLOCK) < 0)
        n = (uint32_t)clock_us();
    return n;
}

static int64_t jittered(int64_t ms)
{
    return ms / 2 + noise() % (uint32_t)(ms / 2 + 1);
}

/* For what must not be sooner. */
static int64_t jittered_up(int64_t ms)
{
    return ms + noise() % (uint32_t)(ms / 2 + 1);
}

/* Our failure, or nobody's when the run was given up. */
static int fail(struct sandbox *sb, struct outcome *o, int rc)
{
    if (atomic_load(&sb->interrupted) == ABANDONED)
        rc = -ECANCELED;
    o->verdict = rc == -ECANCELED ? VERDICT_NONE : VERDICT_BACKEND_ERROR;
    return rc;
}

static int cancelled(struct sandbox *sb, struct outcome *o)
{
    if (atomic_load(&sb->interrupted) != CANCELLED)
        return fail(sb, o, -ECANCELED);
    o->verdict = VERDICT_CANCELLED;
    outcome_error(o, o->code_started ? "cancelled while it ran"
                                     : "cancelled before it started");
    return 0;
}

/* How a step ended that did not come to its end: nobody's failure if it was
 * given up, else ours. */
static int ended_badly(struct sandbox *sb, struct outcome *o, int rc)
{
    return call_slot_aborted(&sb->guest.slot) ? cancelled(sb, o)
                                              : fail(sb, o, rc);
}

/* Back to its queue: nothing was done for it, nothing is used up. */
static int put_off(struct outcome *o, int64_t wait_ms, const char *text)
{
    o->put_off_ms = jittered_up(wait_ms > PUT_OFF_MS ? wait_ms : PUT_OFF_MS);
    outcome_error(o, "no sandbox from E2B now: %s", text);
    return -EAGAIN;
}

static const struct template_variant *
choose_variant(const struct sandbox *sb, struct template_variant *named)
{
    const char *asked = sb->job->wants.template_name;

    if (!asked)
        return template_variant(sb->spec->tpl, &sb->spec->limits);
    /* The job knows its template; of its size we know nothing. */
    *named = (struct template_variant){.template_id = (char *)(uintptr_t)asked};
    return named;
}

static int reject_size(const struct sandbox *sb, struct outcome *o)
{
    const struct template *tpl = sb->spec->tpl;
    const struct template_variant *most = &tpl->variants[tpl->nvariants - 1];

    o->verdict = VERDICT_REJECTED;
    outcome_error(o,
                  "requirements: %lld MB and %d %% CPU are more than any E2B "
                  "variant of template \"%s\" has (the largest: %lld MB, %d "
                  "vCPU); ask for less, or have a larger one built and listed "
                  "in e2b.variants",
                  (long long)(sb->spec->limits.memory_bytes >> 20),
                  sb->spec->limits.cpu_percent, tpl->id,
                  (long long)(most->memory_bytes >> 20), most->vcpu);
    return 0;
}

static int reject_refused(const struct sandbox *sb,
                          const struct control_create *want, const char *text,
                          struct outcome *o)
{
    o->verdict = VERDICT_REJECTED;
    if (strstr(text, "imeout"))
        outcome_error(o,
                      "timeout: E2B refuses a sandbox for %d s: %s; give less",
                      want->ttl_s, text);
    else
        outcome_error(o, "%s: E2B refuses a sandbox of its template \"%s\": %s",
                      sb->job->wants.template_name
                          ? "requirements.template_name"
                          : "template",
                      want->template_id, text);
    return 0;
}

/* The plan caps a sandbox's life ("Timeout cannot be greater than 1 hours"):
 * without our margin the job may still fit. */
static bool shorten_ttl(const struct sandbox *sb, struct control_create *want,
                        const char *text)
{
    const char *cap = strstr(text, "cannot be greater than ");
    double most_s =
        cap ? atof(cap + strlen("cannot be greater than ")) * 3600 : 0;

    if (most_s * 1000 < (double)sb->spec->limits.timeout_ms ||
        most_s >= want->ttl_s)
        return false;
    want->ttl_s = (int)most_s;
    return true;
}

/* In short waits, as it may be given up meanwhile. */
static bool wait_for_departure(struct sandbox *sb, int64_t seen)
{
    struct place *place = &sb->backend->place;
    int64_t now, until = clock_ms() + ACCOUNT_MS;

    while (!call_slot_aborted(&sb->guest.slot) && place_alive(place) > 0 &&
           (now = clock_ms()) < until)
        if (place_wait(place, seen, now + ACCOUNT_SLICE_MS))
            return true;
    return false;
}

/* After a create that did not give a sandbox: 1 try again, else the end. */
static int after_refusal(struct sandbox *sb, enum fault fault, int try,
                         int retry_after_s, int64_t departures)
{
    struct backend *be = sb->backend;
    int64_t pause = PAUSE_MS << try;

    if (try + 1 == CREATE_TRIES)
        return 0;
    if (fault == FAULT_ACCOUNT) {
        place_lower(&be->place);
        if (wait_for_departure(sb, departures))
            return 1;
        pause = 1000 << try;
    }
    if (fault == FAULT_RATE)
        pause =
            retry_after_s >= 0 ? retry_after_s * INT64_C(1000) : 1000 << try;
    if (pause > RATE_MS_MAX)
        return 0;
    /* Never sooner than it asked for. */
    return call_slot_nap(&sb->guest.slot, jittered_up(pause));
}

static int give_up(struct sandbox *sb, enum fault fault, int retry_after_s,
                   const char *text, struct outcome *o)
{
    int64_t again = 0;

    /* A team that is blocked waits for its operator, as one without a key. */
    if (fault == FAULT_KEY || fault == FAULT_FORBIDDEN || fault == FAULT_RATE ||
        fault == FAULT_ACCOUNT || fault == FAULT_CONFLICT)
        return put_off(o, retry_after_s * INT64_C(1000), text);
    /* E2B as a whole is away, or it is this job that cannot be placed. */
    if (place_is_away(&sb->backend->place, &again) || fault == FAULT_AWAY)
        return put_off(o, again, text);
    outcome_error(o, "no sandbox from E2B: %s", text);
    return fail(sb, o, -EIO);
}

static void make_nonce(char out[NONCE_CHARS + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[NONCE_CHARS / 2];

    if (getrandom(bytes, sizeof(bytes), 0) < 0)
        memcpy(bytes, &(int64_t){clock_us()}, sizeof(int64_t));
    for (size_t i = 0; i < NONCE_CHARS; i++)
        out[i] = digits[bytes[i / 2] >> (i % 2 * 4) & 15];
    out[NONCE_CHARS] = '\0';
}

/* What create said, for all jobs. A template that the job itself named is its
 * own affair: nobody else's jobs wait because of it. */
static enum fault note_create(struct sandbox *sb, enum fault fault,
                              int retry_after_s, const char *text)
{
    struct place *place = &sb->backend->place;
    bool named = sb->job->wants.template_name != NULL;
    enum fault noted = fault;

    if (named && fault == FAULT_FORBIDDEN)
        return FAULT_REFUSED;
    if (named && fault != FAULT_KEY && fault_is_outage(fault))
        noted = FAULT_ABORTED;
    place_note(place, PLANE_CONTROL, noted, text);
    if (fault == FAULT_RATE && retry_after_s > 0)
        place_pause(place, retry_after_s * INT64_C(1000));
    return fault;
}

/* One try. */
static enum fault ask_for_one(struct sandbox *sb, struct control_create *want,
                              int *retry_after_s, char *text)
{
    struct backend *be = sb->backend;
    struct control_sandbox made;
    char nonce[NONCE_CHARS + 1];
    enum fault fault;

    make_nonce(nonce);
    want->meta[3] = (struct control_meta){"capibox_create", nonce};
    fault = control_create(&be->control, want, &sb->guest.slot, &made,
                           retry_after_s, text);
    fault = note_create(sb, fault, *retry_after_s, text);
    if (fault == FAULT_UNSURE || fault == FAULT_NONSENSE ||
        fault == FAULT_ABORTED)
        janitor_lost(be->janitor, nonce);
    if (fault != FAULT_NONE)
        return fault;
    guest_found(&sb->guest, &made);
    sb->exists = true;
    place_entered(&be->place);
    return FAULT_NONE;
}

static int place_sandbox(struct sandbox *sb, struct control_create *want,
                         struct outcome *o)
{
    char text[CONTROL_TEXT_MAX] = "";
    int retry_after_s = -1;
    enum fault fault = FAULT_AWAY;
    int64_t again;

    for (int try = 0;; try++) {
        int64_t departures = place_departures(&sb->backend->place);

        if (!place_admits(&sb->backend->place, &again))
            return put_off(o, again, text[0] ? text : "it does not answer");
        fault = ask_for_one(sb, want, &retry_after_s, text);
        if (fault == FAULT_NONE)
            return 0;
        if (fault == FAULT_ABORTED || call_slot_aborted(&sb->guest.slot))
            return cancelled(sb, o);
        if (fault == FAULT_REFUSED && shorten_ttl(sb, want, text))
            continue;
        if (fault == FAULT_REFUSED)
            return reject_refused(sb, want, text, o);
        if (fault == FAULT_KEY || fault == FAULT_FORBIDDEN ||
            !after_refusal(sb, fault, try, retry_after_s, departures))
            break;
    }
    if (call_slot_aborted(&sb->guest.slot))
        return cancelled(sb, o);
    return give_up(sb, fault, retry_after_s, text, o);
}

/* After a call that ran no code, to a sandbox that never answered: back to the
 * queue if it is E2B that is away. */
static int not_reached(struct sandbox *sb, enum fault fault, const char *text,
                       struct outcome *o, int rc)
{
    struct place *place = &sb->backend->place;
    int64_t again = 0;

    place_note(place, PLANE_SANDBOX, fault, text);
    if (fault_is_outage(fault) &&
        (place_is_away(place, &again) || fault == FAULT_AWAY)) {
        o->verdict = VERDICT_NONE;
        return put_off(o, again, text);
    }
    return rc;
}

/* The network thread's: its host is well. What code then does to its own
 * sandbox says nothing of E2B. */
static void note_answer(void *ctx)
{
    struct sandbox *sb = ctx;

    place_note(&sb->backend->place, PLANE_SANDBOX, FAULT_NONE, "");
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
    rc = place_sandbox(sb, &want, o);
    if (!sb->exists)
        return rc;
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
    variant = choose_variant(sb, &named);
    if (!variant) {
        rc = reject_size(sb, o);
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

static int e2b_run(struct sandbox *sb, const struct run_sink *sink,
                   struct outcome *o)
{
    struct run_end end;
    int rc;

    if (!sb)
        return 0;
    if (call_slot_aborted(&sb->guest.slot)) {
        o->code_started = false;
        return cancelled(sb, o);
    }
    o->code_started = true;
    rc = run_code(&sb->guest, sb->job, sb->spec, sink, o, &end);
    if (end.fault == FAULT_ABORTED)
        return cancelled(sb, o);
    if (!sb->guest.heard)
        rc = not_reached(sb, end.fault, end.text, o, rc);
    return rc < 0 && rc != -EAGAIN ? fail(sb, o, rc) : rc;
}

static int e2b_collect(struct sandbox *sb, struct outcome *o)
{
    if (!sb || !sb->job->output_files || o->verdict == VERDICT_CANCELLED)
        return 0;
    int rc = collect_guest_files(&sb->guest, sb->job->output_files, o);

    return rc < 0 ? ended_badly(sb, o, rc) : rc;
}

/* ---- destroy ----------------------------------------------------------- */

static void e2b_destroy(struct sandbox *sb, struct outcome *o)
{
    char text[CONTROL_TEXT_MAX];
    enum fault fault = FAULT_AWAY;
    struct backend *be;

    if (!sb)
        return;
    be = sb->backend;
    /* Who stops now does not wait for E2B: the janitor, or whoever finds them.
     */
    bool hurry = atomic_load(&sb->interrupted) == ABANDONED;
    int tries = hurry ? 1 : DELETE_TRIES;

    for (int try = 0; try < tries && fault != FAULT_NONE; try++) {
        if (try > 0)
            call_slot_nap(&sb->guest.slot, jittered(PAUSE_MS << try));
        fault = control_kill(&be->control, NULL, sb->guest.sandbox.id,
                             hurry ? DELETE_HURRY_MS : DELETE_MS, text);
    }
    if (fault != FAULT_NONE) {
        janitor_kill(be->janitor, sb->guest.sandbox.id);
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

/* Their executors kill them: an aborted call returns at once. */
static int e2b_kill_all(struct backend *be, int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = deadline_ms % 1000 * 1000000};
    int rc = 0;

    MUST0(pthread_mutex_lock(&be->lock));
    be->closed = true;
    for (struct sandbox *sb = be->sandboxes; sb; sb = sb->next)
        interrupt_with(sb, ABANDONED);
    while (be->sandboxes && rc == 0)
        rc = pthread_cond_timedwait(&be->changed, &be->lock, &until);
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

static int e2b_room(struct backend *be)
{
    return place_room(&be->place);
}

static void e2b_watch_room(struct backend *be, int wake_fd)
{
    janitor_watch_room(be->janitor, wake_fd);
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
