#include "producer/served.h"

#include <string.h>

#include "common/protocol_call.h"
#include "producer/fleet.h"

/* The ids of those whose lease is not over; NULL: not known. */
static redisReply *live_workers(struct client *c)
{
    char key[KEY_MAX], from[32], count[16];
    double now = client_now(c);
    const char *argv[] = {
        "ZRANGE",  protocol_key(&c->protocol, key, "wk", NULL),
        from,      "+inf",
        "BYSCORE", "LIMIT",
        "0",       count};
    redisReply *reply = NULL;

    snprintf(from, sizeof(from), "(%.0f", now * 1000);
    snprintf(count, sizeof(count), "%d", SERVED_WORKERS_MAX);
    if (now < 0 || client_ask(c, &reply, 8, argv) < 0)
        return NULL;
    return reply;
}

/* What each of them serves, "high,default". */
static redisReply *queues_of(struct client *c, const redisReply *workers)
{
    const char *argv[SERVED_WORKERS_MAX + 2];
    char key[KEY_MAX];
    redisReply *reply = NULL;
    int argc = 0;

    argv[argc++] = "HMGET";
    argv[argc++] = protocol_key(&c->protocol, key, "wkq", NULL);
    for (size_t i = 0; i < workers->elements && i < SERVED_WORKERS_MAX; i++)
        argv[argc++] = workers->element[i]->str;
    return client_ask(c, &reply, argc, argv) < 0 ? NULL : reply;
}

static bool has_name(const char *names, const char *name, size_t len)
{
    const char *one;
    size_t here;

    while ((one = fleet_next_queue(&names, &here)))
        if (here == len && !memcmp(one, name, len))
            return true;
    return false;
}

/* Each name once; what has no room is left out. */
static void collect(char *all, size_t size, const char *names)
{
    const char *one;
    size_t len;

    while ((one = fleet_next_queue(&names, &len))) {
        size_t used = strlen(all);

        if (used + len + 3 < size && !has_name(all, one, len))
            snprintf(all + used, size - used, "%s%.*s", used ? ", " : "",
                     (int)len, one);
    }
}

static enum served judge(const redisReply *queues, const char *queue,
                         char hint_out[SERVED_HINT_MAX])
{
    char all[SERVED_HINT_MAX / 2] = "";

    for (size_t i = 0; i < queues->elements; i++) {
        const redisReply *names = queues->element[i];

        if (names->type != REDIS_REPLY_STRING ||
            has_name(names->str, queue, strlen(queue)))
            return SERVED;
        collect(all, sizeof(all), names->str);
    }
    snprintf(hint_out, SERVED_HINT_MAX,
             "no live worker serves queue %s (served: %s)", queue, all);
    return SERVED_OTHERS;
}

static enum served by_workers(struct client *c, const redisReply *workers,
                              const char *queue, char hint_out[SERVED_HINT_MAX])
{
    AUTO_REPLY redisReply *queues = NULL;

    if (!workers || workers->type != REDIS_REPLY_ARRAY)
        return SERVED;
    if (workers->elements == 0) {
        snprintf(hint_out, SERVED_HINT_MAX,
                 "no worker is alive (start capibox-worker)");
        return SERVED_NO_WORKER;
    }
    queues = queues_of(c, workers);
    return queues && queues->type == REDIS_REPLY_ARRAY
               ? judge(queues, queue, hint_out)
               : SERVED;
}

enum served served_ask(struct client *c, const char *queue,
                       char hint_out[SERVED_HINT_MAX])
{
    AUTO_REPLY redisReply *workers = live_workers(c);
    enum served answer = by_workers(c, workers, queue, hint_out);
    bool paused = false;

    if (answer != SERVED)
        return answer;
    hint_out[0] = '\0';
    if (fleet_paused(c, &paused) < 0 || !paused)
        return SERVED;
    snprintf(hint_out, SERVED_HINT_MAX, FLEET_PAUSED, c->protocol.prefix);
    return SERVED_PAUSED;
}
