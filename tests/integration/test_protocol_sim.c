/* A seeded mix of producers, workers, zombies, reapers and a broken network
 * against the real scripts, checked against a model after every step. Some of
 * the jobs are cancelled, some die and are retried or dropped.
 *
 * The invariants: no entry is lost or in two places; one terminal result per
 * job (and per retry out of the dead list); counters equal contents; what was
 * cancelled before it was started never is, and what runs is told of; the
 * reaped claim nothing; attempts are charged by retries alone; a commit is
 * never called late to who made it; an innocent job is suspected once but never
 * charged; batches count exactly; nothing is left behind at the end; an event
 * stream ends with its job, and not before.
 *
 * A simulator that cannot fail proves nothing: each guard of the scripts is
 * taken out in turn, and some seed must notice.
 *
 * Leases never run out by themselves here: a step of the simulator ends them,
 * so a seed always takes the same course. SIM_SEEDS and SIM_STEPS ask for more.
 */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/must.h"
#include "common/protocol_call.h"
#include "common/scope.h"
#include "tests/support/redis_server.h"

#define WORKERS     4
#define HELD_MAX    12
#define ENTRIES_MAX 4000
#define BATCHES     3
#define DRAIN_STEPS 20000

static struct redis_server server;
static struct redis_target target;
static struct redis *redis;

static const struct queue_share QUEUES[] = {{.name = "high"},
                                            {.name = "default"}};

/* ---- the model --------------------------------------------------------- */

enum fate { ABSENT, PRESENT, ENDED, DROPPED };

/* One list entry; its serial number is in its body. */
struct entry {
    enum fate fate;
    int job; /* the first entry of the same job */
    bool own_id, id_in_body, poison, stream;
    int batch; /* or -1 */
    int attempts;
    /* Of the job, kept at its first entry. */
    int terminals;
    enum verdict verdict; /* of the last end */
    int dead_serial;      /* the entry that lies in the dead list, or -1 */
    bool cancel_asked;    /* since the last end */
    bool tombstone;       /* of that cancel, not forgotten yet */
    bool superseded;      /* its time was over, and its id is another job's */
    char id[JOB_ID_MAX + 1]; /* where the result is */
    char token[TOKEN_MAX + 1];
};

struct claimed {
    int64_t number;
    int queue, serial;
    struct envelope e;
    char id[JOB_ID_MAX + 1];
    char parent[TOKEN_MAX + 1]; /* of a delay that shows in the hash */
    bool started, suspect, running, duplicate;
    bool cancelled, never_ran; /* told to end; told so by the start mark */
};

struct worker {
    bool alive;      /* it acts */
    bool fenced;     /* somebody shut it out: the truth, it may not know */
    bool registered; /* not yet reaped to the end, nor left */
    char wid[WORKER_ID_MAX + 1];
    int64_t sequence;
    struct claimed held[HELD_MAX + 4];
    int nheld;

    /* The exchange under way, and what it really did. */
    bool pending, executed, executed_fenced;
    struct exchange_request request;
    struct finish finishes[HELD_MAX + 4];
    struct claimed finishing[HELD_MAX + 4];
    char *texts[HELD_MAX + 4]; /* entries given back, or of the dead list */
    const char *values[HELD_MAX + 4][2];
    size_t lens[HELD_MAX + 4][2];
    enum ack acks[FINISH_MAX];
    int64_t claims[CLAIM_MAX];
    int serials[CLAIM_MAX];
    int nclaims;
};

struct totals {
    int64_t ended, dropped, retries, delayed, released, late, accepted;
    int64_t started, micros, recovered, rescued;
    int64_t verdicts[VERDICT_COUNT], settled, revived, dropped_dead, spared;
};

struct sim {
    const struct protocol *p;
    struct protocol racing; /* whose cancel finds what is gone a moment later */
    uint64_t random;
    bool poisoned; /* workers die of poison jobs, and of nothing else */
    bool faults;
    struct entry *entries;
    int nentries, next_wid;
    struct worker workers[WORKERS];
    struct worker gone[8]; /* incarnations that may still make a late move */
    int ngone;
    int batch_total[BATCHES];
    struct totals totals;
    char why[256]; /* the first thing that was wrong, or "" */
};

static uint32_t roll(struct sim *s, uint32_t sides)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random >> 33) % sides;
}

static bool chance(struct sim *s, uint32_t percent)
{
    return roll(s, 100) < percent;
}

__attribute__((format(printf, 2, 3))) static void wrong(struct sim *s,
                                                        const char *fmt, ...)
{
    va_list args;

    if (s->why[0])
        return;
    va_start(args, fmt);
    vsnprintf(s->why, sizeof(s->why), fmt, args);
    va_end(args);
}

static int64_t soon(void)
{
    return clock_ms() + 10000;
}

static redisReply *ask(const char *fmt, ...)
{
    char *argv[16], line[512], *rest = NULL;
    redisReply *reply = NULL;
    va_list args;
    int argc = 0;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    for (char *at = strtok_r(line, " ", &rest); at && argc < 16;
         at = strtok_r(NULL, " ", &rest))
        argv[argc++] = at;
    MUST0(redis_call(redis, soon(), &reply, argc, (const char **)argv, NULL));
    return reply;
}

static int64_t ask_number(const char *key, const char *field)
{
    AUTO_REPLY redisReply *reply = ask("HGET %s %s", key, field);

    return reply->type == REDIS_REPLY_STRING ? atoll(reply->str) : 0;
}

static int serial_of(const char *text)
{
    const char *at = strstr(text, "{\"e\":");

    return at ? atoi(at + 5) : -1;
}

/* ---- producers --------------------------------------------------------- */

static int new_entry(struct sim *s, int job, bool own_id)
{
    int serial = s->nentries++;
    struct entry *e = &s->entries[serial];

    *e = (struct entry){.fate = PRESENT,
                        .job = job < 0 ? serial : job,
                        .own_id = own_id,
                        .id_in_body = own_id,
                        .dead_serial = -1,
                        .batch = -1};
    if (job >= 0) {
        e->poison = s->entries[job].poison;
        e->batch = s->entries[job].batch;
        e->stream = s->entries[job].stream;
        return serial;
    }
    e->stream = chance(s, 30);
    e->poison = s->poisoned && chance(s, 8);
    if (chance(s, 30)) {
        e->batch = (int)roll(s, BATCHES);
        s->batch_total[e->batch]++;
    }
    if (own_id)
        snprintf(e->id, sizeof(e->id), "job-%d", serial);
    return serial;
}

#define BODY_MAX 200

static const char *const BATCH_NAMES[BATCHES] = {"b0", "b1", "b2"};

static int print_body(const struct sim *s, int serial, char out[BODY_MAX])
{
    const struct entry *e = &s->entries[serial];
    char id[100] = "", batch[40] = "";

    if (e->id_in_body)
        snprintf(id, sizeof(id), ",\"id\":\"%s\"", s->entries[e->job].id);
    if (e->batch >= 0)
        snprintf(batch, sizeof(batch), ",\"batch_id\":\"%s\"",
                 BATCH_NAMES[e->batch]);
    return snprintf(out, BODY_MAX, "{\"e\":%d,\"code\":\"x\"%s%s%s}", serial,
                    id, batch, e->stream ? ",\"stream\":true" : "");
}

static void push_raw(struct sim *s, int serial)
{
    char body[BODY_MAX];

    print_body(s, serial, body);
    freeReplyObject(
        ask("LPUSH {t}:queue:%s %s", QUEUES[roll(s, 2)].name, body));
}

/* The same id again, in another entry. */
static void push_duplicate(struct sim *s)
{
    int job = (int)roll(s, (uint32_t)s->nentries);

    job = s->entries[job].job;
    if (s->entries[job].own_id && !s->entries[job].superseded)
        push_raw(s, new_entry(s, job, true));
}

static void enqueue_entry(struct sim *s, int serial)
{
    char body[BODY_MAX], nonce[32];
    enum enqueue_answer answer;
    struct enqueue e = {.queue = QUEUES[roll(s, 2)].name,
                        .job_id = s->entries[serial].id,
                        .body = body,
                        .stream = s->entries[serial].stream,
                        .delay_ms = chance(s, 20) ? 3600000 : 0};
    int times = 1 + (int)roll(s, 2);

    e.body_len = (size_t)print_body(s, serial, body);
    if (times > 1) {
        snprintf(nonce, sizeof(nonce), "n%d", serial);
        e.nonce = nonce;
    }
    for (int i = 0; i < times; i++)
        if (protocol_enqueue(s->p, redis, soon(), &e, &answer) < 0 ||
            answer != ENQUEUE_ACCEPTED)
            wrong(s, "enqueue: %d %s", (int)answer, protocol_error());
    e.nonce = NULL;
    if (chance(s, 30) &&
        (protocol_enqueue(s->p, redis, soon(), &e, &answer) < 0 ||
         answer != ENQUEUE_DUPLICATE))
        wrong(s, "a second enqueue of %s was taken", e.job_id);
    s->totals.accepted++;
}

static void produce(struct sim *s)
{
    if (s->nentries + 2 > ENTRIES_MAX)
        return;
    switch (roll(s, 4)) {
    case 0:
        push_raw(s, new_entry(s, -1, false));
        break;
    case 1:
        push_raw(s, new_entry(s, -1, true));
        break;
    case 2:
        if (s->nentries > 0)
            push_duplicate(s);
        break;
    default:
        enqueue_entry(s, new_entry(s, -1, true));
    }
}

/* ---- workers ----------------------------------------------------------- */

static struct worker_card card_of(const struct worker *w)
{
    return (struct worker_card){.wid = w->wid,
                                .host = "h",
                                .backend = "none",
                                .version = "1",
                                .queues = "high,default",
                                .state = "running",
                                .more = ""};
}

static void forget_request(struct worker *w)
{
    for (int i = 0; i < w->request.nfinishes; i++) {
        free(w->texts[i]);
        w->texts[i] = NULL;
    }
    w->pending = w->executed = w->executed_fenced = false;
    w->request = (struct exchange_request){0};
}

static void be_born(struct sim *s, struct worker *w)
{
    *w = (struct worker){.alive = true, .registered = true};
    snprintf(w->wid, sizeof(w->wid), "w%d", s->next_wid++);
    struct worker_card card = card_of(w);
    for (int i = 0; i < 1 + (int)roll(s, 2); i++)
        if (protocol_register(s->p, redis, soon(), &card) < 0)
            wrong(s, "register: %s", protocol_error());
}

/* The process is gone; what Redis knows of it stays. */
static void die(struct worker *w)
{
    forget_request(w);
    w->alive = false;
    w->nheld = 0;
}

static bool holds_mark(const struct worker *w)
{
    for (int i = 0; i < w->nheld; i++)
        if (w->held[i].suspect)
            return true;
    return false;
}

static bool runs_any(const struct worker *w)
{
    for (int i = 0; i < w->nheld; i++)
        if (w->held[i].running)
            return true;
    return false;
}

static char *give_back_text(const struct sim *s, const struct worker *w,
                            const struct claimed *c, const struct finish *f,
                            size_t *len_out)
{
    char body[BODY_MAX];
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    struct envelope e = c->e;

    if (f->kind == FINISH_RETRY)
        e.attempts++;
    if (!e.id[0] && (c->started || f->parent))
        strcpy(e.id, c->id);
    if (c->started)
        protocol_token(e.parent, w->wid, c->number);
    else if (f->parent)
        strcpy(e.parent, f->parent);
    envelope_print(&e, &sb);
    print_body(s, c->serial, body);
    strbuf_adds(&sb, body);
    *len_out = sb.len;
    return strbuf_take(&sb);
}

static bool may_end(struct sim *s, const struct claimed *c,
                    const struct entry *e)
{
    if (e->own_id && !c->started)
        return false;
    if (s->poisoned)
        return e->poison ? c->e.suspicions >= 2 : c->running;
    return true;
}

static enum finish_kind choose_kind(struct sim *s, const struct claimed *c,
                                    const struct entry *e)
{
    if (c->duplicate)
        return FINISH_DUPLICATE;
    if (c->cancelled)
        return s->faults && chance(s, 20) ? FINISH_RELEASE : FINISH_END;
    if (may_end(s, c, e) && chance(s, s->faults ? 60 : 95))
        return FINISH_END;
    switch (roll(s, 3)) {
    case 0:
        return e->attempts < 3 ? FINISH_RETRY : FINISH_RELEASE;
    case 1:
        return FINISH_DELAY;
    default:
        return FINISH_RELEASE;
    }
}

static const char *END_NAMES[] = {"status", "verdict"};

static enum verdict choose_verdict(struct sim *s, const struct claimed *c,
                                   const struct entry *e)
{
    if (c->cancelled)
        return VERDICT_CANCELLED;
    if (e->poison)
        return VERDICT_LOST;
    return chance(s, 12) ? VERDICT_BACKEND_ERROR : VERDICT_OK;
}

/* As worker/delivery.c writes it. */
static char *dead_text(const struct sim *s, const struct claimed *c,
                       size_t *len_out)
{
    char body[BODY_MAX], *text = NULL;
    int size = print_body(s, c->serial, body);
    int len = asprintf(&text,
                       "{\"job_id\":\"%s\",\"queue\":\"%s\",\"bytes\":%d,"
                       "\"kept\":%d}\n%s",
                       c->id, QUEUES[c->queue].name, size, size, body);

    MUST(len > 0);
    *len_out = (size_t)len;
    return text;
}

static void fill_end(struct sim *s, struct worker *w, int at,
                     const struct claimed *c)
{
    const struct entry *e = &s->entries[c->serial];
    struct finish *f = &w->finishes[at];

    f->verdict = choose_verdict(s, c, e);
    w->values[at][0] = verdict_status(f->verdict);
    w->values[at][1] = verdict_name(f->verdict);
    w->lens[at][0] = strlen(w->values[at][0]);
    w->lens[at][1] = strlen(w->values[at][1]);
    f->names = END_NAMES;
    f->values = w->values[at];
    f->value_lens = w->lens[at];
    f->nfields = 2;
    f->success = f->verdict == VERDICT_OK;
    f->code_started = !c->never_ran && f->verdict != VERDICT_LOST;
    f->execution_time = (c->serial + 1) * 0.001001;
    f->template_id = c->serial % 2 ? "default" : NULL;
    f->batch_id = e->batch < 0 ? NULL : BATCH_NAMES[e->batch];
    if (strcmp(w->values[at][0], "dead") == 0) {
        w->texts[at] = dead_text(s, c, &f->dead_entry_len);
        f->dead_entry = w->texts[at];
    }
}

/* The hash is to say that it waits; it may be somebody else's. */
static void show_delay(const struct worker *w, struct claimed *c,
                       struct finish *f)
{
    strcpy(c->parent, c->e.parent);
    if (!c->parent[0])
        protocol_token(c->parent, w->wid, c->number);
    f->parent = c->parent;
}

static void add_finish(struct sim *s, struct worker *w, const struct claimed *c)
{
    int at = w->request.nfinishes++;
    const struct entry *e = &s->entries[c->serial];
    enum finish_kind kind = choose_kind(s, c, e);
    struct finish *f = &w->finishes[at];

    w->finishing[at] = *c;
    *f = (struct finish){.kind = kind,
                         .number = c->number,
                         .queue = QUEUES[c->queue].name,
                         .job_id = w->finishing[at].id,
                         .started = c->started,
                         .events = e->stream,
                         .suspect = c->suspect};
    if (kind == FINISH_END) {
        fill_end(s, w, at, c);
    } else if (kind != FINISH_DUPLICATE) {
        f->due_ms = 9999999999999;
        if (kind == FINISH_DELAY && !c->started && chance(s, 70))
            show_delay(w, &w->finishing[at], f);
        w->texts[at] = give_back_text(s, w, c, f, &f->entry_len);
        f->entry = w->texts[at];
    }
}

static void prepare_exchange(struct sim *s, struct worker *w)
{
    w->pending = true;
    w->request = (struct exchange_request){.wid = w->wid,
                                           .sequence = ++w->sequence,
                                           .queues = QUEUES,
                                           .nqueues = 2,
                                           .finishes = w->finishes};
    /* A claim that is being finished is no longer the worker's to use. */
    for (int i = w->nheld - 1; i >= 0; i--)
        if (chance(s, 50)) {
            add_finish(s, w, &w->held[i]);
            w->held[i] = w->held[--w->nheld];
        }
    if (w->nheld < HELD_MAX)
        w->request.claim = (int)roll(s, 5);
}

/* ---- what an exchange really did --------------------------------------- */

static void commit_end(struct sim *s, const struct worker *w, int i)
{
    const struct claimed *c = &w->finishing[i];
    struct entry *e = &s->entries[c->serial];
    struct entry *job = &s->entries[e->job];

    e->fate = ENDED;
    if (++job->terminals > 1)
        wrong(s, "two ends of job %d", e->job);
    strcpy(job->id, c->id);
    protocol_token(job->token, w->wid, c->number);
    job->verdict = w->finishes[i].verdict;
    job->cancel_asked = false;
    if (w->finishes[i].dead_entry)
        job->dead_serial = c->serial;
    s->totals.ended++;
    s->totals.verdicts[job->verdict]++;
    if (w->finishes[i].code_started) {
        s->totals.started++;
        s->totals.micros += (c->serial + 1) * 1001;
    }
}

static void commit(struct sim *s, const struct worker *w, int i)
{
    struct entry *e = &s->entries[w->finishing[i].serial];

    if (w->fenced)
        wrong(s, "%s was fenced and finished %d", w->wid,
              w->finishing[i].serial);
    if (e->fate != PRESENT)
        wrong(s, "entry %d was finished twice", w->finishing[i].serial);
    switch (w->finishes[i].kind) {
    case FINISH_END:
        commit_end(s, w, i);
        break;
    case FINISH_RETRY:
        e->attempts++;
        s->totals.retries++;
        break;
    case FINISH_DELAY:
        s->totals.delayed++;
        break;
    case FINISH_RELEASE:
        s->totals.released++;
        break;
    case FINISH_DUPLICATE:
        e->fate = DROPPED;
        s->totals.dropped++;
        break;
    }
}

static void check_claim(struct sim *s, const struct worker *w,
                        const struct claim *claim)
{
    struct envelope e;
    int serial = serial_of(claim->entry);

    if (w->fenced)
        wrong(s, "%s was fenced and claimed %d", w->wid, serial);
    if (serial < 0 || serial >= s->nentries) {
        wrong(s, "nonsense claimed: %.100s", claim->entry);
        return;
    }
    envelope_parse(claim->entry, claim->entry_len, &e);
    const struct entry *entry = &s->entries[serial];
    if (entry->fate != PRESENT)
        wrong(s, "entry %d claimed after its end", serial);
    if (e.attempts != entry->attempts)
        wrong(s, "entry %d: %d attempts charged, %d made", serial, e.attempts,
              entry->attempts);
    if (s->poisoned && !entry->poison && e.suspicions > 1)
        wrong(s, "innocent entry %d charged %d times", serial, e.suspicions);
}

static void note_first(struct sim *s, struct worker *w,
                       const struct exchange_reply *reply)
{
    for (int i = 0; i < reply->nacks; i++) {
        w->acks[i] = reply->acks[i];
        if (reply->acks[i] == ACK_DONE)
            commit(s, w, i);
        else if (reply->acks[i] == ACK_AGAIN)
            wrong(s, "first send of %s answered again", w->wid);
        else if (!w->fenced)
            wrong(s, "%s holds %lld and was called late", w->wid,
                  (long long)w->finishing[i].number);
    }
    for (int i = 0; i < reply->nclaims; i++) {
        w->claims[i] = reply->claims[i].number;
        w->serials[i] = serial_of(reply->claims[i].entry);
        check_claim(s, w, &reply->claims[i]);
    }
    w->nclaims = reply->nclaims;
    w->executed = true;
    w->executed_fenced = reply->fenced;
}

static void compare_repeat(struct sim *s, const struct worker *w,
                           const struct exchange_reply *reply)
{
    for (int i = 0; i < reply->nacks; i++) {
        enum ack expected = w->acks[i] == ACK_DONE ? ACK_AGAIN : w->acks[i];

        if (reply->acks[i] != expected)
            wrong(s, "%s: ack %d, then %d", w->wid, (int)w->acks[i],
                  (int)reply->acks[i]);
    }
    if (w->fenced) {
        if (reply->nclaims > 0)
            wrong(s, "%s was fenced and got claims again", w->wid);
        return;
    }
    if (reply->nclaims != w->nclaims)
        wrong(s, "%s: %d claims, then %d", w->wid, w->nclaims, reply->nclaims);
    for (int i = 0; i < reply->nclaims && i < w->nclaims; i++)
        if (reply->claims[i].number != w->claims[i] ||
            serial_of(reply->claims[i].entry) != w->serials[i])
            wrong(s, "%s: other claims than before", w->wid);
}

static void keep_claims(struct sim *s, struct worker *w,
                        const struct exchange_reply *reply)
{
    for (int i = 0; i < reply->nclaims; i++) {
        const struct claim *claim = &reply->claims[i];
        struct claimed *c = &w->held[w->nheld++];

        *c = (struct claimed){.number = claim->number,
                              .queue = claim->queue,
                              .serial = serial_of(claim->entry)};
        if (c->serial < 0)
            return;
        envelope_parse(claim->entry, claim->entry_len, &c->e);
        const struct entry *job = &s->entries[s->entries[c->serial].job];
        if (job->own_id)
            snprintf(c->id, sizeof(c->id), "%s", job->id);
        else if (c->e.id[0])
            strcpy(c->id, c->e.id);
        else
            snprintf(c->id, sizeof(c->id), "%s.%lld", w->wid,
                     (long long)c->number);
    }
}

static int exchange_once(struct sim *s, const struct exchange_request *request,
                         bool by_text, struct exchange_reply *out)
{
    AUTO_REPLY redisReply *reply = NULL;

    MUST0(protocol_exchange_append(s->p, redis, request, by_text));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    return protocol_exchange_parse(reply, request, out);
}

static int exchange(struct sim *s, const struct exchange_request *request,
                    struct exchange_reply *out)
{
    int rc = exchange_once(s, request, false, out);

    return rc == -ESTALE ? exchange_once(s, request, true, out) : rc;
}

static void free_claims(struct exchange_reply *reply)
{
    while (reply->nclaims > 0)
        free(reply->claims[--reply->nclaims].entry);
}

static void note_reply(struct sim *s, struct worker *w,
                       const struct exchange_reply *reply)
{
    /* Refused as a whole: asked again, it is refused again. */
    if (w->executed && !w->executed_fenced)
        compare_repeat(s, w, reply);
    else
        note_first(s, w, reply);
    if (reply->fenced != w->fenced)
        wrong(s, "%s: fenced %d, told %d", w->wid, w->fenced, reply->fenced);
    if (w->executed_fenced)
        for (int i = 0; i < reply->nacks; i++)
            s->totals.late += reply->acks[i] == ACK_LATE;
}

static void send_exchange(struct sim *s, struct worker *w)
{
    struct exchange_reply reply;

    if (s->faults && chance(s, 8))
        return; /* the request was lost */
    int rc = exchange(s, &w->request, &reply);
    if (rc < 0) {
        wrong(s, "exchange: %s", protocol_error());
        return;
    }
    note_reply(s, w, &reply);
    if (!s->faults || !chance(s, 12)) { /* else the reply was lost */
        forget_request(w);
        keep_claims(s, w, &reply);
        if (reply.fenced && chance(s, 50))
            die(w); /* it takes the hint; a stubborn one tries on */
    }
    free_claims(&reply);
}

/* ---- other things a worker does ---------------------------------------- */

static enum start_answer send_start(struct sim *s, struct worker *w,
                                    const struct claimed *c,
                                    const struct start *extra)
{
    AUTO_REPLY redisReply *reply = NULL;
    enum start_answer answer = START_FENCED;
    struct start start = *extra;

    start.number = c->number;
    start.queue = QUEUES[c->queue].name;
    start.job_id = c->id;
    start.parent = c->e.parent;
    start.events = s->entries[c->serial].stream;
    MUST0(protocol_start_append(s->p, redis, w->wid, &start, true));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    if (protocol_start_parse(reply, &answer) < 0)
        wrong(s, "start: %s", protocol_error());
    if ((answer == START_FENCED) != w->fenced)
        wrong(s, "%s: start answered %d, fenced %d", w->wid, (int)answer,
              w->fenced);
    return answer;
}

static void start_one(struct sim *s, struct worker *w)
{
    struct claimed *c = &w->held[roll(s, (uint32_t)w->nheld)];
    enum start_answer answer = START_OK;

    if (c->started || c->duplicate)
        return;
    for (int i = 0; i < 1 + (int)roll(s, 2); i++)
        answer = send_start(s, w, c, &(struct start){0});
    if (answer == START_FENCED)
        return;
    const struct entry *job = &s->entries[s->entries[c->serial].job];
    if (answer == START_OK && job->cancel_asked)
        wrong(s, "%s was cancelled, and started", c->id);
    if (answer == START_CANCELLED && !job->cancel_asked)
        wrong(s, "%s is called cancelled, and nobody did", c->id);
    c->cancelled = c->never_ran = answer == START_CANCELLED;
    s->totals.spared += c->cancelled;
    c->started = answer == START_OK || answer == START_CANCELLED;
    c->duplicate = answer == START_DUPLICATE;
    if (c->duplicate && !s->entries[c->serial].own_id)
        wrong(s, "entry %d without an id called a duplicate", c->serial);
}

/* Suspects run alone, under the mark, until they passed. */
static void run_one(struct sim *s, struct worker *w)
{
    struct claimed *c = &w->held[roll(s, (uint32_t)w->nheld)];

    if (c->running || c->duplicate || c->cancelled ||
        (s->entries[c->serial].own_id && !c->started) || holds_mark(w) ||
        (c->e.suspicions > 0 && runs_any(w)))
        return;
    if (s->entries[c->serial].poison && c->e.suspicions >= 2)
        return;
    if (c->e.suspicions > 0) {
        struct start mark = {.suspect = true, .mark_only = true};

        if (send_start(s, w, c, &mark) != START_OK)
            return;
        c->suspect = true;
    }
    c->running = true;
}

static void pass_probation(struct sim *s, struct worker *w)
{
    struct start mark = {.unsuspect = true, .mark_only = true};

    for (int i = 0; i < w->nheld; i++)
        if (w->held[i].suspect && !s->entries[w->held[i].serial].poison &&
            send_start(s, w, &w->held[i], &mark) == START_OK)
            w->held[i].suspect = false;
}

static bool poison_strikes(struct sim *s, struct worker *w)
{
    for (int i = 0; i < w->nheld; i++)
        if (w->held[i].running && s->entries[w->held[i].serial].poison) {
            die(w);
            return true;
        }
    return false;
}

static bool is_told(const struct heartbeat *got, const char *id)
{
    for (int i = 0; i < got->ncancels; i++)
        if (strcmp(got->cancels[i], id) == 0)
            return true;
    return false;
}

/* Whatever was cancelled after its start mark is told of, until it ends. */
static void heed_cancels(struct sim *s, struct worker *w,
                         const struct heartbeat *got)
{
    for (int i = 0; i < w->nheld; i++) {
        struct claimed *c = &w->held[i];
        const struct entry *job = &s->entries[s->entries[c->serial].job];

        if (!c->started)
            continue;
        if (is_told(got, c->id) != (job->cancel_asked && job->tombstone))
            wrong(s, "%s: cancelled %d, told %d", c->id, job->cancel_asked,
                  is_told(got, c->id));
        if (is_told(got, c->id) && chance(s, 80))
            c->cancelled = true;
    }
}

static void beat(struct sim *s, struct worker *w)
{
    struct worker_card card = card_of(w);
    struct heartbeat got;

    if (protocol_heartbeat(s->p, redis, soon(), &card, &got) < 0)
        wrong(s, "heartbeat: %s", protocol_error());
    else if (got.fenced != w->fenced)
        wrong(s, "%s: fenced %d, heartbeat %d", w->wid, w->fenced, got.fenced);
    else if (!got.fenced && !w->pending && got.in_flight != w->nheld)
        wrong(s, "%s holds %d, Redis says %lld", w->wid, w->nheld,
              (long long)got.in_flight);
    else if (!got.fenced)
        heed_cancels(s, w, &got);
}

/* A request that dawdled in an old connection's buffer. */
static void straggle(struct sim *s, struct worker *w)
{
    struct exchange_reply reply = {.nclaims = 0};
    struct exchange_request old = {.wid = w->wid,
                                   .sequence = w->sequence - 1,
                                   .queues = QUEUES,
                                   .nqueues = 2,
                                   .claim = 3};

    if (w->pending || old.sequence < 1)
        return;
    int rc = exchange(s, &old, &reply);
    if (rc == 0 && (!w->fenced || reply.nclaims > 0))
        wrong(s, "a straggler of %s was served", w->wid);
    free_claims(&reply);
}

static void blocked_move(struct sim *s, const struct worker *w)
{
    const char *queue = QUEUES[roll(s, 2)].name;

    freeReplyObject(
        ask("LMOVE {t}:queue:%s {t}:p:%s:%s RIGHT LEFT", queue, w->wid, queue));
}

static void bury(struct sim *s, struct worker *w)
{
    if (s->ngone < (int)(sizeof(s->gone) / sizeof(s->gone[0])))
        s->gone[s->ngone++] = *w;
    w->registered = false;
    /* In a certain order, whatever the clock says. */
    freeReplyObject(ask("ZADD {t}:graves XX 9999999999%03d %s",
                        s->next_wid % 1000, w->wid));
}

static void try_to_leave(struct sim *s, struct worker *w)
{
    if (!s->faults)
        return; /* the last one stays to the end */
    int rc = protocol_leave(s->p, redis, soon(), w->wid);

    if (rc == 0 && w->nheld > 0 && !w->fenced)
        wrong(s, "%s left with its hands full", w->wid);
    if (rc < 0 && w->nheld == 0)
        wrong(s, "%s may not leave: %s", w->wid, protocol_error());
    if (rc == 0 && !w->fenced) {
        die(w);
        bury(s, w);
    }
}

static void exchange_some(struct sim *s, struct worker *w)
{
    prepare_exchange(s, w);
    send_exchange(s, w);
}

static void move_one(struct sim *s, struct worker *w)
{
    blocked_move(s, w);
}

/* What a worker does on a roll of 100: the first row it may take. */
static const struct {
    uint32_t below;
    bool needs_claims, only_poisoned;
    void (*take)(struct sim *s, struct worker *w);
} ACTIONS[] = {
    {45, false, false, exchange_some}, {65, true, false, start_one},
    {80, true, true, run_one},         {84, false, true, pass_probation},
    {90, false, false, move_one},      {94, false, false, beat},
    {97, false, false, straggle},      {100, false, false, try_to_leave},
};

static void act(struct sim *s, struct worker *w)
{
    uint32_t what = roll(s, 100);
    size_t i = 0;

    if (w->pending) {
        send_exchange(s, w);
        return;
    }
    if (s->poisoned && chance(s, 50) && poison_strikes(s, w))
        return;
    while (what >= ACTIONS[i].below ||
           (ACTIONS[i].needs_claims && w->nheld == 0) ||
           (ACTIONS[i].only_poisoned && !s->poisoned))
        i++;
    ACTIONS[i].take(s, w);
}

/* ---- reapers and the rest ---------------------------------------------- */

static redisReply *script(struct sim *s, enum script_id id, const char *wid,
                          int64_t number, int64_t other)
{
    AUTO_WORDS struct words w = {0};
    redisReply *reply = NULL;

    words_script(&w, s->p, id, false);
    words_key(&w, s->p, "inf", wid);
    words_keys_end(&w);
    words_adds(&w, s->p->prefix);
    words_adds(&w, wid);
    words_addi(&w, number);
    words_addi(&w, other);
    if (words_call(&w, s->p, redis, soon(), &reply) < 0)
        wrong(s, "script: %s", protocol_error());
    return reply;
}

/* A reaper that may be killed between any two of its calls. */
static void reap(struct sim *s, struct worker *w)
{
    bool done = false;

    freeReplyObject(ask("ZADD {t}:wk XX 1 %s", w->wid));
    AUTO_REPLY redisReply *fenced =
        script(s, SCRIPT_FENCE, w->wid, (int64_t)roll(s, 2), 0);
    w->fenced = true;
    while (!s->why[0] && !done && !chance(s, 25)) {
        AUTO_REPLY redisReply *reply =
            script(s, SCRIPT_REAP, w->wid, 1 + roll(s, 3), 1000);

        done = reply && reply_is_array(reply, 2) && reply_int(reply, 1) == 1;
    }
    if (done)
        bury(s, w);
}

static void reap_somebody(struct sim *s)
{
    struct worker *w = &s->workers[roll(s, WORKERS)];

    if (!w->registered)
        return;
    /* The living are reaped too: they were only slow. */
    if (!w->alive || (!s->poisoned && chance(s, 30)))
        reap(s, w);
}

static void fill_slot(struct sim *s)
{
    struct worker *w = &s->workers[roll(s, WORKERS)];

    if (!w->registered && !w->alive)
        be_born(s, w);
}

static void promote(struct sim *s)
{
    int64_t moved, due;

    /* Whatever waits has waited long enough. */
    freeReplyObject(ask("ZRANGESTORE {t}:tmp {t}:delayed 0 -1"));
    freeReplyObject(ask("ZUNIONSTORE {t}:delayed 1 {t}:tmp WEIGHTS 0"));
    freeReplyObject(ask("DEL {t}:tmp"));
    if (protocol_promote(s->p, redis, soon(), &moved, &due) < 0)
        wrong(s, "promote: %s", protocol_error());
}

static void visit_graves(struct sim *s)
{
    int64_t moved;

    if (protocol_visit_graves(s->p, redis, soon(), &moved) < 0)
        wrong(s, "graves: %s", protocol_error());
}

static void late_move(struct sim *s)
{
    if (s->ngone > 0 && chance(s, 30))
        blocked_move(s, &s->gone[roll(s, (uint32_t)s->ngone)]);
}

static void kill_somebody(struct sim *s)
{
    struct worker *w = &s->workers[roll(s, WORKERS)];

    if (w->alive && !s->poisoned)
        die(w);
}

static const char *PLACES =
    "local all = {} "
    "for _, key in ipairs(redis.call('KEYS', '{t}:*')) do "
    "  local got = {} "
    "  if key:find('^{t}:queue:') or key:find('^{t}:p:') then "
    "    got = redis.call('LRANGE', key, 0, -1) "
    "  elseif key:find('^{t}:inf:') then "
    "    got = redis.call('HVALS', key) "
    "  elseif key == '{t}:delayed' then "
    "    got = redis.call('ZRANGE', key, 0, -1) "
    "  end "
    "  for _, entry in ipairs(got) do all[#all + 1] = entry end "
    "end "
    "return all";

/* How often each entry is anywhere; the caller frees. */
static unsigned char *count_places(const struct sim *s)
{
    AUTO_REPLY redisReply *all = NULL;
    unsigned char *seen = calloc(ENTRIES_MAX, 1);

    MUST(seen);
    MUST0(redis_callv(redis, soon(), &all, "EVAL", PLACES, "0", NULL));
    for (size_t i = 0; i < all->elements; i++) {
        int serial = serial_of(all->element[i]->str);

        if (serial >= 0 && serial < s->nentries)
            seen[serial]++;
    }
    return seen;
}

static void check_places(struct sim *s)
{
    AUTO_FREE unsigned char *seen = count_places(s);

    for (int i = 0; i < s->nentries; i++)
        if (seen[i] != (s->entries[i].fate == PRESENT))
            wrong(s, "entry %d: in %d places, fate %d", i, seen[i],
                  (int)s->entries[i].fate);
}

/* ---- who cancels, who looks after the dead ------------------------------ */

/* A cancel ended one of the job's entries where it waited. */
static void commit_settled(struct sim *s, int job)
{
    AUTO_FREE unsigned char *seen = count_places(s);
    struct entry *j = &s->entries[job];
    AUTO_REPLY redisReply *token = ask("HGET {t}:job:%s token", j->id);
    int gone = 0;

    for (int i = 0; i < s->nentries; i++) {
        if (s->entries[i].job != job || s->entries[i].fate != PRESENT ||
            seen[i] > 0)
            continue;
        s->entries[i].fate = ENDED;
        gone++;
    }
    if (gone != 1 || ++j->terminals > 1)
        wrong(s, "cancel of job %d took %d entries, end %d", job, gone,
              j->terminals);
    snprintf(j->token, sizeof(j->token), "%s",
             token->type == REDIS_REPLY_STRING ? token->str : "");
    j->verdict = VERDICT_CANCELLED;
    j->cancel_asked = false;
    s->totals.ended++;
    s->totals.settled++;
    s->totals.verdicts[VERDICT_CANCELLED]++;
}

/* A job whose id people know; -1: none. */
static int some_job(struct sim *s)
{
    if (s->nentries == 0)
        return -1;
    int job = s->entries[roll(s, (uint32_t)s->nentries)].job;
    return s->entries[job].own_id && !s->entries[job].superseded ? job : -1;
}

/* As a tenant: who insists has said as much as who is not asked whose word it
 * is. */
static int cancel_as_tenant(const struct protocol *p, const char *id,
                            struct cancel *got)
{
    struct cancel_by by = {.tenant = "a"};
    int rc = protocol_cancel_by(p, redis, soon(), id, QUEUES, 2, &by, got);

    if (rc < 0 || got->answer != CANCEL_UNKNOWN)
        return rc;
    by.insist = true;
    return protocol_cancel_by(p, redis, soon(), id, QUEUES, 2, &by, got);
}

static void cancel(struct sim *s, struct entry *e, int job)
{
    const struct protocol *p = chance(s, 20) ? &s->racing : s->p;
    struct cancel got;
    int rc = chance(s, 50)
                 ? cancel_as_tenant(p, e->id, &got)
                 : protocol_cancel(p, redis, soon(), e->id, QUEUES, 2, &got);

    if (rc < 0) {
        wrong(s, "cancel: %s", protocol_error());
        return;
    }
    if ((got.answer == CANCEL_FINISHED) != (e->terminals > 0))
        wrong(s, "cancel of %s: %d after %d ends", e->id, (int)got.answer,
              e->terminals);
    if (got.answer == CANCEL_DONE)
        commit_settled(s, job);
    else if (got.answer != CANCEL_FINISHED)
        e->cancel_asked = e->tombstone = true;
}

static void cancel_somebody(struct sim *s)
{
    int job = some_job(s);

    if (job < 0)
        return;
    struct entry *e = &s->entries[job];
    if (chance(s, 60)) {
        cancel(s, e, job);
        return;
    }
    /* As a client that has no capibox does it. */
    freeReplyObject(ask("ZADD {t}:cx 0 %s", e->id));
    freeReplyObject(ask("PUBLISH {t}:control %s", e->id));
    if (e->terminals == 0)
        e->cancel_asked = e->tombstone = true;
}

/* Few tombstones: one heartbeat looks at all of them. */
static bool was_beaten(struct sim *s)
{
    for (int i = 0; i < WORKERS; i++) {
        struct worker *w = &s->workers[i];
        AUTO_REPLY redisReply *count = ask("ZCARD {t}:cx");

        if (!w->alive || w->fenced || count->integer > 20)
            continue;
        beat(s, w);
        return true;
    }
    return false;
}

/* An hour goes by: whatever has a hash is remembered there. */
static void forget_tombstone(struct sim *s)
{
    int job = some_job(s);

    if (job < 0 || !s->entries[job].cancel_asked || !was_beaten(s))
        return;
    struct entry *e = &s->entries[job];
    AUTO_REPLY redisReply *hash =
        ask("HMGET {t}:job:%s status cancel_requested_at", e->id);
    if (!*reply_text(hash, 0))
        return;
    if (!*reply_text(hash, 1))
        wrong(s, "%s: the cancel will be forgotten", e->id);
    freeReplyObject(ask("ZREM {t}:cx %s", e->id));
    e->tombstone = false;
}

static bool has_present(const struct sim *s, int job)
{
    for (int i = 0; i < s->nentries; i++)
        if (s->entries[i].job == job && s->entries[i].fate == PRESENT)
            return true;
    return false;
}

/* A cancelled job's time is over, and its id is used again. */
static void use_id_again(struct sim *s)
{
    int old = some_job(s);

    if (old < 0 || s->nentries + 1 > ENTRIES_MAX ||
        s->entries[old].terminals == 0 ||
        s->entries[old].verdict != VERDICT_CANCELLED || has_present(s, old))
        return;
    char *id = s->entries[old].id;
    freeReplyObject(ask("DEL {t}:job:%s {t}:events:%s", id, id));
    if (chance(s, 60)) /* somebody cancels too late */
        freeReplyObject(ask("ZADD {t}:cx 0 %s", id));
    s->entries[old].superseded = true;
    int serial = new_entry(s, -1, true);
    strcpy(s->entries[serial].id, id);
    AUTO_REPLY redisReply *tombstone = ask("ZSCORE {t}:cx %s", id);
    if (tombstone->type == REDIS_REPLY_NIL && chance(s, 50))
        push_raw(s, serial);
    else
        enqueue_entry(s, serial);
}

static enum dead_answer retry_dead(struct sim *s, const char *id)
{
    enum dead_answer answer = DEAD_CUT;

    if (protocol_dead_retry(s->p, redis, soon(), id, NULL, &answer, NULL) < 0)
        wrong(s, "retry of %s: %s", id, protocol_error());
    return answer;
}

static void drop_dead(struct sim *s, const char *id, enum dead_answer expected)
{
    enum dead_answer answer = DEAD_CUT;

    if (protocol_dead_drop(s->p, redis, soon(), id, NULL, &answer) < 0 ||
        answer != expected)
        wrong(s, "drop of %s: %d", id, (int)answer);
}

/* An operator who puts back from a copy what was retried already. */
static void copy_dead(const char *id)
{
    AUTO_REPLY redisReply *done = NULL;

    MUST0(redis_callv(redis, soon(), &done, "EVAL",
                      "for _, e in ipairs(redis.call('LRANGE', KEYS[1], 0, "
                      "-1)) do if e:find(ARGV[1], 1, true) then return "
                      "redis.call('LPUSH', KEYS[1], e) end end",
                      "1", "{t}:dead", id, NULL));
}

static void revive(struct sim *s, struct entry *e)
{
    bool twice = chance(s, 30);

    if (twice)
        copy_dead(e->id);
    if (retry_dead(s, e->id) != DEAD_DONE)
        wrong(s, "%s is dead and may not be retried", e->id);
    if (twice && retry_dead(s, e->id) != DEAD_TAKEN)
        wrong(s, "%s is queued and was retried", e->id);
    if (twice)
        drop_dead(s, e->id, DEAD_DONE);
    if (retry_dead(s, e->id) != DEAD_NONE)
        wrong(s, "%s was retried twice", e->id);
    s->entries[e->dead_serial].fate = PRESENT;
    s->entries[e->dead_serial].attempts = 0;
    /* It goes by the id it ended under from now on. */
    e->own_id = s->entries[e->dead_serial].own_id = true;
    e->terminals = 0;
    e->cancel_asked = false;
    e->dead_serial = -1;
    s->totals.accepted++;
    s->totals.revived++;
}

/* The next one from a random place on; NULL: none is dead. */
static struct entry *some_dead(struct sim *s)
{
    int from = s->nentries > 0 ? (int)roll(s, (uint32_t)s->nentries) : 0;

    for (int i = 0; i < s->nentries; i++) {
        struct entry *e = &s->entries[(from + i) % s->nentries];

        if (e->dead_serial >= 0)
            return e;
    }
    return NULL;
}

static void tend_the_dead(struct sim *s)
{
    struct entry *e = some_dead(s);

    if (!e)
        return;
    if (chance(s, 70)) {
        revive(s, e);
        return;
    }
    drop_dead(s, e->id, DEAD_DONE);
    drop_dead(s, e->id, DEAD_NONE);
    e->dead_serial = -1;
    s->totals.dropped_dead++;
}

static void interfere(struct sim *s)
{
    switch (roll(s, 8)) {
    case 0:
        forget_tombstone(s);
        break;
    case 1:
        use_id_again(s);
        break;
    case 2:
    case 3:
        tend_the_dead(s);
        break;
    default:
        cancel_somebody(s);
    }
}

static void step(struct sim *s)
{
    uint32_t what = roll(s, 100);
    struct worker *w = &s->workers[roll(s, WORKERS)];

    if (what < 15) {
        produce(s);
    } else if (what < 20) {
        interfere(s);
    } else if (what < 84) {
        if (w->alive)
            act(s, w);
    } else if (what < 90) {
        fill_slot(s);
    } else if (what < 94) {
        reap_somebody(s);
    } else if (what < 96) {
        promote(s);
    } else if (what < 97) {
        visit_graves(s);
    } else if (what < 98) {
        kill_somebody(s);
    } else if (what < 99) {
        late_move(s);
    } else if (chance(s, 20)) {
        freeReplyObject(ask("SCRIPT FLUSH"));
    }
}

/* ---- checks ------------------------------------------------------------ */

static void check_books(struct sim *s)
{
    struct audit a;

    if (protocol_audit(s->p, redis, soon(), QUEUES, 2, &a) < 0) {
        wrong(s, "audit: %s", protocol_error());
        return;
    }
    int64_t present = 0;
    for (int i = 0; i < s->nentries; i++)
        present += s->entries[i].fate == PRESENT;
    if (!a.balanced)
        wrong(s, "books: %lld claims, %lld running", (long long)a.claims,
              (long long)a.running);
    if (a.queued + a.delayed + a.running + a.private_ != present)
        wrong(s, "%lld entries there, %lld expected",
              (long long)(a.queued + a.delayed + a.running + a.private_),
              (long long)present);
    if (a.terminal != s->totals.ended || a.duplicates != s->totals.dropped ||
        a.enqueued != s->totals.accepted || a.settled != s->totals.settled)
        wrong(s, "books: %lld ended, %lld dropped, %lld accepted",
              (long long)a.terminal, (long long)a.duplicates,
              (long long)a.enqueued);
}

static void check_job(struct sim *s, int job)
{
    const struct entry *e = &s->entries[job];

    if (e->terminals != 1) {
        wrong(s, "job %d ended %d times", job, e->terminals);
        return;
    }
    AUTO_REPLY redisReply *hash = ask("HMGET {t}:job:%s token status", e->id);
    AUTO_REPLY redisReply *ttl = ask("PTTL {t}:job:%s", e->id);
    if (strcmp(reply_text(hash, 0), e->token) != 0 ||
        strcmp(reply_text(hash, 1), verdict_status(e->verdict)) != 0)
        wrong(s, "job %d: %s %s, expected %s", job, reply_text(hash, 0),
              reply_text(hash, 1), e->token);
    if (ttl->integer <= 0)
        wrong(s, "job %d stays for ever", job);
}

static void check_counters(struct sim *s)
{
    char expected[32];
    const struct totals *t = &s->totals;
    const struct {
        const char *field;
        int64_t value;
    } rows[] = {
        {"ended", t->ended},
        {"duplicates", t->dropped},
        {"retries", t->retries},
        {"delayed", t->delayed},
        {"released", t->released},
        {"late", t->late},
        {"total_executions", t->started},
        {"successful_executions", t->verdicts[VERDICT_OK]},
        {"failed_executions", t->started - t->verdicts[VERDICT_OK]},
        {"verdict:ok", t->verdicts[VERDICT_OK]},
        {"verdict:lost", t->verdicts[VERDICT_LOST]},
        {"verdict:backend_error", t->verdicts[VERDICT_BACKEND_ERROR]},
        {"verdict:cancelled", t->verdicts[VERDICT_CANCELLED]},
        {"dead",
         t->verdicts[VERDICT_LOST] + t->verdicts[VERDICT_BACKEND_ERROR]},
        {"settled", t->settled},
        {"revived", t->revived},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t got = ask_number("{t}:stats", rows[i].field);

        if (got != rows[i].value)
            wrong(s, "%s is %lld, not %lld", rows[i].field, (long long)got,
                  (long long)rows[i].value);
    }
    AUTO_REPLY redisReply *time = ask("HGET {t}:stats total_execution_time");
    snprintf(expected, sizeof(expected), "%.6f", (double)t->micros / 1e6);
    if (t->micros > 0 &&
        (time->type != REDIS_REPLY_STRING || strcmp(time->str, expected) != 0))
        wrong(s, "total_execution_time is not %s", expected);
}

static const char *ENDED_STREAMS =
    "local all = {} "
    "for _, key in ipairs(redis.call('KEYS', '{t}:events:*')) do "
    "  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1] "
    "  if last and last[2][2] == 'end' then all[#all + 1] = key:sub(12) end "
    "end "
    "return all";

/* A stream's last entry is the end exactly when its job has ended. */
static void check_streams(struct sim *s)
{
    AUTO_REPLY redisReply *ended = NULL;
    size_t expected = 0;

    MUST0(redis_callv(redis, soon(), &ended, "EVAL", ENDED_STREAMS, "0", NULL));
    for (int i = 0; i < s->nentries; i++) {
        const struct entry *e = &s->entries[i];
        size_t k = 0;

        if (e->job != i || e->superseded || !e->stream || e->terminals == 0)
            continue;
        expected++;
        while (k < ended->elements && strcmp(reply_text(ended, k), e->id) != 0)
            k++;
        if (k == ended->elements)
            wrong(s, "the events of %s have no end", e->id);
    }
    if (ended->elements != expected)
        wrong(s, "%zu streams have ended, %zu of their jobs", ended->elements,
              expected);
}

static void check_dead(struct sim *s)
{
    AUTO_REPLY redisReply *length = ask("LLEN {t}:dead");
    int64_t dead = 0;

    for (int i = 0; i < s->nentries; i++)
        dead += s->entries[i].dead_serial >= 0;
    if (length->integer != dead)
        wrong(s, "%lld in the dead list, not %lld", length->integer,
              (long long)dead);
}

static void check_batches(struct sim *s)
{
    for (int i = 0; i < BATCHES; i++) {
        char key[64];

        if (s->batch_total[i] == 0)
            continue;
        if (protocol_batch_create(s->p, redis, soon(), BATCH_NAMES[i],
                                  s->batch_total[i]) < 0)
            wrong(s, "batch: %s", protocol_error());
        snprintf(key, sizeof(key), "{t}:batch:%s", BATCH_NAMES[i]);
        AUTO_REPLY redisReply *status = ask("HGET %s status", key);
        if (strcmp(status->str, "completed") != 0 ||
            ask_number(key, "done") != s->batch_total[i] ||
            ask_number(key, "succeeded") + ask_number(key, "failed") !=
                s->batch_total[i])
            wrong(s, "batch %d is %s with %lld of %d", i, status->str,
                  (long long)ask_number(key, "done"), s->batch_total[i]);
    }
}

static void check_keys(struct sim *s)
{
    AUTO_REPLY redisReply *keys = ask("KEYS {t}:*");

    for (size_t i = 0; i < keys->elements; i++) {
        const char *key = keys->element[i]->str + strlen("{t}:");
        AUTO_REPLY redisReply *ttl = ask("PTTL {t}:%s", key);

        if (!strncmp(key, "run:", 4) || !strncmp(key, "p:", 2) ||
            !strncmp(key, "worker:", 7) || !strcmp(key, "wk") ||
            !strcmp(key, "cx") ||
            (!strncmp(key, "inf:", 4) && ttl->integer < 0))
            wrong(s, "%s was left behind", key);
    }
}

/* ---- one seed ---------------------------------------------------------- */

static bool any_present(const struct sim *s)
{
    for (int i = 0; i < s->nentries; i++)
        if (s->entries[i].fate == PRESENT)
            return true;
    return false;
}

/* All die but one that does everything right. */
static void end_all_leases(struct sim *s)
{
    for (int i = 0; i < WORKERS; i++) {
        struct worker *w = &s->workers[i];

        while (w->alive && w->pending && !s->why[0])
            send_exchange(s, w);
        if (w->alive) {
            pass_probation(s, w); /* this death is nobody's fault */
            die(w);
        }
        w->registered = false;
        freeReplyObject(ask("ZADD {t}:wk XX 1 %s", w->wid));
    }
}

static void reap_expired(struct sim *s, const struct worker *by)
{
    struct worker_card card = card_of(by);
    struct heartbeat got = {.fenced = true};
    int64_t moved;

    if (protocol_heartbeat(s->p, redis, soon(), &card, &got) < 0 || got.fenced)
        wrong(s, "last heartbeat: %s", protocol_error());
    else if (got.expired[0] &&
             protocol_reap(s->p, redis, soon(), got.expired, false, &moved) < 0)
        wrong(s, "last reaping: %s", protocol_error());
}

static void drain_step(struct sim *s, struct worker *w, int turn)
{
    if (!w->alive) {
        freeReplyObject(ask("ZADD {t}:wk XX 1 %s", w->wid));
        be_born(s, w);
    }
    act(s, w);
    if (turn % 4 == 0 && w->alive)
        reap_expired(s, w);
    if (turn % 8 == 0) {
        promote(s);
        visit_graves(s);
    }
}

static void drain(struct sim *s)
{
    struct worker *w = &s->workers[0];
    int left = DRAIN_STEPS;

    s->faults = false;
    end_all_leases(s);
    be_born(s, w);
    while (!s->why[0] && any_present(s) && left > 0)
        drain_step(s, w, left--);
    if (left == 0)
        wrong(s, "never came to rest");
    for (int i = 0; i < 2 * WORKERS && !s->why[0]; i++)
        reap_expired(s, w);
    /* Each heartbeat looks after some tombstones. */
    for (int i = 0; i < 200 && !s->why[0]; i++)
        beat(s, w);
    if (!s->why[0] && protocol_leave(s->p, redis, soon(), w->wid) < 0)
        wrong(s, "the last worker may not leave");
}

static void check_end(struct sim *s)
{
    check_books(s);
    check_places(s);
    for (int i = 0; i < s->nentries && !s->why[0]; i++)
        if (s->entries[i].job == i && !s->entries[i].superseded)
            check_job(s, i);
    check_streams(s);
    check_dead(s);
    check_counters(s);
    check_batches(s);
    check_keys(s);
}

/* A copy of the text without the guard. */
static char *cut(const char *text, const char *find, const char *put)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    const char *at = strstr(text, find);

    if (!at)
        fail_msg("no such guard: %s", find);
    strbuf_add(&sb, text, (size_t)(at - text));
    strbuf_adds(&sb, put);
    strbuf_adds(&sb, at + strlen(find));
    return strbuf_take(&sb);
}

/* Between what look.lua found and what settle.lua takes, an entry may go. */
static char *make_racing(const struct protocol *p, struct protocol *racing)
{
    struct script *script = &racing->scripts[SCRIPT_SETTLE];
    char *text =
        cut(p->scripts[SCRIPT_SETTLE].text, "local c = redis.call\n",
            "local c = redis.call\n"
            "if ARGV[1] == 'q' then\n"
            "  local other = KEYS[2]:find('high', 1, true)\n"
            "                and '{t}:queue:default' or '{t}:queue:high'\n"
            "  c('LMOVE', KEYS[2], other, 'RIGHT', 'LEFT')\n"
            "end\n");

    *racing = *p;
    script->text = text;
    MUST0(protocol_rehash(racing));
    return text;
}

/* What all seeds did together: a mix that never met a fence proves little. */
static struct totals grand;

static void add_up(const struct sim *s)
{
    grand.ended += s->totals.ended;
    grand.dropped += s->totals.dropped;
    grand.retries += s->totals.retries;
    grand.delayed += s->totals.delayed;
    grand.released += s->totals.released;
    grand.late += s->totals.late;
    grand.accepted += s->totals.accepted;
    grand.recovered += ask_number("{t}:stats", "recovered");
    grand.rescued += ask_number("{t}:stats", "rescued");
    grand.verdicts[VERDICT_CANCELLED] += s->totals.verdicts[VERDICT_CANCELLED];
    grand.settled += s->totals.settled;
    grand.spared += s->totals.spared;
    grand.revived += s->totals.revived;
    grand.dropped_dead += s->totals.dropped_dead;
}

/* Whether it found nothing wrong; else why says what. */
static bool run_seed(const struct protocol *p, unsigned seed, int steps,
                     bool poisoned, char *why, size_t why_size)
{
    AUTO_FREE struct sim *s = calloc(1, sizeof(*s));
    AUTO_FREE struct entry *entries = calloc(ENTRIES_MAX, sizeof(*entries));

    MUST(s && entries);
    freeReplyObject(ask("FLUSHALL"));
    s->p = p;
    AUTO_FREE char *racing = make_racing(p, &s->racing);
    s->random = 0x9e3779b97f4a7c15ull * (seed + 1);
    s->poisoned = poisoned;
    s->faults = true;
    s->entries = entries;
    for (int i = 0; i < WORKERS; i++)
        be_born(s, &s->workers[i]);
    for (int i = 0; i < steps && !s->why[0]; i++) {
        step(s);
        check_books(s);
        if (i % 20 == 0) {
            check_places(s);
            check_streams(s);
            check_dead(s);
        }
    }
    if (!s->why[0])
        drain(s);
    if (!s->why[0])
        check_end(s);
    add_up(s);
    for (int i = 0; i < WORKERS; i++)
        forget_request(&s->workers[i]);
    snprintf(why, why_size, "%s", s->why);
    return !why[0];
}

/* ---- tests ------------------------------------------------------------- */

static int setting(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text && atoi(text) > 0 ? atoi(text) : otherwise;
}

static void every_seed_keeps_the_promises(void **state)
{
    struct protocol p;
    char why[256];
    int seeds = setting("SIM_SEEDS", 12), steps = setting("SIM_STEPS", 1200);
    int first = setting("SIM_FIRST", 1);

    (void)state;
    MUST0(protocol_init(&p, "{t}", 600, 600000));
    for (int seed = first; seed < first + seeds; seed++)
        if (!run_seed(&p, (unsigned)seed, steps, seed % 2 == 0, why,
                      sizeof(why)))
            fail_msg("seed %d: %s", seed, why);
    print_message("%lld ended, %lld duplicates, %lld retried, %lld delayed, "
                  "%lld released, %lld recovered, %lld rescued, %lld late\n",
                  (long long)grand.ended, (long long)grand.dropped,
                  (long long)grand.retries, (long long)grand.delayed,
                  (long long)grand.released, (long long)grand.recovered,
                  (long long)grand.rescued, (long long)grand.late);
    print_message(
        "%lld cancelled (%lld where they waited, %lld at their start), "
        "%lld revived, %lld dead dropped\n",
        (long long)grand.verdicts[VERDICT_CANCELLED], (long long)grand.settled,
        (long long)grand.spared, (long long)grand.revived,
        (long long)grand.dropped_dead);
    assert_true(grand.settled > 0 && grand.spared > 0 && grand.revived > 0 &&
                grand.dropped_dead > 0);
    assert_true(grand.verdicts[VERDICT_CANCELLED] >
                grand.settled + grand.spared / 2);
    assert_true(grand.dropped > 0 && grand.recovered > 0 && grand.rescued > 0 &&
                grand.late > 0);
}

struct control {
    const char *guard;
    bool poisoned;
    struct {
        enum script_id script;
        const char *find, *put;
    } cuts[2];
};

static const struct control CONTROLS[] = {
    {"only the holder finishes",
     false,
     {{SCRIPT_EXCHANGE, "if base and c('HDEL', inf, field) == 1 then",
       "if c('HDEL', inf, field) >= 0 then"}}},
    {"the fence holds for finishes",
     false,
     {{SCRIPT_EXCHANGE, "if base and c('HDEL', inf, field) == 1 then",
       "if c('HDEL', inf, field) == 1 then"}}},
    {"fencing deletes the sentinel",
     false,
     {{SCRIPT_FENCE, "  c('HDEL', inf, '_')\n", ""},
      {SCRIPT_REAP, "if c('HEXISTS', inf, '_') == 1 then", "if false then"}}},
    {"the graves are visited",
     false,
     {{SCRIPT_GRAVES, "local got = c(unpack(call))", "local got = nil"}}},
    {"a repeat gets the same answer",
     false,
     {{SCRIPT_EXCHANGE, "if sequence == last then return repeated() end", ""}}},
    {"a straggler is refused",
     false,
     {{SCRIPT_EXCHANGE, "if sequence < last then", "if false then"}}},
    {"the marked suspect alone is charged",
     true,
     {{SCRIPT_REAP, "field == guilty and had + 1 or had end", "had + 1 end"}}},
    {"suspects of an unmarked death are not charged again",
     true,
     {{SCRIPT_REAP, "return had == 0 and 1 or had\n", "return had + 1\n"}}},
    {"an id has one owner",
     false,
     {{SCRIPT_START,
       "if not open[status] or (owner and not heir) then return 1 end", ""}}},
    {"an unstarted claim leaves the parent alone",
     false,
     {{SCRIPT_REAP, "if id or not e.p then", "if true then"}}},
    {"a started claim passes its token on",
     false,
     {{SCRIPT_REAP, "if id or not e.p then", "if not e.p then"}}},
    {"a half reaped worker is kept in sight",
     false,
     {{SCRIPT_REAP, "local done = moved == #claims and room > 0",
       "local done = true"}}},
    {"claims of the left are counted",
     false,
     {{SCRIPT_FENCE, "c('HINCRBY', P .. ':stats', 'claims_of_the_left'",
       "c('HINCRBY', P .. ':stats', 'nothing'"}}},
    {"enqueue refuses a taken id",
     false,
     {{SCRIPT_ENQUEUE, "return same and 0 or 1", "return 0"}}},
    {"a start mark is not an end",
     false,
     {{SCRIPT_EXCHANGE, "now[1] == token and not OPEN[now[2]]",
       "now[1] == token"}}},
    {"a delay shows in its own hash only",
     false,
     {{SCRIPT_EXCHANGE,
       "  if now[1] and not (OPEN[now[1]] and now[2] == words[#words]) then\n"
       "    return false\n  end\n",
       ""}}},
    {"a start heeds tombstones",
     false,
     {{SCRIPT_START, " or c('ZSCORE', KEYS[5], ARGV[4])", ""}}},
    {"a hash remembers a cancel", false, {{SCRIPT_START, "now[3] or ", ""}}},
    {"heartbeats tell of cancels",
     false,
     {{SCRIPT_HEARTBEAT, "\ntell()\n", "\n"}}},
    {"the hash is told by heartbeats",
     false,
     {{SCRIPT_HEARTBEAT, "elseif is[1] and not is[2] then",
       "elseif false then"}}},
    {"what has ended needs no tombstone",
     false,
     {{SCRIPT_HEARTBEAT, "    c('ZREM', cx, id)\n", ""}}},
    {"enqueue clears an old tombstone",
     false,
     {{SCRIPT_ENQUEUE, "c('ZREM', KEYS[5], id)\n", ""}}},
    {"only what still waits is settled",
     false,
     {{SCRIPT_SETTLE, "if gone == 0 then return 0 end\n", ""}}},
    {"what is settled is counted apart",
     false,
     {{SCRIPT_SETTLE, "'settled', ", ""}}},
    {"a retried job leaves the dead list",
     false,
     {{SCRIPT_DEAD_RETRY,
       "if c('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 1 end\n", ""}}},
    {"a retry does not take a living job's id",
     false,
     {{SCRIPT_DEAD_RETRY,
       "if now[1] and now[1] ~= 'dead' and now[2] ~= 'rejected' then return 2 "
       "end\n",
       ""}}},
    {"a retried job is taken off its batch",
     false,
     {{SCRIPT_DEAD_RETRY, "  c('HINCRBY', KEYS[7], 'done', -1)\n", ""}}},
    {"a retried job's events begin anew",
     false,
     {{SCRIPT_DEAD_RETRY, "c('DEL', job, KEYS[6])", "c('DEL', job)"},
      {SCRIPT_DEAD_RETRY,
       "if has('e') then c('XADD', KEYS[6], '*', 'type', 'state', 'data', "
       "'queued') end\n",
       ""}}},
    {"the end marker comes with the result",
     false,
     {{SCRIPT_EXCHANGE,
       "    c('XADD', events, '*', 'type', 'end', 'verdict', class.verdict)\n",
       ""}}},
};

static void weaken(struct protocol *p, const struct control *control,
                   char *texts[2])
{
    MUST0(protocol_init(p, "{t}", 600, 600000));
    for (int i = 0; i < 2 && control->cuts[i].find; i++) {
        struct script *script = &p->scripts[control->cuts[i].script];

        texts[i] =
            cut(script->text, control->cuts[i].find, control->cuts[i].put);
        script->text = texts[i];
    }
    MUST0(protocol_rehash(p));
}

static void every_guard_is_missed_when_taken_out(void **state)
{
    int seeds = setting("SIM_CONTROL_SEEDS", 20);
    int steps = setting("SIM_STEPS", 1200);
    char why[256];

    (void)state;
    for (size_t i = 0; i < sizeof(CONTROLS) / sizeof(CONTROLS[0]); i++) {
        struct protocol p;
        char *texts[2] = {NULL, NULL};
        int seed = 1;

        weaken(&p, &CONTROLS[i], texts);
        while (seed <= seeds &&
               run_seed(&p, (unsigned)seed, steps, CONTROLS[i].poisoned, why,
                        sizeof(why)))
            seed++;
        free(texts[0]);
        free(texts[1]);
        if (seed > seeds)
            fail_msg("nobody missed: %s", CONTROLS[i].guard);
        print_message("without \"%s\", seed %d: %s\n", CONTROLS[i].guard, seed,
                      why);
    }
}

static int open_all(void **state)
{
    struct complaint why;
    struct settings settings = {0};

    (void)state;
    redis_server_start(&server, NULL);
    MUST0(redis_target_parse(server.url, &settings, &target, &why));
    MUST0(redis_create(&target, NULL, &redis));
    MUST0(redis_connect(redis, soon()));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    redis_destroy(redis);
    redis_target_fini(&target);
    redis_server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_seed_keeps_the_promises),
        cmocka_unit_test(every_guard_is_missed_when_taken_out),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
