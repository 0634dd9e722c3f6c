/* producer/verb_cancel.c -- cancel. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "producer/begin.h"
#include "producer/exits.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define RUNNING_MS 30000 /* without --timeout: a worker needs a few ms */
#define WAITING_MS 1000  /* for one that was claimed this moment */
#define UNKNOWN_MS 300   /* for one that nobody knew a moment ago */

static void say(const struct settings *s, const char *id, const char *status,
                const char *words)
{
    if (s->json)
        printf("{\"job_id\":\"%s\",\"cancelled\":%s,\"status\":\"%s\"}\n", id,
               !strcmp(status, "cancelled") ? "true" : "false", status);
    else
        printf("%s %s\n", id, words);
}

static int say_end(const struct settings *s, const char *id, const char *status,
                   const char *how)
{
    char words[80];

    if (!strcmp(status, "cancelled")) {
        say(s, id, status, "cancelled");
        return EXITS_OK;
    }
    snprintf(words, sizeof(words), "%s: %s", how, status);
    say(s, id, status, words);
    return EXITS_OK;
}

static int64_t patience_ms(const struct options *o, enum cancel_answer answer)
{
    if (answer == CANCEL_UNKNOWN)
        return UNKNOWN_MS;
    if (answer == CANCEL_WAITS)
        return WAITING_MS;
    return o->wait_s > 0 ? (int64_t)(o->wait_s * 1000) : RUNNING_MS;
}

/* It was asked for; now to see it. */
static int await_end(struct client *c, const struct settings *s,
                     const struct options *o, const char *id,
                     enum cancel_answer answer)
{
    struct client_job job = {0};
    int rc = client_wait(c, id, clock_ms() + patience_ms(o, answer), &job);

    if (rc == 0) {
        rc = say_end(s, id, job.status, "ended before the cancel came");
        client_job_fini(&job);
        return rc;
    }
    if (rc == -ENOENT) {
        text_say("no such job: %s (should a bare LPUSH of it wait far back in "
                 "a queue, it will not run)",
                 id);
        return EXITS_NO_JOB;
    }
    if (rc == -ETIMEDOUT && answer == CANCEL_WAITS) {
        say(s, id, "queued", "will not run; it ends when its turn comes");
        return EXITS_OK;
    }
    text_say("%s", c->why);
    return EXITS_CAPIBOX;
}

static int cancel_one(struct client *c, const struct settings *s,
                      const struct options *o, const char *id)
{
    struct cancel got;

    if (client_cancel(c, id, &got) < 0) {
        text_say("%s", c->why);
        return EXITS_CAPIBOX;
    }
    if (got.answer == CANCEL_DONE)
        return say_end(s, id, "cancelled", "");
    if (got.answer == CANCEL_FINISHED)
        return say_end(s, id, got.status, "had ended already");
    if (o->no_wait && got.answer != CANCEL_UNKNOWN) {
        say(s, id, got.answer == CANCEL_SENT ? "running" : "queued",
            "is to be cancelled");
        return EXITS_OK;
    }
    return await_end(c, s, o, id, got.answer);
}

int verb_cancel(const struct settings *s, const struct options *o)
{
    struct client c;
    int rc = begin_ids(o, 0);

    if (rc == EXITS_OK)
        rc = begin_client(&c, s);
    if (rc != EXITS_OK)
        return rc;
    for (int i = 0; i < o->nwords; i++)
        rc = (int)exits_worst((enum exits)rc,
                              (enum exits)cancel_one(&c, s, o, o->words[i]));
    client_close(&c);
    return rc;
}
