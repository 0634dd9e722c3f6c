#include "worker/exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/exchange_impl.h"

#define CONNECT_MS 2000 /* one try; then the backoff */
/* A silent connection is dead after this: half-open TCP, a hung server. */
#define SILENCE_MS 5000
/* A blocking move of a lost connection is surely over this long after. */
#define LOOK_SLACK_MS 1000
/* Large results do not all go in one call: Redis does nothing else meanwhile.
 */
#define FINISH_BYTES_MAX (16u << 20)

void exchange_fenced(struct exchange *x)
{
    if (!x->live)
        return;
    x->live = false;
    atomic_store(&x->w->self.fenced, x->generation);
    io_wake(x->w->keeper_wake_fd);
}

/* ---- connections ------------------------------------------------------- */

static void lost_connection(struct exchange *x, int rc)
{
    /* Still connected: it was an answer that we can't use. */
    const char *error =
        redis_connected(x->redis) ? protocol_error() : redis_error(x->redis);

    if (rc == -ESTALE) { /* scripts forgotten: say them in full, at once; a new
                            Redis knows none, so this is no trouble to tell */
        x->by_text = true;
        x->retry_at_ms = 0;
        redis_close(x->redis);
        return;
    }
    if (!x->down)
        log_warn("queue connection lost, retrying", LOG_S("error", error),
                 LOG_S("reason", strerror(-rc)), LOG_END);
    x->down = true;
    redis_close(x->redis);
    x->retry_at_ms = clock_ms() + backoff_next_ms(&x->backoff);
}

/* The number of the last exchange Redis knows of; 0: of none. */
static int recorded_sequence(struct exchange *x, int64_t *sequence_out)
{
    char key[KEY_MAX];
    redisReply *reply = NULL;
    int rc = redis_callv(x->redis, clock_ms() + CONNECT_MS, &reply, "HGET",
                         protocol_key(&x->w->protocol, key, "inf", x->wid), "=",
                         NULL);

    if (rc < 0)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = -EAGAIN;
    *sequence_out = reply->type == REDIS_REPLY_STRING ? atoll(reply->str) : 0;
    freeReplyObject(reply);
    return rc;
}

/* Another server, or the same one restarted, may have lost what was confirmed:
 * finished jobs are in flight again, numbers of claims are given out twice.
 * None of that can be told apart under this identity. */
static int check_memory(struct exchange *x)
{
    int64_t recorded = 0;
    const char *run_id = redis_run_id(x->redis);
    bool same = strcmp(x->run_id, run_id) == 0;
    int rc;

    if (same || x->confirmed == 0) {
        snprintf(x->run_id, sizeof(x->run_id), "%s", run_id);
        return 0;
    }
    rc = recorded_sequence(x, &recorded);
    if (rc < 0)
        return rc;
    snprintf(x->run_id, sizeof(x->run_id), "%s", run_id);
    if (recorded < x->confirmed) {
        log_error("Redis came back without what it had confirmed",
                  LOG_S("worker", x->wid), LOG_I("confirmed", x->confirmed),
                  LOG_I("remembered", recorded), LOG_END);
        exchange_fenced(x);
    }
    return 0;
}

static int connect_main(struct exchange *x)
{
    int rc;

    if (redis_connected(x->redis) || clock_ms() < x->retry_at_ms)
        return 0;
    rc = redis_connect(x->redis, clock_ms() + CONNECT_MS);
    if (rc == 0)
        rc = check_memory(x);
    if (rc == 0 && x->live)
        rc = calls_resend_all(x);
    /* Nothing may be due, and nothing blocks before an answer has come. */
    if (rc == 0 && x->down && x->call_count == 0)
        rc = calls_add(x, (struct call){.kind = CALL_VOID});
    if (rc < 0)
        return rc;
    atomic_store(&x->w->exchange_client_id, redis_client_id(x->redis));
    return 0;
}

/* The first answer, not the connect, proves that all is well again. */
static void all_well(struct exchange *x)
{
    if (x->down)
        log_info("queue connection is back", LOG_END);
    x->down = false;
    x->by_text = false;
    backoff_reset(&x->backoff);
}

/* Reads what has arrived and acts on it. */
static int read_answers(struct exchange *x)
{
    redisReply *reply = NULL;
    int got;

    while ((got = redis_step(x->redis, &reply)) == 1) {
        int rc = calls_answer(x, reply);

        freeReplyObject(reply);
        if (rc < 0)
            return rc;
        all_well(x);
        x->progress = true;
    }
    return got;
}

static bool silent(const struct exchange *x)
{
    return x->call_count > 0 && redis_connected(x->redis) &&
           clock_ms() - x->answered_ms > SILENCE_MS;
}

/* ---- blocking on empty queues ------------------------------------------ */

static void drop_blocked(struct exchange *x, struct blocked *b)
{
    redis_close(b->redis);
    /* A move that was under way may have happened: look. Or may yet happen: a
     * server that has not seen the end of the connection goes on blocking.
     * While none can begin (a full Redis refuses them, not the scripts) there
     * is nothing but to look now and then. */
    x->wakes++;
    if (b->waiting)
        x->look_at_ms = clock_ms() + PROTOCOL_BLOCK_S * 1000 + LOOK_SLACK_MS;
    b->waiting = b->unblocked = false;
    b->retry_at_ms = clock_ms() + backoff_next_ms(&b->backoff);
}

static void look_again(struct exchange *x)
{
    if (!x->look_at_ms || clock_ms() < x->look_at_ms)
        return;
    x->look_at_ms = 0;
    x->wakes += x->w->settings->nqueues;
}

static int begin_block(struct exchange *x, struct blocked *b, const char *queue)
{
    int rc = redis_connect(b->redis, clock_ms() + CONNECT_MS);

    if (rc == 0)
        rc = protocol_block_append(&x->w->protocol, b->redis, x->wid, queue);
    if (rc < 0)
        return rc;
    b->waiting = true;
    b->unblocked = false;
    b->since_ms = clock_ms();
    atomic_store(&x->w->blocked_client_id, redis_client_id(b->redis));
    return 0;
}

static bool may_block(const struct exchange *x)
{
    return x->live && !exchange_draining(x) && !x->maybe_more &&
           x->wakes == 0 && !x->down && jobs_room(x) > 0;
}

static void begin_blocks(struct exchange *x)
{
    for (int i = 0; i < x->w->settings->nqueues; i++) {
        struct blocked *b = &x->blocked[i];

        if (!may_block(x))
            return;
        if (b->waiting || clock_ms() < b->retry_at_ms)
            continue;
        if (begin_block(x, b, x->w->settings->queues[i].name) < 0)
            drop_blocked(x, b);
    }
}

static int read_block(struct exchange *x, struct blocked *b)
{
    redisReply *reply = NULL;
    int got = redis_step(b->redis, &reply);
    enum redis_kind kind;

    if (got <= 0)
        return got;
    kind = redis_kind(reply);
    x->progress = true;
    b->waiting = b->unblocked = false;
    if (reply->type == REDIS_REPLY_STRING)
        x->wakes++;
    freeReplyObject(reply);
    if (kind != REDIS_FINE && kind != REDIS_UNBLOCKED)
        return -EAGAIN;
    backoff_reset(&b->backoff);
    return 0;
}

static void read_blocks(struct exchange *x)
{
    for (int i = 0; i < x->w->settings->nqueues; i++) {
        struct blocked *b = &x->blocked[i];

        if (!b->waiting)
            continue;
        if (read_block(x, b) < 0 ||
            clock_ms() - b->since_ms > PROTOCOL_BLOCK_S * 1000 + SILENCE_MS)
            drop_blocked(x, b);
    }
}

/* Draining: ends the moves under way, so that none lands after we left. */
static int end_blocks(struct exchange *x)
{
    int rc = 0;

    for (int i = 0; i < x->w->settings->nqueues && rc == 0; i++) {
        struct blocked *b = &x->blocked[i];

        if (!b->waiting || b->unblocked || calls_full(x))
            continue;
        b->unblocked = true;
        rc =
            calls_add(x, (struct call){.kind = CALL_UNBLOCK,
                                       .client_id = redis_client_id(b->redis)});
    }
    return rc;
}

static bool any_waiting(const struct exchange *x)
{
    for (int i = 0; i < x->w->settings->nqueues; i++)
        if (x->blocked[i].waiting)
            return true;
    return false;
}

/* ---- the exchange ------------------------------------------------------ */

/* Strict order, or drawn by weight so that none starves. */
static void order_queues(struct exchange *x)
{
    const struct settings *s = x->w->settings;
    int left = s->nqueues, total = 0;

    memcpy(x->order, s->queues, sizeof(x->order));
    if (!s->queues_weighted)
        return;
    for (int i = 0; i < left; i++)
        total += x->order[i].weight;
    for (int i = 0; i < s->nqueues - 1; i++) {
        int draw = total > 0 ? (int)(random() % total) : 0, at = i;
        struct queue_share chosen;

        while (at < s->nqueues - 1 && draw >= x->order[at].weight)
            draw -= x->order[at++].weight;
        chosen = x->order[at];
        x->order[at] = x->order[i];
        x->order[i] = chosen;
        total -= chosen.weight;
    }
}

static int jobs_to_claim(const struct exchange *x)
{
    int room = exchange_draining(x) ? 0 : jobs_room(x);
    /* What the blocking moves brought nobody else can see: without room for it
     * it is given back. */
    int claim = x->wakes;

    if (x->w->settings->nqueues == 0)
        return 0;
    if (room > claim && (x->maybe_more || x->wakes > 0))
        claim = room;
    return claim < CLAIM_MAX ? claim : CLAIM_MAX;
}

static size_t finish_bytes(const struct delivery *d)
{
    return d->text.len + d->dead.len + d->new_entry.len;
}

static int take_finished(struct exchange *x)
{
    size_t bytes = 0;
    int n = 0;

    while (n < FINISH_MAX && x->finished.first && bytes < FINISH_BYTES_MAX) {
        struct delivery *d = x->finished.first;

        bytes += finish_bytes(d);
        x->finished.first = d->next;
        d->finish.started = d->started;
        d->finish.suspect = d->seated;
        x->finishing[n] = d;
        x->finishes[n++] = d->finish;
    }
    if (!x->finished.first)
        x->finished.last = &x->finished.first;
    return n;
}

static bool worth_keeping(const struct delivery *d)
{
    const struct finish *f = &d->finish;

    return d->cache_key[0] && f->kind == FINISH_END && f->success &&
           !f->cached &&
           f->value_lens[f->nfields - 1] <= CACHE_RESULT_BYTES_MAX;
}

/* Before the finish: a result that comes too late is as good for the next. */
static int send_keeps(struct exchange *x)
{
    int rc = 0;

    for (int i = 0; i < x->request.nfinishes && rc == 0; i++)
        if (worth_keeping(x->finishing[i]) && !calls_full(x))
            rc = calls_add(x, (struct call){.kind = CALL_KEEP,
                                            .delivery = x->finishing[i]});
    return rc;
}

static int send_exchange(struct exchange *x)
{
    int claim = jobs_to_claim(x), rc, kept;

    if (x->exchanging || (claim <= 0 && !x->finished.first))
        return 0;
    order_queues(x);
    x->request = (struct exchange_request){
        .wid = x->wid,
        .sequence = ++x->sequence,
        .queues = x->order,
        .nqueues = x->w->settings->nqueues,
        .finishes = x->finishes,
        .nfinishes = take_finished(x),
        .claim = claim,
    };
    x->wakes_sent = x->wakes;
    x->exchanging = true;
    kept = send_keeps(x);
    rc = calls_add(x, (struct call){.kind = CALL_EXCHANGE});
    return kept < 0 ? kept : rc;
}

/* ---- identity ---------------------------------------------------------- */

static void forget_identity(struct exchange *x)
{
    if (exchange_draining(x))
        x->lost += x->held;
    calls_forget(x);
    jobs_abandon(x);
    redis_close(x->redis);
    for (int i = 0; i < x->w->settings->nqueues; i++) {
        redis_close(x->blocked[i].redis);
        x->blocked[i].waiting = x->blocked[i].unblocked = false;
    }
    x->wakes = 0;
    x->look_at_ms = 0;
    x->sequence = x->confirmed = 0;
}

static void name_connections(struct exchange *x)
{
    char name[WORKER_ID_MAX + 16];

    snprintf(name, sizeof(name), "capibox:%s", x->wid);
    redis_set_name(x->redis, name);
    for (int i = 0; i < x->w->settings->nqueues; i++)
        redis_set_name(x->blocked[i].redis, name);
}

/* Follows what the keeper decided about who we are. */
static void sync_identity(struct exchange *x)
{
    char wid[WORKER_ID_MAX + 1];
    uint64_t generation;
    bool live = incarnation_get(&x->w->self, wid, &generation);

    if (generation != x->generation) {
        if (x->generation)
            forget_identity(x);
        memcpy(x->wid, wid, sizeof(x->wid));
        x->generation = generation;
        name_connections(x);
        x->maybe_more = true;
    }
    x->live = live && atomic_load(&x->w->self.fenced) != generation;
}

/* ---- the loop ---------------------------------------------------------- */

static bool collect_posted(struct exchange *x)
{
    struct output_piece *pieces;
    struct delivery *posted;

    outbox_take(&x->w->outbox, true, &posted, &pieces);
    if (pieces) {
        *x->pieces_last = pieces;
        while (*x->pieces_last)
            x->pieces_last = &(*x->pieces_last)->next;
    }
    jobs_route(x, posted);
    return posted || pieces;
}

static int send_all(struct exchange *x)
{
    int rc = connect_main(x);

    if (!x->live)
        return rc;
    look_again(x);
    if (rc == 0)
        rc = jobs_tick(x);
    if (rc == 0)
        rc = jobs_send_marks(x);
    if (rc == 0 && exchange_draining(x))
        rc = end_blocks(x);
    if (rc == 0 && redis_connected(x->redis))
        rc = send_exchange(x);
    return rc;
}

static int sooner(int timeout_ms, int64_t at_ms)
{
    int left = clock_left_ms(at_ms);

    return timeout_ms < 0 || left < timeout_ms ? left : timeout_ms;
}

/* When the clock, not a descriptor, is what is waited for. */
static int poll_timeout(const struct exchange *x)
{
    int timeout = -1;

    if (!x->live)
        return -1; /* nothing is done until the keeper wakes us */
    if (x->tick_ms)
        timeout = sooner(timeout, x->tick_ms);
    if (x->capacity_grows_ms)
        timeout = sooner(timeout, x->capacity_grows_ms);
    if (x->look_at_ms)
        timeout = sooner(timeout, x->look_at_ms);
    if (!redis_connected(x->redis))
        timeout = sooner(timeout, x->retry_at_ms);
    if (x->call_count > 0 && redis_connected(x->redis))
        timeout = sooner(timeout, x->answered_ms + SILENCE_MS + 1);
    for (int i = 0; i < x->w->settings->nqueues; i++) {
        const struct blocked *b = &x->blocked[i];

        if (b->waiting)
            timeout = sooner(timeout, b->since_ms + PROTOCOL_BLOCK_S * 1000 +
                                          SILENCE_MS + 1);
        else if (may_block(x))
            timeout = sooner(timeout, b->retry_at_ms);
    }
    return timeout;
}

static void wait_for_news(struct exchange *x)
{
    struct pollfd fds[2 + QUEUE_NAMES_MAX];
    uint64_t count;
    int n = x->live ? 2 : 1; /* else what they say goes unheard */

    fds[0] = (struct pollfd){.fd = x->w->outbox.wake, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = redis_fd(x->redis), .events = POLLIN};
    if (redis_wants_write(x->redis))
        fds[1].events |= POLLOUT;
    for (int i = 0; x->live && i < x->w->settings->nqueues; i++) {
        const struct blocked *b = &x->blocked[i];

        if (!b->waiting)
            continue;
        fds[n] = (struct pollfd){.fd = redis_fd(b->redis), .events = POLLIN};
        if (redis_wants_write(b->redis))
            fds[n].events |= POLLOUT;
        n++;
    }
    if (poll(fds, (nfds_t)n, poll_timeout(x)) <= 0)
        return;
    if (x->live && (fds[1].revents & POLLOUT))
        x->answered_ms = clock_ms(); /* it still takes what we send */
    if (fds[0].revents & POLLIN)
        while (read(x->w->outbox.wake, &count, sizeof(count)) > 0)
            ;
}

static bool all_done(const struct exchange *x)
{
    if (!exchange_draining(x) || x->held > 0)
        return false;
    /* With Redis away nothing but a held job is worth waiting for: should the
     * last call have claimed one, its lease is shorter than our patience. */
    if (!x->live || x->down)
        return true;
    return x->call_count == 0 && !any_waiting(x) && x->wakes == 0 && !x->pieces;
}

static int talk(struct exchange *x)
{
    int rc = send_all(x);

    if (rc == 0)
        begin_blocks(x);
    if (rc == 0 && redis_connected(x->redis))
        rc = read_answers(x);
    read_blocks(x);
    if (rc == 0 && silent(x))
        rc = -ETIMEDOUT;
    return rc;
}

static void turn(struct exchange *x)
{
    int rc;

    x->progress = false;
    sync_identity(x);
    jobs_look_at_capacity(x);
    /* Sleep only after a look that brought nothing: that is what makes the next
     * post wake us. */
    if (collect_posted(x))
        x->progress = true;
    if (x->live) {
        rc = talk(x);
        if (rc < 0)
            lost_connection(x, rc);
    }
    if (x->progress)
        return;
    if (all_done(x) && !atomic_exchange(&x->done, true))
        io_wake(x->w->main_wake_fd);
    wait_for_news(x);
}

static void *exchange_main(void *arg)
{
    struct exchange *x = arg;

    while (!atomic_load(&x->quit))
        turn(x);
    return NULL;
}

/* ---- life -------------------------------------------------------------- */

static void destroy(struct exchange *x)
{
    redis_destroy(x->redis);
    for (int i = 0; i < x->w->settings->nqueues; i++)
        redis_destroy(x->blocked[i].redis);
    free(x);
}

static int create_connections(struct exchange *x)
{
    int rc = redis_create(x->w->target, NULL, &x->redis);

    for (int i = 0; i < x->w->settings->nqueues && rc == 0; i++)
        rc = redis_create(x->w->target, NULL, &x->blocked[i].redis);
    return rc;
}

int exchange_start(struct worker *w, struct exchange **exchange_out)
{
    struct exchange *x = calloc(1, sizeof(*x));
    int rc;

    if (!x)
        return -ENOMEM;
    x->w = w;
    list_init(&x->finished);
    list_init(&x->checked);
    list_init(&x->suspects);
    x->pieces_last = &x->pieces;
    x->mean_us = EXCHANGE_MEAN_US;
    rc = create_connections(x);
    if (rc == 0)
        rc = -pthread_create(&x->thread, NULL, exchange_main, x);
    if (rc < 0) {
        destroy(x);
        return rc;
    }
    *exchange_out = x;
    return 0;
}

void exchange_poke(struct exchange *x)
{
    io_wake(x->w->outbox.wake);
}

bool exchange_done(struct exchange *x)
{
    return atomic_load(&x->done);
}

int exchange_join(struct exchange *x)
{
    int held;

    atomic_store(&x->quit, true);
    exchange_poke(x);
    MUST0(pthread_join(x->thread, NULL));
    held = x->held > x->lost ? x->held : x->lost;
    calls_forget(x);
    jobs_abandon(x);
    while (x->oldest)
        jobs_forget(x, x->oldest);
    destroy(x);
    return held;
}
