/* common/redis_connect.c -- from a closed connection to one that can be used:
 * log in, choose the database, say who we are, learn who they are. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/redis_private.h"

#define STEPS_MAX     6
#define REPLY_SLACK   65536u /* around the largest string Redis can hold */
#define SHOWN_TEXT    200    /* bytes of a server's words in ours */
#define DB_DIGITS_MAX 12

/* Looks at one answer. Negative: give up, with redis_fail() done. */
typedef int check_fn(struct redis *r, const redisReply *reply);

struct greeting {
    check_fn *checks[STEPS_MAX];
    size_t count;
};

/* The server's own words behind ours, one line without control characters. */
static int refuse(struct redis *r, int rc, const char *what,
                  const redisReply *reply)
{
    char words[SHOWN_TEXT + 64];
    const char *text = reply->str ? reply->str : "an answer of another type";

    snprintf(words, sizeof(words), "%s%.*s", what, SHOWN_TEXT, text);
    for (char *c = words; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = ' ';
    return redis_fail(r, rc, words);
}

/* Refusals that can meet the first command, whichever it is. */
static int check_welcome(struct redis *r, const redisReply *reply)
{
    if (redis_kind(reply) == REDIS_LATER)
        return refuse(r, -EAGAIN, "", reply);
    if (reply->type == REDIS_REPLY_ERROR &&
        (strstr(reply->str, "max number of clients") ||
         !strncmp(reply->str, "DENIED", 6)))
        return refuse(r, -ECONNREFUSED, "", reply);
    return 0;
}

/* Never quotes the server: it may quote the command, password and all. */
static int check_auth(struct redis *r, const redisReply *reply)
{
    int rc = check_welcome(r, reply);

    if (rc < 0 || reply->type != REDIS_REPLY_ERROR)
        return rc;
    if (redis_kind(reply) == REDIS_AUTH)
        return redis_fail(r, -EACCES, "the user name or password is refused");
    if (strstr(reply->str, "without any password"))
        return redis_fail(r, -EACCES,
                          "the URL has a password, but the server has none");
    return redis_fail(r, -EACCES, "the server cannot check the password");
}

static int check_ping(struct redis *r, const redisReply *reply)
{
    int rc = check_welcome(r, reply);

    if (rc < 0 || reply->type != REDIS_REPLY_ERROR)
        return rc;
    if (!strncmp(reply->str, "NOAUTH", 6))
        return redis_fail(r, -EACCES,
                          "the server wants a password, the URL has none");
    return 0; /* a user without +ping may still do the work */
}

static int check_select(struct redis *r, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR)
        return 0;
    return refuse(r, redis_kind(reply) == REDIS_AUTH ? -EACCES : -EINVAL,
                  "choose the database: ", reply);
}

/* The name is a convenience; servers that forbid it are fine. */
static int check_name(struct redis *r, const redisReply *reply)
{
    (void)r;
    (void)reply;
    return 0;
}

static int check_id(struct redis *r, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_INTEGER)
        r->client_id = reply->integer;
    return 0;
}

static int check_info(struct redis *r, const redisReply *reply)
{
    const char *at = NULL;
    size_t len;

    r->run_id[0] = '\0';
    if (reply->type == REDIS_REPLY_STRING)
        at = strstr(reply->str, "run_id:");
    if (!at)
        return 0;
    at += strlen("run_id:");
    len = strcspn(at, "\r\n");
    if (len <= REDIS_RUN_ID_MAX) {
        memcpy(r->run_id, at, len);
        r->run_id[len] = '\0';
    }
    return 0;
}

static int ask(struct redis *r, struct greeting *g, check_fn *check, int argc,
               const char **argv)
{
    g->checks[g->count++] = check;
    return redis_append(r, argc, argv, NULL);
}

static int ask_auth(struct redis *r, struct greeting *g)
{
    const struct redis_target *t = r->target;
    const char *both[] = {"AUTH", t->user, t->password};
    const char *alone[] = {"AUTH", t->password};

    if (!t->password)
        return 0;
    return t->user ? ask(r, g, check_auth, 3, both)
                   : ask(r, g, check_auth, 2, alone);
}

static int ask_select(struct redis *r, struct greeting *g)
{
    char db[DB_DIGITS_MAX];
    const char *argv[] = {"SELECT", db};

    if (r->target->db == 0)
        return 0;
    snprintf(db, sizeof(db), "%d", r->target->db);
    return ask(r, g, check_select, 2, argv);
}

static int ask_name(struct redis *r, struct greeting *g)
{
    const char *argv[] = {"CLIENT", "SETNAME", r->name};

    return r->name[0] ? ask(r, g, check_name, 3, argv) : 0;
}

/* All questions leave together: connecting costs one round trip. PING is the
 * one that a server answers with LOADING while it cannot work yet. */
static int ask_all(struct redis *r, struct greeting *g)
{
    const char *ping[] = {"PING"};
    const char *id[] = {"CLIENT", "ID"};
    const char *info[] = {"INFO", "server"};
    int rc = ask_auth(r, g);

    if (rc == 0)
        rc = ask(r, g, check_ping, 1, ping);
    if (rc == 0)
        rc = ask_select(r, g);
    if (rc == 0)
        rc = ask_name(r, g);
    if (rc == 0)
        rc = ask(r, g, check_id, 2, id);
    if (rc == 0)
        rc = ask(r, g, check_info, 2, info);
    return rc;
}

static int greet(struct redis *r, int64_t deadline_ms)
{
    struct greeting g = {.count = 0};
    int rc = ask_all(r, &g);

    for (size_t i = 0; rc == 0 && i < g.count; i++) {
        redisReply *reply = NULL;

        rc = redis_reply(r, deadline_ms, &reply);
        if (rc == 0)
            rc = g.checks[i](r, reply);
        freeReplyObject(reply);
    }
    return rc;
}

int redis_connect(struct redis *redis, int64_t deadline_ms)
{
    const struct redis_target *t = redis->target;
    struct transport_peer peer = {.path = t->path,
                                  .host = t->host,
                                  .port = t->port,
                                  .tls = t->kind == REDIS_TLS,
                                  .ca_file = t->ca_file,
                                  .cert_file = t->cert_file,
                                  .key_file = t->key_file};
    int rc;

    if (redis_connected(redis))
        return 0;
    redis->connecting = true;
    redis_close(redis);
    rc = transport_open(&redis->transport, &peer, deadline_ms);
    if (rc == 0)
        rc = replies_init(&redis->replies, REDIS_REPLY_BYTES_MAX + REPLY_SLACK);
    if (rc < 0)
        redis_fail(redis, rc, NULL);
    else
        rc = greet(redis, deadline_ms);
    if (rc == 0)
        redis->error[0] = '\0';
    redis->connecting = false;
    return rc;
}
