#include "producer/gateway/waiters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "producer/client.h"

int waiters_init(struct waiters *set, const struct protocol *protocol,
                 struct link *link)
{
    *set = (struct waiters){.protocol = protocol, .link = link};
    set->buckets = calloc(WAITERS_BUCKETS, sizeof(struct awaited *));
    return set->buckets ? 0 : -ENOMEM;
}

/* FNV-1a. Ids are chosen by clients, but each only makes its own list long. */
static struct awaited **bucket_of(struct waiters *set, const char *id,
                                  size_t size)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)id[i]) * 16777619u;
    return &set->buckets[hash % WAITERS_BUCKETS];
}

static struct awaited *find(struct waiters *set, const char *id, size_t size)
{
    struct awaited *job = *bucket_of(set, id, size);

    while (job && (strlen(job->id) != size || memcmp(job->id, id, size) != 0))
        job = job->next;
    return job;
}

static struct awaited *make(struct waiters *set, const char *id)
{
    struct awaited **bucket = bucket_of(set, id, strlen(id));
    struct awaited *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    strcpy(job->id, id);
    job->set = set;
    job->looked_ms = clock_ms();
    job->next = *bucket;
    *bucket = job;
    set->count++;
    return job;
}

/* Lets go of a job nobody waits for, unless a look still points to it. */
static void drop_if_idle(struct awaited *job)
{
    struct awaited **at;

    if (job->waiters || job->looking)
        return;
    at = bucket_of(job->set, job->id, strlen(job->id));
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    job->set->count--;
    free(job);
}

int waiters_add(struct waiters *set, const char *id, struct waiter *w)
{
    struct awaited *job = find(set, id, strlen(id));

    if (!job)
        job = make(set, id);
    if (!job)
        return -ENOMEM;
    w->job = job;
    w->next = job->waiters;
    job->waiters = w;
    return 0;
}

static void unlink_waiter(struct waiter *w)
{
    struct waiter **at = &w->job->waiters;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->job = NULL;
}

void waiters_remove(struct waiter *w)
{
    struct awaited *job = w->job;

    if (!job)
        return;
    unlink_waiter(w);
    drop_if_idle(job);
}

/* Tells all, or all but the patient, who is not held. done() may do anything
 * but destroy us. */
static void tell(struct awaited *job, int rc, const redisReply *fields,
                 bool patient_too)
{
    struct waiter *told = NULL, *w, *next;
    struct waiter **at = &job->waiters;

    while ((w = *at)) {
        if (w->held || (w->patient && !patient_too)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = told;
        w->job = NULL;
        told = w;
    }
    for (w = told; w; w = next) {
        next = w->next;
        w->done(w, rc, fields);
    }
}

static void look(struct awaited *job);

static void take_fields(struct awaited *job, const redisReply *reply)
{
    const redisReply *status;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != WAITERS_FIELDS)
        return; /* an error reply: the next look may fare better */
    status = reply->element[WAITERS_STATUS];
    if (status->type == REDIS_REPLY_STRING) {
        job->there = true;
        if (client_ended(status->str))
            tell(job, 0, reply, true);
    } else if (job->there) {
        tell(job, -ENOENT, NULL, true);
    }
}

static void looked(void *ctx, int rc, redisReply **reply)
{
    struct awaited *job = ctx;

    /* Still looking, so that no callback frees it below us. */
    if (rc == 0)
        take_fields(job, *reply);
    job->looking = false;
    if (rc == 0 && job->again && job->waiters)
        look(job);
    job->again = false;
    drop_if_idle(job);
}

static void look(struct awaited *job)
{
    char key[KEY_MAX];
    const char *argv[] = {
        "HMGET",  protocol_key(job->set->protocol, key, "job", job->id),
        "status", "result",
        "tenant", "verdict"};

    job->looked_ms = clock_ms();
    if (job->looking)
        job->again = true;
    else
        job->looking = link_ask(job->set->link, looked, job, 6, argv) == 0;
}

void waiters_there(struct waiter *w)
{
    w->held = false;
    if (w->job)
        w->job->there = true;
}

void waiters_look(struct waiter *w)
{
    w->held = false;
    if (w->job)
        look(w->job);
}

void waiters_ended(struct waiters *set, const char *id, size_t size)
{
    struct awaited *job = find(set, id, size);

    if (job)
        look(job);
}

/* None of the looks' answers comes while this goes on. */
static void for_each(struct waiters *set, void (*act)(struct awaited *job))
{
    for (size_t i = 0; set->count > 0 && i < WAITERS_BUCKETS; i++) {
        struct awaited *job = set->buckets[i], *next;

        for (; job; job = next) {
            next = job->next;
            act(job);
        }
    }
}

void waiters_look_all(struct waiters *set)
{
    for_each(set, look);
}

static void look_if_due(struct awaited *job)
{
    if (clock_ms() - job->looked_ms >= WAITERS_RECHECK_MS)
        look(job);
}

static void tell_failure(struct awaited *job, int rc, bool patient_too)
{
    bool was = job->looking;

    job->looking = true; /* keeps it */
    tell(job, rc, NULL, patient_too);
    job->looking = was;
    drop_if_idle(job);
}

static void give_up(struct awaited *job)
{
    tell_failure(job, -ENOTCONN, false);
}

void waiters_check(struct waiters *set, int64_t away_ms, bool deaf)
{
    if (away_ms == 0)
        for_each(set, deaf ? look : look_if_due);
    else if (away_ms >= WAITERS_AWAY_MS)
        for_each(set, give_up);
}

static void dismiss(struct awaited *job)
{
    tell_failure(job, -ECANCELED, true);
}

void waiters_fini(struct waiters *set)
{
    for_each(set, dismiss);
    MUST(set->count == 0);
    free(set->buckets);
    *set = (struct waiters){0};
}
