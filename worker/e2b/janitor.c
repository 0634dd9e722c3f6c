#include "worker/e2b/janitor.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/must.h"
#include "common/noise.h"

#define KILL_FIRST_MS 1000
#define KILL_MOST_MS  30000
#define KILL_FOR_MS   (CONTROL_TTL_S_MAX * INT64_C(1000))
#define KILL_CALL_MS  10000
#define ASKED_MORE_MS 500 /* so that not all come back at once */
#define LAST_AGAIN_MS 500 /* in the last moments */
#define STEPS         4

enum task_kind { TASK_KILL, TASK_LOST, TASK_BURY, TASK_SURVEY };

struct task {
    struct task *next;
    enum task_kind kind;
    char text[CONTROL_VALUE_MAX + 1]; /* sandbox, create or worker */
    int64_t begun_ms, due_ms;
    int64_t asked_ms;   /* not sooner: E2B wants it so; 0: it does not */
    int64_t dies_at_ms; /* by E2B's hand, at the latest; 0: not known */
    int step;
    int failures; /* in a row */
    bool found;   /* what it looks for was there, and is killed */
};

struct janitor {
    const struct control *control;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Of its lists and single kills; last: of those after it was told to quit,
     * which ends what was under way. */
    struct call_slot slot, last;
    struct call_slot *calls; /* one of the two; its own thread only */
    int64_t lists_from_ms;   /* as E2B asked for; its own thread only */
    /* Guarded by lock; broadcast changed. */
    struct task *tasks;
    int count;
    bool quit, ended, said_full;
    int64_t quit_by_ms;
    char fleet[CONTROL_VALUE_MAX + 1], wid[WORKER_ID_MAX + 1];
    char strangers[JANITOR_STRANGERS_MAX][WORKER_ID_MAX + 1];
    int nstrangers;
};

/* After these many ms from its begin: at once, and again for what was on its
 * way then. */
static const int64_t steps[STEPS] = {0, 1000, 10000, JANITOR_LATE_MS};

/* ---- the list ---------------------------------------------------------- */

static void add_locked(struct janitor *j, struct task *t)
{
    t->next = j->tasks;
    j->tasks = t;
    j->count++;
    MUST0(pthread_cond_broadcast(&j->changed));
}

static bool known_locked(const struct janitor *j, const struct task *t)
{
    for (const struct task *other = j->tasks; other; other = other->next)
        if (other->kind == t->kind && strcmp(other->text, t->text) == 0)
            return true;
    return false;
}

static void add(struct janitor *j, enum task_kind kind, const char *text,
                int64_t wait_ms, int64_t dies_at_ms)
{
    struct task *t = calloc(1, sizeof(*t));
    bool full, known = false, say;

    if (t) {
        t->kind = kind;
        t->begun_ms = clock_ms();
        t->due_ms = t->asked_ms = t->begun_ms + wait_ms;
        t->dies_at_ms = dies_at_ms;
        snprintf(t->text, sizeof(t->text), "%s", text);
    }
    MUST0(pthread_mutex_lock(&j->lock));
    full = !t || j->count >= JANITOR_TASKS_MAX;
    if (!full)
        known = known_locked(j, t);
    if (!full && !known)
        add_locked(j, t);
    say = full && !j->said_full;
    j->said_full = j->said_full || full;
    MUST0(pthread_mutex_unlock(&j->lock));
    if (known || full)
        free(t);
    if (say)
        log_warn(
            "too many sandboxes to kill: the rest ends by its time to live",
            LOG_I("waiting", JANITOR_TASKS_MAX), LOG_END);
}

/* What E2B asks of one listing holds for the next, whatever it is for. */
static int64_t due_ms(const struct janitor *j, const struct task *t)
{
    return t->kind != TASK_KILL && t->due_ms < j->lists_from_ms
               ? j->lists_from_ms
               : t->due_ms;
}

/* A kill is one call. The others look around first, which may hang for much
 * longer than the sandbox that is known already should live. */
static bool goes_before(const struct janitor *j, const struct task *a,
                        const struct task *b, int64_t now)
{
    bool kill_a = a->kind == TASK_KILL && a->due_ms <= now;
    bool kill_b = b->kind == TASK_KILL && b->due_ms <= now;

    return kill_a != kill_b ? kill_a : due_ms(j, a) < due_ms(j, b);
}

/* The one that is due first, taken out if it is due now. */
static struct task *take_due_locked(struct janitor *j, int64_t now,
                                    int64_t *next_ms_out)
{
    struct task **first = NULL;

    for (struct task **at = &j->tasks; *at; at = &(*at)->next)
        if (!first || goes_before(j, *at, *first, now))
            first = at;
    *next_ms_out = first ? due_ms(j, *first) : now + JANITOR_SURVEY_MS;
    if (!first || *next_ms_out > now)
        return NULL;
    struct task *t = *first;

    *first = t->next;
    j->count--;
    return t;
}

/* ---- doing it ---------------------------------------------------------- */

struct found {
    char (*ids)[CONTROL_ID_MAX + 1];
    int count;
};

static void note_found(void *ctx, const struct control_listed *one)
{
    struct found *f = ctx;

    if (f->count < JANITOR_FOUND_MAX)
        memcpy(f->ids[f->count++], one->id, sizeof(one->id));
}

/* The worker stops, and its last moments are over. */
static bool is_over(struct janitor *j)
{
    bool over;

    MUST0(pthread_mutex_lock(&j->lock));
    over = j->quit && clock_ms() > j->quit_by_ms;
    MUST0(pthread_mutex_unlock(&j->lock));
    return over;
}

/* Kills all of them. False: some may be left. */
static bool kill_found(struct janitor *j, struct found *f, int *wait_s)
{
    bool good[CONTROL_KILLS_MAX], all = true;
    int done = 0, asked_s;

    for (int at = 0; at < f->count && !is_over(j); at += CONTROL_KILLS_MAX) {
        int count = f->count - at;

        if (count > CONTROL_KILLS_MAX)
            count = CONTROL_KILLS_MAX;
        control_kill_many(j->control, f->ids + at, count, KILL_CALL_MS, good,
                          &asked_s);
        *wait_s = *wait_s < asked_s ? asked_s : *wait_s;
        for (int i = 0; i < count; i++)
            all = all && good[i];
        done = at + count;
    }
    return all && done == f->count;
}

/* When E2B wants the next try at the soonest; asked_s -1: it did not say. */
static int64_t asked_ms(int asked_s)
{
    return asked_s < 0 ? 0
                       : asked_s * INT64_C(1000) + 1 + noise() % ASKED_MORE_MS;
}

static void wait_longer(struct task *t, int asked_s)
{
    int64_t wait = KILL_FIRST_MS << (t->failures < 5 ? t->failures : 5);
    int64_t asked = asked_ms(asked_s);

    if (wait > KILL_MOST_MS)
        wait = KILL_MOST_MS;
    t->failures++;
    t->asked_ms = clock_ms() + asked;
    t->due_ms = clock_ms() + (wait < asked ? asked : wait);
}

static enum fault list(struct janitor *j, const char *name, const char *value,
                       control_listed_fn *each, void *ctx)
{
    char text[CONTROL_TEXT_MAX];
    int asked_s = -1;
    enum fault fault = control_list(j->control, j->calls, name, value, each,
                                    ctx, &asked_s, text);

    if (asked_s >= 0)
        j->lists_from_ms = clock_ms() + asked_ms(asked_s);
    return fault;
}

static bool kill_by(struct janitor *j, const char *name, const char *value,
                    int *killed_out, int *wait_s_out)
{
    struct found f = {.ids = calloc(JANITOR_FOUND_MAX, sizeof(*f.ids))};
    bool good = false;

    *wait_s_out = -1;
    if (f.ids) {
        good = list(j, name, value, note_found, &f) == FAULT_NONE;
        good = kill_found(j, &f, wait_s_out) && good;
    }
    *killed_out = f.count;
    free(f.ids);
    return good;
}

static void note_stranger(void *ctx, const struct control_listed *one)
{
    struct janitor *j = ctx;

    MUST0(pthread_mutex_lock(&j->lock));
    bool known = !one->worker[0] || strlen(one->worker) > WORKER_ID_MAX ||
                 strcmp(one->worker, j->wid) == 0 ||
                 j->nstrangers == JANITOR_STRANGERS_MAX;

    for (int i = 0; i < j->nstrangers && !known; i++)
        known = strcmp(j->strangers[i], one->worker) == 0;
    if (!known)
        snprintf(j->strangers[j->nstrangers++], sizeof(j->strangers[0]), "%.*s",
                 WORKER_ID_MAX, one->worker);
    MUST0(pthread_mutex_unlock(&j->lock));
}

static void survey(struct janitor *j, struct task *t)
{
    char fleet[CONTROL_VALUE_MAX + 1];

    MUST0(pthread_mutex_lock(&j->lock));
    memcpy(fleet, j->fleet, sizeof(fleet));
    MUST0(pthread_mutex_unlock(&j->lock));
    if (fleet[0])
        list(j, "capibox", fleet, note_stranger, j);
    t->due_ms = clock_ms() + JANITOR_SURVEY_MS;
}

/* True: done with it. */
static bool search_and_kill(struct janitor *j, struct task *t, const char *name,
                            const char *message)
{
    int killed, wait_s;
    bool good = kill_by(j, name, t->text, &killed, &wait_s);

    if (killed > 0)
        log_warn(message, LOG_S(name, t->text), LOG_I("sandboxes", killed),
                 LOG_END);
    if (!good) {
        wait_longer(t, wait_s);
        return clock_ms() > t->begun_ms + KILL_FOR_MS;
    }
    t->failures = 0;
    t->found = t->found || killed > 0;
    if (++t->step < STEPS)
        t->due_ms = t->begun_ms + steps[t->step];
    return t->step == STEPS;
}

static bool kill_one(struct janitor *j, struct task *t)
{
    char text[CONTROL_TEXT_MAX];
    int retry_after_s;

    if (control_kill(j->control, j->calls, t->text, KILL_CALL_MS,
                     &retry_after_s, text) == FAULT_NONE)
        return true;
    wait_longer(t, retry_after_s);
    return clock_ms() > t->begun_ms + KILL_FOR_MS;
}

static bool do_task(struct janitor *j, struct task *t)
{
    switch (t->kind) {
    case TASK_KILL:
        return kill_one(j, t);
    case TASK_LOST:
        return search_and_kill(j, t, "capibox_create",
                               "sandbox of a lost answer killed");
    case TASK_BURY:
        return search_and_kill(j, t, "capibox_worker",
                               "sandboxes of a dead worker killed");
    case TASK_SURVEY:
        survey(j, t);
        return false;
    }
    return true;
}

/* ---- the last moments -------------------------------------------------- */

/* Takes out kills that are due, CONTROL_KILLS_MAX at most. *next_ms_out: when
 * the first of the rest is. */
static int take_kills_locked(struct janitor *j, int64_t now, struct task **out,
                             int64_t *next_ms_out)
{
    struct task **at = &j->tasks;
    int count = 0;

    *next_ms_out = INT64_MAX;
    while (*at) {
        struct task *t = *at;

        if (t->kind == TASK_KILL && t->due_ms <= now &&
            count < CONTROL_KILLS_MAX) {
            *at = t->next;
            out[count++] = t;
            continue;
        }
        if (t->kind == TASK_KILL && t->due_ms < *next_ms_out)
            *next_ms_out = t->due_ms;
        at = &t->next;
    }
    j->count -= count;
    return count;
}

/* At once, side by side. Those that are not gone get a new time. */
static void kill_batch(struct janitor *j, struct task **batch, int count,
                       int64_t by_ms, bool *good_out)
{
    char ids[CONTROL_KILLS_MAX][CONTROL_ID_MAX + 1];
    int asked_s;

    for (int i = 0; i < count; i++)
        snprintf(ids[i], sizeof(ids[i]), "%.*s", CONTROL_ID_MAX,
                 batch[i]->text);
    control_kill_many(j->control, ids, count, clock_left_ms(by_ms), good_out,
                      &asked_s);
    for (int i = 0; i < count; i++)
        batch[i]->due_ms = clock_ms() + LAST_AGAIN_MS + asked_ms(asked_s);
}

static void last_kills_locked(struct janitor *j)
{
    struct task *batch[CONTROL_KILLS_MAX];
    bool good[CONTROL_KILLS_MAX];
    int64_t next, now;

    while ((now = clock_ms()) < j->quit_by_ms) {
        int count = take_kills_locked(j, now, batch, &next);

        if (count == 0 && next >= j->quit_by_ms)
            return;
        if (count == 0) {
            cond_wait_until(&j->changed, &j->lock, next);
            continue;
        }
        MUST0(pthread_mutex_unlock(&j->lock));
        kill_batch(j, batch, count, j->quit_by_ms, good);
        MUST0(pthread_mutex_lock(&j->lock));
        for (int i = 0; i < count; i++) {
            if (good[i])
                free(batch[i]);
            else
                add_locked(j, batch[i]);
        }
    }
}

/* What we put off is not put off any more: those known by name, and answers
 * that nobody could look for so far. */
static void hurry_locked(struct janitor *j)
{
    int64_t now = clock_ms();

    j->calls = &j->last;
    for (struct task *t = j->tasks; t; t = t->next)
        if (t->due_ms > now &&
            (t->kind == TASK_KILL ||
             (t->kind == TASK_LOST && (t->step == 0 || t->failures > 0))))
            t->due_ms = t->asked_ms > now ? t->asked_ms : now;
    last_kills_locked(j);
}

/* The wall clock's text of a CLOCK_MONOTONIC time. */
static void wall_text(int64_t at_ms, char *out, size_t size)
{
    time_t at = time(NULL) + (time_t)((at_ms - clock_ms()) / 1000);
    struct tm parts;

    gmtime_r(&at, &parts);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* A create whose answer was lost may be at work still. */
static void say_what_is_left(const struct janitor *j)
{
    int64_t last = clock_ms();
    int kills = 0, creates = 0;
    char when[32];

    for (const struct task *t = j->tasks; t; t = t->next) {
        if (t->kind != TASK_KILL && (t->kind != TASK_LOST || t->found))
            continue;
        kills += t->kind == TASK_KILL;
        creates += t->kind == TASK_LOST;
        if (t->dies_at_ms > last)
            last = t->dies_at_ms;
    }
    if (kills + creates == 0)
        return;
    wall_text(last, when, sizeof(when));
    log_warn(kills > 0 ? "sandboxes are left behind; E2B ends them by itself"
                       : "creates without an answer may leave sandboxes "
                         "behind; E2B ends them by itself",
             LOG_I("sandboxes", kills), LOG_I("lost_creates", creates),
             LOG_S("at_latest", when), LOG_END);
}

/* ---- the thread -------------------------------------------------------- */

static void *janitor_main(void *arg)
{
    struct janitor *j = arg;
    int64_t next;

    MUST0(pthread_mutex_lock(&j->lock));
    for (;;) {
        struct task *t = NULL;
        int64_t now;

        if (j->quit && j->calls != &j->last)
            hurry_locked(j);
        now = clock_ms();
        if (!j->quit || now < j->quit_by_ms)
            t = take_due_locked(j, now, &next);
        if (t) {
            MUST0(pthread_mutex_unlock(&j->lock));
            bool done = do_task(j, t);

            MUST0(pthread_mutex_lock(&j->lock));
            if (done)
                free(t);
            else
                add_locked(j, t);
            continue;
        }
        if (j->quit)
            break;
        cond_wait_until(&j->changed, &j->lock, next);
    }
    j->ended = true;
    MUST0(pthread_cond_broadcast(&j->changed));
    MUST0(pthread_mutex_unlock(&j->lock));
    return NULL;
}

int janitor_start(const struct control *c, struct janitor **janitor_out)
{
    struct janitor *j = calloc(1, sizeof(*j));
    int rc;

    if (!j)
        return -ENOMEM;
    j->control = c;
    call_slot_init(&j->slot);
    call_slot_init(&j->last);
    j->calls = &j->slot;
    MUST0(pthread_mutex_init(&j->lock, NULL));
    cond_init(&j->changed);
    rc = -pthread_create(&j->thread, NULL, janitor_main, j);
    if (rc < 0) {
        call_slot_fini(&j->last);
        call_slot_fini(&j->slot);
        pthread_cond_destroy(&j->changed);
        pthread_mutex_destroy(&j->lock);
        free(j);
        return rc;
    }
    *janitor_out = j;
    return 0;
}

void janitor_stop(struct janitor *j)
{
    struct task *next;
    int rc = 0;

    if (!j)
        return;
    MUST0(pthread_mutex_lock(&j->lock));
    j->quit = true;
    j->quit_by_ms = clock_ms() + JANITOR_LAST_MS;
    MUST0(pthread_cond_broadcast(&j->changed));
    MUST0(pthread_mutex_unlock(&j->lock));
    call_slot_abort(&j->slot, j->control->http);
    MUST0(pthread_mutex_lock(&j->lock));
    while (!j->ended && rc == 0)
        rc = cond_wait_until(&j->changed, &j->lock, j->quit_by_ms);
    MUST0(pthread_mutex_unlock(&j->lock));
    call_slot_abort(&j->last, j->control->http);
    MUST0(pthread_join(j->thread, NULL));
    say_what_is_left(j);
    for (struct task *t = j->tasks; t; t = next) {
        next = t->next;
        free(t);
    }
    call_slot_fini(&j->last);
    call_slot_fini(&j->slot);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- from any thread --------------------------------------------------- */

void janitor_identify(struct janitor *j, const char *fleet, const char *wid)
{
    bool first;

    MUST0(pthread_mutex_lock(&j->lock));
    first = !j->fleet[0];
    snprintf(j->fleet, sizeof(j->fleet), "%s", fleet);
    snprintf(j->wid, sizeof(j->wid), "%s", wid);
    MUST0(pthread_mutex_unlock(&j->lock));
    if (first)
        add(j, TASK_SURVEY, "", 0, 0);
}

void janitor_kill(struct janitor *j, const char *sandbox_id, int64_t wait_ms,
                  int64_t dies_at_ms)
{
    add(j, TASK_KILL, sandbox_id, wait_ms, dies_at_ms);
}

void janitor_lost(struct janitor *j, const char *create, int64_t ttl_ms)
{
    add(j, TASK_LOST, create, steps[0], clock_ms() + JANITOR_LATE_MS + ttl_ms);
}

void janitor_bury(struct janitor *j, const char *wid)
{
    add(j, TASK_BURY, wid, 0, 0);
}

int janitor_strangers(struct janitor *j, char (*wids_out)[WORKER_ID_MAX + 1],
                      int max)
{
    int count;

    MUST0(pthread_mutex_lock(&j->lock));
    count = j->nstrangers < max ? j->nstrangers : max;
    memcpy(wids_out, j->strangers, (size_t)count * sizeof(*wids_out));
    j->nstrangers -= count;
    memmove(j->strangers, j->strangers + count,
            (size_t)j->nstrangers * sizeof(*wids_out));
    MUST0(pthread_mutex_unlock(&j->lock));
    return count;
}
