#include "producer/gateway/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "common/job.h"
#include "producer/fleet.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/stats.h"

static void head(struct strbuf *t, const char *name, const char *type,
                 const char *help)
{
    strbuf_addf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* As the text format has it: backslash, quote and newline escaped. */
static void add_label(struct strbuf *t, const char *value)
{
    strbuf_addc(t, '"');
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            strbuf_addc(t, '\\');
        if (*value == '\n')
            strbuf_adds(t, "\\n");
        else
            strbuf_addc(t, *value);
    }
    strbuf_addc(t, '"');
}

static void sample(struct strbuf *t, const char *name, const char *label,
                   const char *value, double number)
{
    strbuf_adds(t, name);
    if (label) {
        strbuf_addf(t, "{%s=", label);
        add_label(t, value);
        strbuf_addc(t, '}');
    }
    strbuf_addf(t, " %.15g\n", number);
}

static void single(struct strbuf *t, const char *name, const char *type,
                   const char *help, double number)
{
    head(t, name, type, help);
    sample(t, name, NULL, NULL, number);
}

/* ---- counters of P:stats ------------------------------------------------ */

static const struct {
    const char *field, *name, *help;
} counters[] = {
    {"total_executions", "capibox_executions_total",
     "Jobs whose code was started."},
    {"total_execution_time", "capibox_execution_seconds_total",
     "Time jobs took from being taken to the end of their run."},
    {"sandbox_created", "capibox_sandboxes_created_total", "Sandboxes made."},
    {"sandbox_destroyed", "capibox_sandboxes_destroyed_total",
     "Sandboxes removed."},
    {"retries", "capibox_retries_total",
     "Tries given back after failures of capibox."},
    {"dead", "capibox_dead_jobs_total", "Jobs that used up their attempts."},
    {"rejected", "capibox_rejected_jobs_total", "Jobs that were no good."},
    {"cache_hits", "capibox_cache_hits_total",
     "Results taken from an identical job."},
    {"duplicates", "capibox_duplicates_total",
     "Jobs not run because their id was taken."},
    {"recovered", "capibox_recovered_total",
     "Claims given back for workers that died."},
    {"late", "capibox_late_results_total",
     "Results refused because the claim was lost."},
    {"accepted", "capibox_accepted_total", "Jobs submitted through capibox."},
};

static void add_counters(struct strbuf *t, const redisReply *all)
{
    for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++)
        single(t, counters[i].name, "counter", counters[i].help,
               view_number(all, counters[i].field));
    head(t, "capibox_jobs_ended_total", "counter", "Jobs by their verdict.");
    for (size_t i = 0; all && i + 1 < all->elements; i += 2)
        if (!strncmp(all->element[i]->str, "verdict:", 8))
            sample(t, "capibox_jobs_ended_total", "verdict",
                   all->element[i]->str + 8,
                   strtod(all->element[i + 1]->str, NULL));
}

/* ---- histograms --------------------------------------------------------- */

/* Buckets of a hash, whose fields begin with prefix, as a histogram with the
 * labels (`a="b"`, or ""). */
static void add_histogram(struct strbuf *t, const char *name,
                          const char *labels, const redisReply *hash,
                          const char *prefix, double sum)
{
    const char *comma = *labels ? "," : "";
    double seen = 0;

    for (int i = 0; i < VIEW_BUCKETS; i++) {
        const char *bound = view_buckets[i];
        char field[64];

        snprintf(field, sizeof(field), "%sbucket:%s", prefix, bound);
        seen += view_number(hash, field);
        strbuf_addf(t, "%s_bucket{%s%sle=\"%s\"} %.15g\n", name, labels, comma,
                    strcmp(bound, "inf") ? bound : "+Inf", seen);
    }
    strbuf_addf(t, *labels ? "%s_sum{%s} %.15g\n" : "%s_sum%s %.15g\n", name,
                labels, sum);
    strbuf_addf(t, *labels ? "%s_count{%s} %.15g\n" : "%s_count%s %.15g\n",
                name, labels, seen);
}

static void add_template_histograms(struct strbuf *t, const struct view *v)
{
    static const char NAME[] = "capibox_template_execution_duration_seconds";

    head(t, NAME, "histogram", "Execution time of jobs by template.");
    for (size_t i = 0; i < v->ntemplates; i++) {
        const redisReply *hash = v->templates[i].hash;
        char labels[JOB_NAME_MAX + 32];

        if (!hash || hash->elements == 0)
            continue;
        snprintf(labels, sizeof(labels), "template=\"%s\"", v->templates[i].id);
        add_histogram(t, NAME, labels, hash, "",
                      view_number(hash, "total_execution_time"));
    }
}

static void add_templates(struct strbuf *t, const struct view *v)
{
    head(t, "capibox_template_executions_total", "counter",
         "Jobs whose code was started, by template and outcome.");
    for (size_t i = 0; i < v->ntemplates; i++) {
        const redisReply *hash = v->templates[i].hash;

        if (!hash || hash->elements == 0)
            continue;
        strbuf_addf(t,
                    "capibox_template_executions_total{template=\"%s\","
                    "status=\"success\"} %.15g\n"
                    "capibox_template_executions_total{template=\"%s\","
                    "status=\"error\"} %.15g\n",
                    v->templates[i].id,
                    view_number(hash, "successful_executions"),
                    v->templates[i].id, view_number(hash, "failed_executions"));
    }
    add_template_histograms(t, v);
}

/* ---- what capibara6 asks for -------------------------------------------- */

static double language_number(const redisReply *all, enum language language,
                              const char *field)
{
    char name[64];

    snprintf(name, sizeof(name), "language:%s:%s", language_name(language),
             field);
    return view_number(all, name);
}

static void add_executions(struct strbuf *t, const redisReply *all)
{
    static const char NAME[] = "capibara6_e2b_executions_total";

    head(t, NAME, "counter", "Executions by language and status.");
    for (enum language l = LANGUAGE_PYTHON; l < LANGUAGE_COUNT; l++)
        strbuf_addf(t,
                    "%s{language=\"%s\",status=\"success\"} %.15g\n"
                    "%s{language=\"%s\",status=\"error\"} %.15g\n",
                    NAME, language_name(l),
                    language_number(all, l, "successful_executions"), NAME,
                    language_name(l),
                    language_number(all, l, "failed_executions"));
}

static void add_durations(struct strbuf *t, const redisReply *all)
{
    static const char NAME[] = "capibara6_e2b_execution_duration_seconds";

    head(t, NAME, "histogram", "Execution time in seconds by language.");
    for (enum language l = LANGUAGE_PYTHON; l < LANGUAGE_COUNT; l++) {
        char labels[64], prefix[64];

        snprintf(labels, sizeof(labels), "language=\"%s\"", language_name(l));
        snprintf(prefix, sizeof(prefix), "language:%s:", language_name(l));
        add_histogram(t, NAME, labels, all, prefix,
                      language_number(all, l, "total_execution_time"));
    }
}

/* Jobs that have been running for a moment: a shorter one has no mark. */
static double running(const struct view *v, const char *language)
{
    double n = 0;

    for (int i = 0; i < v->nruns; i++) {
        const redisReply *job = v->runs[i].job;

        if (job && job->type == REDIS_REPLY_ARRAY && job->elements > 0 &&
            job->element[VIEW_RUN_LANGUAGE]->type == REDIS_REPLY_STRING &&
            !strcmp(job->element[VIEW_RUN_LANGUAGE]->str, language))
            n++;
    }
    return n;
}

static void add_sandboxes(struct strbuf *t, const struct view *v)
{
    static const char NAME[] = "capibara6_e2b_sandbox_count";

    head(t, NAME, "gauge", "Sandboxes at work by language.");
    for (enum language l = LANGUAGE_PYTHON; l < LANGUAGE_COUNT; l++)
        sample(t, NAME, "language", language_name(l),
               running(v, language_name(l)));
}

/* ---- queues, workers, ourselves ----------------------------------------- */

static double integer(const redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_INTEGER ? (double)reply->integer
                                                       : 0;
}

static void add_queues(struct strbuf *t, const struct view *v)
{
    head(t, "capibox_queue_depth", "gauge", "Jobs that wait in a queue.");
    for (int i = 0; i < v->nqueues; i++)
        sample(t, "capibox_queue_depth", "queue", v->queues[i].name,
               integer(v->queues[i].depth));
    head(t, "capibox_queue_oldest_age_seconds", "gauge",
         "How long the next job of a queue has waited, where it is known.");
    for (int i = 0; i < v->nqueues; i++)
        if (stats_oldest(v, &v->queues[i]) >= 0)
            sample(t, "capibox_queue_oldest_age_seconds", "queue",
                   v->queues[i].name, stats_oldest(v, &v->queues[i]));
    single(t, "capibox_delayed_jobs", "gauge", "Jobs whose time has not come.",
           integer(v->delayed));
    single(t, "capibox_dead_list_jobs", "gauge", "Jobs in the dead list.",
           integer(v->dead));
}

static void add_workers(struct strbuf *t, const struct view *v)
{
    double active, most, alive = 0;

    stats_sandboxes(v, &active, &most);
    for (int i = 0; i < v->nworkers; i++)
        alive += v->workers[i].lease_until > v->now;
    single(t, "capibox_workers", "gauge", "Workers whose lease holds.", alive);
    single(t, "capibox_sandboxes_active", "gauge", "Sandboxes at work.",
           active);
    single(t, "capibox_sandboxes_max", "gauge",
           "Sandboxes all workers may have at a time.", most);
    head(t, "capibox_worker_active", "gauge", "Sandboxes at work by worker.");
    for (int i = 0; i < v->nworkers; i++)
        sample(t, "capibox_worker_active", "worker", v->workers[i].id,
               view_number(v->workers[i].card, "active"));
}

static void add_gateway(struct strbuf *t, const struct gateway *g)
{
    static const char NAME[] = "capibox_gateway_responses_total";

    head(t, NAME, "counter", "Answers of this gateway by class of status.");
    for (int i = 1; i < 6; i++)
        strbuf_addf(t, "%s{class=\"%dxx\"} %lld\n", NAME, i,
                    (long long)g->requests[i]);
    single(t, "capibox_gateway_connections", "gauge",
           "Connections that are open.", (double)g->peers.count);
    single(t, "capibox_gateway_waiting", "gauge", "Requests that wait.",
           (double)g->asleep);
    single(t, "capibox_gateway_streams", "gauge", "Event streams open.",
           g->streams);
    head(t, "capibox_build_info", "gauge", "The version, as a label.");
    sample(t, "capibox_build_info", "version", CAPIBOX_VERSION, 1);
}

void metrics_print(struct strbuf *text, const struct request *r,
                   struct view *view)
{
    add_executions(text, view->stats);
    add_durations(text, view->stats);
    add_sandboxes(text, view);
    add_counters(text, view->stats);
    head(text, "capibox_execution_duration_seconds", "histogram",
         "Execution time of all jobs.");
    add_histogram(text, "capibox_execution_duration_seconds", "", view->stats,
                  "", view_number(view->stats, "total_execution_time"));
    add_templates(text, view);
    add_queues(text, view);
    add_workers(text, view);
    add_gateway(text, r->gateway);
}

void metrics_get(struct request *r)
{
    stats_answer_view(r, 1, "text/plain; version=0.0.4; charset=utf-8",
                      metrics_print);
}
