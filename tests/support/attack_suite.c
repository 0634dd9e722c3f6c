#include "tests/support/attack_suite.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "worker/attack_host.h"

/* sandboxd, its spawner, four zygotes, and an init and a program of each of
 * five kinds: what the shipped templates hold ready. */
#define HOUSE_PROCESSES 16
#define SETTLED_MS      1500
#define LONG_SETTLED_MS 20000 /* where some zygote cannot be made */
#define SETTLE_MS       90000
#define USER            65533 /* nobody uses it */
#define CGROUPS         "/sys/fs/cgroup"
#define WALK_FDS        16
#define LEFT_MS         2500 /* hostile children sleep for longer */
#define AFTER           "after-"

static struct {
    struct rig rig;
    struct proc worker;
    struct attack_set set;
    enum attack_user user;
    struct attack_traces traces;
    struct attack_host host;
    int repeated; /* jobs that had too little time */
} suite;

/* ---- what is left ------------------------------------------------------ */

static int count_fds(pid_t pid)
{
    char path[64];
    int count = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

void attack_traces_find(const struct proc *worker, struct attack_traces *out)
{
    *out = (struct attack_traces){attack_host_processes(worker->pid),
                                  attack_host_cgroups(worker->pid),
                                  count_fds(worker->pid)};
}

struct settling {
    const struct proc *worker;
    struct attack_traces *seen;
    int64_t since_ms;
};

static bool is_settled(void *ctx)
{
    struct settling *s = ctx;
    struct attack_traces now;

    attack_traces_find(s->worker, &now);
    if (memcmp(&now, s->seen, sizeof(now)) != 0)
        s->since_ms = clock_ms();
    *s->seen = now;
    return clock_ms() - s->since_ms >=
           (now.processes >= HOUSE_PROCESSES ? SETTLED_MS : LONG_SETTLED_MS);
}

void attack_traces_settle(const struct proc *worker, struct attack_traces *out)
{
    struct settling s = {worker, out, clock_ms()};

    memset(out, 0, sizeof(*out));
    if (!wait_until(is_settled, &s, SETTLE_MS))
        fail_msg("processes and cgroups come and go");
}

struct waiting {
    const struct proc *worker;
    const struct attack_traces *before;
    struct attack_traces now;
};

static bool no_more_than_before(void *ctx)
{
    struct waiting *w = ctx;

    attack_traces_find(w->worker, &w->now);
    return w->now.processes <= w->before->processes &&
           w->now.cgroups <= w->before->cgroups && w->now.fds <= w->before->fds;
}

void attack_traces_gone(const struct proc *worker,
                        const struct attack_traces *before)
{
    struct waiting w = {.worker = worker, .before = before};

    if (!wait_until(no_more_than_before, &w, LEFT_MS))
        fail_msg("left: %d processes, %d cgroups, %d files; before: %d, %d, %d",
                 w.now.processes, w.now.cgroups, w.now.fds, before->processes,
                 before->cgroups, before->fds);
}

/* nftw() has no context to pass. */
static const char *sought;
static int found;

static int compare_name(const char *path, const struct stat *st, int type,
                        struct FTW *at)
{
    (void)st;
    found += type == FTW_D && strcmp(path + at->base, sought) == 0;
    return 0;
}

int attack_sandbox_cgroups(const char *sandbox_id)
{
    sought = sandbox_id;
    found = 0;
    nftw(CGROUPS, compare_name, WALK_FDS, FTW_PHYS);
    return found;
}

static bool cgroups_are_gone(void *ctx)
{
    return attack_sandbox_cgroups(ctx) == 0;
}

static void expect_no_cgroup(const cJSON *r)
{
    const char *id = stage_text(r, "sandbox_id");

    if (id && !wait_until(cgroups_are_gone, (void *)(uintptr_t)id, LEFT_MS))
        fail_msg("a cgroup of %s is left", id);
}

/* ---- one attack -------------------------------------------------------- */

static void expect_answer(const cJSON *r)
{
    stage_expect(r, "verdict", "ok");
    stage_expect(r, "logs.stdout.0", "42\n");
}

char *attack_code_job(const char *id, enum language language, const char *code,
                      const char *more)
{
    struct strbuf job = STRBUF_INIT;

    strbuf_addf(&job, "{\"id\":\"%s\",\"template\":\"quick_script\",", id);
    strbuf_addf(&job, "\"language\":\"%s\",\"max_attempts\":3,\"code\":",
                language_name(language));
    strbuf_add_json(&job, code, strlen(code));
    strbuf_addf(&job, "%s}", more);
    MUST(!job.failed);
    return job.text;
}

cJSON *attack_run_code(struct rig *rig, const char *id, enum language language,
                       const char *code, const char *more)
{
    AUTO_FREE char *job = attack_code_job(id, language, code, more);

    return stage_job(rig, job);
}

void attack_expect(struct rig *rig, const char *id, enum language language,
                   const char *code, const char *more, const char *verdict,
                   const char *out)
{
    cJSON *r = attack_run_code(rig, id, language, code, more);

    stage_expect(r, "verdict", verdict);
    if (out)
        stage_expect(r, "logs.stdout.0", out);
    cJSON_Delete(r);
}

void attack_next_job_is_fine(struct rig *rig, const char *id)
{
    char job[200];

    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"print(6*7)\"}", id);
    cJSON *r = stage_job(rig, job);
    expect_answer(r);
    cJSON_Delete(r);
}

static void make_id(const struct attack *a, const char *first,
                    char out[JOB_ID_MAX + 1])
{
    int stem = (int)(strrchr(a->file, '.') - a->file);

    snprintf(out, JOB_ID_MAX + 1, "%s%.*s", first, stem, a->file);
}

static int whole_number(const cJSON *r, const char *path)
{
    double number = stage_number(r, path);

    return number < -1e8 ? -1 : (int)number;
}

/* The text of standard output; the caller frees. */
static char *printed(const cJSON *r)
{
    const char *text = stage_text(r, "logs.stdout.0");
    char *copy = strdup(text ? text : "");

    MUST(copy);
    return copy;
}

static void judge(const struct attack *a, const cJSON *r)
{
    AUTO_FREE char *out = printed(r);
    const char *memory = stage_text(r, "enforced.memory");
    const char *verdict = stage_text(r, "verdict");
    char why[ATTACK_WHY_MAX];
    struct attack_seen seen = {
        .verdict = verdict_from_name(verdict ? verdict : ""),
        .exit_code = whole_number(r, "exit_code"),
        .signal = whole_number(r, "signal"),
        .run_s = stage_number(r, "timings.run"),
        .out = out,
        .capped = memory && strncmp(memory, "cgroup", 6) == 0,
    };
    enum attack_end end = attack_judge(a, &seen, why);

    if (suite.user != ATTACK_AS_WE_ARE || geteuid() == 0)
        assert_int_equal(seen.capped, suite.user != ATTACK_AS_USER_ONLY);
    if (end == ATTACK_BROKE) {
        AUTO_FREE char *text = cJSON_Print(r);

        fail_msg("%s: %s\n%.4000s", a->file, why, text);
    }
    if (end == ATTACK_NOT_APPLICABLE)
        print_message("# %s: %s\n", a->file, why);
    assert_int_equal(whole_number(r, "attempt"), 1);
}

static void expect_difference(const struct attack *a, char *const *outs,
                              int count)
{
    char line[ATTACK_WHY_MAX];

    for (int i = 0; a->differ && i < count; i++)
        if (attack_same_line(outs[i], outs[count], line))
            fail_msg("%s printed \"%s\" twice", a->file, line);
}

/* The first run was pushed at the start. */
static cJSON *run_again(const struct attack *a, int run)
{
    AUTO_STRBUF struct strbuf job = STRBUF_INIT;
    char id[JOB_ID_MAX + 1], first[16];

    snprintf(first, sizeof(first), "run%d-", run);
    make_id(a, first, id);
    attack_job(&suite.set, a, id, &job);
    MUST(!job.failed);
    return stage_job(&suite.rig, job.text);
}

/* Its time was over before it came to print what it should. */
static bool had_no_time(const struct attack *a, const cJSON *r)
{
    const char *verdict = stage_text(r, "verdict");
    AUTO_FREE char *out = printed(r);

    return attack_had_no_time(
        a,
        &(struct attack_seen){
            .verdict = verdict_from_name(verdict ? verdict : ""), .out = out});
}

/* The result of the attack with the time that it needs on this machine. */
static cJSON *with_time(const struct attack *a, int run, cJSON *r)
{
    struct attack slow = *a;

    while (had_no_time(&slow, r)) {
        slow.limits[0] *= 2;
        cJSON_Delete(r);
        r = run_again(&slow, ATTACK_TIMES_MAX * ++suite.repeated + run);
    }
    judge(&slow, r);
    return r;
}

static void attack_ends_as_it_must(void **state)
{
    const struct attack *a = *state;
    char *outs[ATTACK_TIMES_MAX] = {NULL};
    char id[JOB_ID_MAX + 1];

    make_id(a, "", id);
    for (int i = 0; i < a->times; i++) {
        cJSON *r = with_time(
            a, i, i == 0 ? stage_result(&suite.rig, id) : run_again(a, i));

        expect_no_cgroup(r);
        outs[i] = printed(r);
        expect_difference(a, outs, i);
        cJSON_Delete(r);
    }
    for (int i = 0; i < a->times; i++)
        free(outs[i]);
    make_id(a, AFTER, id);
    cJSON *r = stage_result(&suite.rig, id);
    expect_answer(r);
    cJSON_Delete(r);
    assert_int_equal(proc_wait(&suite.worker, 0), PROC_RUNNING);
}

/* ---- after all of them ------------------------------------------------- */

static void nothing_is_left_and_the_host_is_as_it_was(void **state)
{
    char why[ATTACK_HOST_WHY_MAX];

    (void)state;
    attack_traces_gone(&suite.worker, &suite.traces);
    if (!attack_host_same(&suite.host, why))
        fail_msg("%s", why);
}

static void each_job_was_counted_once(void **state)
{
    long long jobs = 3 + suite.repeated; /* 3: the first ones */

    (void)state;
    for (size_t i = 0; i < suite.set.count; i++)
        jobs += 1 + suite.set.items[i].times;
    assert_int_equal(rig_stat(&suite.rig, "total_executions"), jobs);
    assert_int_equal(rig_stat(&suite.rig, "sandbox_created"), jobs);
    assert_int_equal(rig_stat(&suite.rig, "sandbox_destroyed"), jobs);
    assert_true(rig_settled(&suite.rig));
}

static void the_worker_ends_well_and_leaves_nothing(void **state)
{
    static struct household house;

    (void)state;
    household_list(suite.worker.pid, &house);
    assert_int_equal(stage_end_worker(&suite.worker), 0);
    household_gone(&house, LEFT_MS);
}

/* ---- start and end ----------------------------------------------------- */

void attack_suite_load(struct attack_set *set_out)
{
    char dir[PATH_MAX], text[700];
    struct complaint why = {.field = ""};

    snprintf(dir, sizeof(dir), "%s", proc_program("capibox-worker"));
    *strrchr(dir, '/') = '\0';
    if (attacks_load(dir, set_out, &why) == 0)
        return;
    complaint_print(&why, text, sizeof(text));
    fprintf(stderr, "%s\n", text);
    abort();
}

static void push_all(void)
{
    static const char *const honest[LANGUAGE_COUNT] = {
        [LANGUAGE_PYTHON] = "\"code\":\"print(6*7)\"",
        [LANGUAGE_JAVASCRIPT] =
            "\"code\":\"console.log(6*7)\",\"language\":\"javascript\"",
        [LANGUAGE_BASH] = "\"code\":\"echo $((6*7))\",\"language\":\"bash\","
                          "\"template\":\"quick_script\"",
    };

    for (size_t i = 0; i < suite.set.count; i++) {
        const struct attack *a = &suite.set.items[i];
        AUTO_STRBUF struct strbuf job = STRBUF_INIT;
        char id[JOB_ID_MAX + 1];

        make_id(a, "", id);
        attack_job(&suite.set, a, id, &job);
        MUST(!job.failed);
        rig_push(&suite.rig, "default", job.text);
        make_id(a, AFTER, id);
        strbuf_clear(&job);
        strbuf_addf(&job, "{\"id\":\"%s\",%s}", id, honest[a->language]);
        rig_push(&suite.rig, "default", job.text);
    }
}

static bool is_degraded(void)
{
    return suite.user == ATTACK_AS_USER_ONLY ||
           (suite.user == ATTACK_AS_WE_ARE && geteuid() != 0);
}

static int open_suite(void **state)
{
    const char *env[] = {"CAPIBOX_CONCURRENCY=4", ATTACK_WORKER_ENV,
                         is_degraded() ? "CAPIBOX_ALLOW_DEGRADED=1"
                                       : "CAPIBOX_ALLOW_DEGRADED=0",
                         "SECRET_TOKEN=SECRET", NULL};

    (void)state;
    stage_open(&suite.rig, NULL);
    stage_worker(&suite.rig, &suite.worker, env);
    /* What stays between jobs is there from here on. */
    attack_next_job_is_fine(&suite.rig, "first");
    attack_next_job_is_fine(&suite.rig, "second");
    attack_next_job_is_fine(&suite.rig, "third");
    attack_traces_settle(&suite.worker, &suite.traces);
    attack_host_look(&suite.host);
    push_all();
    return 0;
}

static int close_suite(void **state)
{
    (void)state;
    proc_stop(&suite.worker);
    rig_close(&suite.rig);
    return 0;
}

/* attack_016_list_growth_ends_as_oom */
static char *make_name(const struct attack *a)
{
    char id[JOB_ID_MAX + 1];
    struct strbuf name = STRBUF_INIT;

    make_id(a, "", id);
    strbuf_addf(&name, "attack_%s_ends_as", id);
    for (int v = VERDICT_OK; v < VERDICT_COUNT; v++)
        if (a->verdicts & (1u << v))
            strbuf_addf(&name, "_%s", verdict_name((enum verdict)v));
    MUST(!name.failed);
    for (char *at = name.text; *at; at++)
        if (*at == '-')
            *at = '_';
    return name.text;
}

static int run_suite(void)
{
    static const struct CMUnitTest last[] = {
        cmocka_unit_test(nothing_is_left_and_the_host_is_as_it_was),
        cmocka_unit_test(each_job_was_counted_once),
        cmocka_unit_test(the_worker_ends_well_and_leaves_nothing),
    };
    static struct CMUnitTest tests[ATTACKS_MAX + sizeof(last) / sizeof(*last)];
    size_t count = 0;

    attack_suite_load(&suite.set);
    for (size_t i = 0; i < suite.set.count; i++)
        tests[count++] = (struct CMUnitTest){
            .name = make_name(&suite.set.items[i]),
            .test_func = attack_ends_as_it_must,
            .initial_state = &suite.set.items[i],
        };
    memcpy(&tests[count], last, sizeof(last));
    count += sizeof(last) / sizeof(*last);
    int failed = _cmocka_run_group_tests("attacks", tests, count, open_suite,
                                         close_suite);
    for (size_t i = 0; i < suite.set.count; i++)
        free((void *)(uintptr_t)tests[i].name);
    attacks_unload(&suite.set);
    return failed;
}

/* ---- another user ------------------------------------------------------ */

static const char *skip_why;

static void attacks_of_an_ordinary_user(void **state)
{
    (void)state;
    print_message("SKIP: %s\n", skip_why);
}

static int skip_suite(const char *why)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attacks_of_an_ordinary_user),
    };

    skip_why = why;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static const char *const controllers[] = {"memory", "pids", "cpu", "cpuacct"};
#define CONTROLLERS (sizeof(controllers) / sizeof(*controllers))

static void cgroup_path(char out[PATH_MAX], size_t which, const char *file)
{
    snprintf(out, PATH_MAX, CGROUPS "/%s/attack-user-%d%s", controllers[which],
             getpid(), file);
}

/* Folders of cgroup v1 that the user may make others in, and us in them. */
static bool hand_cgroups_over(void)
{
    static const char *const files[] = {"", "/cgroup.procs", "/tasks"};
    char path[PATH_MAX];

    for (size_t i = 0; i < CONTROLLERS; i++) {
        cgroup_path(path, i, "");
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return false;
        for (size_t k = 0; k < sizeof(files) / sizeof(*files); k++) {
            cgroup_path(path, i, files[k]);
            if (chown(path, USER, USER) < 0)
                return false;
        }
        cgroup_path(path, i, "/cgroup.procs");
        if (io_write_file(path, "0") < 0)
            return false;
    }
    return true;
}

static void remove_cgroups(pid_t user)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < CONTROLLERS; i++) {
        snprintf(path, sizeof(path), CGROUPS "/%s/attack-user-%d",
                 controllers[i], user);
        rmdir(path);
    }
}

/* A folder of its own to work in; the tests put everything below build/. */
static bool become_user(const char *home)
{
    if (chown(home, USER, USER) < 0 || chdir(home) < 0 ||
        setgroups(0, NULL) < 0 || setresgid(USER, USER, USER) < 0 ||
        setresuid(USER, USER, USER) < 0)
        return false;
    setenv("HOME", home, 1);
    setenv("TMPDIR", home, 1);
    unsetenv("XDG_RUNTIME_DIR");
    prctl(PR_SET_DUMPABLE, 1); /* else /proc/self is not ours */
    return access(proc_program("capibox-worker"), X_OK) == 0;
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int attack_remove_folder(const char *path)
{
    return nftw(path, remove_entry, WALK_FDS, FTW_DEPTH | FTW_PHYS);
}

static int run_as_user(enum attack_user user, const char *home)
{
    if (user == ATTACK_AS_USER && !hand_cgroups_over())
        return skip_suite("there is no cgroup v1 to hand to a user");
    if (!become_user(home))
        return skip_suite("another user cannot read the checkout");
    return run_suite();
}

int attack_suite_main(enum attack_user user)
{
    char home[] = "/tmp/capibox-user-XXXXXX";
    int status;

    suite.user = user;
    if (user == ATTACK_AS_WE_ARE)
        return run_suite();
    if (geteuid() != 0)
        return skip_suite("only root can become another user");
    MUST(mkdtemp(home));
    fflush(NULL);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(run_as_user(user, home));
    }
    while (waitpid(pid, &status, 0) < 0)
        ;
    remove_cgroups(pid);
    attack_remove_folder(home);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
