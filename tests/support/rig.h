/* tests/support/rig.h -- a Redis of one's own, workers as real processes on it,
 * and short words for looking at keys.
 *
 * The workers run the real pool and queue with the null backend
 * (null_backend.h), each in a forked process that can be killed or stopped.
 */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/protocol.h"
#include "common/redis.h"
#include "common/settings.h"
#include "tests/support/redis_server.h"

#define RIG_WAIT_MS 20000

struct rig {
    struct redis_server server;
    struct settings settings;
    struct redis_target target;
    struct protocol protocol;
    struct redis *redis;
    const char *worker_url; /* workers connect here instead; NULL: as we do */
};

/* redis_words: further words for redis-server, or NULL. */
void rig_open(struct rig *rig, const char *const *redis_words);
void rig_close(struct rig *rig);

/* A worker process with rig->settings as they are now. */
pid_t rig_worker(struct rig *rig);
/* The same below a supervisor, whose pid it returns. */
pid_t rig_supervised(struct rig *rig);
/* The process of the only worker registered, or 0. */
pid_t rig_worker_pid(struct rig *rig);
/* Waits until n workers are registered. */
bool rig_workers_ready(struct rig *rig, int n);
/* Waits until the card of the only worker says that it starts nothing more. */
bool rig_wait_draining(struct rig *rig);
/* Waits for two heartbeats of the only worker: the first one that begins from
 * now on has told it what there is to know, and it has acted on that. */
bool rig_wait_beats(struct rig *rig);
/* Runs a job that does nothing; times in ms by Redis' clock. */
struct rig_timed {
    long long pushed, started, seen;
};
void rig_time_job(struct rig *rig, struct rig_timed *out);
/* Waits until workers are seen to know Redis' clock that well: what they made
 * of one slow heartbeat, a better one mends. Runs jobs. */
bool rig_wait_clock(struct rig *rig, int within_ms);
/* Sends the signal (0: none) and waits for the end. Wait status, -1: too late.
 */
int rig_end(pid_t pid, int signal);

void rig_push(struct rig *rig, const char *queue, const char *job);
/* One command; the integer it answers, or the text as one, or -1. Arguments are
 * NULL-terminated strings. */
long long rig_number(struct rig *rig, ...) __attribute__((sentinel));
/* The text it answers into out ("" for nil). Returns out. */
char *rig_text(struct rig *rig, char *out, size_t size, ...)
    __attribute__((sentinel));
/* Its clock. */
long long rig_redis_ms(struct rig *rig);
/* A field of P:stats. */
long long rig_stat(struct rig *rig, const char *field);
/* A field of P:job:<id> ("" if there is none); static buffer, last one wins. */
const char *rig_job(struct rig *rig, const char *id, const char *field);

/* Wait, at most RIG_WAIT_MS, for a state. */
bool rig_wait_stat(struct rig *rig, const char *field, long long value);
bool rig_wait_job(struct rig *rig, const char *id, const char *field,
                  const char *value);
/* The books balance and nothing waits or runs. */
bool rig_settled(struct rig *rig);

#endif
