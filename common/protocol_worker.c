/* A worker's life: register, heartbeat, leave; giving back what the dead held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/protocol_call.h"
#include "common/strbuf.h"

#define GRAVES_MAX 5000 /* looked after at most; the oldest are forgotten */
#define PEERS_MAX  256  /* probed at most */

static void add_card(struct words *w, const struct worker_card *card)
{
    const struct {
        const char *name, *text;
    } texts[] = {
        {"id", card->wid},          {"host", card->host},
        {"backend", card->backend}, {"version", card->version},
        {"queues", card->queues},   {"state", card->state},
        {"more", card->more},
    };
    const struct {
        const char *name;
        int64_t number;
    } numbers[] = {
        {"pid", card->pid},
        {"concurrency", card->concurrency},
        {"active", card->active},
    };
    char ids[CARD_IDS * 21 + 1] = "";
    size_t at = 0;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        words_adds(w, texts[i].name);
        words_adds(w, texts[i].text);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        words_adds(w, numbers[i].name);
        words_addi(w, numbers[i].number);
    }
    for (int i = 0; i < CARD_IDS; i++)
        if (card->client_ids[i] > 0)
            at +=
                (size_t)snprintf(ids + at, sizeof(ids) - at, "%s%lld",
                                 at ? "," : "", (long long)card->client_ids[i]);
    words_adds(w, "client_ids");
    words_addf(w, "%s", ids);
    words_adds(w, "started_at");
    words_addf(w, "%.3f", card->started_at);
}

static int64_t card_ttl_ms(const struct protocol *p)
{
    return p->lease_ms + p->lease_ms / 2;
}

int protocol_register(const struct protocol *p, struct redis *r,
                      int64_t deadline_ms, const struct worker_card *card)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_REGISTER, false);
    words_key(&w, p, "conf", NULL);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_addi(&w, PROTOCOL_VERSION);
    words_adds(&w, card->wid);
    words_addi(&w, p->lease_ms);
    words_adds(&w, card->queues);
    words_addi(&w, card_ttl_ms(p));
    add_card(&w, card);
    return words_call(&w, p, r, deadline_ms, &reply);
}

/* What is no usable id can be none of ours. */
static void take_cancels(const redisReply *reply, struct heartbeat *beat)
{
    for (size_t i = 7;
         i < reply->elements && beat->ncancels < HEARTBEAT_CANCELS_MAX; i++) {
        const char *id = reply_text(reply, i);

        if (strlen(id) <= JOB_ID_MAX)
            strcpy(beat->cancels[beat->ncancels++], id);
    }
}

int protocol_heartbeat(const struct protocol *p, struct redis *r,
                       int64_t deadline_ms, const struct worker_card *card,
                       struct heartbeat *beat_out)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_HEARTBEAT, false);
    words_key(&w, p, "inf", card->wid);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_adds(&w, card->wid);
    words_addi(&w, p->lease_ms);
    words_addi(&w, card_ttl_ms(p));
    words_addi(&w, TOMBSTONES_MAX);
    words_addi(&w, PROTOCOL_TOMBSTONE_S * 1000LL);
    words_addi(&w, HEARTBEAT_CANCELS_MAX);
    add_card(&w, card);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 1))
        return -EPROTO;
    if (reply_int(reply, 0) == 0) {
        *beat_out = (struct heartbeat){.fenced = true};
        return 0;
    }
    if (!reply_is_array(reply, 7))
        return -EPROTO;
    *beat_out = (struct heartbeat){
        .redis_ms = reply_int(reply, 1),
        .in_flight = reply_int(reply, 2),
        .peers = reply_int(reply, 3),
        .next_due_ms = reply_int(reply, 5),
        .paused = reply_int(reply, 6) != 0,
    };
    strncat(beat_out->expired, reply_text(reply, 4), WORKER_ID_MAX);
    take_cancels(reply, beat_out);
    return 0;
}

int protocol_leave(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, const char *wid)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_LEAVE, false);
    words_key(&w, p, "inf", wid);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_adds(&w, wid);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    return reply->integer == 1 ? 0 : -EBUSY;
}

/* ---- reaping ----------------------------------------------------------- */

/* Ids start anew with Redis, so an id alone could be anybody's connection: the
 * name must hold the incarnation. What the ACL forbids is left alone: graves
 * are there for the rest. */
static int kill_connection(struct redis *r, int64_t deadline_ms,
                           const char *wid, const char *id)
{
    AUTO_REPLY redisReply *info = NULL;
    AUTO_REPLY redisReply *ignored = NULL;
    int rc =
        redis_callv(r, deadline_ms, &info, "CLIENT", "LIST", "ID", id, NULL);

    if (rc < 0)
        return rc;
    if (info->type != REDIS_REPLY_STRING)
        return 0;
    const char *name = strstr(info->str, " name=");
    const char *end = name ? strchr(name + 1, ' ') : NULL;
    const char *found = name ? strstr(name, wid) : NULL;
    if (!found || !end || found > end)
        return 0;
    return redis_callv(r, deadline_ms, &ignored, "CLIENT", "KILL", "ID", id,
                       NULL);
}

static int kill_connections(struct redis *r, int64_t deadline_ms,
                            const char *wid, char *ids)
{
    char *rest = NULL;

    for (char *id = strtok_r(ids, ",", &rest); id;
         id = strtok_r(NULL, ",", &rest)) {
        int rc = kill_connection(r, deadline_ms, wid, id);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int fence(const struct protocol *p, struct redis *r, int64_t deadline_ms,
                 const char *wid, bool force)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_FENCE, false);
    words_key(&w, p, "inf", wid);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_adds(&w, wid);
    words_adds(&w, force ? "1" : "0");
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 2))
        return -EPROTO;
    if (reply_int(reply, 0) == 0)
        return -EBUSY;
    if (reply->element[1]->type != REDIS_REPLY_STRING)
        return 0;
    return kill_connections(r, deadline_ms, wid, reply->element[1]->str);
}

static int reap_chunk(const struct protocol *p, struct redis *r,
                      int64_t deadline_ms, const char *wid, int64_t *moved,
                      bool *done)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_REAP, false);
    words_key(&w, p, "inf", wid);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_adds(&w, wid);
    words_addi(&w, PROTOCOL_REAP_CHUNK);
    words_addi(&w, PROTOCOL_GRAVE_S);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 2))
        return -EPROTO;
    *moved += reply_int(reply, 0);
    *done = reply_int(reply, 1) == 1;
    return 0;
}

int protocol_reap(const struct protocol *p, struct redis *r,
                  int64_t deadline_ms, const char *wid, bool force,
                  int64_t *moved_out)
{
    int64_t moved = 0;
    bool done = false;
    int rc = fence(p, r, deadline_ms, wid, force);

    while (rc == 0 && !done)
        rc = reap_chunk(p, r, deadline_ms, wid, &moved, &done);
    *moved_out = moved;
    return rc;
}

int protocol_visit_graves(const struct protocol *p, struct redis *r,
                          int64_t deadline_ms, int64_t *moved_out)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_GRAVES, false);
    words_key(&w, p, "graves", NULL);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_addi(&w, PROTOCOL_GRAVE_S * 1000LL);
    words_addi(&w, GRAVES_MAX);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    *moved_out = reply->integer;
    return 0;
}

int protocol_promote(const struct protocol *p, struct redis *r,
                     int64_t deadline_ms, int64_t *moved_out,
                     int64_t *next_due_ms_out)
{
    AUTO_WORDS struct words w = {0};
    AUTO_REPLY redisReply *reply = NULL;

    words_script(&w, p, SCRIPT_PROMOTE, false);
    words_key(&w, p, "delayed", NULL);
    words_keys_end(&w);
    words_adds(&w, p->prefix);
    words_addi(&w, PROTOCOL_PROMOTE_CHUNK);
    int rc = words_call(&w, p, r, deadline_ms, &reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 2))
        return -EPROTO;
    *moved_out = reply_int(reply, 0);
    *next_due_ms_out = reply_int(reply, 1);
    return 0;
}

/* ---- who has no connection left ---------------------------------------- */

/* Peers with a card, at most max. */
static int read_peers(const struct protocol *p, struct redis *r,
                      int64_t deadline_ms, const char *self,
                      struct silent_worker *peers, int max)
{
    AUTO_REPLY redisReply *wids = NULL;
    char key[KEY_MAX];
    int count = 0;
    int rc = redis_callv(r, deadline_ms, &wids, "ZRANGE",
                         protocol_key(p, key, "wk", NULL), "0", "-1", NULL);

    if (rc < 0 || (rc = reply_failure(wids)) < 0)
        return rc;
    if (!reply_is_array(wids, 0))
        return -EPROTO;
    for (size_t i = 0; i < wids->elements && count < max; i++) {
        AUTO_REPLY redisReply *ids = NULL;
        const char *wid = reply_text(wids, i);

        if (strcmp(wid, self) == 0 || strlen(wid) > WORKER_ID_MAX)
            continue;
        rc = redis_callv(r, deadline_ms, &ids, "HGET",
                         protocol_key(p, key, "worker", wid), "client_ids",
                         NULL);
        if (rc < 0)
            return rc;
        if (ids->type != REDIS_REPLY_STRING || ids->len == 0 ||
            ids->len >= sizeof(peers[0].ids))
            continue; /* nothing to go by: its lease decides */
        struct silent_worker *peer = &peers[count++];
        strcpy(peer->wid, wid);
        strcpy(peer->ids, ids->str);
    }
    return count;
}

static void add_ids(struct words *w, const struct silent_worker *peer)
{
    const char *at = peer->ids;

    while (*at) {
        size_t len = strcspn(at, ",");

        words_add(w, at, len);
        at += len + (at[len] == ',');
    }
}

/* Lines of CLIENT LIST begin with "id=N ". */
static bool listed(const char *list, const char *id, size_t len)
{
    for (const char *at = list; (at = strstr(at, "id=")); at += 3)
        if ((at == list || at[-1] == '\n') && strncmp(at + 3, id, len) == 0 &&
            at[3 + len] == ' ')
            return true;
    return false;
}

static bool peer_lives(const struct silent_worker *peer, const char *list)
{
    const char *at = peer->ids;

    while (*at) {
        size_t len = strcspn(at, ",");

        if (listed(list, at, len))
            return true;
        at += len + (at[len] == ',');
    }
    return false;
}

static int list_clients(struct redis *r, int64_t deadline_ms,
                        const struct silent_worker *peers, int count,
                        redisReply **list_out)
{
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "CLIENT");
    words_adds(&w, "LIST");
    words_adds(&w, "ID");
    for (int i = 0; i < count; i++)
        add_ids(&w, &peers[i]);
    if (w.failed)
        return -ENOMEM;
    int rc = redis_call(r, deadline_ms, list_out, w.count, w.text, w.size);
    if (rc < 0)
        return rc;
    rc = reply_failure(*list_out);
    if (rc == -EACCES || rc == -EPROTO)
        return -ENOTSUP;
    if (rc == 0 && (*list_out)->type != REDIS_REPLY_STRING)
        return -ENOTSUP;
    return rc;
}

int protocol_probe_peers(const struct protocol *p, struct redis *r,
                         int64_t deadline_ms, const char *self,
                         struct silent_worker *silent_out, int max,
                         int *count_out)
{
    AUTO_REPLY redisReply *list = NULL;
    struct silent_worker *peers = calloc(PEERS_MAX, sizeof(*peers));
    int missing = 0;

    if (!peers)
        return -ENOMEM;
    int count = read_peers(p, r, deadline_ms, self, peers, PEERS_MAX);
    int rc =
        count > 0 ? list_clients(r, deadline_ms, peers, count, &list) : count;
    for (int i = 0; rc == 0 && i < count && missing < max; i++)
        if (!peer_lives(&peers[i], list->str))
            silent_out[missing++] = peers[i];
    if (rc == 0)
        *count_out = missing;
    free(peers);
    return rc;
}

/* ---- what marks sandboxes outside of this host -------------------------- */

int protocol_fleet(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, char out[FLEET_ID_MAX + 1])
{
    AUTO_REPLY redisReply *set = NULL, *get = NULL;
    char key[KEY_MAX], made[JOB_ID_MAX + 1];
    int rc = protocol_make_job_id(made);

    if (rc < 0)
        return rc;
    made[FLEET_ID_MAX] = '\0';
    protocol_key(p, key, "conf", NULL);
    rc = redis_callv(r, deadline_ms, &set, "HSETNX", key, "fleet", made, NULL);
    if (rc == 0)
        rc = reply_failure(set);
    if (rc == 0)
        rc = redis_callv(r, deadline_ms, &get, "HGET", key, "fleet", NULL);
    if (rc == 0)
        rc = reply_failure(get);
    if (rc < 0)
        return rc;
    if (get->type != REDIS_REPLY_STRING || get->len == 0 ||
        get->len > FLEET_ID_MAX)
        return -EPROTO;
    memcpy(out, get->str, get->len + 1);
    return 0;
}

int protocol_alive(const struct protocol *p, struct redis *r,
                   int64_t deadline_ms, char (*wids)[WORKER_ID_MAX + 1],
                   int count, bool *alive_out)
{
    AUTO_REPLY redisReply *reply = NULL;
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "ZMSCORE");
    words_key(&w, p, "wk", NULL);
    for (int i = 0; i < count; i++)
        words_adds(&w, wids[i]);
    if (w.failed)
        return -ENOMEM;
    int rc = redis_call(r, deadline_ms, &reply, w.count, w.text, w.size);

    if (rc == 0)
        rc = reply_failure(reply);
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, (size_t)count))
        return -EPROTO;
    /* A score of 0 is a fenced one that is not yet reaped to its end. */
    for (int i = 0; i < count; i++) {
        const redisReply *score = reply->element[i];

        alive_out[i] =
            score->type == REDIS_REPLY_STRING && atof(score->str) > 0;
    }
    return 0;
}
