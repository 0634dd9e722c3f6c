/* Each script of the queue protocol against a real Redis. The random mix of
 * all of them is test_protocol_sim.c. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/must.h"
#include "common/protocol_call.h"
#include "tests/support/redis_server.h"

static struct redis_server server;
static struct redis_target target;
static struct redis *redis;
static struct protocol protocol;

static const struct queue_share QUEUES[] = {{.name = "high"},
                                            {.name = "default"}};

static int64_t soon(void)
{
    return clock_ms() + 10000;
}

/* ---- plain commands ---------------------------------------------------- */

static redisReply *ask(const char *fmt, ...)
{
    char *argv[64], line[1024], *rest = NULL;
    redisReply *reply = NULL;
    va_list args;
    int argc = 0;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    for (char *at = strtok_r(line, " ", &rest); at && argc < 64;
         at = strtok_r(NULL, " ", &rest))
        argv[argc++] = at;
    MUST0(redis_call(redis, soon(), &reply, argc, (const char **)argv, NULL));
    return reply;
}

static void say(const char *command)
{
    freeReplyObject(ask("%s", command));
}

static int64_t number(const char *command)
{
    redisReply *reply = ask("%s", command);
    int64_t value =
        reply->type == REDIS_REPLY_STRING ? atoll(reply->str) : reply->integer;

    freeReplyObject(reply);
    return value;
}

static char text_at[8][512];

static const char *text(const char *command)
{
    static int turn;
    char *at = text_at[turn++ % 8];
    redisReply *reply = ask("%s", command);

    snprintf(at, sizeof(text_at[0]), "%s",
             reply->type == REDIS_REPLY_STRING ? reply->str : "(nil)");
    freeReplyObject(reply);
    return at;
}

/* ---- a worker in a nutshell -------------------------------------------- */

struct worker {
    char wid[WORKER_ID_MAX + 1];
    int64_t sequence;
    struct exchange_request last;
    struct exchange_reply *reply;
};

/* Freed after each test, also one that failed half way. */
static struct exchange_reply replies[16];
static int nreplies;

static struct worker_card card_of(const struct worker *w)
{
    return (struct worker_card){.wid = w->wid,
                                .host = "h",
                                .backend = "local",
                                .version = "1",
                                .queues = "high,default",
                                .state = "running",
                                .more = "",
                                .pid = 7,
                                .started_at = 1.5,
                                .client_ids = {redis_client_id(redis)}};
}

static void worker_begin(struct worker *w, const char *wid)
{
    memset(w, 0, sizeof(*w));
    strcpy(w->wid, wid);
    assert_true(nreplies < 16);
    w->reply = &replies[nreplies++];
    struct worker_card card = card_of(w);
    assert_int_equal(protocol_register(&protocol, redis, soon(), &card), 0);
}

static void forget_claims(struct exchange_reply *reply)
{
    while (reply->nclaims > 0)
        free(reply->claims[--reply->nclaims].entry);
}

static int send_exchange(struct worker *w,
                         const struct exchange_request *request, bool by_text)
{
    AUTO_REPLY redisReply *reply = NULL;

    forget_claims(w->reply);
    MUST0(protocol_exchange_append(&protocol, redis, request, by_text));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    int rc = protocol_exchange_parse(reply, request, w->reply);
    if (rc < 0 && rc != -ESTALE)
        print_message("exchange: %s\n", protocol_error());
    return rc;
}

static int exchange(struct worker *w, const struct finish *finishes,
                    int nfinishes, int claim)
{
    w->last = (struct exchange_request){.wid = w->wid,
                                        .sequence = ++w->sequence,
                                        .queues = QUEUES,
                                        .nqueues = 2,
                                        .finishes = finishes,
                                        .nfinishes = nfinishes,
                                        .claim = claim};
    int rc = send_exchange(w, &w->last, false);
    return rc == -ESTALE ? send_exchange(w, &w->last, true) : rc;
}

static void claim(struct worker *w, int expected)
{
    assert_int_equal(exchange(w, NULL, 0, CLAIM_MAX), 0);
    assert_int_equal(w->reply->nclaims, expected);
}

static const char *END_NAMES[] = {"status", "result"};
#define LONG_TEXT                                                      \
    "{\"stdout\":[\"a result is longer than what goes by itself: "     \
    "................................................................" \
    "...............\"]}"
static const char *END_VALUES[] = {"succeeded", LONG_TEXT};
static const size_t END_LENS[] = {9, sizeof(LONG_TEXT) - 1};

static struct finish finish_ok(int64_t number_, const char *id)
{
    return (struct finish){.kind = FINISH_END,
                           .number = number_,
                           .queue = "default",
                           .job_id = id,
                           .names = END_NAMES,
                           .values = END_VALUES,
                           .value_lens = END_LENS,
                           .nfields = 2,
                           .verdict = VERDICT_OK,
                           .code_started = true,
                           .success = true,
                           .sandbox_created = true,
                           .sandbox_destroyed = true,
                           .execution_time = 0.25,
                           .template_id = "default"};
}

static enum start_answer start(struct worker *w, const struct start *s)
{
    AUTO_REPLY redisReply *reply = NULL;
    enum start_answer answer = START_FENCED;

    MUST0(protocol_start_append(&protocol, redis, w->wid, s, true));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    assert_int_equal(protocol_start_parse(reply, &answer), 0);
    return answer;
}

static enum start_answer start_plain(struct worker *w, int64_t number_,
                                     const char *id, const char *parent)
{
    return start(w, &(struct start){.number = number_,
                                    .queue = "default",
                                    .job_id = id,
                                    .parent = parent});
}

static int64_t reap(const char *wid, bool force)
{
    int64_t moved = 0;

    assert_int_equal(
        protocol_reap(&protocol, redis, soon(), wid, force, &moved), 0);
    return moved;
}

static struct audit audit(void)
{
    struct audit a;

    assert_int_equal(protocol_audit(&protocol, redis, soon(), QUEUES, 2, &a),
                     0);
    return a;
}

static enum enqueue_answer enqueue(const struct enqueue *e)
{
    enum enqueue_answer answer = ENQUEUE_FULL;

    assert_int_equal(protocol_enqueue(&protocol, redis, soon(), e, &answer), 0);
    return answer;
}

static struct enqueue plain_job(const char *id)
{
    return (struct enqueue){
        .queue = "default", .job_id = id, .body = "{}", .body_len = 2};
}

static struct envelope envelope_of(const char *entry)
{
    struct envelope e;

    envelope_parse(entry, strlen(entry), &e);
    return e;
}

/* ---- finishing and claiming -------------------------------------------- */

static void a_push_is_claimed_and_ends_with_its_counters(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default {\"code\":\"1\"}");
    claim(&w, 1);
    assert_string_equal(w.reply->claims[0].entry, "{\"code\":\"1\"}");
    assert_int_equal(w.reply->claims[0].number, 1);
    assert_int_equal(w.reply->claims[0].queue, 1);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_DONE);
    assert_string_equal(text("HGET {t}:job:w1.1 status"), "succeeded");
    assert_string_equal(text("HGET {t}:job:w1.1 token"), "w1.1");
    assert_true(number("PTTL {t}:job:w1.1") > 50000);
    assert_int_equal(number("HGET {t}:stats total_executions"), 1);
    assert_int_equal(number("HGET {t}:stats successful_executions"), 1);
    assert_int_equal(number("HGET {t}:stats verdict:ok"), 1);
    assert_int_equal(number("HGET {t}:stats sandbox_destroyed"), 1);
    assert_string_equal(text("HGET {t}:stats total_execution_time"),
                        "0.250000");
    assert_int_equal(number("HGET {t}:stats:template:default bucket:0.25"), 1);
    assert_int_equal(audit().terminal, 1);
    assert_true(audit().balanced);
}

static void values_of_any_size_arrive_whole(void **state)
{
    static const size_t SIZES[] = {0, 31, 32, 128, 129, 65535, 65536, 300000};
    const char *names[8] = {"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"};
    const char *values[8];
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");
    char *bytes = malloc(300000);

    (void)state;
    assert_non_null(bytes);
    for (int i = 0; i < 300000; i++)
        bytes[i] = (char)(i * 7);
    for (int i = 0; i < 8; i++)
        values[i] = bytes;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a");
    claim(&w, 1);
    done.names = names;
    done.values = values;
    done.value_lens = SIZES;
    done.nfields = 8;
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    for (int i = 0; i < 8; i++) {
        AUTO_REPLY redisReply *got = ask("HGET {t}:job:w1.1 f%d", i);

        assert_int_equal(got->len, SIZES[i]);
        assert_memory_equal(got->str, bytes, SIZES[i]);
    }
    free(bytes);
}

static void big_counters_stay_exact(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    say("HSET {t}:stats total_executions 4503599627370495 "
        "total_execution_time 123456789.000001");
    done.execution_time = 0.000001;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a");
    claim(&w, 1);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_string_equal(text("HGET {t}:stats total_executions"),
                        "4503599627370496");
    assert_string_equal(text("HGET {t}:stats total_execution_time"),
                        "123456789.000002");
}

static void languages_are_counted_apart(void **state)
{
    struct worker w;
    struct finish done[3] = {finish_ok(1, "w1.1"), finish_ok(2, "w1.2"),
                             finish_ok(3, "w1.3")};

    (void)state;
    done[0].language = done[1].language = "python";
    done[1].success = false;
    done[1].verdict = VERDICT_USER_ERROR;
    done[1].execution_time = 0.5;
    done[2].template_id = NULL; /* and no language */
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b c");
    claim(&w, 3);
    assert_int_equal(exchange(&w, done, 3, 0), 0);
    assert_string_equal(
        text("HGET {t}:stats language:python:successful_executions"), "1");
    assert_string_equal(
        text("HGET {t}:stats language:python:failed_executions"), "1");
    assert_string_equal(
        text("HGET {t}:stats language:python:total_execution_time"),
        "0.750000");
    assert_string_equal(text("HGET {t}:stats language:python:bucket:0.25"),
                        "1");
    assert_string_equal(text("HGET {t}:stats total_executions"), "3");
    assert_string_equal(text("HGET {t}:stats total_execution_time"),
                        "1.000000");
    /* Only there. */
    assert_string_equal(
        text("HGET {t}:stats:template:default language:python:bucket:0.25"),
        "(nil)");
}

static void queues_are_served_in_order_and_oldest_first(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default d1 d2");
    say("LPUSH {t}:queue:high h1 h2");
    assert_int_equal(exchange(&w, NULL, 0, 3), 0);
    assert_int_equal(w.reply->nclaims, 3);
    assert_string_equal(w.reply->claims[0].entry, "h1");
    assert_string_equal(w.reply->claims[1].entry, "h2");
    assert_string_equal(w.reply->claims[2].entry, "d1");
    assert_int_equal(w.reply->claims[2].number, 3);
}

static void what_a_blocked_move_took_is_claimed_first(void **state)
{
    struct worker w;
    AUTO_REPLY redisReply *reply = NULL;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default d1 d2");
    MUST0(protocol_block_append(&protocol, redis, w.wid, "default"));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    assert_string_equal(reply->str, "d1");
    assert_int_equal(audit().private_, 1);
    say("LPUSH {t}:queue:high h1");
    claim(&w, 3);
    assert_string_equal(w.reply->claims[0].entry, "d1");
    assert_string_equal(w.reply->claims[1].entry, "h1");
    assert_string_equal(w.reply->claims[2].entry, "d2");
}

static void a_lost_reply_is_answered_the_same_again(void **state)
{
    struct worker w;
    struct finish finishes[2] = {finish_ok(1, "w1.1"),
                                 {.kind = FINISH_RETRY,
                                  .number = 2,
                                  .queue = "default",
                                  .job_id = "w1.2",
                                  .entry = "!a1|b",
                                  .entry_len = 5,
                                  .due_ms = 1}};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b c");
    say("LPUSH {t}:queue:high h");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    say("LPUSH {t}:queue:high h2");
    assert_int_equal(w.reply->claims[0].queue, 0);
    finishes[0].queue = "high";
    assert_int_equal(exchange(&w, NULL, 0, 2), 0);
    finishes[1].number = 3;
    assert_int_equal(exchange(&w, finishes, 2, 2), 0);
    assert_int_equal(w.reply->nclaims, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send_exchange(&w, &w.last, i == 1), 0);
        assert_int_equal(w.reply->acks[0], ACK_AGAIN);
        assert_int_equal(w.reply->acks[1], ACK_AGAIN);
        assert_int_equal(w.reply->nclaims, 2);
        assert_string_equal(w.reply->claims[0].entry, "b");
        assert_int_equal(w.reply->claims[0].number, 4);
        assert_string_equal(w.reply->claims[1].entry, "c");
        assert_int_equal(w.reply->claims[1].number, 5);
    }
    assert_int_equal(number("ZCARD {t}:delayed"), 1);
    assert_int_equal(number("HGET {t}:stats retries"), 1);
    assert_int_equal(number("HGET {t}:stats late"), 0);
    assert_true(audit().balanced);
}

static void a_straggler_of_an_old_connection_does_nothing(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    claim(&w, 0);
    struct exchange_request old = w.last;
    claim(&w, 0);
    say("LPUSH {t}:queue:default a");
    assert_int_equal(send_exchange(&w, &old, false), -EPROTO);
    assert_int_equal(send_exchange(&w, &w.last, false), 0);
    assert_int_equal(w.reply->nclaims, 0);
    assert_int_equal(number("LLEN {t}:queue:default"), 1);
}

static void a_redis_that_went_back_in_time_fences(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b");
    claim(&w, 2);
    say("COPY {t}:inf:w1 {t}:before");
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    say("COPY {t}:before {t}:inf:w1 REPLACE");
    say("DEL {t}:job:w1.1");
    /* The entry of claim 1 is there again, and not this finish's to end. */
    done.number = 2;
    done.job_id = "w1.2";
    assert_int_equal(exchange(&w, &done, 1, 5), 0);
    assert_true(w.reply->fenced);
    assert_int_equal(w.reply->acks[0], ACK_LATE);
    assert_int_equal(reap("w1", true), 2);
}

static void a_finish_without_the_claim_is_late(void **state)
{
    struct worker w;
    struct finish done = finish_ok(5, "w1.5");

    (void)state;
    worker_begin(&w, "w1");
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_LATE);
    assert_int_equal(number("HGET {t}:stats late"), 1);
    assert_int_equal(number("EXISTS {t}:job:w1.5"), 0);
}

static void a_retry_waits_for_its_time_and_comes_back(void **state)
{
    struct worker w;
    int64_t moved, due;
    struct finish retry = {.kind = FINISH_RETRY,
                           .number = 1,
                           .queue = "high",
                           .job_id = "j",
                           .started = true,
                           .entry = "!a1;pw1.1|x y",
                           .entry_len = 13,
                           .due_ms = 1};
    struct finish later = retry;

    (void)state;
    later.number = 2;
    later.kind = FINISH_DELAY;
    later.job_id = "k";
    later.due_ms = 99999999999999;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:high x y");
    claim(&w, 2);
    struct start s = {
        .number = 1, .queue = "high", .job_id = "j", .parent = ""};
    assert_int_equal(start(&w, &s), START_OK);
    struct finish both[2] = {retry, later};
    assert_int_equal(exchange(&w, both, 2, 0), 0);
    assert_string_equal(text("HGET {t}:job:j status"), "delayed");
    assert_int_equal(protocol_promote(&protocol, redis, soon(), &moved, &due),
                     0);
    assert_int_equal(moved, 1);
    assert_int_equal(due, 99999999999999);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    assert_string_equal(text("LINDEX {t}:queue:high 0"), "!a1;pw1.1|x y");
    assert_int_equal(audit().delayed, 1);
    assert_true(audit().balanced);
}

static void a_delay_shows_in_the_hash_without_a_start(void **state)
{
    struct worker w;
    int64_t moved, due;
    struct finish delay = {.kind = FINISH_DELAY,
                           .number = 1,
                           .queue = "default",
                           .job_id = "j",
                           .parent = "w1.1",
                           .events = true,
                           .entry = "!pw1.1|x",
                           .entry_len = 8,
                           .due_ms = 7000};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x y z");
    claim(&w, 3);
    assert_int_equal(exchange(&w, &delay, 1, 0), 0);
    assert_string_equal(text("HGET {t}:job:j status"), "delayed");
    assert_string_equal(text("HGET {t}:job:j due_at"), "7.000");
    assert_string_equal(text("HGET {t}:job:j token"), "w1.1");
    assert_int_equal(number("XLEN {t}:events:j"), 1);

    /* Another entry with its id must not say anything there. */
    delay.number = 2;
    delay.parent = "w1.2";
    delay.due_ms = 9000;
    assert_int_equal(exchange(&w, &delay, 1, 0), 0);
    assert_string_equal(text("HGET {t}:job:j due_at"), "7.000");
    assert_int_equal(number("XLEN {t}:events:j"), 1);

    /* Its time has come: it is queued, and nobody but its heir starts it. */
    assert_int_equal(protocol_promote(&protocol, redis, soon(), &moved, &due),
                     0);
    assert_int_equal(moved, 2);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    claim(&w, 2);
    struct start s = {
        .number = 4, .queue = "default", .job_id = "j", .parent = "w1.2"};
    assert_int_equal(start(&w, &s), START_DUPLICATE);
    s.parent = "w1.1";
    assert_int_equal(start(&w, &s), START_OK);
}

static void two_equal_entries_may_wait_together(void **state)
{
    struct worker w;
    struct finish both[2];

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x x");
    claim(&w, 2);
    for (int i = 0; i < 2; i++)
        both[i] = (struct finish){.kind = FINISH_DELAY,
                                  .number = i + 1,
                                  .queue = "default",
                                  .job_id = "",
                                  .entry = "x",
                                  .entry_len = 1,
                                  .due_ms = 5};
    assert_int_equal(exchange(&w, both, 2, 0), 0);
    assert_int_equal(number("ZCARD {t}:delayed"), 2);
}

static void a_released_entry_is_first_in_line(void **state)
{
    struct worker w;
    struct finish release = {.kind = FINISH_RELEASE,
                             .number = 1,
                             .queue = "default",
                             .job_id = "",
                             .entry = "first",
                             .entry_len = 5};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default first second");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    assert_int_equal(exchange(&w, &release, 1, 0), 0);
    assert_int_equal(number("HGET {t}:stats released"), 1);
    claim(&w, 2);
    assert_string_equal(w.reply->claims[0].entry, "first");
}

static void a_dead_job_is_listed_and_counted(void **state)
{
    struct worker w;
    struct finish dead = finish_ok(1, "w1.1");

    (void)state;
    dead.verdict = VERDICT_LOST;
    dead.success = dead.code_started = false;
    dead.dead_entry = "why\0raw";
    dead.dead_entry_len = 7;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x");
    claim(&w, 1);
    assert_int_equal(exchange(&w, &dead, 1, 0), 0);
    assert_int_equal(number("HGET {t}:stats dead"), 1);
    assert_int_equal(number("HGET {t}:stats verdict:lost"), 1);
    assert_int_equal(number("HGET {t}:stats total_executions"), 0);
    assert_int_equal(number("LLEN {t}:dead"), 1);
}

static void the_dead_list_is_bounded(void **state)
{
    struct worker w;
    struct finish dead = finish_ok(1, "w1.1");
    AUTO_REPLY redisReply *filled = NULL;

    (void)state;
    dead.dead_entry = "newest";
    dead.dead_entry_len = 6;
    MUST0(redis_callv(redis, soon(), &filled, "EVAL",
                      "for i = 1, 10000 do "
                      "redis.call('LPUSH', '{t}:dead', i) end",
                      "0", NULL));
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x");
    claim(&w, 1);
    assert_int_equal(exchange(&w, &dead, 1, 0), 0);
    assert_int_equal(number("LLEN {t}:dead"), DEAD_LIST_MAX);
    assert_string_equal(text("LINDEX {t}:dead 0"), "newest");
}

static void a_foreign_key_in_the_way_does_not_lose_a_result(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x");
    say("SET {t}:job:w1.1 nonsense");
    say("SET {t}:queue:high nonsense");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    assert_true(strstr(w.reply->trouble, "WRONGTYPE") != NULL);
    say("DEL {t}:queue:high");
    claim(&w, 1);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_DONE);
    assert_string_equal(text("HGET {t}:job:w1.1 status"), "succeeded");
}

static void the_end_is_told_to_who_listens(void **state)
{
    struct worker w;
    struct redis *ear = NULL;
    AUTO_REPLY redisReply *subscribed = NULL;
    struct finish both[2] = {finish_ok(1, "one"), finish_ok(2, "two")};

    (void)state;
    MUST0(redis_create(&target, NULL, &ear));
    MUST0(redis_connect(ear, soon()));
    MUST0(redis_callv(ear, soon(), &subscribed, "PSUBSCRIBE", "{t}:d*", NULL));
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x y");
    claim(&w, 2);
    assert_int_equal(exchange(&w, both, 2, 0), 0);
    for (int i = 0; i < 2; i++) {
        AUTO_REPLY redisReply *message = NULL;

        MUST0(redis_reply(ear, soon(), &message));
        assert_string_equal(message->element[3]->str, both[i].job_id);
    }
    redis_destroy(ear);
}

static void a_batch_is_complete_when_all_of_it_ended(void **state)
{
    struct worker w;
    struct finish both[2] = {finish_ok(1, "one"), finish_ok(2, "two")};

    (void)state;
    both[0].batch_id = both[1].batch_id = "b";
    both[1].success = false;
    both[1].verdict = VERDICT_USER_ERROR;
    assert_int_equal(protocol_batch_create(&protocol, redis, soon(), "b", 2),
                     0);
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x y");
    claim(&w, 2);
    assert_int_equal(exchange(&w, both, 1, 0), 0);
    assert_string_equal(text("HGET {t}:batch:b status"), "running");
    say("PERSIST {t}:batch:b");
    assert_int_equal(exchange(&w, both + 1, 1, 0), 0);
    assert_string_equal(text("HGET {t}:batch:b status"), "completed");
    assert_int_equal(number("HGET {t}:batch:b succeeded"), 1);
    assert_int_equal(number("HGET {t}:batch:b failed"), 1);
    assert_true(number("PTTL {t}:batch:b") > 0);
}

static void the_output_stream_ends_with_the_verdict(void **state)
{
    struct worker w;
    AUTO_REPLY redisReply *reply = NULL;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    done.events = true;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default x");
    claim(&w, 1);
    MUST0(protocol_event_append(&protocol, redis, "w1.1", "stdout", "hello", 5,
                                0));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &reply));
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    AUTO_REPLY redisReply *all = ask("XRANGE {t}:events:w1.1 - +");
    assert_int_equal(all->elements, 2);
    redisReply *last = all->element[1]->element[1];
    assert_string_equal(last->element[1]->str, "end");
    assert_string_equal(last->element[3]->str, "ok");
    assert_true(number("PTTL {t}:events:w1.1") > 0);
}

/* ---- ids and start marks ----------------------------------------------- */

static void an_id_runs_once(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b");
    claim(&w, 2);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(start_plain(&w, 2, "j", ""), START_DUPLICATE);
    assert_string_equal(text("HGET {t}:job:j status"), "running");
    assert_string_equal(text("HGET {t}:job:j token"), "w1.1");
    struct finish done = finish_ok(1, "j");
    done.started = true;
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(number("HLEN {t}:run:w1"), 0);
    assert_int_equal(start_plain(&w, 2, "j", "w1.1"), START_DUPLICATE);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_FENCED);
}

static void a_bare_push_cannot_take_an_accepted_id(void **state)
{
    struct worker w;
    struct enqueue job = plain_job("j");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default rival");
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    claim(&w, 2);
    struct envelope e = envelope_of(w.reply->claims[1].entry);
    assert_string_equal(e.id, "j");
    assert_true(e.enqueued_ms > 1000000000000);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_DUPLICATE);
    assert_int_equal(start_plain(&w, 2, "j", e.parent), START_OK);
}

static void a_reaped_job_is_its_own_heir(void **state)
{
    struct worker w1, w2, w3;
    struct enqueue job = plain_job("j");

    (void)state;
    worker_begin(&w1, "w1");
    worker_begin(&w2, "w2");
    worker_begin(&w3, "w3");
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    claim(&w1, 1); /* dies before the start mark */
    assert_int_equal(reap("w1", true), 1);
    claim(&w2, 1);
    struct envelope e = envelope_of(w2.reply->claims[0].entry);
    assert_int_equal(start_plain(&w2, 1, "j", e.parent), START_OK);
    assert_int_equal(reap("w2", true), 1); /* dies after it */
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    claim(&w3, 1);
    e = envelope_of(w3.reply->claims[0].entry);
    assert_string_equal(e.parent, "w2.1");
    assert_int_equal(e.deliveries, 2);
    assert_int_equal(start_plain(&w3, 1, "j", e.parent), START_OK);
}

static void enqueue_knows_its_own_repeat(void **state)
{
    struct enqueue job = plain_job("j");

    (void)state;
    job.nonce = "n1";
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    job.nonce = "n2";
    assert_int_equal(enqueue(&job), ENQUEUE_DUPLICATE);
    job.nonce = NULL;
    assert_int_equal(enqueue(&job), ENQUEUE_DUPLICATE);
    assert_int_equal(number("LLEN {t}:queue:default"), 1);
    job.job_id = "k";
    job.queue_max = 1;
    assert_int_equal(enqueue(&job), ENQUEUE_FULL);
    job.queue_max = 0;
    job.delay_ms = 60000;
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    assert_string_equal(text("HGET {t}:job:k status"), "delayed");
    assert_int_equal(number("ZCARD {t}:delayed"), 1);
    assert_int_equal(audit().enqueued, 2);
}

/* ---- leases, reaping --------------------------------------------------- */

static void a_lease_that_is_not_over_is_respected(void **state)
{
    struct worker w;
    int64_t moved;

    (void)state;
    worker_begin(&w, "w1");
    assert_int_equal(
        protocol_reap(&protocol, redis, soon(), "w1", false, &moved), -EBUSY);
    say("ZADD {t}:wk 1 w1");
    assert_int_equal(
        protocol_reap(&protocol, redis, soon(), "w1", false, &moved), 0);
}

static void the_reaped_are_shut_out(void **state)
{
    struct worker w;
    struct heartbeat beat;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    assert_int_equal(reap("w1", true), 1);
    assert_int_equal(exchange(&w, &done, 1, 5), 0);
    assert_true(w.reply->fenced);
    assert_int_equal(w.reply->acks[0], ACK_LATE);
    assert_int_equal(w.reply->nclaims, 0);
    assert_int_equal(start_plain(&w, 1, "w1.1", ""), START_FENCED);
    struct worker_card card = card_of(&w);
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_true(beat.fenced);
    assert_int_equal(protocol_register(&protocol, redis, soon(), &card),
                     -EPROTO);
    assert_int_equal(number("LLEN {t}:queue:default"), 2);
    assert_true(audit().balanced);
}

static void a_commit_before_the_fence_is_not_called_late(void **state)
{
    struct worker w;
    struct finish both[2] = {finish_ok(1, "w1.1"),
                             {.kind = FINISH_RELEASE,
                              .number = 2,
                              .queue = "default",
                              .job_id = "",
                              .entry = "b",
                              .entry_len = 1}};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b");
    claim(&w, 2);
    assert_int_equal(exchange(&w, both, 2, 0), 0);
    reap("w1", true);
    assert_int_equal(send_exchange(&w, &w.last, false), 0);
    assert_true(w.reply->fenced);
    assert_int_equal(w.reply->acks[0], ACK_AGAIN);
    assert_int_equal(w.reply->acks[1], ACK_AGAIN);
    /* Even in another request the hash itself tells. */
    assert_int_equal(exchange(&w, both, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_AGAIN);
}

static void a_start_before_the_fence_is_not_a_commit(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "j");

    (void)state;
    done.started = true;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a");
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    reap("w1", true);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_LATE);
}

static void the_reaped_entries_go_first_in_their_order(void **state)
{
    struct worker w1, w2;

    (void)state;
    worker_begin(&w1, "w1");
    worker_begin(&w2, "w2");
    for (int i = 0; i < 3 * PROTOCOL_REAP_CHUNK; i++)
        freeReplyObject(ask("LPUSH {t}:queue:default %d", i));
    for (int i = 0; i < 2; i++)
        assert_int_equal(exchange(&w1, NULL, 0, CLAIM_MAX), 0);
    say("LMOVE {t}:queue:default {t}:p:w1:default RIGHT LEFT");
    say("LMOVE {t}:queue:default {t}:p:w1:default RIGHT LEFT");
    assert_int_equal(reap("w1", true), 2 * CLAIM_MAX + 2);
    assert_string_equal(text("LINDEX {t}:queue:default 42"), "257");
    assert_string_equal(text("LINDEX {t}:queue:default 43"), "256");
    assert_int_equal(exchange(&w2, NULL, 0, CLAIM_MAX), 0);
    for (int i = 0; i < CLAIM_MAX; i++) {
        const char *bar = strchr(w2.reply->claims[i].entry, '|');

        assert_non_null(bar);
        assert_int_equal(atoi(bar + 1), i);
    }
    assert_int_equal(number("HGET {t}:stats recovered"), 2 * CLAIM_MAX);
    assert_true(audit().balanced);
}

static struct envelope next_envelope(struct worker *w)
{
    assert_int_equal(exchange(w, NULL, 0, 1), 0);
    assert_int_equal(w->reply->nclaims, 1);
    return envelope_of(w->reply->claims[0].entry);
}

static void all_are_suspects_of_an_unmarked_death(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a !c3;t5|b");
    claim(&w, 2);
    reap("w1", true);
    worker_begin(&w, "w2");
    struct envelope a = next_envelope(&w), b = next_envelope(&w);
    assert_int_equal(a.suspicions, 1);
    assert_string_equal(a.id, "w1.1");
    assert_string_equal(a.parent, "w1.1");
    assert_int_equal(b.suspicions, 3);
    assert_int_equal(b.enqueued_ms, 5);
}

static void only_the_marked_one_is_charged(void **state)
{
    struct worker w;
    struct start mark = {.number = 2,
                         .queue = "default",
                         .job_id = "",
                         .parent = "",
                         .suspect = true,
                         .mark_only = true};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default !c1|a !c1|b c");
    claim(&w, 3);
    assert_int_equal(start(&w, &mark), START_OK);
    reap("w1", true);
    worker_begin(&w, "w2");
    struct envelope a = next_envelope(&w), b = next_envelope(&w),
                    c = next_envelope(&w);
    assert_int_equal(a.suspicions, 1);
    assert_int_equal(b.suspicions, 2);
    assert_int_equal(c.suspicions, 0);
}

static void a_mark_that_was_given_back_accuses_nobody(void **state)
{
    struct worker w;
    struct start mark = {.number = 1,
                         .queue = "default",
                         .job_id = "",
                         .parent = "",
                         .suspect = true,
                         .mark_only = true};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default !c1|a b");
    claim(&w, 2);
    assert_int_equal(start(&w, &mark), START_OK);
    mark.suspect = false;
    mark.unsuspect = true;
    mark.number = 2; /* not its holder */
    assert_int_equal(start(&w, &mark), START_OK);
    assert_string_equal(text("HGET {t}:run:w1 !"), "1@default");
    mark.number = 1;
    assert_int_equal(start(&w, &mark), START_OK);
    assert_string_equal(text("HGET {t}:run:w1 !"), "(nil)");
    /* Taken again, but its claim ended without saying so. */
    mark.suspect = true;
    mark.unsuspect = false;
    assert_int_equal(start(&w, &mark), START_OK);
    struct finish done = finish_ok(1, "w1.1");
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    reap("w1", true);
    worker_begin(&w, "w2");
    assert_int_equal(next_envelope(&w).suspicions, 1);
}

static void a_finished_suspect_takes_its_mark_off(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");
    struct start mark = {.number = 1,
                         .queue = "default",
                         .job_id = "",
                         .parent = "",
                         .suspect = true,
                         .mark_only = true};

    (void)state;
    done.suspect = true;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default !c1|a");
    claim(&w, 1);
    assert_int_equal(start(&w, &mark), START_OK);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    assert_int_equal(number("EXISTS {t}:run:w1"), 0);
}

static void a_move_that_landed_after_reaping_is_brought_back(void **state)
{
    struct worker w;
    int64_t moved;

    (void)state;
    worker_begin(&w, "w1");
    reap("w1", true);
    say("LPUSH {t}:queue:default a b");
    say("LMOVE {t}:queue:default {t}:p:w1:default RIGHT LEFT");
    say("LMOVE {t}:queue:default {t}:p:w1:default RIGHT LEFT");
    assert_int_equal(audit().private_, 2);
    assert_int_equal(protocol_visit_graves(&protocol, redis, soon(), &moved),
                     0);
    assert_int_equal(moved, 2);
    assert_string_equal(text("LINDEX {t}:queue:default -1"), "a");
    say("ZADD {t}:graves 1 w1");
    assert_int_equal(protocol_visit_graves(&protocol, redis, soon(), &moved),
                     0);
    assert_int_equal(moved, 0);
    assert_int_equal(number("ZCARD {t}:graves"), 0);
    assert_int_equal(number("HLEN {t}:wkq"), 0);
}

static void a_half_done_reaping_is_seen_and_finished(void **state)
{
    struct worker w1, w2;
    struct heartbeat beat;

    (void)state;
    worker_begin(&w1, "w1");
    worker_begin(&w2, "w2");
    say("LPUSH {t}:queue:default a b");
    claim(&w1, 2);
    AUTO_WORDS struct words call = {0};
    AUTO_REPLY redisReply *reply = NULL;
    words_script(&call, &protocol, SCRIPT_FENCE, true);
    words_key(&call, &protocol, "inf", "w1");
    words_keys_end(&call);
    words_adds(&call, protocol.prefix);
    words_adds(&call, "w1");
    words_adds(&call, "1");
    assert_int_equal(words_call(&call, &protocol, redis, soon(), &reply), 0);
    assert_int_equal(audit().running, 2);
    assert_true(audit().balanced);
    assert_int_equal(start_plain(&w1, 1, "w1.1", ""), START_FENCED);
    struct worker_card card = card_of(&w2);
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_string_equal(beat.expired, "w1");
    assert_int_equal(beat.peers, 1);
    assert_int_equal(reap("w1", false), 2);
    assert_int_equal(reap("w1", false), 0);
    assert_true(audit().balanced);
}

static void a_heartbeat_says_what_there_is_to_do(void **state)
{
    struct worker w;
    struct heartbeat beat;

    (void)state;
    worker_begin(&w, "w1");
    struct worker_card card = card_of(&w);
    say("LPUSH {t}:queue:default a b");
    claim(&w, 2);
    say("ZADD {t}:delayed 77 x");
    say("HSET {t}:conf paused 1");
    say("ZADD {t}:wk 99999999999999 w1");
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_false(beat.fenced);
    assert_int_equal(beat.in_flight, 2);
    assert_int_equal(beat.next_due_ms, 77);
    assert_int_equal(beat.peers, 0);
    assert_string_equal(beat.expired, "");
    assert_true(beat.paused);
    assert_true(beat.redis_ms > 1600000000000);
    assert_int_equal(number("ZSCORE {t}:wk w1"), 99999999999999);
    assert_true(number("PTTL {t}:worker:w1") > 1000);
    assert_string_equal(text("HGET {t}:worker:w1 queues"), "high,default");
}

static void anything_but_zero_pauses(void **state)
{
    static const struct {
        const char *order;
        bool pauses;
    } rows[] = {
        {"HSET {t}:conf paused 1", true},
        {"HSET {t}:conf paused yes", true},
        {"HSET {t}:conf paused 0", false},
        {"HDEL {t}:conf paused", false},
    };
    struct worker w;
    struct heartbeat beat;

    (void)state;
    worker_begin(&w, "w1");
    struct worker_card card = card_of(&w);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        say(rows[i].order);
        assert_int_equal(
            protocol_heartbeat(&protocol, redis, soon(), &card, &beat), 0);
        assert_int_equal(beat.paused, rows[i].pauses);
    }
}

static void leaving_needs_empty_hands(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "w1.1");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default a b");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    assert_int_equal(protocol_leave(&protocol, redis, soon(), "w1"), -EBUSY);
    assert_int_equal(exchange(&w, &done, 1, 0), 0);
    say("LMOVE {t}:queue:default {t}:p:w1:default RIGHT LEFT");
    assert_int_equal(protocol_leave(&protocol, redis, soon(), "w1"), 0);
    assert_int_equal(protocol_leave(&protocol, redis, soon(), "w1"), 0);
    assert_int_equal(number("LLEN {t}:queue:default"), 1);
    assert_int_equal(number("EXISTS {t}:inf:w1 {t}:run:w1 {t}:worker:w1"), 0);
    assert_int_equal(audit().claims, 1);
    assert_true(audit().balanced);
}

static void another_protocol_version_is_named(void **state)
{
    struct worker w = {.wid = "w1"};
    struct worker_card card = card_of(&w);

    (void)state;
    say("HSET {t}:conf version 99");
    say("ZADD {t}:wk 1 w0");
    assert_int_equal(protocol_register(&protocol, redis, soon(), &card),
                     -EPROTO);
    assert_non_null(strstr(protocol_error(), "99"));
    assert_int_equal(number("EXISTS {t}:inf:w1"), 0);
    say("DEL {t}:wk");
    assert_int_equal(protocol_register(&protocol, redis, soon(), &card), 0);
}

static void a_peer_without_a_connection_is_found_and_cut_off(void **state)
{
    struct worker w;
    struct redis *other = NULL;
    char ids[24];
    struct silent_worker missing[4];
    int count = -1;

    (void)state;
    MUST0(redis_create(&target, "capibox:w1", &other));
    MUST0(redis_connect(other, soon()));
    worker_begin(&w, "w1");
    struct worker_card card = card_of(&w);
    struct heartbeat beat;
    card.client_ids[0] = 0;
    card.client_ids[1] = redis_client_id(other);
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_int_equal(protocol_probe_peers(&protocol, redis, soon(), "me",
                                          missing, 4, &count),
                     0);
    assert_int_equal(count, 0);
    reap("w1", true); /* cuts the connection of that name */
    AUTO_REPLY redisReply *pong = NULL;
    assert_true(redis_callv(other, soon(), &pong, "PING", NULL) < 0);
    redis_destroy(other);
    worker_begin(&w, "w2");
    card.wid = "w2";
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_int_equal(protocol_probe_peers(&protocol, redis, soon(), "me",
                                          missing, 4, &count),
                     0);
    assert_int_equal(count, 1);
    assert_string_equal(missing[0].wid, "w2");
    snprintf(ids, sizeof(ids), "%lld", (long long)card.client_ids[1]);
    assert_string_equal(missing[0].ids, ids);
}

static void the_prefix_is_all_an_acl_must_allow(void **state)
{
    struct worker w;
    struct redis *main_connection = redis, *other = NULL;
    struct finish done = finish_ok(1, "j");
    struct enqueue job = plain_job("j");
    struct silent_worker missing[1];
    int count = -1;
    AUTO_REPLY redisReply *ok = NULL;

    (void)state;
    say("ACL SETUSER u on >x resetkeys ~{t}:* resetchannels &{t}:* +@all "
        "-client|list -client|kill");
    MUST0(redis_create(&target, NULL, &other));
    MUST0(redis_connect(other, soon()));
    MUST0(redis_callv(other, soon(), &ok, "AUTH", "u", "x", NULL));
    assert_int_equal(ok->type, REDIS_REPLY_STATUS);
    redis = other;
    worker_begin(&w, "w1");
    assert_int_equal(enqueue(&job), ENQUEUE_ACCEPTED);
    claim(&w, 1);
    done.started = true;
    done.events = true;
    done.batch_id = "b";
    assert_int_equal(
        start_plain(&w, 1, "j", envelope_of(w.reply->claims[0].entry).parent),
        START_OK);
    assert_int_equal(exchange(&w, &done, 1, 1), 0);
    assert_int_equal(w.reply->acks[0], ACK_DONE);
    assert_int_equal(protocol_probe_peers(&protocol, redis, soon(), "me",
                                          missing, 1, &count),
                     -ENOTSUP);
    assert_int_equal(reap("w1", true), 0);
    assert_true(audit().balanced);
    redis = main_connection;
    redis_destroy(other);
    say("ACL DELUSER u");
}

/* ---- a Redis in trouble ------------------------------------------------ */

static void a_full_redis_still_finishes_jobs(void **state)
{
    struct worker w;
    struct finish done = finish_ok(1, "j");
    struct enqueue job = plain_job("k");
    struct heartbeat beat;
    enum enqueue_answer answer;

    (void)state;
    done.started = true;
    worker_begin(&w, "w1");
    struct worker_card card = card_of(&w);
    say("LPUSH {t}:queue:default a b");
    say("CONFIG SET maxmemory-policy noeviction");
    say("CONFIG SET maxmemory 1");
    assert_int_equal(exchange(&w, NULL, 0, 1), 0);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(exchange(&w, &done, 1, 1), 0);
    assert_int_equal(w.reply->acks[0], ACK_DONE);
    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &beat),
                     0);
    assert_int_equal(protocol_enqueue(&protocol, redis, soon(), &job, &answer),
                     -ENOSPC);
    assert_int_equal(reap("w1", true), 1);
    say("CONFIG SET maxmemory 0");
    assert_string_equal(text("HGET {t}:job:j status"), "succeeded");
}

static void forgotten_scripts_are_sent_as_text(void **state)
{
    struct worker w;
    struct exchange_request request = {
        .wid = "w1", .sequence = 1, .queues = QUEUES, .nqueues = 2, .claim = 1};

    (void)state;
    say("SCRIPT FLUSH");
    worker_begin(&w, "w1"); /* a cold call helps itself */
    assert_int_equal(send_exchange(&w, &request, false), -ESTALE);
    assert_int_equal(send_exchange(&w, &request, true), 0);
    assert_int_equal(send_exchange(&w, &request, false), 0);
}

static int64_t command_calls(void)
{
    redisReply *info = ask("INFO commandstats");
    int64_t sum = 0;

    for (char *at = info->str; (at = strstr(at, "cmdstat_")); at++) {
        if (!strncmp(at, "cmdstat_info", 12) ||
            !strncmp(at, "cmdstat_config", 14) ||
            !strncmp(at, "cmdstat_evalsha", 15))
            continue;
        sum += atoll(strstr(at, "calls=") + 6);
    }
    freeReplyObject(info);
    return sum;
}

/* A claim and a finish in each call, n of both, as in a busy worker. */
static double calls_per_job(int n, bool template_counters)
{
    struct worker w;
    struct finish finishes[FINISH_MAX];
    char ids[FINISH_MAX][48], wid[32];

    snprintf(wid, sizeof(wid), "calls%d%d", n, template_counters);
    worker_begin(&w, wid);
    for (int i = 0; i < 5 * n; i++)
        say("LPUSH {t}:queue:default x");
    assert_int_equal(exchange(&w, NULL, 0, n), 0);
    int64_t before = command_calls();
    for (int turn = 0; turn < 4; turn++) {
        for (int i = 0; i < n; i++) {
            snprintf(ids[i], sizeof(ids[i]), "%s.%d", wid, turn * n + i + 1);
            finishes[i] = finish_ok(turn * n + i + 1, ids[i]);
            if (!template_counters)
                finishes[i].template_id = NULL;
        }
        assert_int_equal(exchange(&w, finishes, n, n), 0);
        assert_int_equal(w.reply->nclaims, n);
    }
    double calls = (double)(command_calls() - before) / (4.0 * n);
    return calls;
}

static void a_job_costs_few_calls(void **state)
{
    (void)state;
    for (int n = 1; n <= 64; n *= 8) {
        double plain = calls_per_job(n, false), full = calls_per_job(n, true);

        print_message("calls per job, n=%d: %.2f, with template counters "
                      "%.2f\n",
                      n, plain, full);
        assert_true(plain <= 3 + 9.0 / n + 0.001);
        assert_true(full <= 3 + 11.0 / n + 0.001);
    }
}

/* ---- cancelling -------------------------------------------------------- */

#define BODY(id)                                            \
    "{\"id\":\"" id "\",\"code\":\"x\",\"batch_id\":\"b\"," \
    "\"metadata\":{\"for\":\"you\"},\"stream\":true}"

static struct enqueue real_job(const char *id, const char *body)
{
    return (struct enqueue){.queue = "default",
                            .job_id = id,
                            .body = body,
                            .body_len = strlen(body),
                            .stream = true};
}

static enum cancel_answer cancel(const char *id)
{
    struct cancel got = {.answer = CANCEL_UNKNOWN};

    assert_int_equal(
        protocol_cancel(&protocol, redis, soon(), id, QUEUES, 2, &got), 0);
    return got.answer;
}

static struct heartbeat beat(struct worker *w)
{
    struct worker_card card = card_of(w);
    struct heartbeat got;

    assert_int_equal(protocol_heartbeat(&protocol, redis, soon(), &card, &got),
                     0);
    return got;
}

static void assert_cancelled_unstarted(const char *id)
{
    char command[128];
    const char *result;

    snprintf(command, sizeof(command), "HGET {t}:job:%s status", id);
    assert_string_equal(text(command), "cancelled");
    snprintf(command, sizeof(command), "HGET {t}:job:%s result", id);
    result = text(command);
    assert_non_null(strstr(result, "\"verdict\":\"cancelled\""));
    assert_int_equal(number("HGET {t}:stats verdict:cancelled"), 1);
    assert_int_equal(number("HGET {t}:stats ended"), 1);
    assert_int_equal(number("HGET {t}:stats total_executions"), 0);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
    assert_true(audit().balanced);
}

static void a_queued_job_is_cancelled_at_once(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    MUST0(protocol_batch_create(&protocol, redis, soon(), "b", 1));
    enqueue(&job);
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_int_equal(number("LLEN {t}:queue:default"), 0);
    assert_cancelled_unstarted("j");
    AUTO_REPLY redisReply *result = ask("HGET {t}:job:j result");
    assert_non_null(strstr(result->str, "\"metadata\":{\"for\":\"you\"}"));
    assert_true(number("PTTL {t}:job:j") > 50000);
    assert_string_equal(text("HGET {t}:batch:b status"), "completed");
    assert_int_equal(number("HGET {t}:batch:b failed"), 1);
    AUTO_REPLY redisReply *last = ask("XREVRANGE {t}:events:j + - COUNT 1");
    assert_string_equal(last->element[0]->element[1]->element[1]->str, "end");
    assert_int_equal(cancel("j"), CANCEL_FINISHED);
}

static void a_bare_push_is_found_by_its_id(void **state)
{
    (void)state;
    say("LPUSH {t}:queue:default {\"id\":\"i\",\"code\":\"'j'\"} " BODY(
        "j") " {\"id\":\"k\",\"code\":\"\\\"j\\\"\"}");
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_int_equal(number("LLEN {t}:queue:default"), 2);
    assert_cancelled_unstarted("j");
}

static void the_owner_of_the_id_is_found_behind_a_duplicate(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    say("LPUSH {t}:queue:default " BODY("j"));
    enqueue(&job);
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_string_equal(text("LINDEX {t}:queue:default 0"), BODY("j"));
}

/* The first entry that has the word in it is not always the job. */
static void what_only_mentions_an_id_is_left_alone(void **state)
{
    struct worker w;

    (void)state;
    say("LPUSH {t}:queue:default {\"id\":\"i\",\"code\":\"x\",\"env\":{"
        "\"A\":\"j\"}}");
    assert_int_equal(cancel("j"), CANCEL_WAITS);
    worker_begin(&w, "w1");
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "i", ""), START_OK);
}

static void a_delayed_job_is_cancelled_at_once(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    job.delay_ms = 3600000;
    enqueue(&job);
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_int_equal(number("ZCARD {t}:delayed"), 0);
    assert_cancelled_unstarted("j");
}

static void a_job_between_two_tries_is_cancelled_at_once(void **state)
{
    struct worker w;
    struct finish retry = {.kind = FINISH_RETRY,
                           .number = 1,
                           .queue = "default",
                           .job_id = "j",
                           .started = true,
                           .events = true,
                           .entry = "!a1;ij;pw1.1|" BODY("j"),
                           .entry_len = sizeof("!a1;ij;pw1.1|" BODY("j")) - 1,
                           .due_ms = 99999999999999};

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default " BODY("j"));
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(exchange(&w, &retry, 1, 0), 0);
    assert_string_equal(text("HGET {t}:job:j due_at"), "99999999999.999");
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_cancelled_unstarted("j");
    AUTO_REPLY redisReply *first = ask("XRANGE {t}:events:j - + COUNT 1");
    assert_string_equal(first->element[0]->element[1]->element[3]->str,
                        "delayed");
}

static void a_claimed_job_is_not_started_after_a_cancel(void **state)
{
    struct worker w;
    struct finish end = finish_ok(1, "j");

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default " BODY("j"));
    claim(&w, 1);
    assert_int_equal(cancel("j"), CANCEL_UNKNOWN);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_CANCELLED);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_CANCELLED);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    end.verdict = VERDICT_CANCELLED;
    end.started = true;
    end.code_started = end.success = false;
    assert_int_equal(exchange(&w, &end, 1, 0), 0);
    assert_int_equal(w.reply->acks[0], ACK_DONE);
    assert_int_equal(number("HGET {t}:stats verdict:cancelled"), 1);
    assert_int_equal(number("HGET {t}:stats total_executions"), 0);
    assert_int_equal(number("EXISTS {t}:cx {t}:run:w1"), 0);
    assert_true(audit().balanced);
}

static void a_running_job_is_told_with_every_heartbeat(void **state)
{
    struct worker w, other;

    (void)state;
    worker_begin(&w, "w1");
    worker_begin(&other, "w2");
    say("LPUSH {t}:queue:default " BODY("j"));
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(beat(&w).ncancels, 0);
    assert_int_equal(cancel("j"), CANCEL_SENT);
    for (int i = 0; i < 2; i++) {
        struct heartbeat got = beat(&w);

        assert_int_equal(got.ncancels, 1);
        assert_string_equal(got.cancels[0], "j");
        assert_int_equal(beat(&other).ncancels, 0);
    }
    /* A second start mark (a resend) knows, too. */
    assert_int_equal(start_plain(&w, 1, "j", ""), START_CANCELLED);
}

static void a_cancel_outlives_the_worker(void **state)
{
    struct worker w, heir;
    struct envelope e;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default " BODY("j"));
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_OK);
    assert_int_equal(cancel("j"), CANCEL_SENT);
    say("DEL {t}:cx"); /* long ago */
    assert_int_equal(reap("w1", true), 1);
    worker_begin(&heir, "w2");
    claim(&heir, 1);
    e = envelope_of(heir.reply->claims[0].entry);
    assert_int_equal(start_plain(&heir, 1, "j", e.parent), START_CANCELLED);
}

static enum cancel_answer cancel_by(const char *id, bool insist)
{
    struct cancel_by by = {.tenant = "alice", .insist = insist};
    struct cancel got = {.answer = CANCEL_FINISHED};

    assert_int_equal(
        protocol_cancel_by(&protocol, redis, soon(), id, QUEUES, 2, &by, &got),
        0);
    return got.answer;
}

static void a_batch_grows_by_who_joins_it(void **state)
{
    struct enqueue job = real_job("one", BODY("one"));
    struct finish finish = finish_ok(2, "two");
    struct worker w;

    (void)state;
    job.batch_id = "b";
    job.batch_grows = true;
    job.nonce = "n1";
    enqueue(&job);
    enqueue(&job); /* sent twice, counted once */
    assert_int_equal(number("HGET {t}:batch:b total"), 1);
    assert_int_equal(number("HGET {t}:batch:b done"), 0);
    assert_string_equal(text("HGET {t}:batch:b status"), "running");
    assert_true(number("PTTL {t}:batch:b") > 0);
    for (int i = 0; i < 2; i++) { /* and so are those of its creation */
        MUST0(protocol_batch_create(&protocol, redis, soon(), "b", 3));
        assert_int_equal(number("HGET {t}:batch:b total"), 4);
    }
    say("HSET {t}:batch:b total 1 done 1 status completed");
    say("LPUSH {t}:queue:default x"); /* bare */
    worker_begin(&w, "w1");
    claim(&w, 2);
    finish.batch_id = "b";
    assert_int_equal(exchange(&w, &finish, 1, 0), 0);
    assert_int_equal(number("HGET {t}:batch:b done"), 2);
    assert_int_equal(number("HGET {t}:batch:b total"), 2);
    assert_string_equal(text("HGET {t}:batch:b status"), "completed");
}

static void a_tenant_cancels_what_is_theirs_or_nobodys(void **state)
{
    const char *ids[] = {"alice", "bob"};
    struct enqueue job;

    (void)state;
    for (int i = 0; i < 2; i++) {
        job = real_job(ids[i], BODY("x"));
        job.names = (const char *[]){"tenant"};
        job.values = &ids[i];
        job.nfields = 1;
        enqueue(&job);
    }
    say("LPUSH {t}:queue:default {\"id\":\"hers\",\"code\":\"1\","
        "\"tenant\":\"alice\"}");
    say("LPUSH {t}:queue:default {\"id\":\"his\",\"code\":\"1\","
        "\"tenant\":\"bob\"}");
    say("LPUSH {t}:queue:default " BODY("nobodys"));
    assert_int_equal(cancel_by("bob", false), CANCEL_NOT_THEIRS);
    assert_int_equal(cancel_by("bob", true), CANCEL_NOT_THEIRS);
    assert_int_equal(cancel_by("his", false), CANCEL_NOT_THEIRS);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
    assert_string_equal(text("HGET {t}:job:bob cancel_requested_at"), "(nil)");
    assert_int_equal(cancel_by("hers", false), CANCEL_DONE);
    assert_int_equal(cancel_by("nobodys", false), CANCEL_DONE);
    assert_int_equal(cancel_by("alice", false), CANCEL_WAITS); /* other body */
    assert_int_equal(number("LLEN {t}:queue:default"), 3);
    say("HSET {t}:job:bob status succeeded");
    assert_int_equal(cancel_by("bob", false), CANCEL_NOT_THEIRS);
}

static void who_insists_leaves_a_tombstone_for_what_nobody_knows(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    assert_int_equal(cancel_by("to-come", false), CANCEL_UNKNOWN);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
    assert_int_equal(cancel_by("to-come", true), CANCEL_UNKNOWN);
    assert_int_equal(number("ZCARD {t}:cx"), 1);
    say("LPUSH {t}:queue:default " BODY("to-come"));
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "to-come", ""), START_CANCELLED);
}

/* What common/protocol.md tells clients that have no capibox. */
static void two_plain_commands_cancel(void **state)
{
    struct worker w;
    struct enqueue job = real_job("waits", BODY("waits"));

    (void)state;
    enqueue(&job);
    say("LPUSH {t}:queue:default " BODY("bare"));
    say("ZADD {t}:cx 0 waits");
    say("ZADD {t}:cx 0 bare");
    worker_begin(&w, "w1");
    beat(&w); /* which does not take 0 for long ago */
    beat(&w);
    assert_int_equal(number("ZCARD {t}:cx"), 2);
    say("ZREM {t}:cx waits"); /* the hash remembers what waits for long */
    claim(&w, 2);
    assert_int_equal(start_plain(&w, 1, "waits",
                                 envelope_of(w.reply->claims[0].entry).parent),
                     START_CANCELLED);
    assert_int_equal(start_plain(&w, 2, "bare", ""), START_CANCELLED);
}

/* 10500 of them. */
static void leave_tombstones(const char *score)
{
    AUTO_REPLY redisReply *left = NULL;
    char script[256];

    snprintf(script, sizeof(script),
             "local now = redis.call('TIME')[1] * 1000 "
             "for i = 1, 10500 do redis.call('ZADD', '{t}:cx', %s, i) end",
             score);
    MUST0(redis_callv(redis, soon(), &left, "EVAL", script, "0", NULL));
}

static void tombstones_are_bounded_in_time_and_number(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    leave_tombstones("now - (i % 2) * 3700000");
    beat(&w);
    assert_int_equal(number("ZCARD {t}:cx"), 5250);
    leave_tombstones("now + 99999999");
    beat(&w);
    assert_int_equal(number("ZCARD {t}:cx"), TOMBSTONES_MAX);
    assert_int_equal(cancel("unknown"), CANCEL_UNKNOWN);
    assert_int_equal(number("ZCARD {t}:cx"), TOMBSTONES_MAX);
}

static void a_new_job_with_the_id_of_a_cancelled_one_runs(void **state)
{
    struct worker w;
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    worker_begin(&w, "w1");
    assert_int_equal(cancel("no id"), CANCEL_UNKNOWN);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
    assert_int_equal(cancel("j"), CANCEL_UNKNOWN); /* before there was one */
    enqueue(&job);
    claim(&w, 1);
    assert_int_equal(
        start_plain(&w, 1, "j", envelope_of(w.reply->claims[0].entry).parent),
        START_OK);
}

/* It came too late: the job had ended well. */
static void what_has_ended_leaves_no_tombstone(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    say("HSET {t}:job:j status succeeded");
    say("ZADD {t}:cx 0 j");
    beat(&w);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
    assert_int_equal(cancel("j"), CANCEL_FINISHED);
    assert_int_equal(number("ZCARD {t}:cx"), 0);
}

/* Newer ones, of so many bytes each. */
static void push_others(int count, int bytes)
{
    AUTO_REPLY redisReply *pushed = NULL;
    char script[128];

    snprintf(script, sizeof(script),
             "for i = 1, %d do "
             "redis.call('LPUSH', '{t}:queue:default', ('x'):rep(%d)) end",
             count, bytes);
    MUST0(redis_callv(redis, soon(), &pushed, "EVAL", script, "0", NULL));
    assert_int_equal(number("LLEN {t}:queue:default"), count + 1);
}

static int64_t script_calls(void)
{
    redisReply *info = ask("INFO commandstats");
    const char *at = strstr(info->str, "cmdstat_evalsha:calls=");
    int64_t calls = at ? atoll(strchr(at, '=') + 1) : 0;

    freeReplyObject(info);
    return calls;
}

/* Piece by piece. */
static void a_job_far_back_in_its_queue_is_found(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));
    int64_t before;

    (void)state;
    enqueue(&job);
    push_others(4 * CANCEL_LOOK_ENTRIES, 10);
    assert_int_equal(cancel("warm-up"), CANCEL_UNKNOWN);
    before = script_calls();
    assert_int_equal(cancel("j"), CANCEL_DONE);
    /* cancel, five looks, settle */
    assert_int_equal(script_calls() - before, 7);
    assert_string_equal(text("HGET {t}:job:j status"), "cancelled");
    assert_int_equal(number("LLEN {t}:queue:default"), 4 * CANCEL_LOOK_ENTRIES);
}

static void pieces_are_small_where_entries_are_large(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));
    int64_t before;

    (void)state;
    enqueue(&job);
    push_others(40, 100000);
    assert_int_equal(cancel("warm-up"), CANCEL_UNKNOWN);
    before = script_calls();
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_true(script_calls() - before > 40 * 100000 / CANCEL_LOOK_BYTES);
}

/* Whoever pushed it bare gave no sign of its being there. */
static void a_bare_push_too_far_back_waits_for_its_end(void **state)
{
    struct worker w;

    (void)state;
    say("LPUSH {t}:queue:default " BODY("j"));
    push_others(CANCEL_STRAY_ENTRIES, 10);
    assert_int_equal(cancel("j"), CANCEL_UNKNOWN);
    say("LTRIM {t}:queue:default -1 -1");
    worker_begin(&w, "w1");
    claim(&w, 1);
    assert_int_equal(start_plain(&w, 1, "j", ""), START_CANCELLED);
}

/* In a worker's private list, say. */
static void a_job_that_nobody_finds_waits_for_its_end(void **state)
{
    struct worker w;
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    enqueue(&job);
    say("LMOVE {t}:queue:default {t}:queue:elsewhere RIGHT LEFT");
    assert_int_equal(cancel("j"), CANCEL_WAITS);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    assert_true(number("HGET {t}:job:j cancel_requested_at") > 0);
    say("LMOVE {t}:queue:elsewhere {t}:queue:default RIGHT LEFT");
    worker_begin(&w, "w1");
    claim(&w, 1);
    assert_int_equal(
        start_plain(&w, 1, "j", envelope_of(w.reply->claims[0].entry).parent),
        START_CANCELLED);
}

/* What happens between the look and the end is played as the end begins. */
static enum cancel_answer cancel_while(const char *id, const char *happens)
{
    static const char begin[] = "local c = redis.call\n";
    struct protocol racing = protocol;
    struct script *script = &racing.scripts[SCRIPT_SETTLE];
    const char *at = strstr(script->text, begin);
    struct cancel got = {.answer = CANCEL_DONE};
    char *text = NULL;

    assert_non_null(at);
    at += strlen(begin);
    MUST(asprintf(&text, "%.*s%s%s", (int)(at - script->text), script->text,
                  happens, at) > 0);
    script->text = text;
    MUST0(protocol_rehash(&racing));
    assert_int_equal(
        protocol_cancel(&racing, redis, soon(), id, QUEUES, 2, &got), 0);
    free(text);
    return got.answer;
}

static void what_was_claimed_in_between_is_not_ended_twice(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    enqueue(&job);
    assert_int_equal(cancel_while("j", "c('RPOP', KEYS[2])\n"), CANCEL_WAITS);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    assert_int_equal(number("HGET {t}:stats ended"), 0);
}

/* The entry that was found is still there, but another one has the id now. */
static void what_began_to_run_in_between_is_not_ended(void **state)
{
    (void)state;
    say("LPUSH {t}:queue:default " BODY("j"));
    assert_int_equal(
        cancel_while(
            "j", "c('HSET', KEYS[3], 'status', 'running', 'token', 'w.1')\n"),
        CANCEL_WAITS);
    assert_string_equal(text("HGET {t}:job:j status"), "running");
    assert_int_equal(number("LLEN {t}:queue:default"), 1);
}

static void a_full_redis_still_cancels(void **state)
{
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    enqueue(&job);
    say("CONFIG SET maxmemory-policy noeviction");
    say("CONFIG SET maxmemory 1");
    assert_int_equal(cancel("j"), CANCEL_DONE);
    say("CONFIG SET maxmemory 0");
}

/* ---- the dead list ----------------------------------------------------- */

struct seen_dead {
    int count;
    char about[3][256], body[256];
};

static void see_dead(void *ctx, const struct dead_entry *entry)
{
    struct seen_dead *seen = ctx;

    if (seen->count < 3)
        snprintf(seen->about[seen->count], sizeof(seen->about[0]), "%.*s",
                 (int)entry->about_len, entry->about);
    if (entry->body)
        snprintf(seen->body, sizeof(seen->body), "%.*s", (int)entry->body_len,
                 entry->body);
    seen->count++;
}

static const char *const DEAD_VALUES[] = {"dead", "{}"};

/* A job that ended as lost, with its entry in the dead list. */
static void die(struct worker *w, int64_t number_, const char *id,
                const char *body)
{
    char entry[512];
    struct finish end = finish_ok(number_, id);
    static const size_t lens[] = {4, 2};
    int len = snprintf(entry, sizeof(entry),
                       "{\"job_id\":\"%s\",\"verdict\":\"lost\",\"queue\":"
                       "\"default\",\"bytes\":%zu,\"kept\":%zu}\n%s",
                       id, strlen(body), strlen(body), body);

    end.verdict = VERDICT_LOST;
    end.code_started = end.success = false;
    end.values = (const char **)DEAD_VALUES;
    end.value_lens = lens;
    end.batch_id = "b";
    end.dead_entry = entry;
    end.dead_entry_len = (size_t)len;
    say("LPUSH {t}:queue:default x");
    claim(w, 1);
    assert_int_equal(exchange(w, &end, 1, 0), 0);
    assert_int_equal(w->reply->acks[0], ACK_DONE);
}

static enum dead_answer retry(const char *id)
{
    enum dead_answer answer = DEAD_CUT;
    char renamed[JOB_ID_MAX + 1];

    assert_int_equal(protocol_dead_retry(&protocol, redis, soon(), id, NULL,
                                         &answer, renamed),
                     0);
    return answer;
}

static enum dead_answer drop(const char *id)
{
    enum dead_answer answer = DEAD_CUT;

    assert_int_equal(
        protocol_dead_drop(&protocol, redis, soon(), id, NULL, &answer), 0);
    return answer;
}

static enum enqueue_answer enqueue_for(const char *id, const char *batch,
                                       const char *tenant)
{
    struct enqueue job = plain_job(id);

    job.batch_id = batch;
    job.batch_tenant = tenant;
    return enqueue(&job);
}

static void a_batch_is_its_first_tenants(void **state)
{
    (void)state;
    assert_int_equal(enqueue_for("1", "b", "alice"), ENQUEUE_ACCEPTED);
    assert_int_equal(enqueue_for("2", "b", "alice"), ENQUEUE_ACCEPTED);
    say("PERSIST {t}:batch:b");
    assert_int_equal(enqueue_for("3", "b", "bob"), ENQUEUE_NOT_THEIRS);
    assert_int_equal(number("TTL {t}:batch:b"), -1);
    assert_int_equal(number("EXISTS {t}:job:3"), 0);
    assert_int_equal(number("LLEN {t}:queue:default"), 2);
    assert_int_equal(enqueue_for("3", "b", NULL), ENQUEUE_ACCEPTED);
    MUST0(protocol_batch_create(&protocol, redis, soon(), "b", 1));
    assert_string_equal(text("HGET {t}:batch:b tenant"), "alice");
    MUST0(protocol_batch_create(&protocol, redis, soon(), "free", 1));
    assert_int_equal(enqueue_for("4", "free", "bob"), ENQUEUE_ACCEPTED);
    assert_int_equal(enqueue_for("5", "free", "alice"), ENQUEUE_ACCEPTED);
    assert_int_equal(enqueue_for("6", NULL, "alice"), ENQUEUE_ACCEPTED);
    assert_int_equal(number("EXISTS {t}:batch:"), 0);
}

static void the_dead_are_listed_newest_first_and_shown_whole(void **state)
{
    struct worker w;
    struct seen_dead page = {0}, one = {0}, none = {0}, walked = {0};
    int64_t total = 0;

    (void)state;
    worker_begin(&w, "w1");
    die(&w, 1, "a", "1\n2");
    die(&w, 2, "b", "bb");
    die(&w, 3, "c", "cc");
    assert_int_equal(protocol_dead_list(&protocol, redis, soon(), 1, 5,
                                        see_dead, &page, &total),
                     2);
    assert_int_equal(total, 3);
    assert_non_null(strstr(page.about[0], "\"job_id\":\"b\""));
    assert_non_null(strstr(page.about[1], "\"job_id\":\"a\""));
    assert_string_equal(page.body, "");
    assert_int_equal(protocol_dead_walk(&protocol, redis, soon(), 1, 5,
                                        see_dead, &walked, &total),
                     2);
    assert_memory_equal(walked.about, page.about, sizeof(page.about));
    assert_string_equal(walked.body, "1\n2");
    assert_int_equal(
        protocol_dead_show(&protocol, redis, soon(), "a", NULL, see_dead, &one),
        0);
    assert_string_equal(one.body, "1\n2");
    assert_int_equal(protocol_dead_show(&protocol, redis, soon(), "z", NULL,
                                        see_dead, &none),
                     -ENOENT);
}

/* Appends n entries that Lua makes of i, their place. */
static void bury(int n, const char *entry)
{
    AUTO_REPLY redisReply *left = NULL;
    char script[512], count[16];

    snprintf(script, sizeof(script),
             "for i = 1, ARGV[1] do redis.call('RPUSH', '{t}:dead', %s) end",
             entry);
    snprintf(count, sizeof(count), "%d", n);
    MUST0(redis_callv(redis, soon(), &left, "EVAL", script, "0", count, NULL));
}

/* At the first one: a new one comes, an old one goes, and so does one of those
 * that were seen. */
static bool shift_and_count(void *ctx, const struct dead_entry *entry)
{
    int *calls = ctx;

    (void)entry;
    if (++*calls > 1)
        return false;
    say("LPUSH {t}:dead new");
    say("RPOP {t}:dead");
    say("LREM {t}:dead 1 2");
    return false;
}

static void a_dead_job_is_found_in_a_list_that_changes(void **state)
{
    enum { MANY = DEAD_LOOK_ENTRIES + 40 };
    int calls = 0;
    struct dead_filter filter = {shift_and_count, &calls};
    struct seen_dead page = {0};

    (void)state;
    bury(MANY, "i % 200 > 66 and i % 200 < 70 and '{\"job_id\":\"j\",}' or i");
    assert_int_equal(protocol_dead_show(&protocol, redis, soon(), "j", &filter,
                                        see_dead, &page),
                     -ENOENT);
    assert_int_equal(calls, 7); /* the first one twice, none missed */
    assert_int_equal(page.count, 0);
    assert_int_equal(protocol_dead_list(&protocol, redis, soon(), 1, MANY - 3,
                                        see_dead, &page, NULL),
                     MANY - 3);
    assert_int_equal(page.count, MANY - 3);
}

static void large_dead_jobs_are_looked_at_a_few_at_a_time(void **state)
{
    struct seen_dead one = {0}, page = {0};

    (void)state;
    bury(9, "i < 9 and string.rep('x', 100000) or '{\"job_id\":\"j\",}'");
    assert_int_equal(
        protocol_dead_show(&protocol, redis, soon(), "j", NULL, see_dead, &one),
        0);
    assert_int_equal(protocol_dead_list(&protocol, redis, soon(), 0, 20,
                                        see_dead, &page, NULL),
                     9);
    assert_int_equal(page.count, 9);
    assert_int_equal(protocol_dead_list(&protocol, redis, soon(), 0, 5,
                                        see_dead, &page, NULL),
                     5);
}

static void a_retried_job_begins_anew(void **state)
{
    struct worker w;
    struct envelope e;

    (void)state;
    MUST0(protocol_batch_create(&protocol, redis, soon(), "b", 1));
    worker_begin(&w, "w1");
    die(&w, 1, "j", BODY("j"));
    assert_string_equal(text("HGET {t}:batch:b status"), "completed");
    say("ZADD {t}:cx 0 j");
    assert_int_equal(retry("j"), DEAD_DONE);
    assert_int_equal(retry("j"), DEAD_NONE);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
    assert_string_equal(text("HGET {t}:job:j result"), "(nil)");
    assert_int_equal(number("TTL {t}:job:j"), -1);
    assert_int_equal(number("LLEN {t}:dead"), 0);
    assert_int_equal(number("HGET {t}:batch:b done"), 0);
    assert_string_equal(text("HGET {t}:batch:b status"), "running");
    assert_true(audit().balanced);
    claim(&w, 1);
    assert_string_equal(strchr(w.reply->claims[0].entry, '|') + 1, BODY("j"));
    e = envelope_of(w.reply->claims[0].entry);
    assert_int_equal(e.attempts + e.deliveries + e.suspicions, 0);
    assert_int_equal(start_plain(&w, 2, "j", e.parent), START_OK);
}

static void a_retry_does_not_disturb_a_newer_job(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    die(&w, 1, "j", BODY("j"));
    say("HSET {t}:job:j status running");
    assert_int_equal(retry("j"), DEAD_TAKEN);
    say("HSET {t}:job:j status succeeded verdict ok");
    assert_int_equal(retry("j"), DEAD_TAKEN);
    assert_int_equal(number("LLEN {t}:dead"), 1);
    assert_int_equal(number("LLEN {t}:queue:default"), 0);
    say("HSET {t}:job:j status failed verdict rejected");
    assert_int_equal(retry("j"), DEAD_DONE);
}

/* A bad job that had the id of a good one lies under an id made for it. */
static void a_retry_goes_by_the_id_in_the_job(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    die(&w, 1, "w1.1", BODY("j"));
    say("HSET {t}:job:j status succeeded verdict ok");
    assert_int_equal(retry("w1.1"), DEAD_TAKEN);
    say("DEL {t}:job:j");
    assert_int_equal(retry("w1.1"), DEAD_DONE);
    assert_string_equal(text("HGET {t}:job:j status"), "queued");
}

static void what_was_cut_is_not_retried(void **state)
{
    (void)state;
    say("LPUSH {t}:dead {\"job_id\":\"j\",\"queue\":\"default\",\"bytes\":9,"
        "\"kept\":3}\nabc");
    assert_int_equal(retry("j"), DEAD_CUT);
    assert_int_equal(number("LLEN {t}:dead"), 1);
}

static void a_full_redis_keeps_the_dead_where_they_are(void **state)
{
    struct worker w;
    enum dead_answer answer;

    (void)state;
    worker_begin(&w, "w1");
    die(&w, 1, "j", BODY("j"));
    say("CONFIG SET maxmemory-policy noeviction");
    say("CONFIG SET maxmemory 1");
    assert_int_equal(
        protocol_dead_retry(&protocol, redis, soon(), "j", NULL, &answer, NULL),
        -ENOSPC);
    assert_int_equal(number("LLEN {t}:dead"), 1);
    assert_int_equal(drop("j"), DEAD_DONE);
    say("CONFIG SET maxmemory 0");
}

static void the_dead_are_dropped_one_by_one_or_oldest_first(void **state)
{
    struct worker w;

    (void)state;
    worker_begin(&w, "w1");
    die(&w, 1, "a", "x");
    die(&w, 2, "b", "x");
    die(&w, 3, "c", "x");
    assert_int_equal(drop("b"), DEAD_DONE);
    assert_int_equal(drop("b"), DEAD_NONE);
    assert_int_equal(protocol_dead_drop_oldest(&protocol, redis, soon(), 1), 1);
    assert_int_equal(drop("a"), DEAD_NONE);
    assert_int_equal(protocol_dead_drop_oldest(&protocol, redis, soon(), 500),
                     1);
    assert_int_equal(protocol_dead_drop_oldest(&protocol, redis, soon(), 500),
                     0);
}

/* ---- live output ------------------------------------------------------- */

struct seen_events {
    int count;
    char last[EVENT_ID_MAX + 1], words[256];
};

static void see_event(void *ctx, const struct event *event)
{
    struct seen_events *seen = ctx;
    size_t at = strlen(seen->words);

    seen->count++;
    snprintf(seen->last, sizeof(seen->last), "%s", event->id);
    snprintf(seen->words + at, sizeof(seen->words) - at, "%s:%s@%d ",
             event->type, event->data, (int)event->offset);
}

static int read_events(struct seen_events *seen, const char *after, int most,
                       int block_ms)
{
    char from[EVENT_ID_MAX + 1];

    snprintf(from, sizeof(from), "%s", after);
    memset(seen, 0, sizeof(*seen));
    return protocol_events_read(&protocol, redis, soon(), "j", from, most,
                                block_ms, see_event, seen);
}

static void events_are_read_on_from_any_entry(void **state)
{
    struct seen_events seen;
    AUTO_REPLY redisReply *added = NULL;
    struct enqueue job = real_job("j", BODY("j"));

    (void)state;
    enqueue(&job);
    MUST0(protocol_event_append(&protocol, redis, "j", "stdout", "hi", 2, 7));
    MUST0(redis_flush(redis, soon()));
    MUST0(redis_reply(redis, soon(), &added));
    assert_int_equal(read_events(&seen, "0", 10, 0), 2);
    assert_string_equal(seen.words, "state:queued@0 stdout:hi@7 ");
    assert_int_equal(read_events(&seen, "0", 1, 0), 1);
    assert_int_equal(read_events(&seen, seen.last, 10, 0), 1);
    assert_string_equal(seen.words, "stdout:hi@7 ");
    assert_int_equal(read_events(&seen, seen.last, 10, 1), 0);
    cancel("j");
    assert_int_equal(read_events(&seen, "0", 10, 0), 3);
    assert_string_equal(strstr(seen.words, "end:"), "end:cancelled@0 ");
    say("SET {t}:events:j nonsense");
    assert_int_equal(read_events(&seen, "0", 10, 0), -EPROTO);
}

static void ids_of_entries_are_told_from_others(void **state)
{
    (void)state;
    assert_true(protocol_event_id_valid("0"));
    assert_true(protocol_event_id_valid("1700000000000-12"));
    assert_false(protocol_event_id_valid(""));
    assert_false(protocol_event_id_valid("-"));
    assert_false(protocol_event_id_valid("12-"));
    assert_false(protocol_event_id_valid("12-3x"));
    assert_false(protocol_event_id_valid("$"));
    assert_false(protocol_event_id_valid("123456789012345678901"));
}

/* A worker's death shows to who reads along. */
static void a_reaped_job_is_queued_again_in_its_events(void **state)
{
    struct worker w;
    struct seen_events seen;

    (void)state;
    worker_begin(&w, "w1");
    say("LPUSH {t}:queue:default " BODY("j"));
    claim(&w, 1);
    struct start s = {.number = 1,
                      .queue = "default",
                      .job_id = "j",
                      .parent = "",
                      .events = true};
    assert_int_equal(start(&w, &s), START_OK);
    reap("w1", true);
    read_events(&seen, "0", 10, 0);
    assert_string_equal(seen.words, "state:running@0 state:queued@0 ");
}

/* ---- frame ------------------------------------------------------------- */

static int fresh(void **state)
{
    (void)state;
    while (nreplies > 0)
        forget_claims(&replies[--nreplies]);
    say("FLUSHALL");
    say("CONFIG RESETSTAT");
    return 0;
}

static int open_all(void **state)
{
    struct complaint why;
    struct settings settings = {0};

    (void)state;
    redis_server_start(&server, NULL);
    MUST0(redis_target_parse(server.url, &settings, &target, &why));
    MUST0(redis_create(&target, NULL, &redis));
    MUST0(redis_connect(redis, soon()));
    MUST0(protocol_init(&protocol, "{t}", 60, 10000));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    redis_destroy(redis);
    redis_target_fini(&target);
    redis_server_stop(&server);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_push_is_claimed_and_ends_with_its_counters),
        TEST(values_of_any_size_arrive_whole),
        TEST(big_counters_stay_exact),
        TEST(languages_are_counted_apart),
        TEST(queues_are_served_in_order_and_oldest_first),
        TEST(what_a_blocked_move_took_is_claimed_first),
        TEST(a_lost_reply_is_answered_the_same_again),
        TEST(a_straggler_of_an_old_connection_does_nothing),
        TEST(a_redis_that_went_back_in_time_fences),
        TEST(a_finish_without_the_claim_is_late),
        TEST(a_retry_waits_for_its_time_and_comes_back),
        TEST(a_delay_shows_in_the_hash_without_a_start),
        TEST(two_equal_entries_may_wait_together),
        TEST(a_released_entry_is_first_in_line),
        TEST(a_dead_job_is_listed_and_counted),
        TEST(the_dead_list_is_bounded),
        TEST(a_foreign_key_in_the_way_does_not_lose_a_result),
        TEST(the_end_is_told_to_who_listens),
        TEST(a_batch_is_complete_when_all_of_it_ended),
        TEST(a_batch_grows_by_who_joins_it),
        TEST(the_output_stream_ends_with_the_verdict),
        TEST(an_id_runs_once),
        TEST(a_bare_push_cannot_take_an_accepted_id),
        TEST(a_reaped_job_is_its_own_heir),
        TEST(enqueue_knows_its_own_repeat),
        TEST(a_lease_that_is_not_over_is_respected),
        TEST(the_reaped_are_shut_out),
        TEST(a_commit_before_the_fence_is_not_called_late),
        TEST(a_start_before_the_fence_is_not_a_commit),
        TEST(the_reaped_entries_go_first_in_their_order),
        TEST(all_are_suspects_of_an_unmarked_death),
        TEST(only_the_marked_one_is_charged),
        TEST(a_mark_that_was_given_back_accuses_nobody),
        TEST(a_finished_suspect_takes_its_mark_off),
        TEST(a_move_that_landed_after_reaping_is_brought_back),
        TEST(a_half_done_reaping_is_seen_and_finished),
        TEST(a_heartbeat_says_what_there_is_to_do),
        TEST(anything_but_zero_pauses),
        TEST(leaving_needs_empty_hands),
        TEST(another_protocol_version_is_named),
        TEST(a_peer_without_a_connection_is_found_and_cut_off),
        TEST(the_prefix_is_all_an_acl_must_allow),
        TEST(a_full_redis_still_finishes_jobs),
        TEST(forgotten_scripts_are_sent_as_text),
        TEST(a_job_costs_few_calls),
        TEST(a_queued_job_is_cancelled_at_once),
        TEST(a_bare_push_is_found_by_its_id),
        TEST(the_owner_of_the_id_is_found_behind_a_duplicate),
        TEST(what_only_mentions_an_id_is_left_alone),
        TEST(a_delayed_job_is_cancelled_at_once),
        TEST(a_job_between_two_tries_is_cancelled_at_once),
        TEST(a_claimed_job_is_not_started_after_a_cancel),
        TEST(a_running_job_is_told_with_every_heartbeat),
        TEST(a_cancel_outlives_the_worker),
        TEST(a_tenant_cancels_what_is_theirs_or_nobodys),
        TEST(who_insists_leaves_a_tombstone_for_what_nobody_knows),
        TEST(two_plain_commands_cancel),
        TEST(tombstones_are_bounded_in_time_and_number),
        TEST(a_new_job_with_the_id_of_a_cancelled_one_runs),
        TEST(what_has_ended_leaves_no_tombstone),
        TEST(a_job_far_back_in_its_queue_is_found),
        TEST(pieces_are_small_where_entries_are_large),
        TEST(a_bare_push_too_far_back_waits_for_its_end),
        TEST(a_job_that_nobody_finds_waits_for_its_end),
        TEST(what_was_claimed_in_between_is_not_ended_twice),
        TEST(what_began_to_run_in_between_is_not_ended),
        TEST(a_full_redis_still_cancels),
        TEST(a_batch_is_its_first_tenants),
        TEST(the_dead_are_listed_newest_first_and_shown_whole),
        TEST(a_dead_job_is_found_in_a_list_that_changes),
        TEST(large_dead_jobs_are_looked_at_a_few_at_a_time),
        TEST(a_retried_job_begins_anew),
        TEST(a_retry_does_not_disturb_a_newer_job),
        TEST(a_retry_goes_by_the_id_in_the_job),
        TEST(what_was_cut_is_not_retried),
        TEST(a_full_redis_keeps_the_dead_where_they_are),
        TEST(the_dead_are_dropped_one_by_one_or_oldest_first),
        TEST(events_are_read_on_from_any_entry),
        TEST(ids_of_entries_are_told_from_others),
        TEST(a_reaped_job_is_queued_again_in_its_events),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
