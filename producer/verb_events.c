/* producer/verb_events.c -- events. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "producer/begin.h"
#include "producer/exits.h"
#include "producer/follow.h"
#include "producer/interrupt.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define READ_COUNT    256
#define BLOCK_MS      1000 /* then a look at the hash */
#define READ_GRACE_MS 5000

struct reading {
    struct client *client;
    const char *id;
    bool json, follow;
    int64_t deadline_ms; /* 0: none */
    struct follow shown;
    char last[EVENT_ID_MAX + 1]; /* where to go on */
    bool ended;
    bool over; /* nothing more will come: one last look */
};

static void print_json(const struct event *event)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT;
    bool output =
        !strcmp(event->type, "stdout") || !strcmp(event->type, "stderr");
    bool end = !strcmp(event->type, "end");

    strbuf_addf(&line, "{\"id\":\"%s\",\"type\":", event->id);
    strbuf_add_json(&line, event->type, strlen(event->type));
    if (output)
        strbuf_addf(&line, ",\"offset\":%llu",
                    (unsigned long long)event->offset);
    strbuf_addf(&line, ",\"%s\":", output ? "data" : end ? "verdict" : "state");
    strbuf_add_json(&line, event->data, event->size);
    strbuf_addc(&line, '}');
    puts(line.failed ? "{}" : line.text);
    fflush(stdout);
}

static void print_text(struct reading *r, const struct event *event)
{
    bool end = !strcmp(event->type, "end");

    follow_event(&r->shown, event->type, event->data, event->size,
                 event->offset);
    if (!end && strcmp(event->type, "state") != 0)
        return;
    follow_end_lines(&r->shown);
    text_say("%s %s %s", r->id, end ? "ended:" : "is", event->data);
}

static void take(void *ctx, const struct event *event)
{
    struct reading *r = ctx;

    snprintf(r->last, sizeof(r->last), "%s", event->id);
    if (!strcmp(event->type, "end"))
        r->ended = true;
    if (r->json)
        print_json(event);
    else
        print_text(r, event);
}

static int read_some(struct reading *r)
{
    int block_ms = r->follow && !r->over ? BLOCK_MS : 0;
    int got = protocol_events_read(&r->client->protocol, r->client->redis,
                                   clock_ms() + block_ms + READ_GRACE_MS, r->id,
                                   r->last, READ_COUNT, block_ms, take, r);

    if (got > 0)
        interrupt_says("interrupted; to go on: capibox events %s --follow "
                       "--from %s",
                       r->id, r->last);
    return got;
}

static bool has_stream(struct client *c, const char *id)
{
    char key[KEY_MAX];
    const char *argv[] = {"EXISTS",
                          protocol_key(&c->protocol, key, "events", id)};
    redisReply *reply = NULL;
    bool there;

    if (client_ask(c, &reply, 2, argv) < 0)
        return true; /* not known: nothing to complain about */
    there = reply->integer == 1;
    freeReplyObject(reply);
    return there;
}

static int no_stream(const struct reading *r, const struct client_job *job)
{
    if (!strcmp(job->status, "queued") || !strcmp(job->status, "delayed")) {
        text_say("%s is %s; there are no events yet (--follow waits for them)",
                 r->id, job->status);
        return EXITS_OK;
    }
    text_say("%s is %s, and does not stream: submit it with \"stream\": true "
             "(capibox submit --stream; capibox run does)%s%s",
             r->id, job->status,
             job->ended ? "; its output: capibox result " : "",
             job->ended ? r->id : "");
    return EXITS_USAGE;
}

static bool passed(int64_t deadline_ms)
{
    return deadline_ms > 0 && clock_ms() >= deadline_ms;
}

/* May this job still say something? A running one that streams has a stream. */
static bool may_go_on(const struct reading *r, const struct client_job *job)
{
    if (!r->follow || job->ended)
        return false;
    return strcmp(job->status, "running") != 0 || has_stream(r->client, r->id);
}

/* 0: there is such a job, or it may yet appear. */
static int check_found(const struct reading *r, const struct client_job *job)
{
    if (job->found || (r->follow && r->deadline_ms && !passed(r->deadline_ms)))
        return EXITS_OK;
    text_say("no such job: %s", r->id);
    return EXITS_NO_JOB;
}

/* Nothing came: will anything? -1: go on reading. */
static int look(struct reading *r)
{
    struct client_job job;
    int rc;

    if (client_job(r->client, r->id, false, &job) < 0) {
        text_say("%s", r->client->why);
        return EXITS_CAPIBOX;
    }
    rc = check_found(r, &job);
    if (rc != EXITS_OK)
        return rc;
    if (r->over)
        return has_stream(r->client, r->id) ? EXITS_OK : no_stream(r, &job);
    if (may_go_on(r, &job)) {
        if (!passed(r->deadline_ms))
            return -1;
        text_say("%s has not ended yet", r->id);
        return EXITS_CAPIBOX;
    }
    r->over = true; /* but something may have come in between */
    return -1;
}

static int read_all(struct reading *r)
{
    int rc = -1;

    while (rc < 0 && !r->ended) {
        int got = read_some(r);

        if (got == -EPROTO || got == -EACCES || got == -ENOMEM) {
            text_say("events of %s: %s", r->id, protocol_error());
            return EXITS_CAPIBOX;
        }
        /* A lost connection is made anew by the look. */
        if (got <= 0)
            rc = look(r);
    }
    return r->ended ? EXITS_OK : rc;
}

int verb_events(const struct settings *s, const struct options *o)
{
    struct client c;
    struct reading r = {.client = &c,
                        .id = o->words[0],
                        .json = s->json,
                        .follow = o->follow,
                        .deadline_ms = begin_deadline(o),
                        .last = "0"};
    int rc = begin_ids(o, 0);

    if (rc == EXITS_OK && o->from && !protocol_event_id_valid(o->from)) {
        text_say("--from: \"%.40s\" is no event's id, such as "
                 "1700000000000-0; --json shows them",
                 o->from);
        rc = EXITS_USAGE;
    }
    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    follow_init(&r.shown, stdout, stderr);
    if (o->from) {
        snprintf(r.last, sizeof(r.last), "%s", o->from);
        follow_resume(&r.shown);
    }
    rc = read_all(&r);
    client_close(&c);
    return rc;
}
