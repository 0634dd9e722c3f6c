/* Hostile and unlucky code through the built worker: each limit has its
 * verdict, bad jobs are named and kept, secrets stay out of sandboxes. */
#include "tests/support/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/stage.h"

#define SECRET      "s3cr3t-Pa55w0rd"
#define DEAD_MAX    "200"
#define MAX_FOUND_S 20

static struct rig rig;
static struct proc worker;
static char login_url[512];

/* ---- verdicts ------------------------------------------------------------ */

static cJSON *bash(const char *id, const char *code, const char *requirements)
{
    char job[2048];

    snprintf(job, sizeof(job),
             "{\"id\":\"%s\",\"language\":\"bash\",\"template\":"
             "\"quick_script\",\"code\":\"%s\",\"requirements\":{%s}}",
             id, code, requirements);
    return stage_job(&rig, job);
}

static cJSON *python(const char *id, const char *code, const char *requirements)
{
    char job[2048];

    snprintf(job, sizeof(job),
             "{\"id\":\"%s\",\"code\":\"%s\",\"requirements\":{%s}}", id, code,
             requirements);
    return stage_job(&rig, job);
}

static void expect_failed(const cJSON *r, const char *verdict)
{
    stage_expect(r, "verdict", verdict);
    stage_expect(r, "status", "failed");
    assert_true(cJSON_IsFalse(stage_at(r, "success")));
    assert_true(strlen(stage_text(r, "error")) > 0);
}

/* False: bash did not even come to print. */
static bool is_kept(double timeout)
{
    char id[32], limit[32], seconds[16];
    const char *out;
    bool kept;

    snprintf(seconds, sizeof(seconds), "%g", timeout);
    snprintf(id, sizeof(id), "t-%s", seconds);
    snprintf(limit, sizeof(limit), "\"timeout\":%s", seconds);
    cJSON *r =
        bash(id, "echo before; trap '' TERM; while :; do :; done", limit);
    expect_failed(r, "timeout");
    stage_expect_part(r, "error", seconds);
    assert_true(stage_number(r, "timings.run") >= timeout - 0.01);
    assert_true(stage_number(r, "timings.run") < MAX_FOUND_S);
    out = stage_text(r, "logs.stdout.0");
    kept = out && strcmp(out, "before\n") == 0;
    cJSON_Delete(r);
    return kept;
}

static void a_timeout_keeps_what_was_printed(void **state)
{
    double timeout = 0.7;

    (void)state;
    while (!is_kept(timeout))
        assert_true((timeout *= 2) < MAX_FOUND_S / 2.0);
}

static void too_much_memory_is_oom_by_the_kernels_count(void **state)
{
    (void)state;
    cJSON *r = python("m", "print('a', flush=True)\\nb = bytearray(200 << 20)",
                      "\"memory_limit_mb\":64");

    expect_failed(r, "oom");
    stage_expect(r, "logs.stdout.0", "a\n");
    stage_expect_part(r, "error", "64");
    assert_true(stage_number(r, "usage.peak_memory_mb") > 40);
    cJSON_Delete(r);
    /* What only says so is not. */
    r = python("m2", "raise MemoryError('lie')", "");
    expect_failed(r, "user_error");
    cJSON_Delete(r);
}

static void too_many_processes_are_pids_limit(void **state)
{
    (void)state;
    cJSON *r = python("p",
                      "import subprocess\\nps = [subprocess.Popen(['sleep', "
                      "'30']) for i in range(40)]",
                      "\"pids_limit\":16");

    expect_failed(r, "pids_limit");
    stage_expect_part(r, "error", "16");
    cJSON_Delete(r);
}

static void a_full_disk_is_disk_limit(void **state)
{
    (void)state;
    cJSON *r = python("d",
                      "print('a', flush=True)\\nf = open('x', 'wb')\\n"
                      "for i in range(64): f.write(bytes(1 << 20))",
                      "\"disk_limit_mb\":8");

    expect_failed(r, "disk_limit");
    stage_expect(r, "logs.stdout.0", "a\n");
    cJSON_Delete(r);
}

static void endless_output_is_output_limit_and_ends_early(void **state)
{
    (void)state;
    cJSON *r = bash("o", "echo first; while :; do echo xxxxxxxxxxxxxxxx; done",
                    "\"output_limit_kb\":16,\"cpu_limit_percent\":100");

    expect_failed(r, "output_limit");
    assert_memory_equal(stage_text(r, "logs.stdout.0"), "first\n", 6);
    assert_true(stage_number(r, "usage.dropped_bytes") > 0);
    cJSON_Delete(r);
}

static void a_signal_is_told_with_its_number(void **state)
{
    (void)state;
    cJSON *r = python("s", "import os\\nos.kill(os.getpid(), 11)", "");

    expect_failed(r, "signal");
    assert_int_equal(stage_number(r, "signal"), SIGSEGV);
    assert_true(cJSON_IsNull(stage_at(r, "exit_code")));
    cJSON_Delete(r);
}

static void a_sandbox_has_no_network_no_rights_and_no_neighbours(void **state)
{
    (void)state;
    cJSON *r =
        bash("n",
             "cat /etc/shadow || echo noshadow; : >/usr/x || echo noroot; "
             "mount -t tmpfs none /mnt || echo nomount; "
             "(exec 3<>/dev/tcp/127.0.0.1/22) || echo nonet; "
             "ls -d /proc/[0-9]* | wc -l; grep CapEff /proc/self/status",
             "");
    const char *out = stage_text(r, "logs.stdout.0");

    assert_non_null(out);
    assert_non_null(strstr(out, "noshadow\n"));
    assert_non_null(strstr(out, "noroot\n"));
    assert_non_null(strstr(out, "nomount\n"));
    assert_non_null(strstr(out, "nonet\n"));
    assert_non_null(strstr(out, "CapEff:\t0000000000000000"));
    cJSON_Delete(r);
}

static void one_job_leaves_nothing_for_the_next(void **state)
{
    (void)state;
    cJSON *r = bash("l1",
                    "echo x >/tmp/left; echo x >left; echo x >/dev/shm/left; "
                    "sleep 300 & disown; echo started",
                    "");

    stage_expect(r, "logs.stdout.0", "started\n");
    cJSON_Delete(r);
    r = bash("l2", "ls /tmp /dev/shm . | grep left; pgrep sleep; echo end", "");
    stage_expect(r, "logs.stdout.0", "end\n");
    cJSON_Delete(r);
}

static void a_limit_exits_3_and_a_wrong_job_2_on_the_command_line(void **state)
{
    (void)state;
    assert_int_equal(stage_cli(&rig, "b = bytearray(200 << 20)", NULL, NULL,
                               "run", "-", "--memory", "64", NULL),
                     3);
    assert_int_equal(stage_cli(&rig,
                               "f = open('x', 'wb')\n"
                               "while True: f.write(bytes(1 << 20))",
                               NULL, NULL, "run", "-", "--require",
                               "disk_limit_mb=8", NULL),
                     3);
    assert_int_equal(stage_cli(&rig, "print(1)", NULL, NULL, "run", "-",
                               "--memory", "100000", NULL),
                     2);
}

/* ---- bad jobs ------------------------------------------------------------ */

struct bad_job {
    const char *text; /* as pushed */
    const char *id;   /* NULL: one is made for it */
    const char *says; /* part of the error: the field, or what is wrong */
};

static const struct bad_job bad_jobs[] = {
    {"print(1)", NULL, "JSON"},
    {"", NULL, "JSON"},
    {"[1,2]", NULL, "object"},
    {"\"text\"", NULL, "object"},
    {"{\"code\":\"1\"", NULL, "JSON"},
    {"{\"id\":\"b1\"}", "b1", "code"},
    {"{\"id\":\"b2\",\"code\":5}", "b2", "code"},
    {"{\"id\":\"b3\",\"code\":\"\"}", "b3", "code"},
    {"{\"id\":\"no good\",\"code\":\"1\"}", NULL, "id"},
    {"{\"id\":7,\"code\":\"1\"}", NULL, "id"},
    {"{\"id\":\"b4\",\"code\":\"1\",\"template\":\"nope\"}", "b4", "template"},
    {"{\"id\":\"b5\",\"code\":\"1\",\"language\":\"cobol\"}", "b5", "language"},
    {"{\"id\":\"b6\",\"code\":\"1\",\"language\":\"bash\","
     "\"template\":\"data_analysis\"}",
     "b6", "language"},
    {"{\"id\":\"b7\",\"code\":\"1\",\"timeout\":\"ten\"}", "b7", "timeout"},
    {"{\"id\":\"b8\",\"code\":\"1\",\"timeout\":-1}", "b8", "timeout"},
    {"{\"id\":\"b9\",\"code\":\"1\",\"timeout\":1e12}", "b9", "timeout"},
    {"{\"id\":\"b10\",\"code\":\"1\",\"requirements\":"
     "{\"memory_limit_mb\":1000000}}",
     "b10", "memory_limit_mb"},
    {"{\"id\":\"b11\",\"code\":\"1\",\"requirements\":[]}", "b11",
     "requirements"},
    {"{\"id\":\"b12\",\"code\":\"1\",\"files\":[{\"path\":\"../x\","
     "\"content\":\"\"}]}",
     "b12", "files[0].path"},
    {"{\"id\":\"b13\",\"code\":\"1\",\"files\":[{\"path\":\"/etc/x\","
     "\"content\":\"\"}]}",
     "b13", "files[0].path"},
    {"{\"id\":\"b14\",\"code\":\"1\",\"files\":[{\"path\":\"x\","
     "\"content_base64\":\"!\"}]}",
     "b14", "files[0].content_base64"},
    {"{\"id\":\"b15\",\"code\":\"1\",\"env\":{\"A\":1}}", "b15", "env"},
    {"{\"id\":\"b16\",\"code\":\"1\",\"args\":\"x\"}", "b16", "args"},
    {"{\"id\":\"b17\",\"code\":\"1\",\"stdin\":[]}", "b17", "stdin"},
    {"{\"id\":\"b18\",\"code\":\"1\",\"max_attempts\":11}", "b18",
     "max_attempts"},
    {"{\"id\":\"b19\",\"code\":\"1\",\"metadata\":[]}", "b19", "metadata"},
    {"{\"id\":\"b20\",\"code\":\"1\\u0000\"}", "b20", "code"},
    {"{\"id\":\"b21\",\"code\":\"\xff\xfe\"}", NULL, "UTF-8"},
};

#define BAD_JOBS (sizeof(bad_jobs) / sizeof(*bad_jobs))

/* The dead list, newest first: one line of JSON, then the raw text. */
struct dead {
    redisReply *entries;
};

static void read_dead(struct dead *d)
{
    MUST0(redis_callv(rig.redis, clock_ms() + RIG_WAIT_MS, &d->entries,
                      "LRANGE", "{capibox}:dead", "0", DEAD_MAX, NULL));
}

/* The parsed line of the entry whose raw text is this, or NULL. */
static cJSON *dead_entry(const struct dead *d, const char *raw)
{
    for (size_t i = 0; i < d->entries->elements; i++) {
        const char *text = d->entries->element[i]->str;
        const char *end = strchr(text, '\n');

        if (end && strcmp(end + 1, raw) == 0)
            return cJSON_ParseWithLength(text, (size_t)(end - text));
    }
    return NULL;
}

static void expect_rejected(const struct bad_job *bad, const char *id)
{
    cJSON *r = stage_result(&rig, id);

    stage_expect(r, "job_id", id);
    stage_expect(r, "verdict", "rejected");
    stage_expect(r, "status", "failed");
    stage_expect_part(r, "error", bad->says);
    cJSON_Delete(r);
    assert_string_equal(rig_job(&rig, id, "verdict"), "rejected");
}

static void every_bad_job_is_rejected_by_name_and_kept(void **state)
{
    long long before = rig_stat(&rig, "rejected");
    long long ran = rig_stat(&rig, "total_executions");
    struct dead dead;

    (void)state;
    for (size_t i = 0; i < BAD_JOBS; i++)
        rig_push(&rig, "default", bad_jobs[i].text);
    /* Which one is missing, the list says better. */
    rig_wait_stat(&rig, "rejected", before + (int)BAD_JOBS);
    read_dead(&dead);
    for (size_t i = 0; i < BAD_JOBS; i++) {
        cJSON *entry = dead_entry(&dead, bad_jobs[i].text);

        if (!entry)
            fail_msg("the dead list has no %s", bad_jobs[i].text);
        stage_expect_part(entry, "error", bad_jobs[i].says);
        if (bad_jobs[i].id)
            stage_expect(entry, "job_id", bad_jobs[i].id);
        expect_rejected(&bad_jobs[i], stage_text(entry, "job_id"));
        cJSON_Delete(entry);
    }
    freeReplyObject(dead.entries);
    assert_int_equal(rig_stat(&rig, "rejected"), before + (int)BAD_JOBS);
    assert_int_equal(rig_stat(&rig, "verdict:rejected"),
                     rig_stat(&rig, "rejected"));
    assert_int_equal(rig_stat(&rig, "total_executions"), ran);
}

static void huge_and_deep_jobs_stop_no_worker(void **state)
{
    size_t size = 5 << 20;
    AUTO_FREE char *big = malloc(size + 64);
    long long before = rig_stat(&rig, "rejected");

    (void)state;
    MUST(big);
    int head = sprintf(big, "{\"id\":\"big\",\"code\":\"");
    memset(big + head, 'x', size);
    strcpy(big + head + size, "\"}");
    rig_push(&rig, "default", big);
    memset(big, '[', size);
    big[size] = '\0';
    rig_push(&rig, "default", big);
    assert_true(rig_wait_stat(&rig, "rejected", before + 2));
    cJSON *r = stage_job(&rig, "{\"id\":\"after\",\"code\":\"print('ok')\"}");
    stage_expect(r, "logs.stdout.0", "ok\n");
    cJSON_Delete(r);
}

/* ---- secrets ------------------------------------------------------------- */

static bool file_holds(const char *path, const char *text)
{
    char buf[65536];
    FILE *file = fopen(path, "rb");
    size_t got;

    if (!file)
        return false;
    got = fread(buf, 1, sizeof(buf), file);
    fclose(file);
    return memmem(buf, got, text, strlen(text)) != NULL;
}

static void a_sandbox_sees_no_secret(void **state)
{
    (void)state;
    cJSON *r = python(
        "look",
        "import os\\nprint(dict(os.environ))\\n"
        "for p in os.listdir('/proc'):\\n"
        "    for f in ('environ', 'cmdline', 'maps', 'mountinfo'):\\n"
        "        try: print(open('/proc/%s/%s' % (p, f), errors='replace')"
        ".read().replace(chr(0), ' '))\\n"
        "        except OSError: pass\\n"
        "print('end of search')",
        "");
    AUTO_FREE char *text = cJSON_Print(r);

    if (!strstr(text, "end of search"))
        fail_msg("%s", text);
    assert_null(strstr(text, SECRET));
    assert_null(strstr(text, "CAPIBOX_REDIS"));
    assert_null(strstr(text, "redis.sock"));
    cJSON_Delete(r);
}

static void no_process_of_ours_shows_the_password(void **state)
{
    static struct household house;
    char path[64];

    (void)state;
    rig_push(&rig, "default",
             "{\"id\":\"hold\",\"code\":\"import os; os.system('exec sleep "
             "60')\"}");
    assert_true(rig_wait_job(&rig, "hold", "status", "running"));
    household_list(worker.pid, &house);
    assert_true(house.count > 1);
    for (int i = 0; i < house.count; i++) {
        snprintf(path, sizeof(path), "/proc/%d/cmdline", house.members[i].pid);
        assert_false(file_holds(path, SECRET));
        if (house.members[i].pid == worker.pid)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/environ", house.members[i].pid);
        assert_false(file_holds(path, SECRET));
    }
    household_wake_one(worker.pid);
    cJSON_Delete(stage_result(&rig, "hold"));
}

/* Everything in Redis and in the log, after all of the above. */
static void no_log_and_no_key_holds_the_password(void **state)
{
    AUTO_FREE char *log = proc_err(&worker);
    AUTO_FREE char *out = proc_out(&worker);
    redisReply *keys = NULL;

    (void)state;
    assert_non_null(strstr(log, "worker registered"));
    assert_null(strstr(log, SECRET));
    assert_null(strstr(out, SECRET));
    MUST0(redis_callv(rig.redis, clock_ms() + RIG_WAIT_MS, &keys, "KEYS", "*",
                      NULL));
    assert_true(keys->elements > 20);
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *dump = NULL;

        if (strstr(keys->element[i]->str, "dead"))
            continue; /* compressed; what it holds is in the hashes as well */
        MUST0(redis_callv(rig.redis, clock_ms() + RIG_WAIT_MS, &dump, "DUMP",
                          keys->element[i]->str, NULL));
        assert_null(dump->str ? memmem(dump->str, (size_t)dump->len, SECRET,
                                       strlen(SECRET))
                              : NULL);
        freeReplyObject(dump);
    }
    freeReplyObject(keys);
}

static void a_wrong_password_is_refused_without_showing_it(void **state)
{
    char url[512];
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    snprintf(url, sizeof(url), "redis://capi:%sX@127.0.0.1:%d/0", SECRET,
             rig.server.port);
    assert_int_equal(
        stage_cli(&rig, NULL, &out, &err, "stats", "--redis", url, NULL), 4);
    assert_null(strstr(out, SECRET));
    assert_null(strstr(err, SECRET));
    assert_non_null(strstr(err, "127.0.0.1"));
}

/* ---- stage --------------------------------------------------------------- */

static int open_all(void **state)
{
    static const char *const words[] = {"--port", "auto", "--rdbcompression",
                                        "no", NULL};
    char answer[64];
    const char *env[] = {login_url, NULL};

    (void)state;
    stage_open(&rig, words);
    rig_text(&rig, answer, sizeof(answer), "ACL", "SETUSER", "capi", "on",
             ">" SECRET, "~*", "&*", "+@all", NULL);
    snprintf(login_url, sizeof(login_url),
             "CAPIBOX_REDIS_URL=redis://capi:%s@127.0.0.1:%d/0", SECRET,
             rig.server.port);
    stage_worker(&rig, &worker, env);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    int ending = stage_end_worker(&worker);

    rig_close(&rig);
    return ending;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timeout_keeps_what_was_printed),
        cmocka_unit_test(too_much_memory_is_oom_by_the_kernels_count),
        cmocka_unit_test(too_many_processes_are_pids_limit),
        cmocka_unit_test(a_full_disk_is_disk_limit),
        cmocka_unit_test(endless_output_is_output_limit_and_ends_early),
        cmocka_unit_test(a_signal_is_told_with_its_number),
        cmocka_unit_test(a_sandbox_has_no_network_no_rights_and_no_neighbours),
        cmocka_unit_test(one_job_leaves_nothing_for_the_next),
        cmocka_unit_test(a_limit_exits_3_and_a_wrong_job_2_on_the_command_line),
        cmocka_unit_test(every_bad_job_is_rejected_by_name_and_kept),
        cmocka_unit_test(huge_and_deep_jobs_stop_no_worker),
        cmocka_unit_test(a_sandbox_sees_no_secret),
        cmocka_unit_test(no_process_of_ours_shows_the_password),
        cmocka_unit_test(no_log_and_no_key_holds_the_password),
        cmocka_unit_test(a_wrong_password_is_refused_without_showing_it),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
