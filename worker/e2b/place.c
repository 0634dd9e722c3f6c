#include "worker/e2b/place.h"

#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/io.h"
#include "common/json.h"
#include "common/must.h"
#include "common/noise.h"

void place_init(struct place *p, int concurrency)
{
    *p = (struct place){.concurrency = concurrency,
                        .limit = concurrency,
                        .watcher = -1,
                        .row = 1};
    MUST0(pthread_mutex_init(&p->lock, NULL));
    cond_init(&p->changed);
}

void place_fini(struct place *p)
{
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
}

/* A step up is an eighth, at least one. */
static void grow_locked(struct place *p, int64_t now)
{
    while (p->grows_at_ms && now >= p->grows_at_ms) {
        p->limit += p->limit / 8 + 1;
        p->grows_at_ms += PLACE_GROW_MS;
        if (p->limit >= p->concurrency) {
            p->limit = p->concurrency;
            p->grows_at_ms = 0;
        }
    }
}

static int room_locked(struct place *p, int64_t now)
{
    bool open =
        p->api.state != BREAKER_CLOSED || p->guests.state != BREAKER_CLOSED;

    grow_locked(p, now);
    if (now < p->paused_till_ms || !breaker_would_admit(&p->api, now) ||
        !breaker_would_admit(&p->guests, now))
        return 0;
    /* One is let through to see whether E2B is back; those that are alive had
     * to pass no breaker for that. */
    return open && p->alive + 1 < p->limit ? p->alive + 1 : p->limit;
}

static void tell_if_larger_locked(struct place *p, int before, int64_t now)
{
    if (room_locked(p, now) > before && p->watcher >= 0)
        io_wake(p->watcher);
}

static void keep_soonest(int64_t *at_ms, int64_t other_ms, int64_t now)
{
    if (other_ms > now && (!*at_ms || other_ms < *at_ms))
        *at_ms = other_ms;
}

int place_room(struct place *p, int64_t *grows_at_ms_out)
{
    int64_t now = clock_ms();
    int room;

    MUST0(pthread_mutex_lock(&p->lock));
    room = room_locked(p, now);
    *grows_at_ms_out = 0;
    keep_soonest(grows_at_ms_out, p->grows_at_ms, now);
    keep_soonest(grows_at_ms_out, p->paused_till_ms, now);
    keep_soonest(grows_at_ms_out, p->api.until_ms, now);
    keep_soonest(grows_at_ms_out, p->guests.until_ms, now);
    MUST0(pthread_mutex_unlock(&p->lock));
    return room;
}

void place_watch(struct place *p, int wake_fd)
{
    MUST0(pthread_mutex_lock(&p->lock));
    p->watcher = wake_fd;
    MUST0(pthread_mutex_unlock(&p->lock));
}

static int64_t again_locked(const struct place *p, int64_t now)
{
    int64_t until = p->api.until_ms > p->guests.until_ms ? p->api.until_ms
                                                         : p->guests.until_ms;

    /* The one that was let through may tell sooner than its time is over. */
    if (until - now > BREAKER_PAUSE_MAX_MS)
        until = now + BREAKER_PAUSE_MS;
    if (until < p->paused_till_ms)
        until = p->paused_till_ms;
    return until > now ? until - now : 0;
}

bool place_admits(struct place *p, bool own, int64_t *again_ms_out)
{
    int64_t now = clock_ms();
    int64_t last = own ? PLACE_OWN_LAST_MS : 0;
    bool admits;

    MUST0(pthread_mutex_lock(&p->lock));
    admits = now >= p->paused_till_ms && breaker_would_admit(&p->api, now) &&
             breaker_would_admit(&p->guests, now - last);
    *again_ms_out = again_locked(p, now);
    if (p->guests.state != BREAKER_CLOSED)
        *again_ms_out += last;
    if (admits) {
        breaker_admits(&p->api, now);
        breaker_admits(&p->guests, now);
    }
    MUST0(pthread_mutex_unlock(&p->lock));
    return admits;
}

static bool is_away(const struct breaker *b)
{
    return b->state != BREAKER_CLOSED || b->failures >= PLACE_AWAY_FAILURES;
}

bool place_is_away(struct place *p, int64_t *again_ms_out)
{
    bool away;

    MUST0(pthread_mutex_lock(&p->lock));
    away = is_away(&p->api) || is_away(&p->guests);
    *again_ms_out = again_locked(p, clock_ms());
    MUST0(pthread_mutex_unlock(&p->lock));
    return away;
}

void place_pause(struct place *p, int64_t ms)
{
    int64_t until =
        clock_ms() + (ms < PLACE_PAUSE_MAX_MS ? ms : PLACE_PAUSE_MAX_MS);

    MUST0(pthread_mutex_lock(&p->lock));
    if (p->paused_till_ms < until)
        p->paused_till_ms = until;
    MUST0(pthread_mutex_unlock(&p->lock));
}

void place_entered(struct place *p)
{
    int64_t now = clock_ms();
    int before;

    MUST0(pthread_mutex_lock(&p->lock));
    before = room_locked(p, now);
    p->alive++;
    tell_if_larger_locked(p, before, now);
    MUST0(pthread_mutex_unlock(&p->lock));
}

void place_left(struct place *p)
{
    MUST0(pthread_mutex_lock(&p->lock));
    p->alive--;
    p->departures++;
    if (p->tickets < p->waiting)
        p->tickets++;
    MUST0(pthread_cond_broadcast(&p->changed));
    MUST0(pthread_mutex_unlock(&p->lock));
}

int place_alive(struct place *p)
{
    int alive;

    MUST0(pthread_mutex_lock(&p->lock));
    alive = p->alive;
    MUST0(pthread_mutex_unlock(&p->lock));
    return alive;
}

/* ---- sandboxes that did not answer ------------------------------------- */

/* FNV-1a. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static struct place_misser *find_misser_locked(struct place *p, uint64_t job)
{
    for (int i = 0; i < PLACE_MISSERS; i++)
        if (p->missers[i].count > 0 && p->missers[i].job == job)
            return &p->missers[i];
    return NULL;
}

/* Who missed least makes room. */
static struct place_misser *add_misser_locked(struct place *p, uint64_t job,
                                              uint64_t kind)
{
    struct place_misser *least = &p->missers[0];

    for (int i = 1; i < PLACE_MISSERS; i++)
        if (p->missers[i].count < least->count)
            least = &p->missers[i];
    *least = (struct place_misser){.job = job, .kind = kind};
    return least;
}

/* Has one of another kind missed one since the last answer? */
static bool others_miss_locked(const struct place *p, uint64_t kind)
{
    for (int i = 0; i < PLACE_MISSERS; i++)
        if (p->missers[i].count > 0 && p->missers[i].kind != kind &&
            p->missers[i].row == p->row)
            return true;
    return false;
}

static void note_miss_locked(struct place *p, struct place_misser *m, bool own,
                             bool explained, int64_t now, const char *text)
{
    if (own)
        breaker_nothing(&p->guests, now);
    else if (explained || m->row != p->row || p->guests.state != BREAKER_CLOSED)
        breaker_bad(&p->guests, now, noise(), text);
    m->row = p->row;
}

/* Its own share of the wait, besides that for the breakers. */
static int64_t miss_wait_ms(int count)
{
    int64_t wait = PLACE_MISS_WAIT_MS << (count < 5 ? count - 1 : 4);

    return wait < BREAKER_PAUSE_MAX_MS ? wait : BREAKER_PAUSE_MAX_MS;
}

bool place_missed(struct place *p, const char *job_id, const char *own,
                  enum fault fault, const char *text, int64_t *again_ms_out)
{
    uint64_t job = hash_of(job_id), kind = own ? hash_of(own) : job;
    int64_t now = clock_ms(), wait;
    struct place_misser *m;
    bool explained, waits;
    int before;

    MUST0(pthread_mutex_lock(&p->lock));
    before = room_locked(p, now);
    m = find_misser_locked(p, job);
    if (!m)
        m = add_misser_locked(p, job, kind);
    m->count++;
    explained =
        fault == FAULT_AWAY || is_away(&p->api) || others_miss_locked(p, kind);
    note_miss_locked(p, m, own != NULL, explained, now, text);
    waits = explained && m->count <= PLACE_MISSED_MAX;
    wait = miss_wait_ms(m->count);
    *again_ms_out = again_locked(p, now);
    if (*again_ms_out < wait)
        *again_ms_out = wait;
    tell_if_larger_locked(p, before, now);
    MUST0(pthread_mutex_unlock(&p->lock));
    return waits;
}

void place_answered(struct place *p, const char *job_id)
{
    struct place_misser *m;

    MUST0(pthread_mutex_lock(&p->lock));
    m = find_misser_locked(p, hash_of(job_id));
    if (m)
        m->count = 0;
    MUST0(pthread_mutex_unlock(&p->lock));
}

void place_note(struct place *p, enum fault_plane plane, enum fault fault,
                const char *text)
{
    struct breaker *b = plane == PLANE_CONTROL ? &p->api : &p->guests;
    int64_t now = clock_ms();
    bool good = fault != FAULT_ABORTED && !fault_is_outage(fault);
    int before;

    MUST0(pthread_mutex_lock(&p->lock));
    before = room_locked(p, now);
    if (good)
        breaker_good(b);
    else if (fault == FAULT_ABORTED)
        breaker_nothing(b, now);
    else
        breaker_bad(b, now, noise(), text);
    if (good && plane == PLANE_SANDBOX)
        p->row++;
    /* Nothing else will do before the key changes. A sandbox that refuses its
     * token speaks for itself alone. */
    for (int i = 0; plane == PLANE_CONTROL && fault == FAULT_KEY &&
                    b->state == BREAKER_CLOSED && i < BREAKER_FAILURES;
         i++)
        breaker_bad(b, now, noise(), text);
    tell_if_larger_locked(p, before, now);
    MUST0(pthread_mutex_unlock(&p->lock));
}

void place_lower(struct place *p)
{
    MUST0(pthread_mutex_lock(&p->lock));
    p->limit = p->alive > 1 ? p->alive : 1;
    if (p->limit > p->concurrency)
        p->limit = p->concurrency;
    p->grows_at_ms = clock_ms() + PLACE_LOWERED_MS;
    MUST0(pthread_mutex_unlock(&p->lock));
}

int64_t place_departures(struct place *p)
{
    int64_t departures;

    MUST0(pthread_mutex_lock(&p->lock));
    departures = p->departures;
    MUST0(pthread_mutex_unlock(&p->lock));
    return departures;
}

bool place_wait(struct place *p, int64_t seen, int64_t deadline_ms)
{
    int rc = 0;
    bool left;

    MUST0(pthread_mutex_lock(&p->lock));
    left = p->departures != seen;
    p->waiting++;
    while (!left && p->alive > 0 && rc == 0) {
        rc = cond_wait_until(&p->changed, &p->lock, deadline_ms);
        left = p->tickets > 0;
        p->tickets -= left ? 1 : 0;
    }
    p->waiting--;
    if (p->tickets > p->waiting)
        p->tickets = p->waiting;
    MUST0(pthread_mutex_unlock(&p->lock));
    return left;
}

static void breaker_json(const struct breaker *b, struct strbuf *out)
{
    json_add_lit(out, "{\"state\":");
    json_add_text(out, breaker_name(b->state));
    json_add_lit(out, ",\"failures\":");
    json_add_int(out, b->failures);
    json_add_lit(out, ",\"why\":");
    json_add_text(out, b->why);
    strbuf_addc(out, '}');
}

void place_to_json(struct place *p, struct strbuf *out)
{
    MUST0(pthread_mutex_lock(&p->lock));
    json_add_lit(out, "{\"api\":");
    breaker_json(&p->api, out);
    json_add_lit(out, ",\"sandboxes\":");
    breaker_json(&p->guests, out);
    json_add_lit(out, ",\"limit\":");
    json_add_int(out, p->limit);
    json_add_lit(out, ",\"alive\":");
    json_add_int(out, p->alive);
    strbuf_addc(out, '}');
    MUST0(pthread_mutex_unlock(&p->lock));
}
