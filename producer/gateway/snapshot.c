#include "producer/gateway/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/job.h"
#include "common/must.h"
#include "producer/fleet.h"
#include "producer/gateway/gateway.h"

#define FETCHES_MAX 4096 /* of one stage */

const char *const view_buckets[VIEW_BUCKETS] = {
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",  "1",
    "2.5",   "5",    "10",    "30",   "60",  "300",  "1800", "inf"};

struct fetch {
    struct snapshot *snapshot;
    redisReply **into;
};

/* ---- reading hashes ------------------------------------------------------ */

double view_number(const redisReply *hash, const char *field)
{
    return strtod(fleet_field(hash, field), NULL);
}

bool view_paused(const struct view *v)
{
    return v->paused && v->paused->type == REDIS_REPLY_STRING &&
           v->paused->len > 0 && strcmp(v->paused->str, "0") != 0;
}

static double bucket_count(const redisReply *hash, int i)
{
    char field[32];

    snprintf(field, sizeof(field), "bucket:%s", view_buckets[i]);
    return view_number(hash, field);
}

double view_quantile(const redisReply *hash, double q)
{
    double counts[VIEW_BUCKETS], total = 0, seen = 0, low = 0;

    for (int i = 0; i < VIEW_BUCKETS; i++)
        total += counts[i] = bucket_count(hash, i);
    if (total <= 0)
        return -1;
    for (int i = 0; i < VIEW_BUCKETS - 1; i++) {
        double high = strtod(view_buckets[i], NULL);

        if (counts[i] > 0 && seen + counts[i] >= q * total)
            return low + (high - low) * (q * total - seen) / counts[i];
        seen += counts[i];
        low = high;
    }
    return low;
}

/* ---- fetching ------------------------------------------------------------ */

static void next_stage(struct snapshot *s);

static void fetched(void *ctx, int rc, redisReply **reply)
{
    struct fetch *f = ctx;
    struct snapshot *s = f->snapshot;

    if (rc < 0 && s->failure == 0)
        s->failure = rc;
    /* An error reply: somebody put another type under the key. It counts as
     * missing. */
    if (rc == 0 && (*reply)->type != REDIS_REPLY_ERROR) {
        *f->into = *reply;
        *reply = NULL;
    }
    if (--s->pending == 0)
        next_stage(s);
}

/* pending is one more than what is under way while a stage is being asked. */
static void ask(struct snapshot *s, redisReply **into, int argc,
                const char **argv)
{
    struct fetch *f = &s->fetches[s->pending];
    int rc;

    if (s->failure < 0 || s->pending >= FETCHES_MAX)
        return;
    *f = (struct fetch){s, into};
    rc = link_ask(&s->gateway->link, fetched, f, argc, argv);
    if (rc == 0)
        s->pending++;
    else
        s->failure = rc;
}

static void ask_key(struct snapshot *s, redisReply **into, const char *command,
                    const char *kind, const char *name)
{
    char key[KEY_MAX];
    const char *argv[] = {command,
                          protocol_key(&s->gateway->protocol, key, kind, name),
                          "0", "-1", "WITHSCORES"};

    ask(s, into, !strcmp(command, "ZRANGE") ? 5 : 2, argv);
}

static void drop(redisReply **reply)
{
    if (*reply)
        freeReplyObject(*reply);
    *reply = NULL;
}

/* ---- queues -------------------------------------------------------------- */

static struct view_queue *add_queue(struct view *v, const char *name)
{
    if (!job_name_valid(name, false))
        return NULL;
    for (int i = 0; i < v->nqueues; i++)
        if (!strcmp(v->queues[i].name, name))
            return &v->queues[i];
    if (v->nqueues == SNAPSHOT_QUEUES_MAX)
        return NULL;
    v->queues[v->nqueues] = (struct view_queue){0};
    strcpy(v->queues[v->nqueues].name, name);
    return &v->queues[v->nqueues++];
}

static void ask_queue(struct snapshot *s, struct view_queue *q)
{
    char key[KEY_MAX];
    const char *argv[] = {
        "LINDEX", protocol_key(&s->gateway->protocol, key, "queue", q->name),
        "-1"};

    ask_key(s, &q->depth, "LLEN", "queue", q->name);
    ask(s, &q->oldest, 3, argv);
}

static void note_known(struct snapshot *s, const char *name)
{
    for (int i = 0; i < s->nknown; i++)
        if (!strcmp(s->known[i], name))
            return;
    if (job_name_valid(name, false) && s->nknown < SNAPSHOT_QUEUES_MAX)
        strcpy(s->known[s->nknown++], name);
}

/* "high,default" or "high*3,default*1" of a worker's card. */
static void add_served(struct view *v, const char *names)
{
    const char *one;
    size_t len;

    while ((one = fleet_next_queue(&names, &len))) {
        char name[JOB_NAME_MAX + 1];
        struct view_queue *queue;

        snprintf(name, sizeof(name), "%.*s", (int)len, one);
        queue = add_queue(v, name);
        if (queue)
            queue->served++;
    }
}

/* ---- queues nobody serves: one SCAN call a load, so that a large Redis is
 * never made to wait ------------------------------------------------------- */

static void take_scanned(struct snapshot *s, int rc, redisReply **reply)
{
    char key[KEY_MAX];
    size_t skip = strlen(protocol_key(&s->gateway->protocol, key, "queue", ""));
    const redisReply *keys;

    if (rc < 0 || (*reply)->type != REDIS_REPLY_ARRAY ||
        (*reply)->elements != 2) {
        strcpy(s->cursor, "0");
        return;
    }
    snprintf(s->cursor, sizeof(s->cursor), "%s", (*reply)->element[0]->str);
    keys = (*reply)->element[1];
    for (size_t i = 0; i < keys->elements; i++)
        if ((size_t)keys->element[i]->len > skip)
            note_known(s, keys->element[i]->str + skip);
}

static void scanned(void *ctx, int rc, redisReply **reply)
{
    struct snapshot *s = ctx;

    take_scanned(s, rc, reply);
    if (--s->pending == 0)
        next_stage(s);
}

static void scan_on(struct snapshot *s)
{
    char key[KEY_MAX], pattern[2 * KEY_MAX];
    const char *argv[] = {"SCAN",  s->cursor, "MATCH", pattern,
                          "COUNT", "200",     "TYPE",  "list"};
    size_t n = 0;

    if (!strcmp(s->cursor, "0") && s->scanned_ms > 0 &&
        clock_ms() - s->scanned_ms < SNAPSHOT_SCAN_MS)
        return;
    if (!strcmp(s->cursor, "0"))
        s->scanned_ms = clock_ms();
    protocol_key(&s->gateway->protocol, key, "queue", "");
    for (const char *c = key; *c; c++) {
        if (strchr("*?[]\\^-", *c))
            pattern[n++] = '\\';
        pattern[n++] = *c;
    }
    strcpy(pattern + n, "*");
    if (link_ask(&s->gateway->link, scanned, s, 8, argv) == 0)
        s->pending++;
}

/* ---- the stages ---------------------------------------------------------- */

/* Moves what is kept to its place and drops what is too old. */
static void turn_minutes(struct snapshot *s, int64_t newest)
{
    struct view *v = &s->view;
    int64_t by = newest - v->minutes[0].minute;
    bool fresh = s->olds_read_ms > 0 &&
                 clock_ms() - s->olds_read_ms < SNAPSHOT_OLD_MS && by >= 0;

    for (int i = SNAPSHOT_MINUTES - 1; i >= 0; i--) {
        struct view_minute *m = &v->minutes[i];
        int64_t from = i - by;

        if (by != 0 || !fresh || i < 2)
            drop(&m->hash);
        if (by > 0 && fresh && from >= 0 && i >= 2) {
            m->hash = v->minutes[from].hash;
            v->minutes[from].hash = NULL;
        }
        m->minute = newest - i;
    }
    if (!fresh)
        s->olds_read_ms = clock_ms();
}

static void ask_minutes(struct snapshot *s)
{
    /* By our clock: the view's own comes with its answers. */
    turn_minutes(s, (int64_t)clock_unix_s() / 60);
    for (int i = 0; i < SNAPSHOT_MINUTES; i++) {
        struct view_minute *m = &s->view.minutes[i];
        char name[32];

        if (m->hash)
            continue;
        snprintf(name, sizeof(name), "%lld", (long long)m->minute);
        ask_key(s, &m->hash, "HGETALL", "stats:minute", name);
    }
}

static void ask_first(struct snapshot *s)
{
    struct view *v = &s->view;
    const struct settings *set = s->gateway->settings;
    const char *time[] = {"TIME"};
    char key[KEY_MAX];
    const char *paused[] = {
        "HGET", protocol_key(&s->gateway->protocol, key, "conf", NULL),
        "paused"};

    ask(s, &v->time, 1, time);
    ask(s, &v->paused, 3, paused);
    ask_key(s, &v->stats, "HGETALL", "stats", NULL);
    ask_key(s, &v->leases, "ZRANGE", "wk", NULL);
    ask_key(s, &v->delayed, "ZCARD", "delayed", NULL);
    ask_key(s, &v->dead, "LLEN", "dead", NULL);
    for (size_t i = 0; i < v->ntemplates; i++)
        ask_key(s, &v->templates[i].hash, "HGETALL", "stats:template",
                v->templates[i].id);
    ask_minutes(s);
    for (int i = 0; i < set->nqueues; i++)
        add_queue(v, set->queues[i].name);
    for (int i = 0; i < s->nknown; i++)
        add_queue(v, s->known[i]);
    for (int i = 0; i < v->nqueues; i++)
        ask_queue(s, &v->queues[i]);
    scan_on(s);
}

static void take_time(struct view *v)
{
    if (v->time && v->time->type == REDIS_REPLY_ARRAY && v->time->elements == 2)
        v->now = strtod(v->time->element[0]->str, NULL) +
                 strtod(v->time->element[1]->str, NULL) / 1e6;
}

static void ask_workers(struct snapshot *s)
{
    struct view *v = &s->view;

    take_time(v);
    for (size_t i = 0; v->leases && i + 1 < v->leases->elements &&
                       v->nworkers < SNAPSHOT_WORKERS_MAX;
         i += 2) {
        struct view_worker *w = &v->workers[v->nworkers++];

        *w = (struct view_worker){0};
        snprintf(w->id, sizeof(w->id), "%s", v->leases->element[i]->str);
        w->lease_until = strtod(v->leases->element[i + 1]->str, NULL) / 1000;
        ask_key(s, &w->card, "HGETALL", "worker", w->id);
        ask_key(s, &w->runs, "HGETALL", "run", w->id);
    }
}

static void add_runs(struct view *v, int worker)
{
    const redisReply *runs = v->workers[worker].runs;

    for (size_t i = 0; runs && i + 1 < runs->elements; i += 2) {
        if (v->nruns == SNAPSHOT_RUNS_MAX)
            return;
        if (!strchr(runs->element[i]->str, '@'))
            continue; /* the suspect's mark */
        v->runs[v->nruns] = (struct view_run){.worker = worker};
        snprintf(v->runs[v->nruns].job_id, sizeof(v->runs[0].job_id), "%s",
                 runs->element[i + 1]->str);
        v->nruns++;
    }
}

static void ask_rest(struct snapshot *s)
{
    struct view *v = &s->view;
    int asked = v->nqueues;

    for (int i = 0; i < v->nworkers; i++) {
        add_served(v, fleet_field(v->workers[i].card, "queues"));
        add_runs(v, i);
    }
    for (int i = 0; i < s->nknown; i++)
        add_queue(v, s->known[i]);
    for (int i = asked; i < v->nqueues; i++) {
        note_known(s, v->queues[i].name);
        ask_queue(s, &v->queues[i]);
    }
    for (int i = 0; i < v->nruns; i++) {
        char key[KEY_MAX];
        const char *argv[] = {
            "HMGET",
            protocol_key(&s->gateway->protocol, key, "job", v->runs[i].job_id),
            "language",
            "template_used",
            "started_at",
            "tenant"};

        ask(s, &v->runs[i].job, 2 + VIEW_RUN_FIELDS, argv);
    }
}

/* ---- loads --------------------------------------------------------------- */

static void clear(struct snapshot *s)
{
    struct view *v = &s->view;

    drop(&v->time);
    drop(&v->stats);
    drop(&v->leases);
    drop(&v->delayed);
    drop(&v->dead);
    drop(&v->paused);
    for (size_t i = 0; i < v->ntemplates; i++)
        drop(&v->templates[i].hash);
    for (int i = 0; i < v->nqueues; i++) {
        drop(&v->queues[i].depth);
        drop(&v->queues[i].oldest);
    }
    for (int i = 0; i < v->nworkers; i++) {
        drop(&v->workers[i].card);
        drop(&v->workers[i].runs);
    }
    for (int i = 0; i < v->nruns; i++)
        drop(&v->runs[i].job);
    v->nqueues = v->nworkers = v->nruns = 0;
    for (size_t i = 0; i < sizeof(v->cache) / sizeof(*v->cache); i++) {
        blob_unref(v->cache[i].blob);
        v->cache[i] = (struct view_text){0};
    }
}

static void begin_load(struct snapshot *s)
{
    clear(s);
    s->loading = true;
    s->failure = 0;
    s->stage = 0;
    s->now = s->later;
    s->later = NULL;
    next_stage(s);
}

/* What was found by scanning and is empty by now is not shown again. */
static void forget_empty(struct snapshot *s)
{
    const struct view *v = &s->view;
    int kept = 0;

    for (int i = 0; i < s->nknown; i++) {
        bool gone = false;

        for (int k = 0; k < v->nqueues; k++)
            if (!strcmp(v->queues[k].name, s->known[i]))
                gone = v->queues[k].served == 0 && v->queues[k].depth &&
                       v->queues[k].depth->integer == 0;
        if (!gone)
            memmove(s->known[kept++], s->known[i], sizeof(s->known[0]));
    }
    s->nknown = kept;
}

static void end_load(struct snapshot *s)
{
    struct snapshot_reader *reader = s->now, *next;
    int rc = s->failure;

    s->now = NULL;
    if (rc < 0)
        snapshot_forget(s);
    else
        forget_empty(s);
    for (; reader; reader = next) {
        next = reader->next;
        reader->done(reader, rc, rc < 0 ? NULL : &s->view);
    }
    s->loading = false;
    /* Without Redis there would be no end to it. */
    if (s->later && rc == 0)
        begin_load(s);
    else if (s->later) {
        s->now = s->later;
        s->later = NULL;
        end_load(s);
    }
}

static void next_stage(struct snapshot *s)
{
    static void (*const stages[])(struct snapshot *
                                  s) = {ask_first, ask_workers, ask_rest};

    while (s->stage < 3 && s->failure == 0) {
        s->pending = 1; /* so that no answer ends the stage meanwhile */
        stages[s->stage++](s);
        if (--s->pending > 0)
            return;
    }
    end_load(s);
}

void snapshot_read(struct snapshot *s, struct snapshot_reader *reader)
{
    reader->next = s->later;
    s->later = reader;
    if (!s->loading)
        begin_load(s);
}

void snapshot_forget(struct snapshot *s)
{
    s->olds_read_ms = 0;
}

int snapshot_init(struct snapshot *s, struct gateway *g)
{
    const struct template_set *set = g->templates;

    *s = (struct snapshot){.gateway = g, .cursor = "0"};
    s->fetches = calloc(FETCHES_MAX + 1, sizeof(*s->fetches));
    if (!s->fetches)
        return -ENOMEM;
    if (!set)
        return 0;
    s->view.templates = calloc(set->count, sizeof(*s->view.templates));
    if (!s->view.templates)
        return -ENOMEM;
    s->view.ntemplates = set->count;
    for (size_t i = 0; i < set->count; i++)
        s->view.templates[i].id = set->items[i]->id;
    return 0;
}

void snapshot_fini(struct snapshot *s)
{
    clear(s);
    for (int i = 0; i < SNAPSHOT_MINUTES; i++)
        drop(&s->view.minutes[i].hash);
    free(s->view.templates);
    free(s->fetches);
    *s = (struct snapshot){0};
}
