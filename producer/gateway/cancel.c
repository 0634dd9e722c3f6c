#include "producer/gateway/cancel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "producer/gateway/execute.h"
#include "producer/gateway/gateway.h"

#define CANCEL_MS 5000

/* What nobody knows may be on its way, or lie unseen in a queue: its cancel is
 * remembered (common/protocol.md). A key has so many an hour, so that none
 * fills Redis, or pushes the tombstones of others out. */
#define CANCEL_STRAYS_AN_HOUR 100

struct cancelling {
    struct errand errand;
    struct gateway *gateway;
    struct request *request; /* NULL: quietly */
    char id[JOB_ID_MAX + 1];
    struct cancel_by by; /* tenant NULL: without a key */
    struct cancel cancel;
};

static int run(struct errand *e, const struct protocol *p, struct redis *r)
{
    struct cancelling *x = e->ctx;
    const struct settings *s = x->gateway->settings;

    return protocol_cancel_by(p, r, clock_ms() + CANCEL_MS, x->id, s->queues,
                              s->nqueues, x->by.tenant ? &x->by : NULL,
                              &x->cancel);
}

/* Somebody else's job is no job of theirs. */
static void answer(struct cancelling *x)
{
    struct request *r = x->request;
    bool was = !strcmp(x->cancel.status, "cancelled");

    if (x->cancel.answer == CANCEL_NOT_THEIRS ||
        x->cancel.answer == CANCEL_UNKNOWN)
        request_answer_error(r, 404, "no_such_job", NULL, "no job %s", x->id);
    else if (x->cancel.answer == CANCEL_FINISHED && !was)
        request_answer_error(r, 409, "already_ended", NULL,
                             "job %s has ended: %s", x->id, x->cancel.status);
    else if (x->cancel.answer == CANCEL_DONE || was)
        execute_answer_id(r, 200, x->id, "cancelled", "");
    else
        execute_answer_id(r, 202, x->id, "cancelling", "");
}

/* True: it is asked again. */
static bool insists(struct cancelling *x)
{
    if (x->errand.rc < 0 || x->cancel.answer != CANCEL_UNKNOWN ||
        !x->by.tenant || x->by.insist ||
        /* Tokens of an hour: the bucket's seconds are 3600 of ours. */
        bucket_take(&x->request->holder->strays, CANCEL_STRAYS_AN_HOUR,
                    clock_ms() / 3600) > 0)
        return false;
    x->by.insist = true;
    return errands_add(&x->gateway->errands, &x->errand) == 0;
}

static void done(struct errand *e)
{
    struct cancelling *x = e->ctx;

    if (insists(x))
        return;
    if (x->request && e->rc < 0)
        request_answer_redis(x->request, e->rc);
    else if (x->request)
        answer(x);
    else if (e->rc < 0)
        log_warn("a job whose client went away is not cancelled",
                 LOG_S("job", x->id), LOG_S("why", strerror(-e->rc)), LOG_END);
    free(x);
}

static int begin(struct gateway *g, struct request *r, const char *id)
{
    struct cancelling *x = calloc(1, sizeof(*x));
    int rc;

    if (!x)
        return -ENOMEM;
    x->errand =
        (struct errand){.run = run, .done = done, .ctx = x, .patient = !r};
    x->gateway = g;
    x->request = r;
    x->by.tenant = r && r->holder ? r->holder->name : NULL;
    snprintf(x->id, sizeof(x->id), "%s", id);
    rc = errands_add(&g->errands, &x->errand);
    if (rc < 0)
        free(x);
    return rc;
}

void cancel_job(struct request *r)
{
    int rc;

    if (!job_id_valid(r->match.id)) {
        request_answer_error(r, 404, "no_such_job", NULL, "no such job");
        return;
    }
    rc = begin(r->gateway, r, r->match.id);
    if (rc < 0)
        request_answer_redis(r, rc);
}

void cancel_quietly(struct gateway *g, const char *id)
{
    int rc = begin(g, NULL, id);

    if (rc < 0)
        log_warn("a job whose client went away is not cancelled",
                 LOG_S("job", id), LOG_S("why", strerror(-rc)), LOG_END);
}
