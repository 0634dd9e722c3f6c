#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/exchange_impl.h"

bool calls_full(const struct exchange *x)
{
    /* Room for a lookup with its start, and for the exchange itself. */
    return x->call_count >= EXCHANGE_CALLS_MAX - 3;
}

/* Fields of the hash while the job runs. */
static int start_fields(const struct exchange *x, const struct delivery *d,
                        const char **names, const char **values,
                        char started_at[32], char attempt[12])
{
    int n = 0;

    if (!d->job || d->early != VERDICT_NONE)
        return 0; /* it only proves that its id is free */
    snprintf(started_at, 32, "%.6f", d->claimed_unix);
    snprintf(attempt, 12, "%d", delivery_attempts_used(d) + 1);
    names[n] = "status", values[n++] = "running";
    names[n] = "started_at", values[n++] = started_at;
    names[n] = "attempt", values[n++] = attempt;
    names[n] = "queue", values[n++] = d->queue;
    names[n] = "worker", values[n++] = d->wid;
    names[n] = "backend", values[n++] = x->w->ops->name;
    names[n] = "template_used", values[n++] = d->spec.template_used;
    names[n] = "language", values[n++] = language_name(d->spec.language);
    if (d->job->task_type)
        names[n] = "task_type", values[n++] = d->job->task_type;
    if (d->job->batch_id)
        names[n] = "batch_id", values[n++] = d->job->batch_id;
    if (d->job->tenant)
        names[n] = "tenant", values[n++] = d->job->tenant;
    return n;
}

static int send_start(struct exchange *x, struct delivery *d)
{
    const char *names[11], *values[11];
    char started_at[32], attempt[12];
    struct start start = {
        .number = d->number,
        .queue = d->queue,
        .job_id = d->job_id,
        .parent = d->envelope.parent,
        .suspect = d->seated,
        .events = d->streams,
        .names = names,
        .values = values,
    };

    /* Before it is sent: what Redis hears after it, we hear after this. */
    cancels_add(&x->w->cancels, &d->cancel, d->job_id);
    start.nfields = start_fields(x, d, names, values, started_at, attempt);
    return protocol_start_append(&x->w->protocol, x->redis, x->wid, &start,
                                 x->by_text);
}

static int send_unsuspect(struct exchange *x, const struct delivery *d)
{
    struct start start = {
        .number = d->number,
        .queue = d->queue,
        .job_id = d->job_id,
        .parent = "",
        .mark_only = true,
        .unsuspect = true,
    };

    return protocol_start_append(&x->w->protocol, x->redis, x->wid, &start,
                                 x->by_text);
}

static int send_unblock(struct exchange *x, int64_t client_id)
{
    char id[24];
    const char *argv[] = {"CLIENT", "UNBLOCK", id};

    snprintf(id, sizeof(id), "%lld", (long long)client_id);
    return redis_append(x->redis, 3, argv, NULL);
}

/* The result is the last of the values. */
static int send_keep(struct exchange *x, const struct delivery *d)
{
    int last = d->finish.nfields - 1;

    return protocol_cache_set_append(&x->w->protocol, x->redis, d->cache_key,
                                     d->values[last], d->lens[last]);
}

static int send_ping(struct exchange *x)
{
    const char *argv[] = {"PING"};

    return redis_append(x->redis, 1, argv, NULL);
}

static int send_call(struct exchange *x, const struct call *call)
{
    const struct output_piece *piece = call->piece;

    switch (call->kind) {
    case CALL_EXCHANGE:
        return protocol_exchange_append(&x->w->protocol, x->redis, &x->request,
                                        x->by_text);
    case CALL_START:
        return send_start(x, call->delivery);
    case CALL_LOOKUP:
        return protocol_cache_get_append(&x->w->protocol, x->redis,
                                         call->delivery->cache_key);
    case CALL_KEEP:
        return send_keep(x, call->delivery);
    case CALL_UNSUSPECT:
        return send_unsuspect(x, call->delivery);
    case CALL_PIECE:
        return protocol_event_append(&x->w->protocol, x->redis, piece->job_id,
                                     piece->is_stderr ? "stderr" : "stdout",
                                     piece->data, piece->size, piece->offset);
    case CALL_UNBLOCK:
        return send_unblock(x, call->client_id);
    case CALL_VOID:
        return send_ping(x);
    }
    return -EINVAL;
}

int calls_add(struct exchange *x, struct call call)
{
    int at = (x->call_at + x->call_count) % EXCHANGE_CALLS_MAX;

    MUST(x->call_count < EXCHANGE_CALLS_MAX);
    if (x->call_count == 0)
        x->answered_ms = clock_ms();
    x->calls[at] = call;
    x->call_count++;
    return redis_connected(x->redis) ? send_call(x, &call) : 0;
}

int calls_resend_all(struct exchange *x)
{
    int rc = 0;

    x->answered_ms = clock_ms();
    for (int i = 0; i < x->call_count && rc == 0; i++)
        rc = send_call(x, &x->calls[(x->call_at + i) % EXCHANGE_CALLS_MAX]);
    return rc;
}

static struct call pop(struct exchange *x)
{
    struct call call = x->calls[x->call_at];

    x->call_at = (x->call_at + 1) % EXCHANGE_CALLS_MAX;
    x->call_count--;
    return call;
}

/* Said once for as long as it stays the same. */
static void say_trouble(struct exchange *x)
{
    if (strcmp(x->trouble, x->reply.trouble) == 0)
        return;
    snprintf(x->trouble, sizeof(x->trouble), "%s", x->reply.trouble);
    if (x->trouble[0])
        log_error("a queue can't be read", LOG_S("error", x->trouble), LOG_END);
}

static int answer_exchange(struct exchange *x, redisReply *reply)
{
    int rc = protocol_exchange_parse(reply, &x->request, &x->reply);

    if (rc < 0)
        return rc;
    pop(x);
    x->exchanging = false;
    x->confirmed = x->request.sequence;
    say_trouble(x);
    jobs_finished(x, &x->reply);
    if (x->reply.fenced) {
        exchange_fenced(x);
        return 0;
    }
    if (x->request.claim > 0) {
        x->wakes -= x->wakes_sent;
        x->maybe_more = x->reply.nclaims >= x->request.claim;
        jobs_claimed(x, &x->reply);
    }
    return 0;
}

static int answer_start(struct exchange *x, redisReply *reply)
{
    enum start_answer answer;
    int rc = protocol_start_parse(reply, &answer);

    if (rc < 0)
        return rc;
    jobs_start_answer(x, pop(x).delivery, answer);
    return 0;
}

/* Takes the text over; no answer is a miss. */
static void take_kept(struct delivery *d, redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING)
        return;
    free(d->kept);
    d->kept = reply->str;
    d->kept_len = (size_t)reply->len;
    reply->str = NULL;
}

int calls_answer(struct exchange *x, redisReply *reply)
{
    const struct call *call = &x->calls[x->call_at];
    enum redis_kind kind = redis_kind(reply);

    if (x->call_count == 0)
        return -EPROTO;
    x->answered_ms = clock_ms();
    if (call->kind == CALL_EXCHANGE)
        return answer_exchange(x, reply);
    if (call->kind == CALL_START)
        return answer_start(x, reply);
    if (kind == REDIS_NOSCRIPT)
        return -ESTALE;
    if (kind == REDIS_LATER || kind == REDIS_MOVED)
        return -EAGAIN;
    if (call->kind == CALL_LOOKUP)
        take_kept(call->delivery, reply);
    /* Live output that a full Redis refuses is only not live. */
    free(pop(x).piece);
    return 0;
}

void calls_disown(struct exchange *x, const struct delivery *d)
{
    for (int i = 0; i < x->call_count; i++) {
        struct call *call = &x->calls[(x->call_at + i) % EXCHANGE_CALLS_MAX];

        if (call->delivery == d)
            *call = (struct call){.kind = CALL_VOID};
    }
}

void calls_forget(struct exchange *x)
{
    while (x->call_count > 0) {
        struct call call = pop(x);

        free(call.piece);
        /* A delivery whose start mark was under way is in no other list. */
        if (call.kind == CALL_START && call.delivery->must_start &&
            !call.delivery->started) {
            x->slots--;
            jobs_forget(x, call.delivery);
        }
    }
    if (x->exchanging) {
        for (int i = 0; i < x->request.nfinishes; i++)
            jobs_forget(x, x->finishing[i]);
        x->exchanging = false;
    }
}
