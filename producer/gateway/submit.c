#include "producer/gateway/submit.h"

#include <errno.h>
#include <stdio.h>

#define FIELDS_MAX 5

static int fields_of(const struct submission *s, const char *names[FIELDS_MAX],
                     const char *values[FIELDS_MAX])
{
    const struct job *job = s->job->job;
    const char *tenant = s->tenant ? s->tenant : job->tenant;
    int n = 0;

    if (tenant) {
        names[n] = "tenant";
        values[n++] = tenant;
    }
    if (job->language != LANGUAGE_NONE) {
        names[n] = "language";
        values[n++] = language_name(job->language);
    }
    if (job->task_type) {
        names[n] = "task_type";
        values[n++] = job->task_type;
    }
    /* For whoever looks at the job later: the entry is gone by then. */
    if (job->code_bytes <= JOB_CODE_KEPT_MAX) {
        names[n] = "code";
        values[n++] = job->code;
    }
    return n;
}

static int send_call(struct submission *s);

static void answered(void *ctx, int rc, redisReply **reply)
{
    struct submission *s = ctx;
    enum enqueue_answer answer = ENQUEUE_FULL;

    if (rc == 0)
        rc = protocol_enqueue_parse(*reply, &answer);
    if (rc == -ESTALE && !s->by_text) {
        s->by_text = true;
        rc = send_call(s);
        if (rc == 0)
            return;
    }
    s->done(s, rc, answer);
}

static int send_call(struct submission *s)
{
    struct redis *redis = link_redis(&s->gateway->link);
    const char *names[FIELDS_MAX], *values[FIELDS_MAX];
    struct enqueue e = {
        .queue = s->job->queue,
        .job_id = s->job->job->id,
        .body = s->job->text.text,
        .body_len = s->job->text.len,
        .batch_id = s->job->job->batch_id,
        .batch_tenant = s->tenant,
        .batch_grows = !s->counted,
        .names = names,
        .values = values,
        .nfields = fields_of(s, names, values),
        .queue_max = s->gateway->settings->api_queue_max,
        .nonce = s->nonce,
        .stream = s->job->job->stream,
    };
    int rc;

    if (!redis)
        return -ENOTCONN;
    rc = protocol_enqueue_append(&s->gateway->protocol, redis, &e, s->by_text);
    if (rc == 0)
        link_expect(&s->gateway->link, answered, s);
    return rc;
}

int submit_send(struct submission *s)
{
    struct gateway *g = s->gateway;

    /* Made once for this process, and a number that no other gets. */
    if (!g->nonce_base[0]) {
        int rc = protocol_make_job_id(g->nonce_base);

        if (rc < 0)
            return rc;
    }
    snprintf(s->nonce, sizeof(s->nonce), "%.40s.%llx", g->nonce_base,
             (unsigned long long)g->nonces++);
    s->by_text = false;
    return send_call(s);
}
