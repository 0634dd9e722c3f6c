#include "worker/redis_check.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* One CONFIG value; "" if the server won't say. */
static void config_get(struct redis *r, int64_t deadline_ms, const char *name,
                       char *out, size_t size)
{
    redisReply *reply = NULL;

    out[0] = '\0';
    if (redis_callv(r, deadline_ms, &reply, "CONFIG", "GET", name, NULL) < 0)
        return;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[1]->type == REDIS_REPLY_STRING)
        snprintf(out, size, "%s", reply->element[1]->str);
    freeReplyObject(reply);
}

static void check_persistence(struct redis *r, int64_t deadline_ms)
{
    char aof[16], save[256];

    config_get(r, deadline_ms, "appendonly", aof, sizeof(aof));
    config_get(r, deadline_ms, "save", save, sizeof(save));
    if (strcmp(aof, "no") != 0)
        return;
    if (!save[0])
        log_warn("Redis keeps nothing on disk: a restart of it loses every "
                 "job. Set `appendonly yes`",
                 LOG_END);
    else
        log_warn("Redis only takes snapshots: a crash of it loses the jobs "
                 "since the last one. Set `appendonly yes`",
                 LOG_S("save", save), LOG_END);
}

void redis_check(struct redis *r, int64_t deadline_ms)
{
    char policy[64];

    config_get(r, deadline_ms, "maxmemory-policy", policy, sizeof(policy));
    if (policy[0] && strcmp(policy, "noeviction") != 0)
        log_warn("Redis may evict keys when it is full, and lose jobs with "
                 "them. Set `maxmemory-policy noeviction`",
                 LOG_S("maxmemory-policy", policy), LOG_END);
    check_persistence(r, deadline_ms);
}
