/* common/redis_kind.c -- what an error reply asks of the caller. */
#include <string.h>

#include "common/redis.h"

static const struct {
    const char *word;
    enum redis_kind kind;
} words[] = {
    {"NOSCRIPT", REDIS_NOSCRIPT}, {"LOADING", REDIS_LATER},
    {"BUSY", REDIS_LATER},        {"TRYAGAIN", REDIS_LATER},
    {"CLUSTERDOWN", REDIS_LATER}, {"MASTERDOWN", REDIS_LATER},
    {"NOREPLICAS", REDIS_LATER},  {"MOVED", REDIS_MOVED},
    {"ASK", REDIS_MOVED},         {"READONLY", REDIS_MOVED},
    {"OOM", REDIS_FULL},          {"MISCONF", REDIS_FULL},
    {"NOAUTH", REDIS_AUTH},       {"WRONGPASS", REDIS_AUTH},
    {"NOPERM", REDIS_AUTH},       {"UNBLOCKED", REDIS_UNBLOCKED},
};

static enum redis_kind kind_of(const char *text)
{
    size_t len = strcspn(text, " \r\n");

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i].word) == len && !memcmp(text, words[i].word, len))
            return words[i].kind;
    return REDIS_WRONG;
}

enum redis_kind redis_kind(const redisReply *reply)
{
    const char *inner;

    if (reply->type != REDIS_REPLY_ERROR)
        return REDIS_FINE;
    /* Redis 6 wraps what a command inside a script answered:
     * ERR Error running script (call to f_…): @user_script: 1: -OOM … */
    if (!strncmp(reply->str, "ERR Error running script", 24)) {
        inner = strstr(reply->str, ": -");
        return inner ? kind_of(inner + 3) : REDIS_WRONG;
    }
    return kind_of(reply->str);
}
