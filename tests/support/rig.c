#include "tests/support/rig.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"
#include "tests/support/null_backend.h"
#include "tests/support/proc.h"
#include "worker/service.h"
#include "worker/supervisor.h"

#define WORDS_MAX 16

void rig_open(struct rig *rig, const char *const *redis_words)
{
    struct complaint why;

    memset(rig, 0, sizeof(*rig));
    redis_server_start(&rig->server, redis_words);
    MUST0(settings_init(&rig->settings));
    rig->settings.concurrency = 4;
    MUST0(redis_target_parse(rig->server.url, &rig->settings, &rig->target,
                             &why));
    MUST0(protocol_init(&rig->protocol, rig->settings.prefix, 3600,
                        rig->settings.lease_ms));
    MUST0(redis_create(&rig->target, "rig", &rig->redis));
    MUST0(redis_connect(rig->redis, clock_ms() + RIG_WAIT_MS));
}

void rig_close(struct rig *rig)
{
    redis_destroy(rig->redis);
    redis_target_fini(&rig->target);
    settings_fini(&rig->settings);
    redis_server_stop(&rig->server);
}

/* ---- workers ----------------------------------------------------------- */

static void choose_redis(struct rig *rig)
{
    struct complaint why;

    if (!rig->worker_url)
        return;
    MUST0(redis_target_parse(rig->worker_url, &rig->settings, &rig->target,
                             &why));
}

/* Until all is finished, the grace is over, or a further signal comes. */
static void drain(struct rig *rig, struct service *service, const sigset_t *set)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    service_drain(service);
    for (int64_t end = clock_ms() + rig->settings.shutdown_grace_s * 1000;
         !service_idle(service) && clock_ms() < end;)
        if (sigtimedwait(set, NULL, &pause) == SIGTERM)
            break;
    if (!service_idle(service))
        service_kill(service);
}

static _Noreturn void be_worker(struct rig *rig, int announce_fd)
{
    struct template_set *templates = NULL;
    struct service *service = NULL;
    sigset_t set;
    int got;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_setup(false, getenv("RIG_LOG") ? LOG_DEBUG : LOG_ERROR + 1);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    MUST0(sigprocmask(SIG_BLOCK, &set, NULL));
    choose_redis(rig);
    MUST0(template_set_load("templates", NULL, NULL, &templates));
    MUST0(service_start(&rig->settings, &rig->target, &backend_null, templates,
                        announce_fd, &service));
    sigwait(&set, &got);
    drain(rig, service, &set);
    _exit(service_stop(service) ? 1 : 0);
}

pid_t rig_worker(struct rig *rig)
{
    pid_t pid;

    fflush(stdout);
    fflush(stderr);
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        be_worker(rig, -1);
    return pid;
}

pid_t rig_supervised(struct rig *rig)
{
    int announce_fd = -1, code;
    pid_t pid;

    fflush(stdout);
    fflush(stderr);
    pid = fork();
    MUST(pid >= 0);
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_setup(false, getenv("RIG_LOG") ? LOG_DEBUG : LOG_ERROR + 1);
    code = supervisor_run(&rig->settings, &rig->target, &announce_fd);
    if (code < 0)
        be_worker(rig, announce_fd);
    _exit(code);
}

int rig_end(pid_t pid, int sig)
{
    int64_t deadline = clock_ms() + RIG_WAIT_MS;
    int status;

    if (sig)
        kill(pid, sig);
    while (clock_ms() < deadline) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        usleep(2000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
}

/* ---- looking ----------------------------------------------------------- */

static redisReply *vcall(struct rig *rig, va_list args)
{
    const char *words[WORDS_MAX];
    redisReply *reply = NULL;
    int n = 0;

    while (n < WORDS_MAX && (words[n] = va_arg(args, const char *)))
        n++;
    /* A test may restart Redis under us. */
    for (int64_t deadline = clock_ms() + RIG_WAIT_MS; clock_ms() < deadline;) {
        if (redis_connect(rig->redis, deadline) == 0 &&
            redis_call(rig->redis, deadline, &reply, n, words, NULL) == 0)
            return reply;
        usleep(10000);
    }
    MUST(!"Redis answers");
    return NULL;
}

void rig_push(struct rig *rig, const char *queue, const char *job)
{
    char key[KEY_MAX];

    protocol_key(&rig->protocol, key, "queue", queue);
    MUST(rig_number(rig, "LPUSH", key, job, NULL) > 0);
}

long long rig_number(struct rig *rig, ...)
{
    redisReply *reply;
    long long n = -1;
    va_list args;

    va_start(args, rig);
    reply = vcall(rig, args);
    va_end(args);
    if (reply->type == REDIS_REPLY_INTEGER)
        n = reply->integer;
    else if (reply->type == REDIS_REPLY_STRING)
        n = atoll(reply->str);
    freeReplyObject(reply);
    return n;
}

char *rig_text(struct rig *rig, char *out, size_t size, ...)
{
    redisReply *reply;
    va_list args;

    va_start(args, size);
    reply = vcall(rig, args);
    va_end(args);
    snprintf(out, size, "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
    return out;
}

long long rig_stat(struct rig *rig, const char *field)
{
    char key[KEY_MAX];
    long long n;

    n = rig_number(rig, "HGET",
                   protocol_key(&rig->protocol, key, "stats", NULL), field,
                   NULL);
    return n < 0 ? 0 : n;
}

const char *rig_job(struct rig *rig, const char *id, const char *field)
{
    static char text[65536];
    char key[KEY_MAX];

    return rig_text(rig, text, sizeof(text), "HGET",
                    protocol_key(&rig->protocol, key, "job", id), field, NULL);
}

/* ---- waiting ----------------------------------------------------------- */

struct wish {
    struct rig *rig;
    const char *id, *field, *text;
    long long value;
};

static bool has_workers(void *ctx)
{
    struct wish *w = ctx;
    char key[KEY_MAX];

    return rig_number(w->rig, "ZCARD",
                      protocol_key(&w->rig->protocol, key, "wk", NULL),
                      NULL) == w->value;
}

static bool stat_is(void *ctx)
{
    struct wish *w = ctx;

    return rig_stat(w->rig, w->field) >= w->value;
}

static bool job_is(void *ctx)
{
    struct wish *w = ctx;

    return strcmp(rig_job(w->rig, w->id, w->field), w->text) == 0;
}

static bool is_settled(void *ctx)
{
    struct wish *w = ctx;
    struct audit audit;

    return protocol_audit(&w->rig->protocol, w->rig->redis,
                          clock_ms() + RIG_WAIT_MS, w->rig->settings.queues,
                          w->rig->settings.nqueues, &audit) == 0 &&
           audit.balanced && audit.queued == 0 && audit.delayed == 0 &&
           audit.running == 0 && audit.private_ == 0;
}

pid_t rig_worker_pid(struct rig *rig)
{
    char key[KEY_MAX], wid[WORKER_ID_MAX + 1];

    rig_text(rig, wid, sizeof(wid), "EVAL",
             "local w = redis.call('ZRANGE', KEYS[1], 0, -1) "
             "return #w == 1 and w[1] or ''",
             "1", protocol_key(&rig->protocol, key, "wk", NULL), NULL);
    if (!wid[0])
        return 0;
    return (pid_t)rig_number(rig, "HGET",
                             protocol_key(&rig->protocol, key, "worker", wid),
                             "pid", NULL);
}

long long rig_redis_ms(struct rig *rig)
{
    return rig_number(rig, "EVAL",
                      "local t = redis.call('TIME') "
                      "return t[1] * 1000 + math.floor(t[2] / 1000)",
                      "0", NULL);
}

void rig_time_job(struct rig *rig, struct rig_timed *out)
{
    static int count;
    char id[24], job[64];

    snprintf(id, sizeof(id), "timed-%d", ++count);
    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"x\"}", id);
    out->pushed = rig_redis_ms(rig);
    rig_push(rig, "default", job);
    MUST(rig_wait_job(rig, id, "status", "succeeded"));
    out->seen = rig_redis_ms(rig);
    out->started = (long long)(atof(rig_job(rig, id, "started_at")) * 1000);
}

/* It surely started between the two. */
static bool knows_the_time(void *ctx)
{
    struct wish *w = ctx;
    struct rig_timed t;

    rig_time_job(w->rig, &t);
    return t.seen - t.started < w->value;
}

bool rig_wait_clock(struct rig *rig, int within_ms)
{
    return wait_until(knows_the_time,
                      &(struct wish){.rig = rig, .value = within_ms},
                      RIG_WAIT_MS);
}

/* A field of the only worker's card. */
static char *card_field(struct rig *rig, const char *field, char out[64])
{
    return rig_text(rig, out, 64, "EVAL",
                    "local w = redis.call('KEYS', ARGV[1] .. ':worker:*') "
                    "return #w == 1 and redis.call('HGET', w[1], ARGV[2]) "
                    "or ''",
                    "0", rig->settings.prefix, field, NULL);
}

static bool is_draining(void *ctx)
{
    char state[64];

    return strcmp(card_field(ctx, "state", state), "draining") == 0;
}

bool rig_wait_draining(struct rig *rig)
{
    return wait_until(is_draining, rig, RIG_WAIT_MS);
}

static bool has_other_beat(void *ctx)
{
    struct wish *w = ctx;
    char now[64];

    return strcmp(card_field(w->rig, "heartbeat", now), w->text) != 0;
}

bool rig_wait_beats(struct rig *rig)
{
    bool beaten = true;

    for (int i = 0; i < 2 && beaten; i++) {
        char before[64];

        card_field(rig, "heartbeat", before);
        beaten =
            wait_until(has_other_beat,
                       &(struct wish){.rig = rig, .text = before}, RIG_WAIT_MS);
    }
    return beaten;
}

bool rig_workers_ready(struct rig *rig, int n)
{
    return wait_until(has_workers, &(struct wish){.rig = rig, .value = n},
                      RIG_WAIT_MS);
}

bool rig_wait_stat(struct rig *rig, const char *field, long long value)
{
    return wait_until(
        stat_is, &(struct wish){.rig = rig, .field = field, .value = value},
        RIG_WAIT_MS);
}

bool rig_wait_job(struct rig *rig, const char *id, const char *field,
                  const char *value)
{
    return wait_until(
        job_is,
        &(struct wish){.rig = rig, .id = id, .field = field, .text = value},
        RIG_WAIT_MS);
}

bool rig_settled(struct rig *rig)
{
    return wait_until(is_settled, &(struct wish){.rig = rig}, RIG_WAIT_MS);
}
