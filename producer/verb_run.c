/* producer/verb_run.c -- run, submit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "producer/begin.h"
#include "producer/client.h"
#include "producer/exits.h"
#include "producer/follow.h"
#include "producer/interrupt.h"
#include "producer/jobjson.h"
#include "producer/served.h"
#include "producer/show.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define FOLLOW_BLOCK_MS 1000 /* then a look at the hash */
#define LONELY_MS       3000 /* without a start, before asking for workers */

/* Complains about what is wrong with the job, before Redis is touched. */
static int build(struct jobjson *j, const struct options *o, bool stream)
{
    struct complaint why = {0};
    char text[700];

    if (o->queue && !job_name_valid(o->queue, false)) {
        text_say("--queue: \"%.70s\" will not do; give 1 to %d of "
                 "A-Za-z0-9._-",
                 o->queue, JOB_NAME_MAX);
        return EXITS_USAGE;
    }
    if (jobjson_build(j, o, o->words[0], stream, &why) == 0)
        return begin_save(o);
    complaint_print(&why, text, sizeof(text));
    text_say("%s", *text ? text : "out of memory");
    return EXITS_USAGE;
}

static int enqueue(struct client *c, const struct jobjson *j,
                   const struct options *o)
{
    const char *names[2], *values[2];
    char nonce[JOB_ID_MAX + 1];
    enum enqueue_answer answer;
    struct enqueue e = {
        .queue = options_queue(o),
        .job_id = j->id,
        .body = j->text.text,
        .body_len = j->text.len,
        .names = names,
        .values = values,
        .stream = j->stream,
    };

    if (j->language != LANGUAGE_NONE) {
        names[e.nfields] = "language";
        values[e.nfields++] = language_name(j->language);
    }
    if (o->task_type) {
        names[e.nfields] = "task_type";
        values[e.nfields++] = o->task_type;
    }
    if (protocol_make_job_id(nonce) == 0)
        e.nonce = nonce;
    if (client_enqueue(c, &e, &answer) < 0) {
        text_say("%s", c->why);
        return EXITS_CAPIBOX;
    }
    if (answer == ENQUEUE_FULL) {
        text_say("queue %s is full; try again later", e.queue);
        return EXITS_CAPIBOX;
    }
    if (answer == ENQUEUE_DUPLICATE)
        text_say("job %s is there already; it is not run again", j->id);
    return EXITS_OK;
}

/* Says once that nobody is there to start the job. */
static void note_lonely(struct client *c, const char *queue, int64_t since_ms,
                        bool *noted)
{
    char hint[SERVED_HINT_MAX];

    if (*noted || clock_ms() - since_ms < LONELY_MS)
        return;
    *noted = true;
    if (served_ask(c, queue, hint) != SERVED)
        text_say("%s; the job waits in the queue (press Ctrl-C "
                 "to leave it there)",
                 hint);
}

/* Shows the stream until it ends, the hash says so, or it fails. */
static void follow(struct client *c, const char *queue, const char *id,
                   struct follow *f)
{
    struct redis *events = NULL;
    int64_t since = clock_ms();
    bool noted = false;

    if (client_second(c, &events) < 0)
        return;
    while (!f->ended) {
        struct client_job job;
        int got = follow_read(f, c, events, id, FOLLOW_BLOCK_MS);

        if (got < 0)
            break;
        if (got > 0)
            continue;
        if (f->starts == 0)
            note_lonely(c, queue, since, &noted);
        if (client_job(c, id, false, &job) < 0 || !job.found || job.ended)
            break;
    }
    while (!f->ended && follow_read(f, c, events, id, 0) > 0)
        ;
    redis_destroy(events);
}

/* Until the result is there; asks for workers once on the way. */
static int await(struct client *c, const char *queue, const char *id,
                 struct client_job *job)
{
    int rc = client_wait(c, id, clock_ms() + LONELY_MS, job);

    if (rc == -ETIMEDOUT) {
        bool noted = false;

        if (client_job(c, id, false, job) == 0 &&
            !strcmp(job->status, "queued"))
            note_lonely(c, queue, 0, &noted);
        rc = client_wait(c, id, 0, job);
    }
    return rc;
}

static int run(struct client *c, const struct settings *s,
               const struct options *o, const struct jobjson *j)
{
    struct follow f;
    struct client_job job = {0};
    int rc;

    interrupt_says("interrupted while submitting job %s", j->id);
    rc = enqueue(c, j, o);
    if (rc != EXITS_OK)
        return rc;
    interrupt_says("interrupted; job %s goes on (capibox wait %s; to end it: "
                   "capibox cancel %s)",
                   j->id, j->id, j->id);
    follow_init(&f, stdout, stderr);
    if (!s->json)
        follow(c, options_queue(o), j->id, &f);
    rc = f.ended ? client_wait(c, j->id, 0, &job)
                 : await(c, options_queue(o), j->id, &job);
    if (rc < 0) {
        text_say("%s", c->why);
        rc = rc == -ENOENT ? EXITS_NO_JOB : EXITS_CAPIBOX;
    } else {
        rc = show_job(s, o, o->save, &f, &job, j->id);
    }
    client_job_fini(&job);
    return rc;
}

static int submit(struct client *c, const struct settings *s,
                  const struct options *o, const struct jobjson *j)
{
    char hint[SERVED_HINT_MAX];
    int rc = enqueue(c, j, o);

    if (rc != EXITS_OK)
        return rc;
    if (s->json)
        printf("{\"job_id\":\"%s\",\"status\":\"queued\"}\n", j->id);
    else
        printf("%s\n", j->id);
    /* Without a worker one is awaited; a queue of none is a slip. */
    if (served_ask(c, options_queue(o), hint) >= SERVED_OTHERS)
        text_say("%s; the job waits in the queue", hint);
    return EXITS_OK;
}

static int
with_job(const struct settings *s, const struct options *o, bool stream,
         int (*act)(struct client *c, const struct settings *s,
                    const struct options *o, const struct jobjson *j))
{
    struct client c = {0};
    struct jobjson j;
    int rc = build(&j, o, stream);

    if (rc == EXITS_OK && client_open(&c, s) < 0) {
        text_say("%s", c.why);
        rc = EXITS_CAPIBOX;
    }
    if (rc == EXITS_OK)
        rc = act(&c, s, o, &j);
    client_close(&c);
    jobjson_fini(&j);
    return rc;
}

int verb_run(const struct settings *s, const struct options *o)
{
    return with_job(s, o, !s->json, run);
}

int verb_submit(const struct settings *s, const struct options *o)
{
    return with_job(s, o, o->stream, submit);
}
