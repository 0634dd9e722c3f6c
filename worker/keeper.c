#include "worker/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/redis_check.h"

#define SWEEP_MS          1000 /* a dead host is found within lease + this */
#define GRAVES_SOON_MS    2000 /* after a reaping, for GRAVES_ALERT_MS */
#define GRAVES_ALERT_MS   30000
#define GRAVES_LATER_MS   60000
#define RETRIES_PER_LEASE 20
#define KILL_MS           2000 /* to see the last user process gone */
#define PEERS_MAX         64   /* silent peers looked at in one probe */
#define LEAVE_MS          2000

typedef char worker_id[WORKER_ID_MAX + 1];

struct keeper {
    struct worker *w;
    pthread_t thread;
    _Atomic bool quit;
    struct redis *redis;
    struct backoff backoff;
    bool down, checked, probe_forbidden;
    worker_id wid;
    worker_id former; /* given up, its sandboxes seen dead; or "" */
    bool registered, knows_clock;
    char host[65];
    char run_id[48];
    char queues[QUEUE_NAMES_MAX * (JOB_NAME_MAX + 1)];
    int64_t renewed_ms; /* when the last good heartbeat was sent */
    int64_t peers;
    int64_t no_reaping_before_ms;
    int64_t beat_at_ms, probe_at_ms, graves_at_ms, promote_at_ms, retry_at_ms;
    int64_t alert_until_ms;
    char fleet[FLEET_ID_MAX + 1]; /* of this Redis; "": not asked yet */
    struct silent_worker suspects[PEERS_MAX]; /* at the last probe */
    int nsuspects;
    struct strbuf state; /* of the backend, as last written */
};

static int64_t lease_ms(const struct keeper *k)
{
    return k->w->settings->lease_ms;
}

/* A worker that could not renew kills its sandboxes this long before others may
 * run its jobs. */
static int64_t margin_ms(const struct keeper *k)
{
    return lease_ms(k) / 5;
}

static int64_t fence_at_ms(const struct keeper *k)
{
    return k->renewed_ms + lease_ms(k) - margin_ms(k);
}

/* No call may keep us from killing the sandboxes in time. */
static int64_t call_deadline(const struct keeper *k)
{
    int64_t deadline = clock_ms() + lease_ms(k) / 5;

    return k->registered && fence_at_ms(k) < deadline ? fence_at_ms(k)
                                                      : deadline;
}

/* What the backend says of itself, for the card. */
static const char *backend_state(struct keeper *k)
{
    strbuf_clear(&k->state);
    if (k->w->ops->state)
        k->w->ops->state(k->w->backend, &k->state);
    return k->state.text && !k->state.failed ? k->state.text : "";
}

static struct worker_card card_of(struct keeper *k)
{
    struct worker *w = k->w;

    return (struct worker_card){
        .wid = k->wid,
        .host = k->host,
        .backend = w->ops->name,
        .version = CAPIBOX_VERSION,
        .pid = getpid(),
        .concurrency = w->concurrency,
        .active = atomic_load(&w->active),
        .started_at = w->started_at,
        .queues = k->queues,
        .client_ids = {redis_client_id(k->redis),
                       atomic_load(&w->exchange_client_id),
                       atomic_load(&w->blocked_client_id)},
        .state = atomic_load(&w->stopping) ? "draining" : "running",
        .more = backend_state(k),
    };
}

/* ---- connection -------------------------------------------------------- */

static void lost(struct keeper *k, int rc)
{
    int64_t wait;

    if (!k->down)
        log_warn("redis unreachable, retrying",
                 LOG_S("redis", k->w->target->shown),
                 LOG_S("error", redis_error(k->redis)),
                 LOG_S("reason", strerror(-rc)), LOG_END);
    k->down = true;
    redis_close(k->redis);
    wait = backoff_next_ms(&k->backoff);
    /* Sleeping through the lease would kill jobs that Redis came back for. */
    if (wait > lease_ms(k) / RETRIES_PER_LEASE)
        wait = lease_ms(k) / RETRIES_PER_LEASE;
    k->retry_at_ms = clock_ms() + wait;
}

/* After a restart of Redis every lease looks over: give all one lease to renew
 * before reaping anybody. */
static void note_server(struct keeper *k)
{
    const char *run_id = redis_run_id(k->redis);

    if (k->run_id[0] && strcmp(k->run_id, run_id) != 0)
        k->no_reaping_before_ms = clock_ms() + lease_ms(k);
    snprintf(k->run_id, sizeof(k->run_id), "%s", run_id);
    k->nsuspects = 0;
}

static bool connected(struct keeper *k)
{
    int rc;

    if (redis_connected(k->redis))
        return true;
    if (clock_ms() < k->retry_at_ms)
        return false;
    rc = redis_connect(k->redis, call_deadline(k));
    if (rc < 0) {
        lost(k, rc);
        return false;
    }
    note_server(k);
    k->beat_at_ms = 0; /* at once: peers probe the connections on our card */
    if (!k->checked)
        redis_check(k->redis, clock_ms() + REDIS_CALL_TIMEOUT_MS);
    k->checked = true;
    return true;
}

static void all_well(struct keeper *k)
{
    if (k->down)
        log_info("redis is back", LOG_S("redis", k->w->target->shown), LOG_END);
    k->down = false;
    backoff_reset(&k->backoff);
}

/* ---- what a heartbeat tells ------------------------------------------- */

static void reap(struct keeper *k, const char *wid, bool force, const char *why)
{
    int64_t moved = 0;
    int rc = protocol_reap(&k->w->protocol, k->redis, call_deadline(k), wid,
                           force, &moved);

    if (rc == -EBUSY)
        return; /* it renewed just now */
    if (rc < 0) {
        lost(k, rc);
        return;
    }
    if (k->w->ops->bury)
        k->w->ops->bury(k->w->backend, wid);
    k->alert_until_ms = clock_ms() + GRAVES_ALERT_MS;
    k->graves_at_ms = clock_ms() + GRAVES_SOON_MS;
    log_warn("dead worker's jobs are back in their queues", LOG_S("dead", wid),
             LOG_I("jobs", moved), LOG_S("why", why), LOG_END);
}

/* Workers that left sandboxes behind where a killed host's do not end with it:
 * whoever holds no lease any more is dead. */
static void bury_strangers(struct keeper *k)
{
    worker_id wids[PEERS_MAX];
    bool alive[PEERS_MAX];
    int count, rc;

    if (!k->w->ops->strangers)
        return;
    count = k->w->ops->strangers(k->w->backend, wids, PEERS_MAX);
    if (count == 0)
        return;
    rc = protocol_alive(&k->w->protocol, k->redis, call_deadline(k), wids,
                        count, alive);
    if (rc < 0) {
        lost(k, rc);
        return;
    }
    for (int i = 0; i < count; i++)
        if (!alive[i])
            k->w->ops->bury(k->w->backend, wids[i]);
}

/* P:conf paused, for all workers of this Redis. */
static void follow_pause(struct keeper *k, bool paused)
{
    if (atomic_exchange(&k->w->paused, paused) == paused)
        return;
    log_info(paused ? "paused: no job is taken until `paused` is 0"
                    : "goes on after the pause",
             LOG_END);
    io_wake(k->w->outbox.wake);
}

/* What the channel should have told already. */
static void cancel_told(struct keeper *k, const struct heartbeat *beat)
{
    for (int i = 0; i < beat->ncancels; i++)
        if (cancels_notice(&k->w->cancels, beat->cancels[i]))
            admission_poke(&k->w->admission);
}

/* Redis looked at its clock between our sending and now. A slow answer tells
 * less than what was known, and must not set the clock back, or jobs that ended
 * later would be said to have ended sooner. */
static void learn_clock(struct keeper *k, int64_t redis_ms, int64_t sent)
{
    struct incarnation *self = &k->w->self;
    int64_t least = redis_ms - clock_ms(), most = redis_ms - sent + 1;
    int64_t known_least = atomic_load(&self->redis_offset_ms);
    int64_t known_most = known_least + atomic_load(&self->redis_slack_ms);

    /* Unless the clocks parted since. */
    if (k->knows_clock && known_least <= most && known_most >= least) {
        if (least < known_least)
            least = known_least;
        if (most > known_most)
            most = known_most;
    }
    k->knows_clock = true;
    atomic_store(&self->redis_offset_ms, least);
    atomic_store(&self->redis_slack_ms, most - least);
}

static void use_beat(struct keeper *k, const struct heartbeat *beat,
                     int64_t sent)
{
    int64_t now = clock_ms(), pause = lease_ms(k) / 4;

    k->renewed_ms = sent;
    k->peers = beat->peers;
    follow_pause(k, beat->paused);
    cancel_told(k, beat);
    if (k->peers > 0 && pause > SWEEP_MS)
        pause = SWEEP_MS;
    k->beat_at_ms = sent + pause;
    learn_clock(k, beat->redis_ms, sent);
    if (beat->next_due_ms) {
        int64_t due = now + beat->next_due_ms - beat->redis_ms;

        if (!k->promote_at_ms || due < k->promote_at_ms)
            k->promote_at_ms = due;
    }
    if (beat->expired[0] && strcmp(beat->expired, k->wid) != 0 &&
        now >= k->no_reaping_before_ms)
        reap(k, beat->expired, false, "lease over");
}

/* ---- identity ---------------------------------------------------------- */

/* The supervisor reaps this identity should we die. */
static void announce(const struct keeper *k)
{
    char line[WORKER_ID_MAX + 2];
    int size = snprintf(line, sizeof(line), "%s\n", k->wid);

    if (k->w->announce_fd >= 0 &&
        io_write_full(k->w->announce_fd, line, (size_t)size) < 0)
        log_warn("the supervisor is gone", LOG_END);
}

/* Our own former identity: its sandboxes are dead, so its jobs need not wait
 * for anybody to notice. */
static bool bring_back_own(struct keeper *k)
{
    int64_t moved = 0;
    int rc;

    if (!k->wid[0])
        return true;
    rc = protocol_reap(&k->w->protocol, k->redis, call_deadline(k), k->wid,
                       true, &moved);
    if (rc < 0) {
        lost(k, rc);
        return false;
    }
    k->wid[0] = '\0';
    k->alert_until_ms = clock_ms() + GRAVES_ALERT_MS;
    if (moved)
        log_info("own jobs are back in their queues", LOG_I("jobs", moved),
                 LOG_END);
    return true;
}

static void become_someone(struct keeper *k)
{
    struct worker_card card;
    struct heartbeat answer;
    char name[WORKER_ID_MAX + 16];
    int64_t sent;
    int rc;

    if (!bring_back_own(k))
        return;
    rc = protocol_make_worker_id(k->wid);
    card = card_of(k);
    snprintf(name, sizeof(name), "capibox:%s", k->wid);
    if (rc == 0)
        rc = redis_set_name(k->redis, name);
    if (rc == 0)
        rc = protocol_register(&k->w->protocol, k->redis, call_deadline(k),
                               &card);
    /* The first heartbeat learns the clock: no due time is made without. */
    sent = clock_ms();
    if (rc == 0)
        rc = protocol_heartbeat(&k->w->protocol, k->redis, call_deadline(k),
                                &card, &answer);
    if (rc == 0 && answer.fenced)
        rc = -ESTALE;
    if (rc == 0 && k->w->ops->identify && !k->fleet[0])
        rc = protocol_fleet(&k->w->protocol, k->redis, call_deadline(k),
                            k->fleet);
    if (rc < 0) {
        lost(k, rc);
        return;
    }
    all_well(k);
    announce(k);
    k->registered = true;
    k->graves_at_ms = 0;
    use_beat(k, &answer, sent);
    if (k->w->ops->identify)
        k->w->ops->identify(k->w->backend, k->fleet, k->wid);
    k->w->ops->resume(k->w->backend);
    incarnation_set(&k->w->self, k->wid, true);
    io_wake(k->w->outbox.wake);
    /* What it held need not wait for its lease. */
    if (k->former[0])
        reap(k, k->former, true, "it was ours, and is dead");
    k->former[0] = '\0';
    log_info("worker registered", LOG_S("worker", k->wid),
             LOG_S("backend", k->w->ops->name),
             LOG_I("concurrency", k->w->concurrency),
             LOG_S("queues", k->queues), LOG_S("redis", k->w->target->shown),
             LOG_END);
}

/* Nothing of the old identity may go on running, nor be written. */
static void stop_being(struct keeper *k, const char *why)
{
    int rc;

    log_error("identity lost: killing its sandboxes", LOG_S("worker", k->wid),
              LOG_S("why", why), LOG_END);
    incarnation_set(&k->w->self, k->wid, false);
    k->registered = false;
    admission_poke(&k->w->admission);
    rc = k->w->ops->kill_all(k->w->backend, clock_ms() + KILL_MS);
    if (rc < 0)
        log_error("sandboxes not seen dead in time",
                  LOG_S("reason", strerror(-rc)), LOG_END);
    snprintf(k->former, sizeof(k->former), "%s", rc < 0 ? "" : k->wid);
    io_wake(k->w->outbox.wake);
}

/* ---- duties ------------------------------------------------------------ */

static void beat(struct keeper *k)
{
    struct worker_card card = card_of(k);
    struct heartbeat answer;
    int64_t sent = clock_ms();
    int rc = protocol_heartbeat(&k->w->protocol, k->redis, call_deadline(k),
                                &card, &answer);

    if (rc < 0) {
        lost(k, rc);
        return;
    }
    all_well(k);
    if (answer.fenced) {
        stop_being(k, "fenced by a peer");
        return;
    }
    use_beat(k, &answer, sent);
    if (redis_connected(k->redis))
        bury_strangers(k);
}

/* Who has made new connections meanwhile is alive, even if they were cut. */
static bool was_silent(const struct keeper *k, const struct silent_worker *now)
{
    for (int i = 0; i < k->nsuspects; i++)
        if (strcmp(k->suspects[i].wid, now->wid) == 0)
            return strcmp(k->suspects[i].ids, now->ids) == 0;
    return false;
}

/* A worker whose connections are all gone, twice in a row, is dead: no need to
 * wait for its lease. */
static void probe(struct keeper *k)
{
    struct silent_worker silent[PEERS_MAX];
    int count = 0, rc;

    k->probe_at_ms = clock_ms() + PROTOCOL_PROBE_GAP_MS;
    if (k->peers == 0 || k->probe_forbidden ||
        clock_ms() < k->no_reaping_before_ms)
        return;
    rc = protocol_probe_peers(&k->w->protocol, k->redis, call_deadline(k),
                              k->wid, silent, PEERS_MAX, &count);
    if (rc == -ENOTSUP) {
        k->probe_forbidden = true;
        log_warn("Redis forbids CLIENT LIST: a killed worker's jobs wait for "
                 "its lease",
                 LOG_I("lease_ms", lease_ms(k)), LOG_END);
        return;
    }
    if (rc < 0) {
        lost(k, rc);
        return;
    }
    /* From when it was seen, not from when we began to look. */
    k->probe_at_ms = clock_ms() + PROTOCOL_PROBE_GAP_MS;
    for (int i = 0; i < count && redis_connected(k->redis); i++)
        if (was_silent(k, &silent[i]))
            reap(k, silent[i].wid, true, "connections gone");
    memcpy(k->suspects, silent, sizeof(silent));
    k->nsuspects = count;
}

static void promote(struct keeper *k)
{
    int64_t moved = 0, next = 0;
    int rc = protocol_promote(&k->w->protocol, k->redis, call_deadline(k),
                              &moved, &next);

    if (rc < 0) {
        lost(k, rc);
        return;
    }
    k->promote_at_ms = 0;
    if (next)
        k->promote_at_ms = next - atomic_load(&k->w->self.redis_offset_ms);
}

static void visit_graves(struct keeper *k)
{
    int64_t moved = 0;
    int rc = protocol_visit_graves(&k->w->protocol, k->redis, call_deadline(k),
                                   &moved);
    bool alert = clock_ms() < k->alert_until_ms;

    if (rc < 0) {
        lost(k, rc);
        return;
    }
    if (moved)
        log_warn("late jobs of dead workers are back in their queues",
                 LOG_I("jobs", moved), LOG_END);
    k->graves_at_ms = clock_ms() + (alert ? GRAVES_SOON_MS : GRAVES_LATER_MS);
}

/* ---- the loop ---------------------------------------------------------- */

static void check_lease(struct keeper *k)
{
    worker_id wid;
    uint64_t generation;

    if (!k->registered)
        return;
    incarnation_get(&k->w->self, wid, &generation);
    if (atomic_load(&k->w->self.fenced) == generation)
        stop_being(k, "its claims are not its own any more");
    else if (clock_ms() > fence_at_ms(k))
        stop_being(k, "lease could not be renewed in time");
}

static void duties(struct keeper *k)
{
    static void (*const duty[])(struct keeper *) = {beat, probe, promote,
                                                    visit_graves};
    const int64_t *const due[] = {&k->beat_at_ms, &k->probe_at_ms,
                                  &k->promote_at_ms, &k->graves_at_ms};

    for (size_t i = 0; i < sizeof(duty) / sizeof(*duty); i++) {
        if (!redis_connected(k->redis) || !k->registered)
            return;
        /* Zero means at once, but for promotion: nothing waits. */
        if (clock_ms() >= *due[i] && (duty[i] != promote || *due[i]))
            duty[i](k);
    }
}

static int next_ms(const struct keeper *k)
{
    int64_t next = k->beat_at_ms;

    if (!redis_connected(k->redis)) {
        next = k->retry_at_ms;
        if (k->registered && fence_at_ms(k) < next)
            next = fence_at_ms(k) + 1;
        return clock_left_ms(next);
    }
    if (!k->registered)
        return 0;
    if (k->peers > 0 && !k->probe_forbidden && k->probe_at_ms < next)
        next = k->probe_at_ms;
    if (k->promote_at_ms && k->promote_at_ms < next)
        next = k->promote_at_ms;
    if (k->graves_at_ms < next)
        next = k->graves_at_ms;
    return clock_left_ms(next);
}

static void keep(struct keeper *k)
{
    struct pollfd fds[2] = {{.fd = k->w->keeper_wake_fd, .events = POLLIN}};
    uint64_t count;

    check_lease(k);
    if (connected(k)) {
        if (!k->registered)
            become_someone(k);
        duties(k);
    }
    check_lease(k);
    /* Nothing is asked now: what comes is the end of the connection. */
    fds[1] = (struct pollfd){.fd = redis_fd(k->redis), .events = POLLIN};
    if (poll(fds, 2, next_ms(k)) <= 0)
        return;
    if (fds[1].revents)
        k->beat_at_ms = 0;
    if (read(k->w->keeper_wake_fd, &count, sizeof(count)) > 0) {
        /* A job was put off: it may be due before all others. */
        if (!k->promote_at_ms || k->promote_at_ms > clock_ms())
            k->promote_at_ms = clock_ms();
    }
}

static void *keeper_main(void *arg)
{
    struct keeper *k = arg;

    while (!atomic_load(&k->quit))
        keep(k);
    return NULL;
}

/* ---- life -------------------------------------------------------------- */

static void name_queues(struct keeper *k)
{
    size_t at = 0;

    for (int i = 0; i < k->w->settings->nqueues; i++)
        at += (size_t)snprintf(k->queues + at, sizeof(k->queues) - at, "%s%s",
                               i ? "," : "", k->w->settings->queues[i].name);
}

int keeper_start(struct worker *w, struct keeper **keeper_out)
{
    struct keeper *k = calloc(1, sizeof(*k));
    int rc;

    if (!k)
        return -ENOMEM;
    k->w = w;
    name_queues(k);
    if (gethostname(k->host, sizeof(k->host) - 1) < 0)
        snprintf(k->host, sizeof(k->host), "unknown");
    rc = redis_create(w->target, NULL, &k->redis);
    if (rc == 0)
        rc = -pthread_create(&k->thread, NULL, keeper_main, k);
    if (rc < 0) {
        redis_destroy(k->redis);
        free(k);
        return rc;
    }
    *keeper_out = k;
    return 0;
}

static void leave(struct keeper *k)
{
    int rc = -ENOTCONN;

    if (!k->registered)
        return;
    if (redis_connect(k->redis, clock_ms() + LEAVE_MS) == 0)
        rc = protocol_leave(&k->w->protocol, k->redis, clock_ms() + LEAVE_MS,
                            k->wid);
    if (rc < 0)
        log_warn("left without saying so; the lease will run out",
                 LOG_S("worker", k->wid), LOG_S("reason", strerror(-rc)),
                 LOG_END);
    else
        log_info("worker left", LOG_S("worker", k->wid), LOG_END);
}

void keeper_join(struct keeper *k)
{
    if (!k)
        return;
    atomic_store(&k->quit, true);
    io_wake(k->w->keeper_wake_fd);
    MUST0(pthread_join(k->thread, NULL));
    leave(k);
    redis_destroy(k->redis);
    strbuf_fini(&k->state);
    free(k);
}
