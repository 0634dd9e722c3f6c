/* The verbs of bin/capibox against a real Redis. The worker is a thread of this
 * test that speaks the real protocol and hands out canned results; the real one
 * is tested end to end elsewhere. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "common/io.h"
#include "common/must.h"
#include "common/protocol.h"
#include "common/result.h"
#include "common/scope.h"
#include "tests/support/proc.h"
#include "tests/support/redis_server.h"

#define CLI_MS 20000

static struct redis_server server;
static struct redis_target target;
static struct protocol protocol;
static struct redis *redis;
static char folder[300];

static int64_t soon(void)
{
    return clock_ms() + 10000;
}

/* ---- the worker --------------------------------------------------------- */

static const struct queue_share QUEUES[] = {{.name = "default"}};

static struct {
    pthread_t thread;
    atomic_bool stop, held; /* held: claims nothing */
    atomic_int looks;       /* at held, each with its turn over */
    atomic_bool go;         /* slow jobs may go on */
    struct redis *redis;
    char wid[WORKER_ID_MAX + 1];
    int64_t sequence;
    atomic_int started; /* jobs */
} worker;

static void call(void)
{
    redisReply *reply = NULL;

    MUST0(redis_flush(worker.redis, soon()));
    MUST0(redis_reply(worker.redis, soon(), &reply));
    freeReplyObject(reply);
}

static void piece(const char *id, const char *type, const char *text,
                  uint64_t offset)
{
    MUST0(protocol_event_append(&protocol, worker.redis, id, type, text,
                                strlen(text), offset));
    call();
}

static bool says(const struct job *job, const char *word)
{
    return strstr(job->code, word) != NULL;
}

/* What the code asks for, by the words in it. */
static void play(const struct job *job, const char *id, struct outcome *o)
{
    o->verdict = VERDICT_OK;
    o->exit_code = 0;
    o->code_started = true;
    o->usage.peak_memory_mb = 12.5;
    strcpy(o->enforced.memory, "cgroup v9 of the test");
    capture_add(&o->out, "one\ntwo\nthree\n", 14);
    capture_add(&o->err, "oops\n", 5);
    if (job->stream && says(job, "streamed")) {
        piece(id, "stdout", "one\n", 0);
        piece(id, "stdout", "two\n", 4);
        if (!says(job, "cut"))
            piece(id, "stdout", "three\n", 8);
        piece(id, "stderr", "oops\n", 0);
    }
    while (says(job, "slowly") && !atomic_load(&worker.go))
        poll(NULL, 0, 3);
    if (says(job, "value"))
        strbuf_adds(&o->results,
                    "{\"text\":\"a  b\",\"html\":\"<b>a</b>\","
                    "\"is_main_result\":true},{\"png\":\"aGVsbG8=\"}");
    if (says(job, "files"))
        strbuf_adds(&o->files,
                    "{\"path\":\"../../evil\\u001b[31m.txt\",\"size\":2,"
                    "\"mime\":\"text/plain\",\"content_base64\":\"aGk=\"},"
                    "{\"path\":\"sub/a.txt\",\"size\":2,\"mime\":"
                    "\"text/plain\",\"content_base64\":\"aGk=\"}");
    if (says(job, "forge"))
        outcome_error(o, "\033[2Jforged");
    for (enum verdict v = VERDICT_OK; v < VERDICT_COUNT; v++)
        if (!strncmp(job->code, "verdict:", 8) &&
            !strcmp(job->code + 8, verdict_name(v)))
            o->verdict = v;
}

struct done_job {
    char id[JOB_ID_MAX + 1];
    char *batch_id;
    struct strbuf result;
    const char *names[3], *values[3];
    size_t lens[3];
    struct finish finish;
};

static void start(const struct job *job, const struct envelope *e,
                  const char *id, int64_t number)
{
    struct start s = {.number = number,
                      .queue = "default",
                      .job_id = id,
                      .parent = e->parent,
                      .events = job->stream};
    enum start_answer answer;
    redisReply *reply = NULL;

    MUST0(protocol_start_append(&protocol, worker.redis, worker.wid, &s, true));
    MUST0(redis_flush(worker.redis, soon()));
    MUST0(redis_reply(worker.redis, soon(), &reply));
    MUST0(protocol_start_parse(reply, &answer));
    freeReplyObject(reply);
    MUST(answer == START_OK);
    atomic_fetch_add(&worker.started, 1);
}

static void fill_finish(struct done_job *d, const struct job *job,
                        const struct outcome *o, int64_t number)
{
    d->names[0] = "status";
    d->values[0] = verdict_status(o->verdict);
    d->names[1] = "verdict";
    d->values[1] = verdict_name(o->verdict);
    d->names[2] = "result";
    d->values[2] = d->result.text;
    for (int i = 0; i < 3; i++)
        d->lens[i] = strlen(d->values[i]);
    d->batch_id = job->batch_id ? strdup(job->batch_id) : NULL;
    d->finish = (struct finish){.kind = FINISH_END,
                                .number = number,
                                .queue = "default",
                                .job_id = d->id,
                                .started = true,
                                .names = d->names,
                                .values = d->values,
                                .value_lens = d->lens,
                                .nfields = 3,
                                .verdict = o->verdict,
                                .code_started = o->code_started,
                                .success = o->verdict == VERDICT_OK,
                                .execution_time = 0.25,
                                .template_id = "default",
                                .batch_id = d->batch_id,
                                .events = job->stream};
}

static void do_job(const struct claim *claim, struct done_job *d)
{
    struct envelope e;
    struct complaint why;
    struct job *job = NULL;
    struct outcome o;
    size_t at = envelope_parse(claim->entry, claim->entry_len, &e);
    struct result_context ctx = {.job_id = d->id,
                                 .backend = "test",
                                 .worker = worker.wid,
                                 .attempt = 1,
                                 .execution_time = 0.25};

    MUST0(
        job_parse(claim->entry + at, claim->entry_len - at, &job, d->id, &why));
    MUST(*d->id);
    start(job, &e, d->id, claim->number);
    MUST0(outcome_init(&o, 1 << 20));
    play(job, d->id, &o);
    MUST0(result_encode(&ctx, job, NULL, &o, &d->result));
    fill_finish(d, job, &o, claim->number);
    outcome_fini(&o);
    job_destroy(job);
}

static void exchange(const struct finish *finishes, int nfinishes, int claim,
                     struct exchange_reply *out)
{
    struct exchange_request request = {.wid = worker.wid,
                                       .sequence = ++worker.sequence,
                                       .queues = QUEUES,
                                       .nqueues = 1,
                                       .finishes = finishes,
                                       .nfinishes = nfinishes,
                                       .claim = claim};
    redisReply *reply = NULL;

    MUST0(protocol_exchange_append(&protocol, worker.redis, &request, true));
    MUST0(redis_flush(worker.redis, soon()));
    MUST0(redis_reply(worker.redis, soon(), &reply));
    MUST0(protocol_exchange_parse(reply, &request, out));
    freeReplyObject(reply);
    MUST(!out->fenced);
}

/* Newest first among what it claims, so that batches end out of order. */
static void turn(void)
{
    static struct exchange_reply got, none;

    memset(&got, 0, sizeof(got));
    exchange(NULL, 0, 8, &got);
    for (int i = got.nclaims - 1; i >= 0; i--) {
        struct done_job d = {0};

        do_job(&got.claims[i], &d);
        memset(&none, 0, sizeof(none));
        exchange(&d.finish, 1, 0, &none);
        MUST(none.acks[0] == ACK_DONE);
        strbuf_fini(&d.result);
        free(d.batch_id);
        free(got.claims[i].entry);
    }
}

static void *work(void *unused)
{
    while (!atomic_load(&worker.stop)) {
        if (!atomic_load(&worker.held))
            turn();
        atomic_fetch_add(&worker.looks, 1);
        poll(NULL, 0, 3);
    }
    return unused;
}

static bool has_looked(void *ctx)
{
    return atomic_load(&worker.looks) != *(int *)ctx;
}

/* From now on; the turn it is at is over. */
static void worker_hold(void)
{
    atomic_store(&worker.held, true);
    for (int i = 0; i < 2; i++) {
        int looks = atomic_load(&worker.looks);

        assert_true(wait_until(has_looked, &looks, CLI_MS));
    }
}

static void worker_start(bool held)
{
    struct worker_card card = {.wid = worker.wid,
                               .host = "test-host",
                               .backend = "test",
                               .version = "1",
                               .pid = getpid(),
                               .concurrency = 8,
                               .active = 1,
                               .started_at = clock_unix_s(),
                               .queues = "default",
                               .state = "running",
                               .more = ""};

    worker.sequence = 0;
    atomic_store(&worker.stop, false);
    atomic_store(&worker.held, held);
    MUST0(protocol_make_worker_id(worker.wid));
    MUST0(redis_create(&target, "worker", &worker.redis));
    MUST0(redis_connect(worker.redis, soon()));
    MUST0(protocol_register(&protocol, worker.redis, soon(), &card));
    MUST0(pthread_create(&worker.thread, NULL, work, NULL));
}

static void worker_stop(void)
{
    if (!worker.redis)
        return;
    atomic_store(&worker.stop, true);
    MUST0(pthread_join(worker.thread, NULL));
    protocol_leave(&protocol, worker.redis, soon(), worker.wid);
    redis_destroy(worker.redis);
    worker.redis = NULL;
}

/* ---- the command line --------------------------------------------------- */

static char *out, *err;
static char url[400];

static const char *const *environment(void)
{
    static const char *env[4];

    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", server.url);
    env[0] = url;
    env[1] = "CAPIBOX_PREFIX";
    env[2] = "CAPIBOX_TEMPLATES=templates";
    return env;
}

static struct proc_start how(const char *stdin_text, const char **argv,
                             va_list words)
{
    int argc = 0;

    argv[argc++] = proc_program("capibox");
    while ((argv[argc] = va_arg(words, const char *)))
        MUST(++argc < 30);
    return (struct proc_start){
        .argv = argv, .env = environment(), .stdin_text = stdin_text};
}

/* Runs it to its end; out and err hold what it printed. */
static int cli(const char *stdin_text, ...)
{
    const char *argv[32];
    struct proc_start start_how;
    va_list words;

    va_start(words, stdin_text);
    start_how = how(stdin_text, argv, words);
    va_end(words);
    free(out);
    free(err);
    out = err = NULL;
    return proc_run(&start_how, CLI_MS, &out, &err);
}

static void cli_start(struct proc *p, const char *stdin_text, ...)
{
    const char *argv[32];
    struct proc_start start_how;
    va_list words;

    va_start(words, stdin_text);
    start_how = how(stdin_text, argv, words);
    va_end(words);
    proc_start(p, &start_how);
}

#define assert_said(text, part)                                \
    do {                                                       \
        if (!strstr(text, part))                               \
            fail_msg("\"%s\" is missing in:\n%s", part, text); \
    } while (0)
#define assert_not_said(text, part)                               \
    do {                                                          \
        if (strstr(text, part))                                   \
            fail_msg("\"%s\" should not be in:\n%s", part, text); \
    } while (0)

static const char *member(const char *json, const char *name)
{
    static char value[256];
    cJSON *all = cJSON_Parse(json);
    const cJSON *item = cJSON_GetObjectItem(all, name);

    *value = '\0';
    if (cJSON_IsString(item))
        snprintf(value, sizeof(value), "%s", item->valuestring);
    else if (cJSON_IsNumber(item))
        snprintf(value, sizeof(value), "%g", item->valuedouble);
    else if (cJSON_IsBool(item))
        strcpy(value, cJSON_IsTrue(item) ? "true" : "false");
    cJSON_Delete(all);
    return value;
}

static int64_t number(const char *command, const char *kind, const char *name)
{
    char key[KEY_MAX];
    redisReply *reply = NULL;
    int64_t value;

    MUST0(redis_callv(redis, soon(), &reply, command,
                      protocol_key(&protocol, key, kind, name), NULL));
    value = reply->integer;
    freeReplyObject(reply);
    return value;
}

static void say(const char *a, const char *b, const char *c, const char *d)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(redis, soon(), &reply, a, b, c, d, NULL));
    MUST(reply->type != REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

/* ---- usage -------------------------------------------------------------- */

static void wrong_usage_is_named_and_exits_2(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, NULL), 2);
    assert_int_equal(cli(NULL, "rnu", "x.py", NULL), 2);
    assert_said(err, "did you mean run?");
    assert_int_equal(cli(NULL, "run", "-", "--templte", "x", NULL), 2);
    assert_said(err, "did you mean --template?");
    assert_int_equal(cli(NULL, "run", "-", "--timeout", "soon", NULL), 2);
    assert_said(err, "--timeout");
    assert_int_equal(cli(NULL, "run", "/no/such/file.py", NULL), 2);
    assert_said(err, "/no/such/file.py");
    assert_int_equal(cli(NULL, "run", NULL), 2);
    assert_int_equal(cli(NULL, "status", "a", "b", NULL), 2);
    assert_int_equal(cli(NULL, "wait", "not an id", NULL), 2);
    assert_int_equal(cli("1", "run", "-", "--metadata", "[1]", NULL), 2);
    assert_int_equal(cli("1", "run", "-", "--language", "perl", NULL), 2);
    assert_int_equal(cli("", "run", "-", NULL), 2);
    assert_int_equal(cli("1", "run", "-", "--redis", "http://x", NULL), 2);
    assert_int_equal(
        cli(NULL, "status", "x", "--redis", "redis://h:99999/0", NULL), 2);
    assert_said(err, "the port must be 1 to 65535");
    assert_int_equal(cli(NULL, "stats", "--redis", "redis://h/nine", NULL), 2);
    assert_int_equal(cli("1", "run", "-", "--memory", "1GB", NULL), 2);
    assert_said(err, "give 16 to 1048576");
    assert_string_equal(out, "");
    assert_int_equal(number("LLEN", "queue", "default"), 0);
}

static void help_and_version_exit_0_whatever_else_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "run", "--help", NULL), 0);
    assert_said(out, "--memory MB");
    assert_int_equal(cli(NULL, "run", "-h", NULL), 0);
    assert_said(out, "--memory MB");
    assert_int_equal(cli(NULL, "-h", NULL), 0);
    assert_int_equal(cli(NULL, "--memory", "64", "run", "-", NULL), 2);
    assert_said(err, "flags of a verb go behind it");
    assert_int_equal(cli(NULL, "--help", "--queues", "no good", NULL), 0);
    assert_int_equal(cli(NULL, "help", "batch", NULL), 0);
    assert_said(out, "--no-wait");
    assert_int_equal(cli(NULL, "--version", NULL), 0);
    assert_said(out, "capibox ");
}

static void an_absent_redis_exits_4_without_its_password(void **state)
{
    (void)state;
    assert_int_equal(cli("1", "submit", "-", "--redis",
                         "redis://me:secret@127.0.0.1:1/0", NULL),
                     4);
    assert_not_said(err, "secret");
    assert_said(err, "127.0.0.1:1");
}

static void an_answer_that_cannot_be_written_is_no_success(void **state)
{
    const char *argv[] = {"/bin/sh", "-c", "exec \"$0\" --help > /dev/full",
                          proc_program("capibox"), NULL};
    const struct proc_start start_how = {.argv = argv, .env = environment()};

    (void)state;
    free(out);
    free(err);
    assert_int_equal(proc_run(&start_how, CLI_MS, &out, &err), 4);
    assert_said(err, "cannot write the answer");
}

/* ---- run ---------------------------------------------------------------- */

static void run_shows_streamed_output_and_a_summary(void **state)
{
    (void)state;
    assert_int_equal(cli("streamed", "run", "-", "-v", NULL), 0);
    assert_string_equal(out, "one\ntwo\nthree\n");
    assert_said(err, "oops\n");
    assert_said(err, "ok in 250 ms, peak memory 12.5 MB");
    assert_said(err, "cgroup v9 of the test");
}

static void run_shows_output_before_the_job_has_ended(void **state)
{
    struct proc p = {0};
    bool early;

    (void)state;
    cli_start(&p, "streamed slowly", "run", "-", NULL);
    early = proc_says(&p, "one\n", CLI_MS);
    atomic_store(&worker.go, true);
    assert_int_equal(proc_wait(&p, CLI_MS), 0);
    proc_stop(&p);
    assert_true(early);
}

static void run_shows_the_logs_of_a_worker_that_does_not_stream(void **state)
{
    (void)state;
    assert_int_equal(cli("quiet", "run", "-", NULL), 0);
    assert_string_equal(out, "one\ntwo\nthree\n");
    assert_said(err, "oops\n");
}

static void run_completes_a_stream_that_was_cut_short(void **state)
{
    (void)state;
    assert_int_equal(cli("streamed, cut", "run", "-", NULL), 0);
    assert_string_equal(out, "one\ntwo\nthree\n");
}

static void run_as_json_prints_the_result_alone(void **state)
{
    (void)state;
    assert_int_equal(cli("streamed", "run", "-", "--json", "--id", "js-1",
                         "--metadata", "{\"n\":12345678901234567890}", NULL),
                     0);
    assert_string_equal(member(out, "job_id"), "js-1");
    assert_string_equal(member(out, "verdict"), "ok");
    assert_said(out, "12345678901234567890");
    assert_string_equal(err, "");
}

static void every_verdict_has_its_exit_code(void **state)
{
    static const struct {
        const char *code;
        int exit;
    } table[] = {
        {"verdict:ok", 0},        {"verdict:user_error", 1},
        {"verdict:signal", 1},    {"verdict:denied_syscall", 1},
        {"verdict:timeout", 3},   {"verdict:oom", 3},
        {"verdict:cancelled", 3}, {"verdict:expired", 3},
        {"verdict:rejected", 2},  {"verdict:setup_failed", 4},
        {"verdict:lost", 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        int got = cli(table[i].code, "run", "-", NULL);

        if (got != table[i].exit)
            fail_msg("%s gave %d:\n%s", table[i].code, got, err);
    }
}

static char *read_saved(const char *dir, const char *name)
{
    char path[600], *text = NULL;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (io_read_file(path, 1000, &text, NULL) < 0)
        fail_msg("%s was not written", path);
    return text;
}

static void run_saves_files_and_pictures_below_the_folder_only(void **state)
{
    char dir[400], target_path[420], link_path[420];
    AUTO_FREE char *evil = NULL;
    AUTO_FREE char *sub = NULL;
    AUTO_FREE char *png = NULL;
    AUTO_FREE char *html = NULL;

    (void)state;
    snprintf(dir, sizeof(dir), "%s/save", folder);
    snprintf(target_path, sizeof(target_path), "%s/outside.png", folder);
    snprintf(link_path, sizeof(link_path), "%s/result-2.png", dir);
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(symlink(target_path, link_path), 0);
    assert_int_equal(cli("value, files", "run", "-", "--save", dir, NULL), 0);
    evil = read_saved(dir, "__/__/evil_[31m.txt");
    sub = read_saved(dir, "sub/a.txt");
    png = read_saved(dir, "result-2.png");
    html = read_saved(dir, "result-1.html");
    assert_string_equal(evil, "hi");
    assert_string_equal(sub, "hi");
    assert_string_equal(png, "hello");
    assert_string_equal(html, "<b>a</b>");
    assert_int_not_equal(access(target_path, F_OK), 0);
    assert_said(err, "result 1: text, html");
    assert_said(err, "a  b");
}

static void a_folder_that_cannot_be_is_named_before_the_job_runs(void **state)
{
    int before = atomic_load(&worker.started);
    char path[400];

    (void)state;
    snprintf(path, sizeof(path), "%s/no-folder", folder);
    close(creat(path, 0600));
    assert_int_equal(cli("files", "run", "-", "--save", path, NULL), 2);
    assert_said(err, "no-folder: Not a directory");
    assert_int_equal(atomic_load(&worker.started), before);
    assert_int_equal(number("LLEN", "queue", "default"), 0);
    assert_int_equal(cli(NULL, "result", "any", "--save", path, NULL), 2);
    snprintf(path, sizeof(path), "%s/slash/", folder);
    assert_int_equal(cli("files", "run", "-", "--save", path, NULL), 0);
    assert_said(err, "/slash/sub/a.txt");
}

static void run_saves_nothing_through_a_linked_folder(void **state)
{
    char dir[400], outside[400], link_path[420], leaked[420];

    (void)state;
    snprintf(dir, sizeof(dir), "%s/linked", folder);
    snprintf(outside, sizeof(outside), "%s/outside", folder);
    snprintf(link_path, sizeof(link_path), "%s/sub", dir);
    snprintf(leaked, sizeof(leaked), "%s/a.txt", outside);
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(mkdir(outside, 0755), 0);
    assert_int_equal(symlink(outside, link_path), 0);
    assert_int_equal(cli("files", "run", "-", "--save", dir, NULL), 4);
    assert_said(err, "cannot write");
    assert_int_not_equal(access(leaked, F_OK), 0);
}

static void text_from_jobs_cannot_steer_the_terminal(void **state)
{
    (void)state;
    assert_int_equal(cli("forge, files", "run", "-", NULL), 0);
    assert_said(err, "\\x1b[2Jforged");
    assert_null(strchr(err, '\033'));
}

static void the_same_id_is_not_run_again(void **state)
{
    int before;

    (void)state;
    assert_int_equal(cli("quiet", "run", "-", "--id", "once", NULL), 0);
    before = atomic_load(&worker.started);
    assert_int_equal(cli("verdict:oom", "run", "-", "--id", "once", NULL), 0);
    assert_said(err, "is there already");
    assert_string_equal(out, "one\ntwo\nthree\n");
    assert_int_equal(atomic_load(&worker.started), before);
}

/* The test's worker does not beat. */
static void lease_until(const char *ms)
{
    char key[KEY_MAX];

    say("ZADD", protocol_key(&protocol, key, "wk", NULL), ms, worker.wid);
}

static void ctrl_c_leaves_the_job_and_says_its_id(void **state)
{
    struct proc p = {0};
    AUTO_FREE char *said = NULL;

    (void)state;
    worker_hold();
    lease_until("1");
    cli_start(&p, "quiet", "run", "-", "--id", "left", NULL);
    /* It waits for the job when it says so, and not before. */
    assert_true(proc_says(&p, "no worker is alive", CLI_MS));
    lease_until("9999999999999");
    proc_signal(&p, SIGINT);
    assert_int_equal(proc_wait(&p, CLI_MS), 130);
    said = proc_err(&p);
    assert_said(said, "job left goes on");
    assert_said(said, "capibox cancel left");
    proc_stop(&p);
    atomic_store(&worker.held, false);
    assert_int_equal(cli(NULL, "wait", "left", NULL), 0);
}

/* ---- queues without a worker -------------------------------------------- */

static void a_queue_that_nobody_serves_is_named(void **state)
{
    struct proc p = {0};

    (void)state;
    lease_until("9999999999999");
    cli_start(&p, "quiet", "run", "-", "--queue", "nosuchq", NULL);
    assert_true(proc_says(&p,
                          "no live worker serves queue nosuchq (served: "
                          "default); the job waits",
                          CLI_MS));
    proc_signal(&p, SIGINT);
    assert_int_equal(proc_wait(&p, CLI_MS), 130);
    proc_stop(&p);
    assert_int_equal(number("LLEN", "queue", "nosuchq"), 1);
    assert_int_equal(cli("quiet", "submit", "-", "--queue", "nosuchq", NULL),
                     0);
    assert_said(err, "no live worker serves queue nosuchq");
    assert_int_equal(cli("{\"code\":\"quiet\"}\n", "batch", "-", "--queue",
                         "nosuchq", "--no-wait", NULL),
                     0);
    assert_said(err, "no live worker serves queue nosuchq");
    cli_start(&p, "{\"code\":\"quiet\"}\n", "batch", "-", "--queue", "nosuchq",
              NULL);
    assert_true(proc_says(&p, "no live worker serves queue nosuchq", CLI_MS));
    proc_signal(&p, SIGINT);
    assert_int_equal(proc_wait(&p, CLI_MS), 130);
    proc_stop(&p);
    assert_int_equal(number("LLEN", "queue", "nosuchq"), 4);
    assert_int_equal(cli("quiet", "submit", "-", NULL), 0);
    assert_string_equal(err, "");
}

static void a_pause_is_shown_and_said(void **state)
{
    char key[KEY_MAX];

    (void)state;
    lease_until("9999999999999");
    assert_int_equal(cli(NULL, "queues", NULL), 0);
    assert_null(strstr(out, "paused"));
    say("HSET", protocol_key(&protocol, key, "conf", NULL), "paused", "yes");
    assert_int_equal(cli(NULL, "queues", NULL), 0);
    assert_said(out, "paused: no worker takes a job until");
    assert_int_equal(cli(NULL, "workers", NULL), 0);
    assert_said(out, "paused: no worker takes a job until");
    assert_int_equal(cli(NULL, "stats", NULL), 0);
    assert_said(out, "paused: no worker takes a job until");
    assert_int_equal(cli(NULL, "queues", "--json", NULL), 0);
    assert_said(out, "\"paused\":true}");
    assert_int_equal(cli("quiet", "submit", "-", NULL), 0);
    assert_said(err, "paused 0; the job waits in the queue");
    say("HDEL", protocol_key(&protocol, key, "conf", NULL), "paused", NULL);
}

static void a_worker_whose_lease_is_over_is_not_alive(void **state)
{
    struct proc p = {0};

    (void)state;
    worker_hold();
    lease_until("1");
    cli_start(&p, "quiet", "run", "-", "--json", NULL);
    assert_true(proc_says(
        &p, "no worker is alive (start capibox-worker); the job", CLI_MS));
    lease_until("9999999999999");
    atomic_store(&worker.held, false);
    assert_int_equal(proc_wait(&p, CLI_MS), 0);
    proc_stop(&p);
}

/* ---- submit, wait, result, status --------------------------------------- */

#define QUEUE_LINE                                     \
    "{\"name\":\"default\",\"depth\":1,\"workers\":1," \
    "\"oldest_seconds\":"

static void submit_prints_the_id_alone_and_status_knows_it(void **state)
{
    char id[100];
    const char *at;
    double oldest;
    int64_t start;

    (void)state;
    worker_hold();
    start = clock_ms();
    assert_int_equal(cli("quiet", "submit", "-", NULL), 0);
    snprintf(id, sizeof(id), "%.*s", (int)strcspn(out, "\n"), out);
    assert_true(job_id_valid(id));
    assert_int_equal(strlen(out), strlen(id) + 1);
    assert_int_equal(cli(NULL, "status", id, NULL), 0);
    assert_said(out, "queued");
    assert_int_equal(cli(NULL, "status", id, "--json", NULL), 0);
    assert_string_equal(member(out, "status"), "queued");
    assert_int_equal(cli(NULL, "result", id, NULL), 4);
    assert_said(err, "still queued");
    assert_int_equal(cli(NULL, "queues", "--json", NULL), 0);
    at = strstr(out, QUEUE_LINE);
    assert_non_null(at);
    oldest = atof(at + strlen(QUEUE_LINE));
    assert_true(oldest > 0 && oldest * 1000 <= (double)(clock_ms() - start));
    assert_int_equal(cli(NULL, "wait", id, "--timeout", "0.2", NULL), 4);
    assert_said(err, "has not ended");
    atomic_store(&worker.held, false);
    assert_int_equal(cli(NULL, "wait", id, NULL), 0);
    assert_string_equal(out, "");
    assert_int_equal(cli(NULL, "result", id, NULL), 0);
    assert_string_equal(out, "one\ntwo\nthree\n");
    assert_int_equal(cli(NULL, "status", id, "--json", NULL), 0);
    assert_string_equal(member(out, "status"), "succeeded");
}

static void jobs_that_are_not_there_exit_5(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "status", "nobody", NULL), 5);
    assert_int_equal(cli(NULL, "result", "nobody", NULL), 5);
    assert_int_equal(cli(NULL, "wait", "nobody", NULL), 5);
    assert_int_equal(cli(NULL, "wait", "nobody", "--timeout", "0.2", NULL), 5);
}

static void a_delayed_job_says_until_when(void **state)
{
    char key[KEY_MAX];

    (void)state;
    /* As a worker writes it that put the job off. */
    protocol_key(&protocol, key, "job", "tomorrow");
    say("HSET", key, "status", "delayed");
    say("HSET", key, "due_at", "4000000000.000");
    assert_int_equal(cli(NULL, "status", "tomorrow", NULL), 0);
    assert_said(out, "(4000000000.000)");
    assert_int_equal(cli(NULL, "wait", "tomorrow", "--timeout", "0.1", NULL),
                     4);
    assert_said(err, "tomorrow is delayed until 20");
    assert_int_equal(cli(NULL, "result", "tomorrow", NULL), 4);
    assert_said(err, "tomorrow is delayed until 20");
    say("HSET", key, "status", "queued");
    assert_int_equal(cli(NULL, "result", "tomorrow", NULL), 4);
    assert_said(err, "still queued");
    say("HDEL", key, "status", "due_at");
}

static void wait_with_a_timeout_lets_a_bare_push_appear(void **state)
{
    struct proc p = {0};
    char key[KEY_MAX];

    (void)state;
    cli_start(&p, NULL, "wait", "bare-1", "--timeout", "15", NULL);
    poll(NULL, 0, 100);
    say("LPUSH", protocol_key(&protocol, key, "queue", "default"),
        "{\"id\":\"bare-1\",\"code\":\"verdict:oom\"}", NULL);
    assert_int_equal(proc_wait(&p, CLI_MS), 3);
    proc_stop(&p);
}

static void wait_rides_out_a_restart_of_redis(void **state)
{
    struct proc p = {0};

    (void)state;
    worker_stop();
    assert_int_equal(cli("quiet", "submit", "-", "--id", "patient", NULL), 0);
    cli_start(&p, NULL, "wait", "patient", NULL);
    poll(NULL, 0, 200);
    redis_server_kill(&server);
    poll(NULL, 0, 300);
    redis_server_restart(&server);
    worker_start(false);
    assert_int_equal(proc_wait(&p, CLI_MS), 0);
    proc_stop(&p);
    MUST0(redis_connect(redis, soon()));
}

/* ---- events ------------------------------------------------------------- */

static void events_come_on_their_own_streams(void **state)
{
    (void)state;
    assert_int_equal(
        cli("streamed", "submit", "-", "--id", "ev", "--stream", NULL), 0);
    assert_int_equal(cli(NULL, "events", "ev", "--follow", NULL), 0);
    assert_string_equal(out, "one\ntwo\nthree\n");
    assert_said(err, "capibox: ev is queued\n");
    assert_said(err, "capibox: ev is running\n");
    assert_said(err, "oops\n");
    assert_said(err, "capibox: ev ended: ok\n");
}

static void events_as_json_go_on_from_any_of_them(void **state)
{
    char from[64];
    const char *at;

    (void)state;
    assert_int_equal(cli(NULL, "events", "ev", "--json", NULL), 0);
    assert_said(out, ",\"type\":\"state\",\"state\":\"queued\"}\n");
    assert_said(out, ",\"type\":\"end\",\"verdict\":\"ok\"}\n");
    at = strstr(out, ",\"type\":\"stdout\",\"offset\":4,\"data\":\"two\\n\"}");
    assert_non_null(at);
    while (*at != '\n')
        at--;
    snprintf(from, sizeof(from), "%.*s", (int)strcspn(at + 8, "\""), at + 8);
    assert_int_equal(cli(NULL, "events", "ev", "--from", from, NULL), 0);
    assert_string_equal(out, "three\n"); /* and no gap is claimed */
    assert_not_said(err, "not kept");
    assert_int_equal(cli(NULL, "events", "ev", "--from", "$", NULL), 2);
    assert_int_equal(cli(NULL, "events", "nobody", "--follow", NULL), 5);
}

static void events_of_a_queued_job_are_waited_for(void **state)
{
    struct proc p = {0};
    AUTO_FREE char *said = NULL;

    (void)state;
    worker_hold();
    assert_int_equal(
        cli("{\"id\":\"ev2\",\"code\":\"streamed\",\"stream\":true}", "batch",
            "-", "--no-wait", NULL),
        0);
    assert_int_equal(cli(NULL, "events", "ev2", NULL), 0);
    assert_said(err, "ev2 is queued; there are no events yet");
    cli_start(&p, NULL, "events", "ev2", "--follow", NULL);
    poll(NULL, 0, 1200); /* longer than one blocking read */
    atomic_store(&worker.held, false);
    assert_int_equal(proc_wait(&p, CLI_MS), 0);
    said = proc_out(&p);
    assert_string_equal(said, "one\ntwo\nthree\n");
    proc_stop(&p);
}

static void a_job_that_does_not_stream_says_how_to_get_it(void **state)
{
    (void)state;
    assert_int_equal(cli("quiet", "submit", "-", "--id", "mute", NULL), 0);
    assert_int_equal(cli(NULL, "wait", "mute", NULL), 0);
    assert_int_equal(cli(NULL, "events", "mute", "--follow", NULL), 2);
    assert_said(err, "submit --stream");
    assert_said(err, "capibox result mute");
}

/* ---- cancel ------------------------------------------------------------- */

static void a_queued_job_is_cancelled_where_it_waits(void **state)
{
    (void)state;
    worker_hold();
    assert_int_equal(cli("quiet", "submit", "-", "--id", "c1", NULL), 0);
    assert_int_equal(cli("quiet", "submit", "-", "--id", "c2", NULL), 0);
    assert_int_equal(cli(NULL, "cancel", "c1", NULL), 0);
    assert_string_equal(out, "c1 cancelled\n");
    assert_int_equal(cli(NULL, "cancel", "c1", "--json", NULL), 0);
    assert_string_equal(out, "{\"job_id\":\"c1\",\"cancelled\":true,"
                             "\"status\":\"cancelled\"}\n");
    assert_int_equal(cli(NULL, "wait", "c1", NULL), 3);
    assert_int_equal(cli(NULL, "result", "c1", "--json", NULL), 3);
    assert_string_equal(member(out, "verdict"), "cancelled");
    assert_int_equal(cli(NULL, "cancel", "c2", "nobody", NULL), 5);
    assert_said(out, "c2 cancelled\n");
    assert_said(err, "no such job: nobody");
    assert_int_equal(number("LLEN", "queue", "default"), 0);
    atomic_store(&worker.held, false);
}

static void a_job_that_has_ended_says_so_to_a_cancel(void **state)
{
    (void)state;
    assert_int_equal(cli("quiet", "run", "-", "--id", "over", NULL), 0);
    assert_int_equal(cli(NULL, "cancel", "over", NULL), 0);
    assert_string_equal(out, "over had ended already: succeeded\n");
    assert_int_equal(cli(NULL, "cancel", "over", "--json", NULL), 0);
    assert_said(out, "\"cancelled\":false,\"status\":\"succeeded\"");
    assert_int_equal(cli(NULL, "cancel", "not an id", NULL), 2);
}

/* Nobody here listens for cancels: the job goes on. */
static void a_cancel_that_is_not_heard_of_is_no_success(void **state)
{
    struct proc p = {0};

    (void)state;
    atomic_store(&worker.go, false);
    cli_start(&p, "slowly", "run", "-", "--id", "deaf", NULL);
    while (number("EXISTS", "run", worker.wid) == 0)
        poll(NULL, 0, 3);
    assert_int_equal(cli(NULL, "cancel", "deaf", "--no-wait", NULL), 0);
    assert_string_equal(out, "deaf is to be cancelled\n");
    assert_int_equal(cli(NULL, "cancel", "deaf", "--timeout", "0.2", NULL), 4);
    assert_said(err, "has not ended yet");
    assert_int_equal(cli(NULL, "status", "deaf", NULL), 0);
    assert_said(out, "cancel_requested_at");
    atomic_store(&worker.go, true);
    assert_int_equal(proc_wait(&p, CLI_MS), 0);
    proc_stop(&p);
}

/* ---- dead --------------------------------------------------------------- */

static void bury(const char *id, const char *job)
{
    char key[KEY_MAX], entry[400];

    snprintf(entry, sizeof(entry),
             "{\"job_id\":\"%s\",\"verdict\":\"lost\",\"queue\":\"default\","
             "\"error\":\"lost: \\u001b[2J\",\"at\":1.5,\"bytes\":%zu,"
             "\"kept\":%zu}\n%s",
             id, strlen(job), strlen(job), job);
    say("LPUSH", protocol_key(&protocol, key, "dead", NULL), entry, NULL);
}

static void the_dead_are_listed_shown_and_dropped(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "dead", "list", NULL), 0);
    assert_said(err, "empty");
    bury("d1", "not \033[1m a job");
    bury("d2", "{}");
    bury("d3", "{}");
    assert_int_equal(cli(NULL, "dead", "list", NULL), 0);
    assert_said(out, "JOB");
    assert_said(out, "lost: \\x1b[2J");
    assert_true(strstr(out, "d3") < strstr(out, "d1"));
    assert_int_equal(cli(NULL, "dead", "list", "--json", NULL), 0);
    assert_said(out, "{\"job_id\":\"d3\",\"verdict\":\"lost\"");
    assert_int_equal(cli(NULL, "dead", "show", "d1", NULL), 0);
    assert_string_equal(out, "not \033[1m a job"); /* byte for byte */
    assert_said(err, "verdict: lost");
    assert_int_equal(cli(NULL, "dead", "show", "d1", "--json", NULL), 0);
    assert_said(out, ",\"job\":\"not \\u001b[1m a job\"}");
    assert_int_equal(cli(NULL, "dead", "drop", "d1", "nobody", NULL), 5);
    assert_string_equal(out, "d1 dropped\n");
    assert_int_equal(cli(NULL, "dead", "drop", "--all", NULL), 0);
    assert_string_equal(out, "2 dropped\n");
    assert_int_equal(number("LLEN", "dead", NULL), 0);
}

static void the_dead_are_run_again(void **state)
{
    (void)state;
    bury("r1", "{\"id\":\"r1\",\"code\":\"quiet\"}");
    bury("r2", "{\"id\":\"r2\",\"code\":\"quiet\"}");
    bury("over", "{\"id\":\"over\",\"code\":\"quiet\"}");
    assert_int_equal(cli(NULL, "dead", "retry", "r1", NULL), 0);
    assert_string_equal(out, "r1 queued\n");
    assert_int_equal(cli(NULL, "wait", "r1", "--timeout", "10", NULL), 0);
    assert_int_equal(cli(NULL, "dead", "retry", "--all", NULL), 4);
    assert_said(out, "r2 queued\n");
    assert_said(err, "another job has the id over");
    assert_int_equal(cli(NULL, "wait", "r2", "--timeout", "10", NULL), 0);
    assert_int_equal(cli(NULL, "dead", "retry", "r2", NULL), 5);
    assert_int_equal(cli(NULL, "dead", "drop", "over", NULL), 0);
}

static void the_dead_list_knows_four_acts(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "dead", "raise", NULL), 2);
    assert_said(err, "none of list, show, retry, drop");
    assert_int_equal(cli(NULL, "dead", "show", NULL), 2);
    assert_int_equal(cli(NULL, "dead", "show", "--all", NULL), 2);
    assert_int_equal(cli(NULL, "dead", "drop", "x", "--all", NULL), 2);
    assert_int_equal(cli(NULL, "dead", "retry", NULL), 2);
}

/* ---- batch -------------------------------------------------------------- */

static void batch_answers_in_the_order_of_the_input(void **state)
{
    AUTO_STRBUF struct strbuf jobs = STRBUF_INIT;
    const char *at;

    (void)state;
    for (int i = 0; i < 300; i++)
        strbuf_addf(&jobs, "{\"id\":\"b%d\",\"code\":\"quiet\"}\n\n", i);
    assert_int_equal(cli(jobs.text, "batch", "-", NULL), 0);
    at = out;
    for (int i = 0; i < 300; i++) {
        char want[32];

        snprintf(want, sizeof(want), "b%d", i);
        assert_string_equal(member(at, "job_id"), want);
        at = strchr(at, '\n') + 1;
    }
    assert_string_equal(at, "");
}

static void batch_says_that_its_jobs_go_on_without_a_reader(void **state)
{
    const char *argv[] = {"/bin/sh", "-c",
                          "printf '{\"code\":\"quiet\"}\\n{\"code\":"
                          "\"slowly\"}\\n' | \"$0\" batch - | true",
                          proc_program("capibox"), NULL};
    const struct proc_start start_how = {.argv = argv, .env = environment()};

    (void)state;
    atomic_store(&worker.go, true);
    free(out);
    free(err);
    proc_run(&start_how, CLI_MS, &out, &err);
    assert_said(err, "jobs have");
}

static void batch_exits_with_the_worst_of_its_jobs(void **state)
{
    (void)state;
    assert_int_equal(cli("{\"code\":\"verdict:oom\"}\n"
                         "{\"code\":\"verdict:user_error\"}\n"
                         "{ \"code\":\"verdict:lost\" }\n",
                         "batch", "-", NULL),
                     4);
}

static void a_bad_line_submits_nothing(void **state)
{
    int before = atomic_load(&worker.started);

    (void)state;
    assert_int_equal(
        cli("{\"code\":\"quiet\"}\n\n{\"code\":\n", "batch", "-", NULL), 2);
    assert_said(err, "line 3: the JSON ends too early at column 9: expected");
    assert_int_equal(cli("{\"code\" 1}\n", "batch", "-", NULL), 2);
    assert_said(err, "line 1: not JSON at column 9: expected");
    assert_int_equal(cli("[1]\n", "batch", "-", NULL), 2);
    assert_said(err, "line 1: a JSON object is wanted, not ");
    assert_int_equal(cli("{\"id\":\"t\",\"code\":\"quiet\"}\n"
                         "{\"id\":\"t\",\"code\":\"quiet\"}",
                         "batch", "-", NULL),
                     2);
    assert_said(err, "lines 1 and 2");
    assert_int_equal(cli("", "batch", "-", NULL), 2);
    assert_int_equal(atomic_load(&worker.started), before);
}

static void batch_without_waiting_prints_its_id_and_is_counted(void **state)
{
    char id[100], key[KEY_MAX];
    redisReply *reply = NULL;

    (void)state;
    assert_int_equal(cli("{\"code\":\"quiet\"}\n{\"code\":\"verdict:oom\"}\n"
                         "{\"id\":\"once\",\"code\":\"quiet\"}\n",
                         "batch", "-", "--no-wait", NULL),
                     0);
    assert_said(err, "line 3: job once is there already");
    snprintf(id, sizeof(id), "%.*s", (int)strcspn(out, "\n"), out);
    protocol_key(&protocol, key, "batch", id);
    for (int64_t until = soon(); clock_ms() < until;) {
        bool whole;

        MUST0(redis_callv(redis, soon(), &reply, "HMGET", key, "status",
                          "total", "succeeded", "failed", NULL));
        whole = reply->element[0]->str &&
                !strcmp(reply->element[0]->str, "completed");
        if (whole)
            break;
        freeReplyObject(reply);
        reply = NULL;
        poll(NULL, 0, 10);
    }
    assert_non_null(reply);
    assert_string_equal(reply->element[1]->str, "2");
    assert_string_equal(reply->element[2]->str, "1");
    assert_string_equal(reply->element[3]->str, "1");
    freeReplyObject(reply);
}

/* ---- the rest ----------------------------------------------------------- */

static void workers_and_stats_show_what_redis_knows(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "workers", NULL), 0);
    assert_said(out, worker.wid);
    assert_said(out, "test-host");
    assert_int_equal(cli(NULL, "workers", "--json", NULL), 0);
    assert_said(out, "\"concurrency\":8");
    assert_int_equal(cli(NULL, "stats", NULL), 0);
    assert_said(out, "jobs run");
    assert_said(out, "TEMPLATE");
    assert_int_equal(cli(NULL, "stats", "--json", NULL), 0);
    assert_said(out, "\"total_executions\":");
    assert_said(out, "\"templates\":{\"default\":{");
    assert_int_equal(cli(NULL, "stats", "--audit", "--json", NULL), 0);
    assert_string_equal(member(out, "balanced"), "true");
}

static void an_unbalanced_book_exits_4(void **state)
{
    char key[KEY_MAX];
    redisReply *reply = NULL;

    (void)state;
    protocol_key(&protocol, key, "stats", NULL);
    MUST0(
        redis_callv(redis, soon(), &reply, "HINCRBY", key, "ended", "1", NULL));
    freeReplyObject(reply);
    assert_int_equal(cli(NULL, "stats", "--audit", NULL), 4);
    assert_said(out, "do NOT balance");
    MUST0(redis_callv(redis, soon(), &reply, "HINCRBY", key, "ended", "-1",
                      NULL));
    freeReplyObject(reply);
}

static void templates_come_as_table_and_json(void **state)
{
    (void)state;
    assert_int_equal(cli(NULL, "templates", NULL), 0);
    assert_said(out, "quick_script");
    assert_int_equal(cli(NULL, "templates", "default", "--json", NULL), 0);
    assert_string_equal(member(out, "id"), "default");
    assert_int_equal(cli(NULL, "templates", "nix", NULL), 2);
    assert_said(err, "visualization");
}

static void doctor_names_a_redis_that_may_evict(void **state)
{
    (void)state;
    say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
    say("CONFIG", "SET", "maxmemory", "1073741824");
    assert_int_equal(cli(NULL, "doctor", NULL), 4);
    assert_said(out, "THROW AWAY");
    assert_said(out, "fix: redis-cli CONFIG SET maxmemory-policy noeviction");
    assert_int_equal(cli(NULL, "doctor", "--json", NULL), 4);
    assert_string_equal(member(out, "safe"), "false");
    assert_said(out, "{\"name\":\"eviction\",\"state\":\"bad\"");
    say("CONFIG", "SET", "maxmemory", "0");
    say("CONFIG", "SET", "maxmemory-policy", "noeviction");
    cli(NULL, "doctor", NULL);
    assert_not_said(out, "THROW AWAY");
    assert_said(out, "1 alive");
}

static int begin(void **state)
{
    static const char *const extra[] = {"--appendonly", "yes", "--appendfsync",
                                        "always", NULL};
    struct settings s;
    struct complaint why;

    (void)state;
    redis_server_start(&server, extra);
    snprintf(folder, sizeof(folder), "%s/cli", server.dir);
    MUST0(mkdir(folder, 0755));
    MUST0(settings_init(&s));
    MUST0(redis_target_parse(server.url, &s, &target, &why));
    settings_fini(&s);
    MUST0(protocol_init(&protocol, "{capibox}", 600, 60000));
    MUST0(redis_create(&target, "test", &redis));
    MUST0(redis_connect(redis, soon()));
    worker_start(false);
    return 0;
}

static int end(void **state)
{
    (void)state;
    worker_stop();
    redis_destroy(redis);
    redis_target_fini(&target);
    redis_server_stop(&server);
    free(out);
    free(err);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_is_named_and_exits_2),
        cmocka_unit_test(help_and_version_exit_0_whatever_else_is_wrong),
        cmocka_unit_test(an_absent_redis_exits_4_without_its_password),
        cmocka_unit_test(an_answer_that_cannot_be_written_is_no_success),
        cmocka_unit_test(run_shows_streamed_output_and_a_summary),
        cmocka_unit_test(run_shows_output_before_the_job_has_ended),
        cmocka_unit_test(run_shows_the_logs_of_a_worker_that_does_not_stream),
        cmocka_unit_test(run_completes_a_stream_that_was_cut_short),
        cmocka_unit_test(run_as_json_prints_the_result_alone),
        cmocka_unit_test(every_verdict_has_its_exit_code),
        cmocka_unit_test(run_saves_files_and_pictures_below_the_folder_only),
        cmocka_unit_test(a_folder_that_cannot_be_is_named_before_the_job_runs),
        cmocka_unit_test(run_saves_nothing_through_a_linked_folder),
        cmocka_unit_test(text_from_jobs_cannot_steer_the_terminal),
        cmocka_unit_test(the_same_id_is_not_run_again),
        cmocka_unit_test(ctrl_c_leaves_the_job_and_says_its_id),
        cmocka_unit_test(a_queue_that_nobody_serves_is_named),
        cmocka_unit_test(a_pause_is_shown_and_said),
        cmocka_unit_test(a_worker_whose_lease_is_over_is_not_alive),
        cmocka_unit_test(submit_prints_the_id_alone_and_status_knows_it),
        cmocka_unit_test(jobs_that_are_not_there_exit_5),
        cmocka_unit_test(a_delayed_job_says_until_when),
        cmocka_unit_test(wait_with_a_timeout_lets_a_bare_push_appear),
        cmocka_unit_test(events_come_on_their_own_streams),
        cmocka_unit_test(events_as_json_go_on_from_any_of_them),
        cmocka_unit_test(events_of_a_queued_job_are_waited_for),
        cmocka_unit_test(a_job_that_does_not_stream_says_how_to_get_it),
        cmocka_unit_test(a_queued_job_is_cancelled_where_it_waits),
        cmocka_unit_test(a_job_that_has_ended_says_so_to_a_cancel),
        cmocka_unit_test(a_cancel_that_is_not_heard_of_is_no_success),
        cmocka_unit_test(the_dead_are_listed_shown_and_dropped),
        cmocka_unit_test(the_dead_are_run_again),
        cmocka_unit_test(the_dead_list_knows_four_acts),
        cmocka_unit_test(batch_answers_in_the_order_of_the_input),
        cmocka_unit_test(batch_says_that_its_jobs_go_on_without_a_reader),
        cmocka_unit_test(batch_exits_with_the_worst_of_its_jobs),
        cmocka_unit_test(a_bad_line_submits_nothing),
        cmocka_unit_test(batch_without_waiting_prints_its_id_and_is_counted),
        cmocka_unit_test(workers_and_stats_show_what_redis_knows),
        cmocka_unit_test(an_unbalanced_book_exits_4),
        cmocka_unit_test(templates_come_as_table_and_json),
        cmocka_unit_test(doctor_names_a_redis_that_may_evict),
        cmocka_unit_test(wait_rides_out_a_restart_of_redis),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
