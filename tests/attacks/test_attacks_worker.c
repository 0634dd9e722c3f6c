/* Attacks that only the host's side can see through: what hostile jobs reach of
 * the host, and what becomes of them when their worker is killed or stopped. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/attack_suite.h"
#include "worker/attack_host.h"

/* What is left goes in a moment, on a busy machine some more; what the jobs
 * leave behind would stay for longer. */
#define LEFT_MS        2500
#define RSS_GROWTH_KB  (24 << 10)
#define STAT_BYTES_MAX 65536

static struct rig rig;
static struct proc worker;
static struct household house;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void push(const char *id, enum language language, const char *code,
                 const char *more)
{
    AUTO_FREE char *job = attack_code_job(id, language, code, more);

    rig_push(&rig, "default", job);
}

/* A number of /proc/pid/status in kB, or -1. */
static long status_kb(pid_t pid, const char *name)
{
    char path[64], *text;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (io_read_file(path, STAT_BYTES_MAX, &text, NULL) < 0)
        return -1;
    const char *at = strstr(text, name);
    long kb = at ? strtol(at + strlen(name) + 1, NULL, 10) : -1;
    free(text);
    return kb;
}

static const char *name_of(pid_t pid)
{
    static char name[64];
    char path[64], *text;

    name[0] = '\0';
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    if (io_read_file(path, sizeof(name) - 1, &text, NULL) == 0) {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, "\n"), text);
        free(text);
    }
    return name;
}

/* The process of this name below the worker, or 0. */
static pid_t find_below(const char *name)
{
    household_list(worker.pid, &house);
    for (int i = 0; i < house.count; i++)
        if (strcmp(name_of(house.members[i].pid), name) == 0)
            return house.members[i].pid;
    return 0;
}

static bool is_there(void *ctx)
{
    return find_below(ctx) != 0;
}

static bool is_away(void *ctx)
{
    return find_below(ctx) == 0;
}

/* ---- processes ---------------------------------------------------------- */

static void attack_007_a_daemon_is_gone_with_its_job(void **state)
{
    char name[] = "a7daemon";

    (void)state;
    push("daemon", LANGUAGE_PYTHON,
         "import os, time, ctypes\n"
         "if os.fork() == 0:\n"
         "    os.setsid()\n"
         "    if os.fork() == 0:\n"
         "        os.closerange(0, 64)\n"
         "        ctypes.CDLL(None).prctl(15, b'a7daemon')\n"
         "        time.sleep(60)\n"
         "    os._exit(0)\n"
         "os.system('exec sleep 60'); print('END')",
         ",\"timeout\":60");
    assert_true(wait_until(is_there, name, RIG_WAIT_MS));
    household_wake_one(worker.pid);
    cJSON *r = stage_result(&rig, "daemon");
    stage_expect(r, "verdict", "ok");
    cJSON_Delete(r);
    assert_true(wait_until(is_away, name, LEFT_MS));
}

/* Nobody's process may be hit by a signal meant for one that is gone. */
static void attack_038_only_the_jobs_own_processes_are_killed(void **state)
{
    enum { DECOYS = 40, JOBS = 12 };
    pid_t decoys[DECOYS];
    char id[32];

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "storm-%d", i);
        push(id, LANGUAGE_BASH, "while :; do (:) & (:) & wait; done",
             ",\"timeout\":0.4");
    }
    /* Born while numbers are used up by the thousand. */
    for (int i = 0; i < DECOYS; i++) {
        decoys[i] = fork();
        MUST(decoys[i] >= 0);
        if (decoys[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        usleep(30000);
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "storm-%d", i);
        cJSON_Delete(stage_result(&rig, id));
    }
    for (int i = 0; i < DECOYS; i++) {
        assert_int_equal(waitpid(decoys[i], NULL, WNOHANG), 0);
        kill(decoys[i], SIGKILL);
        waitpid(decoys[i], NULL, 0);
    }
    attack_next_job_is_fine(&rig, "after-storms");
}

static const struct {
    const char *id;
    enum language language;
    const char *code;
} clingers[] = {
    {"stopped", LANGUAGE_BASH, "kill -STOP 0"},
    {"respawn", LANGUAGE_BASH, "f() { f & }; while :; do f; wait; done"},
    {"daemon2", LANGUAGE_BASH, "setsid sleep 60 & disown; sleep 60"},
};

static bool all_run(void *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < COUNT(clingers); i++)
        if (strcmp(rig_job(&rig, clingers[i].id, "status"), "running") != 0)
            return false;
    return true;
}

static void push_clingers(const char *more)
{
    for (size_t i = 0; i < COUNT(clingers); i++)
        push(clingers[i].id, clingers[i].language, clingers[i].code, more);
    assert_true(wait_until(all_run, NULL, RIG_WAIT_MS));
    household_list(worker.pid, &house);
}

static const char *const env[] = {
    "CAPIBOX_CONCURRENCY=8", "CAPIBOX_ALLOW_DEGRADED=1",
    "CAPIBOX_LEASE_MS=2000", "CAPIBOX_MEMORY_BUDGET_MB=2048", NULL};

static void attack_040_a_killed_worker_takes_its_sandboxes_along(void **state)
{
    (void)state;
    long long before = rig_stat(&rig, "total_executions");
    push_clingers(",\"timeout\":5");
    proc_signal(&worker, SIGKILL);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), -SIGKILL);
    household_gone(&house, LEFT_MS);
    proc_stop(&worker);
    stage_worker(&rig, &worker, env);
    /* Each once more, and to its end. */
    for (size_t i = 0; i < COUNT(clingers); i++) {
        cJSON *r = stage_result(&rig, clingers[i].id);

        if (strcmp(stage_text(r, "verdict"), "pids_limit") != 0)
            stage_expect(r, "verdict", "timeout");
        assert_true(stage_number(r, "attempt") >= 1);
        cJSON_Delete(r);
    }
    assert_int_equal(rig_stat(&rig, "total_executions"),
                     before + (int)COUNT(clingers));
    assert_true(rig_settled(&rig));
}

static void forget_clingers(void)
{
    char key[KEY_MAX];

    for (size_t i = 0; i < COUNT(clingers); i++) {
        protocol_key(&rig.protocol, key, "job", clingers[i].id);
        rig_number(&rig, "DEL", key, NULL);
    }
}

static void attack_129_sigterm_drains_and_a_second_one_cancels(void **state)
{
    (void)state;
    forget_clingers();
    push_clingers(",\"timeout\":50");
    proc_signal(&worker, SIGTERM);
    assert_true(proc_says(&worker, "draining", RIG_WAIT_MS));
    assert_int_equal(proc_wait(&worker, 300), PROC_RUNNING);
    assert_true(household_alive(&house) > 2);
    int64_t start = clock_ms();
    proc_signal(&worker, SIGTERM);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), 0);
    assert_true(clock_ms() - start < 2 * LEFT_MS);
    household_gone(&house, LEFT_MS);
    proc_stop(&worker);
    /* They wait again, their attempts refunded. */
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     COUNT(clingers));
    rig_number(&rig, "DEL", "{capibox}:queue:default", NULL);
    forget_clingers();
    stage_worker(&rig, &worker, env);
    attack_next_job_is_fine(&rig, "after-sigterm");
}

/* ---- output ------------------------------------------------------------- */

static void attack_041_a_flood_does_not_grow_the_worker(void **state)
{
    (void)state;
    attack_expect(&rig, "before-flood", LANGUAGE_BASH, "echo 1", "", "ok",
                  "1\n");
    long before = status_kb(worker.pid, "VmHWM:");
    for (int i = 0; i < 3; i++) {
        char id[32];

        snprintf(id, sizeof(id), "flood-%d", i);
        cJSON *r = attack_run_code(&rig, id, LANGUAGE_BASH, "yes", "");
        stage_expect(r, "verdict", "output_limit");
        assert_true(stage_number(r, "usage.dropped_bytes") > 0);
        cJSON_Delete(r);
    }
    long grown = status_kb(worker.pid, "VmHWM:") - before;
    if (before < 0 || grown > RSS_GROWTH_KB)
        fail_msg("the worker grew by %ld kB from %ld", grown, before);
}

/* ---- what leaks in ------------------------------------------------------ */

static void expect_pipes_only(pid_t pid)
{
    char path[64], file[400], target[256];

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir) {
        print_message("# its files cannot be seen by this user\n");
        return;
    }
    for (const struct dirent *e; (e = readdir(dir));) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        ssize_t len = readlink(file, target, sizeof(target) - 1);
        if (len < 0)
            continue;
        target[len] = '\0';
        if (strncmp(target, "/usr/", 5) == 0)
            continue; /* what it opens itself while it starts */
        if (atoi(e->d_name) > 3 || strncmp(target, "pipe:", 5) != 0)
            fail_msg("file %s is %s", e->d_name, target);
    }
    closedir(dir);
}

static void attack_093_a_program_has_pipes_and_nothing_else(void **state)
{
    static const struct {
        enum language language;
        const char *code;
    } rows[] = {
        {LANGUAGE_BASH, "exec -a x sleep 50"},
        {LANGUAGE_PYTHON, "import os; os.execv('/bin/sleep', ['x', '50'])"},
        {LANGUAGE_JAVASCRIPT, "require('child_process').spawnSync('sleep', "
                              "['50'], {stdio: 'inherit'})"},
    };
    char id[32], name[] = "sleep";

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        snprintf(id, sizeof(id), "files-%zu", i);
        push(id, rows[i].language, rows[i].code, "");
        assert_true(wait_until(is_there, name, RIG_WAIT_MS));
        expect_pipes_only(find_below(name));
        household_wake_one(worker.pid);
        cJSON_Delete(stage_result(&rig, id));
        assert_true(wait_until(is_away, name, LEFT_MS));
    }
}

static int listen_at(int family, int type, const void *address, socklen_t size)
{
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    MUST(fd >= 0);
    MUST0(bind(fd, address, size));
    if (type == SOCK_STREAM)
        MUST0(listen(fd, 8));
    return fd;
}

/* Nobody connected, nobody sent. */
static void expect_silence(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&poll_fd, 1, 0), 0);
    close(fd);
}

static void attack_100_no_packet_reaches_the_host(void **state)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof(any);
    char code[1200];

    (void)state;
    int stream = listen_at(AF_INET, SOCK_STREAM, &any, size);
    MUST0(getsockname(stream, (struct sockaddr *)&any, &size));
    int datagram = listen_at(AF_INET, SOCK_DGRAM, &any, size);
    snprintf(code, sizeof(code),
             "import socket\n"
             "for host in ('127.0.0.1', '0.0.0.0', '::1', '::ffff:127.0.0.1',\n"
             "             'localhost', socket.gethostname()):\n"
             "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
             "        f = socket.AF_INET6 if ':' in host else socket.AF_INET\n"
             "        s = socket.socket(f, kind); s.settimeout(.5)\n"
             "        try:\n"
             "            s.connect((host, %d)); s.send(b'x')\n"
             "            if kind == socket.SOCK_STREAM: print('BROKE', host)\n"
             "        except OSError: pass\n"
             "print('END')",
             ntohs(any.sin_port));
    attack_expect(&rig, "net", LANGUAGE_PYTHON, code, ",\"timeout\":20", "ok",
                  "END\n");
    expect_silence(stream);
    expect_silence(datagram);
}

static void attack_101_no_abstract_socket_of_the_host_is_there(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size;

    (void)state;
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1,
                       "capibox-attack-%d", getpid());
    size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    int stream = listen_at(AF_UNIX, SOCK_STREAM, &name, size);
    char code[400];
    snprintf(code, sizeof(code),
             "import socket\n"
             "try:\n"
             "    socket.socket(socket.AF_UNIX).connect('\\0%s')\n"
             "    print('BROKE')\n"
             "except ConnectionRefusedError: print('refused')",
             name.sun_path + 1);
    attack_expect(&rig, "abstract", LANGUAGE_PYTHON, code, "", "ok",
                  "refused\n");
    expect_silence(stream);
}

/* ---- many workers, many jobs --------------------------------------------- */

static void attack_125_two_workers_run_each_job_once(void **state)
{
    enum { JOBS = 40 };
    static struct proc second;
    long long before = rig_stat(&rig, "total_executions");
    char id[32];

    (void)state;
    stage_worker(&rig, &second, env);
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "twin-%d", i / 2); /* each id twice */
        AUTO_FREE char *job = attack_code_job(id, LANGUAGE_BASH, "echo 1", "");
        rig_push(&rig, i % 2 ? "high" : "low", job);
    }
    for (int i = 0; i < JOBS / 2; i++) {
        snprintf(id, sizeof(id), "twin-%d", i);
        cJSON *r = stage_result(&rig, id);
        stage_expect(r, "verdict", "ok");
        cJSON_Delete(r);
    }
    assert_int_equal(stage_end_worker(&second), 0);
    assert_int_equal(rig_stat(&rig, "total_executions"), before + JOBS / 2);
    assert_true(rig_settled(&rig));
}

struct span {
    double start, end;
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* How many ran at one moment, at the most. */
static int most_at_once(const struct span *spans, size_t count)
{
    double *starts = malloc(count * sizeof(*starts));
    double *ends = malloc(count * sizeof(*ends));
    int now = 0, most = 0;

    MUST(starts && ends);
    for (size_t i = 0; i < count; i++) {
        starts[i] = spans[i].start;
        ends[i] = spans[i].end;
    }
    qsort(starts, count, sizeof(*starts), compare_doubles);
    qsort(ends, count, sizeof(*ends), compare_doubles);
    for (size_t i = 0, k = 0; i < count; i++) {
        while (ends[k] <= starts[i]) {
            k++;
            now--;
        }
        now++;
        most = now > most ? now : most;
    }
    free(starts);
    free(ends);
    return most;
}

static void push_thousand(size_t count)
{
    char id[32];

    for (size_t i = 0; i < count; i++) {
        snprintf(id, sizeof(id), "mass-%zu", i);
        push(id, LANGUAGE_BASH,
             "echo $EPOCHREALTIME; : > x; echo $EPOCHREALTIME",
             ",\"requirements\":{\"memory_limit_mb\":512}");
    }
}

/* The budget of 2 GB has room for four of 512 MB, whatever the threads. */
static void attack_128_a_thousand_jobs_wait_for_memory(void **state)
{
    enum { JOBS = 1000 };
    static struct span spans[JOBS];
    char id[32];

    (void)state;
    push_thousand(JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "mass-%zu", i);
        cJSON *r = stage_result(&rig, id);
        stage_expect(r, "verdict", "ok");
        MUST(sscanf(stage_text(r, "logs.stdout.0"), "%lf %lf", &spans[i].start,
                    &spans[i].end) == 2);
        cJSON_Delete(r);
    }
    assert_in_range(most_at_once(spans, JOBS), 1, 4);
    /* First come, first served: nobody waited for the last one. */
    assert_true(spans[0].end < spans[JOBS - 1].start);
    assert_true(rig_settled(&rig));
}

/* ---- logs ---------------------------------------------------------------- */

static void attack_130_nobody_forges_a_line_of_the_log(void **state)
{
    static const char *const jobs[] = {
        "{\"id\":\"a\\nINFO forged\",\"code\":\"1\"}",
        "{\"id\":\"b\\u001b[2J\",\"code\":\"1\"}",
        "{\"id\":\"log1\",\"code\":\"1\",\"template\":\"x\\nINFO forged\"}",
        "{\"id\":\"log2\",\"code\":\"1\",\"language\":\"\\u001b]0;forged\"}",
        "{\"id\":\"log3\",\"code\":\"1\",\"task_type\":\"\\r\\nforged\"}",
        "{\"id\":\"log4\",\"code\":\"1\",\"\\nINFO forged\":1,"
        "\"\\u001b[2J\":2}",
        "\nINFO forged\033[2J",
    };
    AUTO_FREE char *log = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(jobs); i++)
        rig_push(&rig, "default", jobs[i]);
    attack_next_job_is_fine(&rig, "after-log");
    log = proc_err(&worker);
    assert_null(strchr(log, '\033'));
    assert_null(strstr(log, "\nINFO forged"));
    assert_null(strstr(log, "\nforged"));
    AUTO_FREE char *out = NULL;
    stage_cli(&rig, NULL, &out, NULL, "result", "log1", NULL);
    assert_null(strchr(out, '\033'));
    AUTO_FREE char *shown = NULL;
    stage_cli(&rig, NULL, &shown, NULL, "status", "log4", NULL);
    assert_null(strchr(shown, '\033'));
    assert_true(rig_settled(&rig)); /* the next job may overtake them */
}

/* ---- stage --------------------------------------------------------------- */

static struct attack_host host;

static void attacks_on_the_worker_leave_nothing(void **state)
{
    char why[ATTACK_HOST_WHY_MAX];

    (void)state;
    household_list(worker.pid, &house);
    assert_int_equal(stage_end_worker(&worker), 0);
    household_gone(&house, LEFT_MS);
    if (!attack_host_same(&host, why))
        fail_msg("%s", why);
}

static int open_all(void **state)
{
    (void)state;
    attack_host_look(&host);
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker, env);
    attack_next_job_is_fine(&rig, "first");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    proc_stop(&worker);
    rig_close(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attack_007_a_daemon_is_gone_with_its_job),
        cmocka_unit_test(attack_038_only_the_jobs_own_processes_are_killed),
        cmocka_unit_test(attack_041_a_flood_does_not_grow_the_worker),
        cmocka_unit_test(attack_093_a_program_has_pipes_and_nothing_else),
        cmocka_unit_test(attack_100_no_packet_reaches_the_host),
        cmocka_unit_test(attack_101_no_abstract_socket_of_the_host_is_there),
        cmocka_unit_test(attack_040_a_killed_worker_takes_its_sandboxes_along),
        cmocka_unit_test(attack_125_two_workers_run_each_job_once),
        cmocka_unit_test(attack_128_a_thousand_jobs_wait_for_memory),
        cmocka_unit_test(attack_130_nobody_forges_a_line_of_the_log),
        cmocka_unit_test(attack_129_sigterm_drains_and_a_second_one_cancels),
        cmocka_unit_test(attacks_on_the_worker_leave_nothing),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
