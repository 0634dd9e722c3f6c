#include "producer/fleet.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/envelope.h"
#include "common/job.h"

const char *fleet_field(const redisReply *hash, const char *name)
{
    if (hash && hash->type == REDIS_REPLY_ARRAY)
        for (size_t i = 0; i + 1 < hash->elements; i += 2)
            if (!strcmp(hash->element[i]->str, name))
                return hash->element[i + 1]->str;
    return "";
}

static int ask_key(struct client *c, redisReply **out, const char *command,
                   const char *kind, const char *name)
{
    char key[KEY_MAX];
    const char *argv[] = {command, protocol_key(&c->protocol, key, kind, name)};

    return client_ask(c, out, 2, argv);
}

static int ask_count(struct client *c, const char *command, const char *kind,
                     const char *name, int64_t *count_out)
{
    redisReply *reply = NULL;
    int rc = ask_key(c, &reply, command, kind, name);

    *count_out = 0;
    /* Someone may have put another type under the name. */
    if (rc == -EPROTO)
        return 0;
    if (rc < 0)
        return rc;
    if (reply->type == REDIS_REPLY_INTEGER)
        *count_out = reply->integer;
    freeReplyObject(reply);
    return 0;
}

static int load_worker(struct fleet *f, struct client *c, const char *id,
                       double lease_ms)
{
    struct fleet_worker *w = &f->workers[f->nworkers];
    int rc;

    snprintf(w->id, sizeof(w->id), "%s", id);
    w->lease_s = lease_ms / 1000 - f->now;
    f->nworkers++;
    rc = ask_key(c, &w->card, "HGETALL", "worker", id);
    if (rc == 0)
        rc = ask_key(c, &w->runs, "HGETALL", "run", id);
    return rc;
}

int fleet_paused(struct client *c, bool *paused_out)
{
    char key[KEY_MAX];
    const char *argv[] = {"HGET", protocol_key(&c->protocol, key, "conf", NULL),
                          "paused"};
    redisReply *reply = NULL;
    int rc = client_ask(c, &reply, 3, argv);

    if (rc < 0)
        return rc;
    *paused_out = reply->type == REDIS_REPLY_STRING && reply->len > 0 &&
                  strcmp(reply->str, "0") != 0;
    freeReplyObject(reply);
    return 0;
}

int fleet_load_workers(struct fleet *f, struct client *c)
{
    char key[KEY_MAX];
    const char *argv[] = {"ZRANGE", protocol_key(&c->protocol, key, "wk", NULL),
                          "0", "-1", "WITHSCORES"};
    redisReply *reply = NULL;
    int rc;

    f->now = client_now(c);
    rc = f->now < 0 ? -EIO : fleet_paused(c, &f->paused);
    if (rc == 0)
        rc = client_ask(c, &reply, 5, argv);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i + 1 < reply->elements; i += 2)
        if (f->nworkers < FLEET_WORKERS_MAX)
            rc = load_worker(f, c, reply->element[i]->str,
                             strtod(reply->element[i + 1]->str, NULL));
    freeReplyObject(reply);
    return rc;
}

static struct fleet_queue *add_queue(struct fleet *f, const char *name)
{
    if (!job_name_valid(name, false))
        return NULL;
    for (int i = 0; i < f->nqueues; i++)
        if (!strcmp(f->queues[i].name, name))
            return &f->queues[i];
    if (f->nqueues == FLEET_QUEUES_MAX)
        return NULL;
    f->queues[f->nqueues] = (struct fleet_queue){.oldest_s = -1};
    strcpy(f->queues[f->nqueues].name, name);
    return &f->queues[f->nqueues++];
}

const char *fleet_next_queue(const char **names_io, size_t *len_out)
{
    const char *name = *names_io + strspn(*names_io, ",");

    *len_out = strcspn(name, ",*");
    *names_io = name + strcspn(name, ",");
    return *name ? name : NULL;
}

static void add_served(struct fleet *f, const char *names)
{
    const char *one;
    size_t len;

    while ((one = fleet_next_queue(&names, &len))) {
        char name[JOB_NAME_MAX + 1];
        struct fleet_queue *queue;

        snprintf(name, sizeof(name), "%.*s", (int)len, one);
        queue = add_queue(f, name);
        if (queue)
            queue->served++;
    }
}

/* P:queue:* as a glob, the prefix taken literally. */
static void queue_pattern(struct client *c, char out[2 * KEY_MAX])
{
    char key[KEY_MAX];
    size_t n = 0;

    protocol_key(&c->protocol, key, "queue", "");
    for (const char *s = key; *s; s++) {
        if (strchr("*?[]\\^-", *s))
            out[n++] = '\\';
        out[n++] = *s;
    }
    strcpy(out + n, "*");
}

static void take_keys(struct fleet *f, struct client *c, const redisReply *keys)
{
    char key[KEY_MAX];
    size_t skip = strlen(protocol_key(&c->protocol, key, "queue", ""));

    for (size_t i = 0; i < keys->elements; i++)
        if ((size_t)keys->element[i]->len > skip)
            add_queue(f, keys->element[i]->str + skip);
}

static int scan_queues(struct fleet *f, struct client *c)
{
    char pattern[2 * KEY_MAX], cursor[32] = "0";

    queue_pattern(c, pattern);
    for (int calls = 0; calls < FLEET_SCAN_CALLS_MAX; calls++) {
        const char *argv[] = {"SCAN",  cursor, "MATCH", pattern,
                              "COUNT", "1000", "TYPE",  "list"};
        redisReply *reply = NULL;
        int rc = client_ask(c, &reply, 8, argv);

        if (rc < 0)
            return rc;
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2) {
            snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
            take_keys(f, c, reply->element[1]);
        } else {
            strcpy(cursor, "0");
        }
        freeReplyObject(reply);
        if (!strcmp(cursor, "0"))
            break;
    }
    return 0;
}

/* The right end is the next to be served. */
static int load_age(struct fleet_queue *q, struct client *c, double now)
{
    char key[KEY_MAX];
    const char *argv[] = {
        "LINDEX", protocol_key(&c->protocol, key, "queue", q->name), "-1"};
    redisReply *reply = NULL;
    struct envelope e;
    int rc = client_ask(c, &reply, 3, argv);

    if (rc < 0)
        return rc;
    if (reply->type == REDIS_REPLY_STRING) {
        envelope_parse(reply->str, (size_t)reply->len, &e);
        if (e.enqueued_ms > 0)
            q->oldest_s = now - (double)e.enqueued_ms / 1000;
        if (e.enqueued_ms > 0 && q->oldest_s < 0)
            q->oldest_s = 0;
    }
    freeReplyObject(reply);
    return 0;
}

int fleet_load_queues(struct fleet *f, struct client *c)
{
    int rc;

    for (int i = 0; i < c->settings->nqueues; i++)
        add_queue(f, c->settings->queues[i].name);
    for (int i = 0; i < f->nworkers; i++)
        add_served(f, fleet_field(f->workers[i].card, "queues"));
    rc = scan_queues(f, c);
    for (int i = 0; rc == 0 && i < f->nqueues; i++) {
        rc = ask_count(c, "LLEN", "queue", f->queues[i].name,
                       &f->queues[i].depth);
        if (rc == 0 && f->queues[i].depth > 0)
            rc = load_age(&f->queues[i], c, f->now);
    }
    if (rc == 0)
        rc = ask_count(c, "ZCARD", "delayed", NULL, &f->delayed);
    if (rc == 0)
        rc = ask_count(c, "LLEN", "dead", NULL, &f->dead);
    return rc;
}

void fleet_fini(struct fleet *f)
{
    for (int i = 0; i < f->nworkers; i++) {
        if (f->workers[i].card)
            freeReplyObject(f->workers[i].card);
        if (f->workers[i].runs)
            freeReplyObject(f->workers[i].runs);
    }
    f->nworkers = f->nqueues = 0;
}

/* One endpoint's circuit breaker, as worker/e2b writes it into the card. */
static void add_breaker(struct strbuf *out, const cJSON *state,
                        const char *name, const char *shown)
{
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(state, name);
    const cJSON *is = cJSON_GetObjectItemCaseSensitive(b, "state");
    const cJSON *why = cJSON_GetObjectItemCaseSensitive(b, "why");

    if (!cJSON_IsString(is) || !strcmp(is->valuestring, "closed"))
        return;
    strbuf_addf(out, "%s%s: circuit %s", out->len ? "; " : "", shown,
                is->valuestring);
    if (cJSON_IsString(why))
        strbuf_addf(out, ", %s", why->valuestring);
}

const char *fleet_trouble(const struct fleet_worker *w,
                          char out[FLEET_TROUBLE_MAX])
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;
    cJSON *state = cJSON_Parse(fleet_field(w->card, "more"));
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(state, "limit");
    double all = strtod(fleet_field(w->card, "concurrency"), NULL);

    add_breaker(&text, state, "api", "E2B's API");
    add_breaker(&text, state, "sandboxes", "E2B's sandboxes");
    if (cJSON_IsNumber(limit) && limit->valuedouble < all)
        strbuf_addf(&text, "%slowered to %d sandboxes by the account's limit",
                    text.len ? "; " : "", limit->valueint);
    snprintf(out, FLEET_TROUBLE_MAX, "%s", text.len ? text.text : "");
    cJSON_Delete(state);
    return out;
}
