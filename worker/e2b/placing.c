#include "worker/e2b/placing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/noise.h"
#include "worker/e2b/e2b_impl.h"

#define CREATE_TRIES     3
#define PAUSE_MS         500   /* doubled for each further try, with jitter */
#define ACCOUNT_MS       10000 /* for one of our own to end */
#define ACCOUNT_SLICE_MS 250
#define PUT_OFF_MS       2000  /* a job that found no place */
#define NO_NODE_MS       30000 /* a template that no node can take now */
#define RATE_MS_MAX      15000 /* longer than this, the job waits in its queue */
#define NONCE_CHARS      24

int64_t placing_jitter(int64_t ms)
{
    return ms / 2 + noise() % (uint32_t)(ms / 2 + 1);
}

/* For what must not be sooner. */
static int64_t jittered_up(int64_t ms)
{
    return ms + noise() % (uint32_t)(ms / 2 + 1);
}

/* Back to its queue: nothing was done for it, nothing is used up. */
int placing_put_off(struct outcome *o, int64_t wait_ms, const char *text)
{
    o->put_off_ms = jittered_up(wait_ms > PUT_OFF_MS ? wait_ms : PUT_OFF_MS);
    outcome_error(o, "no sandbox from E2B now: %s", text);
    return -EAGAIN;
}

const struct template_variant *placing_variant(const struct sandbox *sb,
                                               struct template_variant *named)
{
    const char *asked = sb->job->wants.template_name;

    if (!asked)
        return template_variant(sb->spec->tpl, &sb->spec->limits);
    /* The job knows its template; of its size we know nothing. */
    *named = (struct template_variant){.template_id = (char *)(uintptr_t)asked};
    return named;
}

int placing_reject_size(const struct sandbox *sb, struct outcome *o)
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

/* As long as it asked for, where that is longer. */
static int64_t at_least(int64_t ms, int retry_after_s)
{
    int64_t asked = retry_after_s * INT64_C(1000);

    return ms > asked ? ms : asked;
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
        pause = retry_after_s >= 0 ? 0 : 1000 << try;
    pause = at_least(pause, retry_after_s);
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
        return placing_put_off(o, at_least(0, retry_after_s), text);
    if (fault == FAULT_NO_NODE)
        return placing_put_off(o, at_least(NO_NODE_MS, retry_after_s), text);
    /* E2B as a whole is away, or it is this job that cannot be placed. */
    if (place_is_away(&sb->backend->place, &again) || fault == FAULT_AWAY)
        return placing_put_off(o, at_least(again, retry_after_s), text);
    outcome_error(o, "no sandbox from E2B: %s", text);
    return e2b_fail(sb, o, -EIO);
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

    if (named && fault != FAULT_KEY && fault_is_outage(fault))
        noted = FAULT_ABORTED;
    place_note(place, PLANE_CONTROL, noted, text);
    if (named && fault == FAULT_FORBIDDEN)
        return FAULT_REFUSED;
    if (retry_after_s > 0 &&
        (fault == FAULT_RATE || (fault_is_outage(fault) && !named)))
        place_pause(place, retry_after_s * INT64_C(1000));
    return fault;
}

/* 409: its start is in flight, or that of whoever is at it. */
static bool may_have_made(enum fault fault)
{
    return fault == FAULT_UNSURE || fault == FAULT_NONSENSE ||
           fault == FAULT_ABORTED || fault == FAULT_CONFLICT;
}

/* One try. */
static enum fault ask_for_one(struct sandbox *sb, struct control_create *want,
                              int *retry_after_s, char *text)
{
    struct backend *be = sb->backend;
    int64_t ttl_ms = want->ttl_s * INT64_C(1000);
    struct control_sandbox made;
    char nonce[NONCE_CHARS + 1];
    enum fault fault;

    make_nonce(nonce);
    want->meta[3] = (struct control_meta){"capibox_create", nonce};
    fault = control_create(&be->control, want, &sb->guest.slot, &made,
                           retry_after_s, text);
    fault = note_create(sb, fault, *retry_after_s, text);
    if (fault != FAULT_NONE && made.id[0])
        janitor_kill(be->janitor, made.id, 0, clock_ms() + ttl_ms);
    else if (may_have_made(fault))
        janitor_lost(be->janitor, nonce, ttl_ms);
    if (fault != FAULT_NONE)
        return fault;
    guest_found(&sb->guest, &made);
    sb->exists = true;
    place_entered(&be->place);
    return FAULT_NONE;
}

/* Is there a point in one more try? Waits as long as that takes. */
static bool goes_on(struct sandbox *sb, enum fault fault,
                    struct control_create *want, int try, int retry_after_s,
                    int64_t departures, const char *text)
{
    switch (fault) {
    case FAULT_ABORTED:
    case FAULT_KEY:
    case FAULT_FORBIDDEN:
    case FAULT_NO_NODE:
        return false;
    case FAULT_REFUSED:
        return try + 1 < CREATE_TRIES && shorten_ttl(sb, want, text);
    default:
        return !call_slot_aborted(&sb->guest.slot) &&
               after_refusal(sb, fault, try, retry_after_s, departures);
    }
}

int placing_ask(struct sandbox *sb, struct control_create *want,
                struct outcome *o)
{
    char text[CONTROL_TEXT_MAX] = "";
    int retry_after_s = -1;
    enum fault fault = FAULT_AWAY;
    bool own = sb->job->wants.template_name != NULL;
    int64_t again;

    for (int try = 0;; try++) {
        int64_t departures = place_departures(&sb->backend->place);

        if (!place_admits(&sb->backend->place, own, &again))
            return placing_put_off(o, again,
                                   text[0] ? text : "it does not answer");
        fault = ask_for_one(sb, want, &retry_after_s, text);
        if (fault == FAULT_NONE)
            return 0;
        if (!goes_on(sb, fault, want, try, retry_after_s, departures, text))
            break;
    }
    if (fault == FAULT_ABORTED || call_slot_aborted(&sb->guest.slot))
        return e2b_cancelled(sb, o);
    if (fault == FAULT_REFUSED)
        return reject_refused(sb, want, text, o);
    return give_up(sb, fault, retry_after_s, text, o);
}
