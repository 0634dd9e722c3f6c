/* Producers' side: enqueue, batches, the audit. protocol_cancel.c,
 * protocol_events.c and protocol_dead.c have the rest. */
#include <errno.h>

#include "common/protocol_call.h"

static void enqueue_words(struct words *w, const struct protocol *p,
                          const struct enqueue *e, bool by_text)
{
    words_script(w, p, SCRIPT_ENQUEUE, by_text);
    words_key(w, p, "queue", e->queue);
    words_key(w, p, "job", e->job_id);
    words_key(w, p, "delayed", NULL);
    words_key(w, p, "stats", NULL);
    words_key(w, p, "cx", NULL);
    words_key(w, p, "events", e->job_id);
    words_key(w, p, "batch", e->batch_id ? e->batch_id : "");
    words_keys_end(w);
    words_adds(w, e->queue);
    words_adds(w, e->job_id);
    words_add(w, e->body, e->body_len);
    words_addi(w, e->delay_ms);
    words_addi(w, e->queue_max);
    words_adds(w, e->nonce);
    words_addf(w, "%s%s", e->stream ? "e" : "",
               e->batch_id && e->batch_grows ? "b" : "");
    words_adds(w, e->batch_id ? e->batch_tenant : "");
    words_addi(w, p->result_ttl_s * 1000);
    for (int i = 0; i < e->nfields; i++) {
        words_adds(w, e->names[i]);
        words_adds(w, e->values[i]);
    }
    if (e->batch_id) {
        words_adds(w, "batch_id");
        words_adds(w, e->batch_id);
    }
}

int protocol_enqueue(const struct protocol *p, struct redis *r,
                     int64_t deadline_ms, const struct enqueue *e,
                     enum enqueue_answer *answer_out)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    enqueue_words(&w, p, e, false);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    return protocol_enqueue_parse(reply, answer_out);
}

int protocol_enqueue_append(const struct protocol *p, struct redis *r,
                            const struct enqueue *e, bool by_text)
{
    AUTO_WORDS struct words w = {0};

    enqueue_words(&w, p, e, by_text);
    return words_append(&w, r);
}

int protocol_enqueue_parse(redisReply *reply, enum enqueue_answer *answer_out)
{
    int rc = reply_failure(reply);

    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0 ||
        reply->integer > ENQUEUE_NOT_THEIRS)
        return -EPROTO;
    *answer_out = (enum enqueue_answer)reply->integer;
    return 0;
}

int protocol_batch_create(const struct protocol *p, struct redis *r,
                          int64_t deadline_ms, const char *batch_id,
                          int64_t total)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_BATCH, false);
    words_key(&w, p, "batch", batch_id);
    words_keys_end(&w);
    words_addi(&w, total);
    words_addi(&w, p->result_ttl_s * 1000);
    return words_call(&w, p, r, deadline_ms, &reply);
}

int protocol_audit(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, const struct queue_share *queues,
                   int nqueues, struct audit *audit_out)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_AUDIT, false);
    words_key(&w, p, "stats", NULL);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    for (int i = 0; i < nqueues; i++)
        words_adds(&w, queues[i].name);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 10))
        return -EPROTO;
    *audit_out = (struct audit){
        .queued = reply_int(reply, 0),
        .delayed = reply_int(reply, 1),
        .running = reply_int(reply, 2),
        .private_ = reply_int(reply, 3),
        .terminal = reply_int(reply, 4),
        .duplicates = reply_int(reply, 5),
        .claims = reply_int(reply, 6),
        .given_back = reply_int(reply, 7),
        .enqueued = reply_int(reply, 8),
        .settled = reply_int(reply, 9),
    };
    int64_t waiting =
        audit_out->queued + audit_out->private_ + audit_out->delayed;
    audit_out->accepted = waiting + audit_out->claims + audit_out->settled -
                          audit_out->given_back;
    audit_out->balanced = audit_out->accepted == waiting + audit_out->running +
                                                     audit_out->terminal +
                                                     audit_out->duplicates;
    return 0;
}
