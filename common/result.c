/* common/result.c -- the result of contract section 4 as JSON.
 *
 * On the hot path of every job: no tree, no printf, one growth of the buffer
 * for most results.
 */
#include "common/result.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"

/* A result without output, pictures and files stays below this. */
#define RESULT_ROOM 2048

#define add_key(sb, name) json_add_lit(sb, ",\"" name "\":")

static void add_seconds(struct strbuf *sb, double seconds)
{
    json_add_fixed(sb, seconds, 6);
}

static void add_or_null(struct strbuf *sb, bool there, int64_t number)
{
    if (there)
        json_add_int(sb, number);
    else
        json_add_lit(sb, "null");
}

static void add_head(struct strbuf *sb, const struct result_context *ctx,
                     const struct job *job, const struct spec *spec,
                     const struct outcome *o)
{
    enum language language = spec  ? spec->language
                             : job ? job->language
                                   : LANGUAGE_NONE;

    json_add_lit(sb, "{\"job_id\":");
    json_add_text(sb, ctx->job_id);
    add_key(sb, "success");
    json_add_bool(sb, o->verdict == VERDICT_OK);
    add_key(sb, "status");
    json_add_text(sb, verdict_status(o->verdict));
    add_key(sb, "verdict");
    json_add_text(sb, verdict_name(o->verdict));
    add_key(sb, "backend");
    json_add_text(sb, ctx->backend);
    add_key(sb, "sandbox_id");
    json_add_text(sb, o->sandbox_id);
    add_key(sb, "template_used");
    json_add_text(sb, spec ? spec->template_used : NULL);
    add_key(sb, "task_type");
    json_add_text(sb, job ? job->task_type : NULL);
    add_key(sb, "language");
    json_add_text(sb, language_name(language));
    add_key(sb, "execution_time");
    add_seconds(sb, ctx->execution_time);
    add_key(sb, "processing_time");
    add_seconds(sb, ctx->processing_time);
    add_key(sb, "queue_time");
    add_seconds(sb, ctx->queue_time);
    add_key(sb, "code_length");
    add_or_null(sb, job, job ? (int64_t)job->code_bytes : 0);
}

static void add_output(struct strbuf *sb, struct outcome *o)
{
    add_key(sb, "logs");
    json_add_lit(sb, "{\"stdout\":");
    capture_to_json(&o->out, sb);
    add_key(sb, "stderr");
    capture_to_json(&o->err, sb);
    json_add_lit(sb, "},\"results\":[");
    strbuf_add(sb, o->results.text, o->results.len);
    json_add_lit(sb, "]");
}

static void add_error(struct strbuf *sb, const struct outcome *o)
{
    add_key(sb, "error");
    json_add_text(sb, o->error);
    add_key(sb, "error_detail");
    if (o->error_name) {
        json_add_lit(sb, "{\"name\":");
        json_add_text(sb, o->error_name);
        add_key(sb, "value");
        /* Text even when empty: an exception without a message. */
        strbuf_add_json(sb, o->error_value ? o->error_value : "",
                        o->error_value ? strlen(o->error_value) : 0);
        add_key(sb, "traceback");
        json_add_text(sb, o->error_traceback);
        json_add_lit(sb, "}");
    } else {
        json_add_lit(sb, "null");
    }
    add_key(sb, "exit_code");
    add_or_null(sb, o->exit_code >= 0, o->exit_code);
    add_key(sb, "signal");
    add_or_null(sb, o->signal > 0, o->signal);
}

static void add_usage(struct strbuf *sb, const struct usage *u)
{
    if (u->unknown) {
        json_add_lit(sb, ",\"usage\":{\"cpu_seconds\":null,"
                         "\"peak_memory_mb\":null,\"peak_processes\":null,"
                         "\"shared_memory_mb\":null,"
                         "\"context_switches\":null");
        return;
    }
    json_add_lit(sb, ",\"usage\":{\"cpu_seconds\":");
    add_seconds(sb, u->cpu_seconds);
    add_key(sb, "peak_memory_mb");
    json_add_fixed(sb, u->peak_memory_mb, 3);
    add_key(sb, "peak_processes");
    add_or_null(sb, u->peak_processes > 0, u->peak_processes);
    add_key(sb, "shared_memory_mb");
    json_add_fixed(sb, u->shared_memory_mb, 3);
    add_key(sb, "context_switches");
    json_add_int(sb, u->context_switches);
}

static void add_measures(struct strbuf *sb, const struct outcome *o)
{
    add_usage(sb, &o->usage);
    add_key(sb, "stdout_bytes");
    json_add_int(sb, (int64_t)o->out.total);
    add_key(sb, "stderr_bytes");
    json_add_int(sb, (int64_t)o->err.total);
    add_key(sb, "dropped_bytes");
    json_add_int(sb, (int64_t)(o->out.dropped + o->err.dropped));
    json_add_lit(sb, "},\"timings\":{\"queue\":");
    add_seconds(sb, o->timings.queue);
    add_key(sb, "create");
    add_seconds(sb, o->timings.create);
    add_key(sb, "run");
    add_seconds(sb, o->timings.run);
    add_key(sb, "collect");
    add_seconds(sb, o->timings.collect);
    add_key(sb, "destroy");
    add_seconds(sb, o->timings.destroy);
    json_add_lit(sb, "}");
}

static void add_mechanism(struct strbuf *sb, const char *mechanism)
{
    json_add_text(sb, mechanism[0] ? mechanism : "no: nothing was run");
}

static void add_enforced(struct strbuf *sb, const struct enforced *e)
{
    json_add_lit(sb, ",\"enforced\":{\"timeout\":");
    add_mechanism(sb, e->timeout);
    add_key(sb, "memory");
    add_mechanism(sb, e->memory);
    add_key(sb, "cpu");
    add_mechanism(sb, e->cpu);
    add_key(sb, "pids");
    add_mechanism(sb, e->pids);
    add_key(sb, "disk");
    add_mechanism(sb, e->disk);
    add_key(sb, "network");
    add_mechanism(sb, e->network);
    json_add_lit(sb, "}");
}

static void add_files(struct strbuf *sb, const struct outcome *o)
{
    json_add_lit(sb, ",\"files\":[");
    strbuf_add(sb, o->files.text, o->files.len);
    json_add_lit(sb, "]");
}

static void add_sandbox_info(struct strbuf *sb, const struct job *job,
                             const struct spec *spec, const struct outcome *o)
{
    json_add_lit(sb, ",\"sandbox_info\":{\"created_at\":");
    if (o->created_at > 0)
        json_add_time(sb, o->created_at);
    else
        json_add_lit(sb, "null");
    add_key(sb, "template_used");
    json_add_text(sb, spec ? spec->template_used : NULL);
    add_key(sb, "task_type");
    json_add_text(sb, job ? job->task_type : NULL);
    add_key(sb, "config");
    if (spec)
        spec_config_to_json(spec, sb);
    else
        json_add_lit(sb, "null");
    add_key(sb, "start");
    json_add_text(sb, o->start);
    json_add_lit(sb, "}");
}

static size_t add_list(struct strbuf *sb, char *const *texts, size_t count,
                       size_t before)
{
    for (size_t i = 0; i < count; i++) {
        if (before++ > 0)
            strbuf_addc(sb, ',');
        json_add_text(sb, texts[i]);
    }
    return before;
}

static void add_tail(struct strbuf *sb, const struct result_context *ctx,
                     const struct job *job, const struct outcome *o)
{
    size_t before = 0;

    json_add_lit(sb, ",\"warnings\":[");
    if (job)
        before = add_list(sb, job->warnings, job->nwarnings, 0);
    add_list(sb, o->warnings, o->nwarnings, before);
    json_add_lit(sb, "],\"cached\":");
    json_add_bool(sb, ctx->cached);
    add_key(sb, "attempt");
    json_add_int(sb, ctx->attempt);
    add_key(sb, "worker");
    json_add_text(sb, ctx->worker);
    add_key(sb, "metadata");
    strbuf_adds(sb, job && job->metadata ? job->metadata : "{}");
    add_key(sb, "timestamp");
    json_add_time(sb, ctx->finished_at > 0 ? ctx->finished_at : clock_unix_s());
    json_add_lit(sb, "}");
}

int result_encode(const struct result_context *ctx, const struct job *job,
                  const struct spec *spec, struct outcome *o,
                  struct strbuf *json_out)
{
    if (o->results.failed || o->files.failed)
        return -ENOMEM;
    strbuf_room(json_out, RESULT_ROOM);
    add_head(json_out, ctx, job, spec, o);
    add_output(json_out, o);
    add_error(json_out, o);
    add_measures(json_out, o);
    add_enforced(json_out, &o->enforced);
    add_files(json_out, o);
    add_sandbox_info(json_out, job, spec, o);
    add_tail(json_out, ctx, job, o);
    return json_out->failed ? -ENOMEM : 0;
}
