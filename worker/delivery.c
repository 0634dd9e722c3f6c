#include "worker/delivery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/result.h"

struct delivery *delivery_create(struct claim *claim, const char *wid,
                                 uint64_t generation, const char *queue)
{
    struct delivery *d = calloc(1, sizeof(*d));
    size_t body;

    if (!d)
        return NULL;
    snprintf(d->wid, sizeof(d->wid), "%s", wid);
    d->generation = generation;
    d->number = claim->number;
    d->queue = queue;
    d->entry = claim->entry;
    d->entry_len = claim->entry_len;
    claim->entry = NULL;
    body = envelope_parse(d->entry, d->entry_len, &d->envelope);
    d->body = d->entry + body;
    d->body_len = d->entry_len - body;
    d->claimed_us = clock_us();
    d->claimed_unix = clock_unix_s();
    return d;
}

void delivery_destroy(struct delivery *d)
{
    if (!d)
        return;
    job_destroy(d->job);
    template_set_unref(d->templates);
    strbuf_fini(&d->text);
    strbuf_fini(&d->dead);
    strbuf_fini(&d->new_entry);
    free(d->kept);
    free(d->entry);
    free(d);
}

static void make_id(char out[JOB_ID_MAX + 1], const struct delivery *d)
{
    snprintf(out, JOB_ID_MAX + 1, "%s.%lld", d->wid, (long long)d->number);
}

/* The id is stable over redeliveries: the job's own, else the enqueuer's, else
 * the first claim's token (which whoever gives the entry back writes into its
 * envelope). */
static void choose_id(struct delivery *d, const char *own)
{
    if (own[0])
        snprintf(d->job_id, sizeof(d->job_id), "%s", own);
    else if (d->envelope.id[0])
        snprintf(d->job_id, sizeof(d->job_id), "%s", d->envelope.id);
    else
        make_id(d->job_id, d);
    d->must_start = own[0] || d->envelope.id[0] || d->envelope.parent[0];
}

int delivery_attempts_used(const struct delivery *d)
{
    int lost = d->envelope.suspicions > 1 ? d->envelope.suspicions - 1 : 0;

    return d->envelope.attempts + lost;
}

bool delivery_expired(const struct delivery *d)
{
    double since = d->envelope.enqueued_ms
                       ? (double)d->envelope.enqueued_ms / 1000.0
                       : d->claimed_unix;
    double held = (double)(clock_us() - d->claimed_us) / 1e6;

    return d->job->expires_in_s > 0 &&
           d->claimed_unix + held > since + d->job->expires_in_s;
}

/* What can be said without running it. */
static enum verdict decide_early(const struct delivery *d)
{
    if (d->rejected)
        return VERDICT_REJECTED;
    if (delivery_attempts_used(d) >= d->job->max_attempts ||
        d->envelope.deliveries >= DELIVERIES_MAX)
        return VERDICT_LOST;
    if (delivery_expired(d))
        return VERDICT_EXPIRED;
    return VERDICT_NONE;
}

/* It runs all the same, as the contract says; but it may be a slip. */
static void note_task_type(struct delivery *d)
{
    char known[384], shown[JSON_SHOW_MAX];

    if (d->job->task_type && !d->job->template_id &&
        template_list_task_types(d->templates, d->job->task_type, known,
                                 sizeof(known)))
        job_warn(d->job,
                 "task_type %s is unknown, so template %s was used; known are "
                 "%s",
                 json_show_text(d->job->task_type, shown), d->spec.tpl->id,
                 known);
}

/* The job and what it gets. own_id: as job_parse() tells it. */
static int read_job(struct delivery *d, struct template_set *templates,
                    const struct settings *settings, char *own_id)
{
    int rc = job_parse(d->body, d->body_len, &d->job, own_id, &d->why);

    if (rc == 0 && !d->envelope.id[0])
        rc = job_check_bare(d->body_len, &d->why);
    if (rc < 0)
        return rc;
    d->templates = template_set_ref(templates);
    snprintf(own_id, JOB_ID_MAX + 1, "%s", d->job->id);
    rc = spec_resolve(templates, settings, d->job, &d->spec, &d->why);
    if (rc == 0)
        note_task_type(d);
    return rc;
}

int delivery_check(struct delivery *d, struct template_set *templates,
                   const struct settings *settings)
{
    char own_id[JOB_ID_MAX + 1] = "";
    int rc = read_job(d, templates, settings, own_id);

    if (rc == -ENOMEM)
        return rc;
    d->rejected = rc < 0;
    d->streams = d->job && d->job->stream;
    if (!d->job) { /* its batch and its readers wait all the same */
        char ignored[JOB_ID_MAX + 1];

        job_glean(d->body, d->body_len, ignored, d->batch, &d->streams);
    }
    choose_id(d, own_id);
    if (d->job) /* a backend tells jobs apart by it */
        snprintf(d->job->id, sizeof(d->job->id), "%s", d->job_id);
    d->early = decide_early(d);
    d->suspect = d->envelope.suspicions > 0 && d->early == VERDICT_NONE;
    d->must_start |= d->suspect || d->streams;
    if (d->early == VERDICT_NONE && d->job->cache) {
        rc = cache_key(d->job, &d->spec, d->cache_key);
        if (rc < 0)
            return rc;
        d->must_start = true; /* the answer comes before that of the start */
    }
    d->stage = DELIVERY_CHECKED;
    return 0;
}

int64_t delivery_due_ms(const struct delivery *d, int64_t redis_now_ms)
{
    int64_t due = 0;

    if (!d->job || d->early != VERDICT_NONE || d->envelope.due_ms)
        return 0;
    if (d->job->delay_s > 0) {
        int64_t since =
            d->envelope.enqueued_ms ? d->envelope.enqueued_ms : redis_now_ms;

        due = since + (int64_t)(d->job->delay_s * 1000);
    } else if (d->job->run_at > 0) {
        due = (int64_t)(d->job->run_at * 1000);
    }
    return due > redis_now_ms ? due : 0;
}

/* ---- finishing --------------------------------------------------------- */

static const char *batch_of(const struct delivery *d)
{
    if (d->job)
        return d->job->batch_id;
    return d->batch[0] ? d->batch : NULL;
}

static void begin_finish(struct delivery *d, enum finish_kind kind)
{
    d->finish = (struct finish){
        .kind = kind,
        .number = d->number,
        .queue = d->queue,
        .job_id = d->job_id,
        .events = d->streams,
    };
    d->stage = DELIVERY_FINISHED;
}

/* Values lie in d->text one after the other; while it still grows a value is
 * kept as its offset. */
struct field_list {
    struct delivery *d;
    size_t starts[DELIVERY_FIELDS_MAX];
    int count;
};

static void field_begin(struct field_list *fields, const char *name)
{
    fields->d->names[fields->count] = name;
    fields->starts[fields->count] = fields->d->text.len;
    fields->count++;
}

static void field_text(struct field_list *fields, const char *name,
                       const char *value)
{
    if (!value || !value[0])
        return;
    field_begin(fields, name);
    strbuf_adds(&fields->d->text, value);
}

static void field_time(struct field_list *fields, const char *name,
                       double seconds)
{
    int64_t us = (int64_t)(seconds * 1e6 + 0.5);
    char text[32], *at = text + sizeof(text);
    int digits = 0;

    /* By hand: printf's %f is a tenth of the whole cost of a trivial job. */
    do {
        *--at = (char)('0' + us % 10);
        us /= 10;
        if (++digits == 6)
            *--at = '.';
    } while (us > 0 || digits < 7);
    field_begin(fields, name);
    strbuf_add(&fields->d->text, at, (size_t)(text + sizeof(text) - at));
}

static int fields_done(struct field_list *fields)
{
    struct delivery *d = fields->d;

    if (d->text.failed)
        return -ENOMEM;
    for (int i = 0; i < fields->count; i++) {
        size_t end =
            i + 1 < fields->count ? fields->starts[i + 1] : d->text.len;

        d->values[i] = d->text.text + fields->starts[i];
        d->lens[i] = end - fields->starts[i];
    }
    d->finish.names = d->names;
    d->finish.values = d->values;
    d->finish.value_lens = d->lens;
    d->finish.nfields = fields->count;
    return 0;
}

/* What a dead entry keeps of a text that is larger than any job may be. */
static size_t kept_bytes(const struct delivery *d)
{
    return d->body_len < JOB_TEXT_BYTES_MAX ? d->body_len : JOB_TEXT_BYTES_MAX;
}

/* One line of JSON about it, then the job as it came, byte for byte. */
static void make_dead_entry(struct delivery *d, const struct outcome *o,
                            double now)
{
    strbuf_adds(&d->dead, "{\"job_id\":");
    strbuf_add_json(&d->dead, d->job_id, strlen(d->job_id));
    strbuf_addf(&d->dead,
                ",\"verdict\":\"%s\",\"queue\":", verdict_name(o->verdict));
    strbuf_add_json(&d->dead, d->queue, strlen(d->queue));
    strbuf_adds(&d->dead, ",\"error\":");
    strbuf_add_json(&d->dead, o->error ? o->error : "",
                    o->error ? strlen(o->error) : 0);
    strbuf_addf(&d->dead,
                ",\"attempts\":%d,\"deliveries\":%d,\"worker\":\"%s\","
                "\"at\":%.3f,\"bytes\":%zu,\"kept\":%zu}\n",
                delivery_attempts_used(d) + (d->took_us > 0),
                d->envelope.deliveries + 1, d->wid, now, d->body_len,
                kept_bytes(d));
    strbuf_add(&d->dead, d->body, kept_bytes(d));
    d->finish.dead_entry = d->dead.text;
    d->finish.dead_entry_len = d->dead.len;
}

static double enqueued_at(const struct delivery *d)
{
    return d->envelope.enqueued_ms ? (double)d->envelope.enqueued_ms / 1000.0
                                   : d->claimed_unix;
}

static struct result_context result_context_of(const struct delivery *d,
                                               const struct outcome *o,
                                               const char *backend)
{
    double waited = d->claimed_unix - enqueued_at(d);
    double processing = (double)(clock_us() - d->claimed_us) / 1e6;

    return (struct result_context){
        .job_id = d->job_id,
        .backend = backend,
        .worker = d->wid,
        .attempt = delivery_attempts_used(d) + 1,
        .enqueued_at = enqueued_at(d),
        .started_at = d->claimed_unix,
        .finished_at = d->claimed_unix + processing,
        .execution_time = processing - o->timings.collect - o->timings.destroy,
        .processing_time = processing,
        .queue_time = waited > 0 ? waited : 0,
    };
}

static int add_fields(struct delivery *d, struct outcome *o,
                      const struct result_context *context)
{
    struct field_list fields = {.d = d};
    const struct spec *spec = d->job && !d->rejected ? &d->spec : NULL;
    char attempt[12];
    int rc;

    snprintf(attempt, sizeof(attempt), "%d", context->attempt);
    field_text(&fields, "status", verdict_status(o->verdict));
    field_text(&fields, "verdict", verdict_name(o->verdict));
    field_text(&fields, "success", o->verdict == VERDICT_OK ? "1" : "0");
    field_text(&fields, "template_used", spec ? spec->template_used : NULL);
    field_text(&fields, "task_type", d->job ? d->job->task_type : NULL);
    field_text(&fields, "language",
               spec ? language_name(spec->language) : NULL);
    field_text(&fields, "backend", context->backend);
    field_text(&fields, "sandbox_id", o->sandbox_id);
    field_text(&fields, "worker", d->wid);
    field_text(&fields, "attempt", attempt);
    field_time(&fields, "enqueued_at", context->enqueued_at);
    field_time(&fields, "started_at", context->started_at);
    field_time(&fields, "finished_at", context->finished_at);
    field_time(&fields, "execution_time", context->execution_time);
    field_text(&fields, "error", o->error);
    field_text(&fields, "batch_id", batch_of(d));
    field_text(&fields, "tenant", d->job ? d->job->tenant : NULL);
    field_begin(&fields, "result");
    rc = d->kept ? cache_retell(d->kept, d->kept_len, context, d->job, &d->text)
                 : result_encode(context, d->job, spec, o, &d->text);
    if (rc < 0)
        return rc;
    return fields_done(&fields);
}

int delivery_end(struct delivery *d, struct outcome *o, const char *backend)
{
    struct result_context context;
    int rc;

    o->timings.queue = d->claimed_unix - enqueued_at(d);
    if (o->timings.queue < 0)
        o->timings.queue = 0;
    context = result_context_of(d, o, backend);
    begin_finish(d, FINISH_END);
    strbuf_clear(&d->text);
    strbuf_clear(&d->dead);
    rc = add_fields(d, o, &context);
    if (rc < 0)
        return rc;
    d->finish.verdict = o->verdict;
    d->finish.code_started = o->code_started;
    d->finish.success = o->verdict == VERDICT_OK;
    d->finish.sandbox_created = o->sandbox_created;
    d->finish.sandbox_destroyed = o->sandbox_destroyed;
    d->finish.execution_time = context.execution_time;
    if (d->job && !d->rejected) {
        d->finish.template_id = d->spec.template_used;
        d->finish.language = language_name(d->spec.language);
    }
    d->finish.batch_id = batch_of(d);
    if (o->verdict == VERDICT_REJECTED || verdict_retryable(o->verdict) ||
        o->verdict == VERDICT_LOST)
        make_dead_entry(d, o, context.finished_at);
    return d->dead.failed ? -ENOMEM : 0;
}

static void explain_early(const struct delivery *d, struct outcome *o)
{
    char text[sizeof(d->why) + 4];

    if (d->early == VERDICT_REJECTED) {
        complaint_print(&d->why, text, sizeof(text));
        outcome_error(o, "%s", text);
    } else if (d->early == VERDICT_EXPIRED) {
        outcome_error(o, "expires_in: not started within %g s",
                      d->job->expires_in_s);
    } else if (d->early == VERDICT_CANCELLED) {
        outcome_error(o, "cancelled before it started");
    } else {
        outcome_error(o,
                      "lost: given up after %d deliveries, %d of %d attempts",
                      d->envelope.deliveries + 1, delivery_attempts_used(d),
                      d->job->max_attempts);
    }
}

int delivery_end_early(struct delivery *d, const char *backend)
{
    struct outcome o;
    int rc = outcome_init(&o, 0);

    free(d->kept); /* it is not what was found in the cache, either */
    d->kept = NULL;
    if (rc == 0) {
        o.verdict = d->early;
        explain_early(d, &o);
        rc = delivery_end(d, &o, backend);
    }
    outcome_fini(&o);
    return rc;
}

int delivery_end_cached(struct delivery *d, const char *backend)
{
    struct outcome o;
    int rc = outcome_init(&o, 0);

    if (rc == 0) {
        o.verdict = VERDICT_OK;
        rc = delivery_end(d, &o, backend);
        d->finish.cached = true;
    }
    outcome_fini(&o);
    return rc;
}

/* The entry as it goes back: the same job, its heir's mark, its books. */
static int make_entry(struct delivery *d, const struct envelope *e)
{
    struct envelope next = *e;

    /* The hash is inherited from whoever wrote it last. */
    if (d->started)
        protocol_token(next.parent, d->wid, d->number);
    if (!next.id[0])
        make_id(next.id, d);
    if (!next.enqueued_ms)
        next.enqueued_ms = (int64_t)(d->claimed_unix * 1000);
    strbuf_clear(&d->new_entry);
    envelope_print(&next, &d->new_entry);
    strbuf_add(&d->new_entry, d->body, d->body_len);
    if (d->new_entry.failed)
        return -ENOMEM;
    d->finish.entry = d->new_entry.text;
    d->finish.entry_len = d->new_entry.len;
    return 0;
}

int delivery_retry(struct delivery *d, const struct outcome *o,
                   int64_t redis_now_ms, int64_t delay_ms)
{
    struct envelope e = d->envelope;

    begin_finish(d, FINISH_RETRY);
    e.attempts++;
    e.deliveries++;
    d->finish.sandbox_created = o->sandbox_created;
    d->finish.sandbox_destroyed = o->sandbox_destroyed;
    d->finish.due_ms = redis_now_ms + delay_ms;
    return make_entry(d, &e);
}

/* What a hash says that an enqueue did not write. */
static int add_waiting_fields(struct delivery *d)
{
    struct field_list fields = {.d = d};

    strbuf_clear(&d->text);
    field_text(&fields, "queue", d->queue);
    field_time(&fields, "enqueued_at", enqueued_at(d));
    field_text(&fields, "task_type", d->job->task_type);
    field_text(&fields, "language", language_name(d->spec.language));
    field_text(&fields, "batch_id", d->job->batch_id);
    field_text(&fields, "tenant", d->job->tenant);
    return fields_done(&fields);
}

int delivery_delay(struct delivery *d, int64_t due_ms)
{
    struct envelope e = d->envelope;
    int rc;

    begin_finish(d, FINISH_DELAY);
    e.due_ms = due_ms;
    d->finish.due_ms = due_ms;
    if (!d->started) {
        if (!e.parent[0])
            protocol_token(e.parent, d->wid, d->number);
        strcpy(d->parent, e.parent);
        d->finish.parent = d->parent;
        rc = add_waiting_fields(d);
        if (rc < 0)
            return rc;
    }
    return make_entry(d, &e);
}

int delivery_release(struct delivery *d)
{
    begin_finish(d, FINISH_RELEASE);
    return make_entry(d, &d->envelope);
}

void delivery_duplicate(struct delivery *d)
{
    begin_finish(d, FINISH_DUPLICATE);
}
