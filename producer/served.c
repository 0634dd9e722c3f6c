#include "producer/served.h"

#include <stdlib.h>
#include <string.h>

#include "producer/fleet.h"

/* Lives by the clock of Redis: a lease that is over is nobody's. -1: unknown.
 */
static double redis_now_ms(struct client *c)
{
    const char *argv[] = {"TIME"};
    redisReply *reply = NULL;
    double now = -1;

    if (client_ask(c, &reply, 1, argv) < 0)
        return -1;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2)
        now = strtod(reply->element[0]->str, NULL) * 1000 +
              strtod(reply->element[1]->str, NULL) / 1000;
    freeReplyObject(reply);
    return now;
}

/* The ids of the living; NULL: not known. */
static redisReply *live_workers(struct client *c)
{
    char key[KEY_MAX], from[32], count[16];
    double now = redis_now_ms(c);
    const char *argv[] = {
        "ZRANGE",  protocol_key(&c->protocol, key, "wk", NULL),
        from,      "+inf",
        "BYSCORE", "LIMIT",
        "0",       count};
    redisReply *reply = NULL;

    snprintf(from, sizeof(from), "(%.0f", now);
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

/* The name at *at, without its weight ("high*3"); goes on behind it. */
static const char *next_name(const char **at, size_t *len_out)
{
    const char *name = *at + strspn(*at, ", ");

    *len_out = strcspn(name, ",*");
    *at = name + strcspn(name, ",");
    return *name ? name : NULL;
}

static bool has_name(const char *names, const char *name, size_t len)
{
    const char *one;
    size_t here;

    while ((one = next_name(&names, &here)))
        if (here == len && !memcmp(one, name, len))
            return true;
    return false;
}

/* Each name once; what has no room is left out. */
static void collect(char *all, size_t size, const char *names)
{
    const char *one;
    size_t len;

    while ((one = next_name(&names, &len))) {
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

enum served served_ask(struct client *c, const char *queue,
                       char hint_out[SERVED_HINT_MAX])
{
    redisReply *workers = live_workers(c), *queues = NULL;
    enum served answer = SERVED;
    bool paused = false;

    hint_out[0] = '\0';
    if (workers && workers->elements > 0)
        queues = queues_of(c, workers);
    if (queues && queues->type == REDIS_REPLY_ARRAY)
        answer = judge(queues, queue, hint_out);
    if (workers && workers->type == REDIS_REPLY_ARRAY &&
        workers->elements == 0) {
        answer = SERVED_NO_WORKER;
        snprintf(hint_out, SERVED_HINT_MAX,
                 "no worker is alive (start capibox-worker)");
    }
    if (answer == SERVED && fleet_paused(c, &paused) == 0 && paused) {
        answer = SERVED_PAUSED;
        snprintf(hint_out, SERVED_HINT_MAX, FLEET_PAUSED, c->protocol.prefix);
    }
    if (queues)
        freeReplyObject(queues);
    if (workers)
        freeReplyObject(workers);
    return answer;
}
