/* Attacks on warmed interpreters: what a fork leaves behind for the next, what
 * it reaches of its zygote, and what becomes of jobs when a zygote stops or
 * dies, cannot be forked, or is asked for too many. */
#include "tests/support/cmocka_all.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/attack_suite.h"
#include "tests/support/venv.h"
#include "worker/attack_host.h"

#define LEFT_MS        2500
#define PROC_BYTES_MAX 65536
#define PRIVATE_KB_MAX 4096
#define WAITING        12
#define CONCURRENCY    4

static struct rig rig;
static struct proc worker;
static struct household house;
static char folder[300], folder_env[340], venv_dir[VENV_DIR_MAX];
static char venv_python[PATH_MAX];

/* No sandbox waits, so a job's start says what its zygote did. */
static const char *const env[] = {folder_env,
                                  "CAPIBOX_CONCURRENCY=4",
                                  "CAPIBOX_WAITING=0",
                                  "CAPIBOX_ALLOW_DEGRADED=1",
                                  "CAPIBOX_MEMORY_BUDGET_MB=4096",
                                  NULL};

/* ---- processes ---------------------------------------------------------- */

struct process {
    pid_t pid, parent;
    char state;
    int depth; /* pid namespaces from ours down */
    char command[PROC_BYTES_MAX];
};

static bool read_file(pid_t pid, const char *name, char *out, size_t *size_out)
{
    char path[64];
    AUTO_FREE char *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    if (io_read_file(path, PROC_BYTES_MAX - 1, &text, size_out) < 0)
        return false;
    memcpy(out, text, *size_out + 1);
    return true;
}

static int count_words(const char *line)
{
    int words = 0;

    for (const char *at = line; *at && *at != '\n'; at++)
        words += *at != '\t' && (at[1] == '\t' || at[1] == '\n');
    return words;
}

static bool look_at(pid_t pid, struct process *out)
{
    static char status[PROC_BYTES_MAX];
    size_t size;

    *out = (struct process){.pid = pid};
    if (!read_file(pid, "status", status, &size) ||
        !read_file(pid, "cmdline", out->command, &size))
        return false;
    for (size_t i = 0; i + 1 < size; i++)
        if (!out->command[i])
            out->command[i] = ' ';
    const char *state = strstr(status, "\nState:\t");
    const char *parent = strstr(status, "\nPPid:\t");
    const char *depth = strstr(status, "\nNSpid:\t");
    if (!state || !parent || !depth)
        return false;
    out->state = state[8];
    out->parent = atoi(parent + 7);
    out->depth = count_words(depth + 8);
    return true;
}

typedef bool wanted(const struct process *p, const char *word);

/* How many below the worker; the last of them into *pid_out. */
static int count_processes(wanted *is_it, const char *word, pid_t *pid_out)
{
    static struct process p;
    int count = 0;

    household_list(worker.pid, &house);
    for (int i = 0; i < house.count; i++) {
        if (!look_at(house.members[i].pid, &p) || !is_it(&p, word))
            continue;
        count++;
        if (pid_out)
            *pid_out = p.pid;
    }
    return count;
}

static bool is_sandboxd(const struct process *p, const char *word)
{
    return p->parent == worker.pid && strstr(p->command, word);
}

static pid_t find_sandboxd(void)
{
    pid_t pid = 0;

    count_processes(is_sandboxd, "capibox-sandboxd", &pid);
    return pid;
}

static pid_t sandboxd;

static bool is_spawner(const struct process *p, const char *word)
{
    return p->parent == sandboxd && p->depth == 1 && strstr(p->command, word);
}

static bool is_init(const struct process *p, const char *word)
{
    return p->parent == sandboxd && p->depth == 2 && strstr(p->command, word);
}

/* word: one of its modules, or "" of one that has none. */
static bool is_zygote(const struct process *p, const char *word)
{
    const char *at = strstr(p->command, "/zygote.py ");

    return at && p->parent == sandboxd && p->depth == 1 &&
           (*word ? strstr(at, word) != NULL : !strchr(at + 13, ' '));
}

static bool is_zombie(const struct process *p, const char *word)
{
    (void)word;
    return p->state == 'Z';
}

static pid_t find_zygote(const char *word)
{
    pid_t pid = 0;

    sandboxd = find_sandboxd();
    count_processes(is_zygote, word, &pid);
    return pid;
}

static bool no_zombie(void *ctx)
{
    (void)ctx;
    return count_processes(is_zombie, "", NULL) == 0;
}

/* ---- jobs ---------------------------------------------------------------- */

static void push(const char *template, const char *id, const char *code)
{
    AUTO_STRBUF struct strbuf job = STRBUF_INIT;

    strbuf_addf(&job, "{\"id\":\"%s\",\"template\":\"%s\",", id, template);
    strbuf_adds(&job, "\"language\":\"python\",\"max_attempts\":3,\"code\":");
    strbuf_add_json(&job, code, strlen(code));
    strbuf_addc(&job, '}');
    MUST(!job.failed);
    rig_push(&rig, "default", job.text);
}

/* The result of a job that must be fine. The caller deletes. */
static cJSON *take(const char *id)
{
    cJSON *r = stage_result(&rig, id);

    stage_expect(r, "verdict", "ok");
    return r;
}

static int last_id;

static cJSON *run(const char *template, const char *code)
{
    char id[32];

    snprintf(id, sizeof(id), "job-%d", ++last_id);
    push(template, id, code);
    return take(id);
}

#define START "sandbox_info.start"

static bool starts_warm(void *ctx)
{
    cJSON *r = run(ctx, "1");
    bool warm = strstr(stage_text(r, START), "warm") != NULL;

    cJSON_Delete(r);
    return warm;
}

static void wait_warm(const char *template)
{
    if (!wait_until(starts_warm, (void *)(uintptr_t) template, RIG_WAIT_MS))
        fail_msg("no zygote comes for %s", template);
}

static void expect_start(const char *template, const char *start)
{
    cJSON *r = run(template, "print(6*7)");

    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, START, start);
    cJSON_Delete(r);
}

/* ---- 109: what one leaves for the next ------------------------------------
 */

/* All that the hostile one changes, as the next one finds it. */
static const char look_code[] =
    "import builtins, gc, json, locale, os, random, sys, time, warnings\n"
    "import numpy, pandas, matplotlib\n"
    "from matplotlib import pyplot\n"
    "f = pandas.DataFrame({'a': [1, 2]})\n"
    "for value in (\n"
    "    f.a.sum(), f.describe().a['mean'], repr(f), len([1]), 100 + 100,\n"
    "    json.dumps([1]), sorted(os.environ.items()), sys.path,\n"
    "    sys.getrecursionlimit(), sys.flags, hasattr(pandas, 'left'),\n"
    "    hasattr(builtins, 'left'), 'left' in sys.modules, gc.isenabled(),\n"
    "    warnings.filters, numpy.geterr(), numpy.get_printoptions(),\n"
    "    pandas.get_option('display.max_rows'), time.tzname, os.getcwd(),\n"
    "    matplotlib.rcParams['figure.dpi'], pyplot.get_fignums(),\n"
    "    locale.getlocale(), os.listdir('.'), os.listdir('/tmp'),\n"
    "    os.listdir('/dev/shm'), os.nice(0), len(sys.meta_path)):\n"
    "  print(value)";

static const char change_code[] =
    "import builtins, ctypes, gc, json, locale, os, sys, time, warnings\n"
    "import numpy, pandas, matplotlib\n"
    "from matplotlib import pyplot\n"
    "pandas.left = builtins.left = 1; sys.modules['left'] = sys\n"
    "pandas.Series.sum = lambda *a, **k: 'changed'\n"
    "pandas.DataFrame.describe = pandas.DataFrame.__repr__ = None\n"
    "pandas.set_option('display.max_rows', 1)\n"
    "numpy.seterr(all='raise'); numpy.set_printoptions(precision=1)\n"
    "matplotlib.rcParams['figure.dpi'] = 9; pyplot.figure()\n"
    "json.dumps = lambda *a: 'changed'\n"
    "os.environ['LEFT'] = '1'; os.environ['TZ'] = 'Asia/Tokyo'\n"
    "time.tzset(); sys.path.insert(0, '/left')\n"
    "sys.setrecursionlimit(500); warnings.simplefilter('ignore')\n"
    "gc.disable(); locale.setlocale(locale.LC_ALL, 'C'); os.nice(5)\n"
    "for d in ('.', '/tmp', '/dev/shm'): open(d + '/left', 'w').close()\n"
    "os.chdir('/tmp')\n"
    /* The very bytes of an object that all of them share. */
    "ctypes.c_uint32.from_address(id(200) + 24).value = 7\n"
    "real_len = builtins.len; builtins.len = lambda x: 99\n"
    "print(100 + 100, builtins.len([]), json.dumps([1]))\n"
    "builtins.len = real_len; sys.meta_path.clear()";

static void expect_look(const char *before)
{
    cJSON *r = run("data", look_code);

    stage_expect(r, START, "warm");
    stage_expect(r, "logs.stdout.0", before);
    cJSON_Delete(r);
}

static void attack_109_no_change_outlives_its_job(void **state)
{
    (void)state;
    wait_warm("data");
    cJSON *before = run("data", look_code);
    const char *text = stage_text(before, "logs.stdout.0");
    assert_non_null(strstr(text, "\n200\n"));
    for (int i = 0; i < 9; i++) {
        cJSON *r = run("data", change_code);

        stage_expect(r, START, "warm");
        stage_expect(r, "logs.stdout.0", "7 99 changed\n");
        cJSON_Delete(r);
        if (i == 0 || i == 8)
            expect_look(text);
    }
    cJSON_Delete(before);
}

/* ---- 111: what one reaches of its zygote -----------------------------------
 */

static const char reach_code[] =
    "import os, signal, socket, stat, ctypes\n"
    "me = os.getpid()\n"
    "there = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())\n"
    "print(set(there) <= {1, me}, os.getppid())\n"
    "print([stat.S_ISFIFO(os.fstat(int(n)).st_mode)\n"
    "       for n in os.listdir('/proc/self/fd') if int(n) < 4])\n"
    "left = set(os.listdir('/proc/self/fd')) - set('0123')\n"
    "print([n for n in left if os.path.exists('/proc/self/fd/' + n)])\n"
    "for name in ('unix', 'tcp', 'udp'):\n"
    "  try: print(len(open('/proc/net/' + name).readlines()) <= 1)\n"
    "  except OSError: print(True)\n"
    "hit, libc = [], ctypes.CDLL(None, use_errno=True)\n"
    "for pid in range(2, 40000):\n"
    "  if pid != me:\n"
    "    for sig in (0, signal.SIGSTOP, signal.SIGKILL):\n"
    "      try: os.kill(pid, sig); hit.append(pid)\n"
    "      except OSError: pass\n"
    "    if libc.ptrace(16, pid, 0, 0) == 0: hit.append(pid)\n"
    "for sig in (signal.SIGSTOP, signal.SIGKILL):\n"
    "  for pid in (-1, 1):\n"
    "    try: os.kill(pid, sig)\n"
    "    except OSError: pass\n"
    "print(hit, os.path.exists('/run/capibox/runtime'))";

static void attack_111_a_zygote_is_out_of_reach(void **state)
{
    (void)state;
    wait_warm("default");
    pid_t zygote = find_zygote("");
    assert_true(zygote > 0);
    cJSON *r = run("default", reach_code);
    stage_expect(r, START, "warm");
    stage_expect(r, "logs.stdout.0",
                 "True 1\n[True, True, True, True]\n[]\nTrue\nTrue\nTrue\n"
                 "[] False\n");
    cJSON_Delete(r);
    expect_start("default", "warm");
    assert_int_equal(find_zygote(""), zygote);
}

/* ---- 112: a zygote that does not answer ------------------------------------
 */

static void wait_another(pid_t old)
{
    wait_warm("default");
    assert_true(find_zygote("") > 0);
    assert_int_not_equal(find_zygote(""), old);
}

static void attack_112_a_stopped_zygote_delays_jobs_by_seconds(void **state)
{
    enum { JOBS = 6 };
    struct attack_traces before;
    char id[32];
    int cold = 0;

    (void)state;
    wait_warm("default");
    pid_t zygote = find_zygote("");
    attack_traces_find(&worker, &before);
    MUST0(kill(zygote, SIGSTOP));
    int64_t start_ms = clock_ms();
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "stopped-%d", i);
        push("default", id, "print(6*7)");
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "stopped-%d", i);
        cJSON *r = take(id);
        stage_expect(r, "logs.stdout.0", "42\n");
        assert_int_equal((int)stage_number(r, "attempt"), 1);
        cold += i < CONCURRENCY && strcmp(stage_text(r, START), "cold") == 0;
        cJSON_Delete(r);
    }
    assert_true(clock_ms() - start_ms < 15000);
    /* The others may find another zygote. */
    assert_int_equal(cold, CONCURRENCY);
    /* It is ended for that, and what waited for it goes. */
    wait_another(zygote);
    attack_traces_gone(&worker, &before);
    assert_true(wait_until(no_zombie, NULL, LEFT_MS));
    AUTO_FREE char *log = proc_err(&worker);
    assert_non_null(strstr(log, "no warmed interpreter, jobs start cold"));
}

/* ---- 113: deaths
 * ------------------------------------------------------------- */

static bool is_sleeper(const struct process *p, const char *word)
{
    return p->depth == 2 && strcmp(p->command, word) == 0;
}

static bool sleeps(void *ctx)
{
    return count_processes(is_sleeper, ctx, NULL) > 0;
}

static void push_sleeper(const char *id)
{
    char command[] = "sleep 60";

    push("default", id,
         "import os; print('a'); os.system('exec sleep 60'); print('b')");
    assert_true(wait_until(sleeps, command, RIG_WAIT_MS));
}

static bool ends_woken(void *id)
{
    household_wake(worker.pid);
    return rig_job(&rig, id, "result")[0] != '\0';
}

static void expect_sleeper(const char *id, int attempt)
{
    wait_until(ends_woken, (void *)(uintptr_t)id, RIG_WAIT_MS);
    cJSON *r = take(id);

    stage_expect(r, "logs.stdout.0", "a\nb\n");
    assert_int_equal((int)stage_number(r, "attempt"), attempt);
    cJSON_Delete(r);
}

static void kill_and_wait(pid_t pid)
{
    assert_true(pid > 0);
    MUST0(kill(pid, SIGKILL));
}

/* False: another one was there before the job. */
static bool is_cold_without(void *ctx)
{
    pid_t *zygote = ctx;

    kill_and_wait(*zygote);
    cJSON *r = run("default", "print(6*7)");
    bool cold = strcmp(stage_text(r, START), "cold") == 0;
    stage_expect(r, "logs.stdout.0", "42\n");
    cJSON_Delete(r);
    if (!cold) {
        wait_warm("default");
        assert_int_not_equal(find_zygote(""), *zygote);
        *zygote = find_zygote("");
    }
    return cold;
}

static void attack_113_jobs_outlive_their_zygote(void **state)
{
    (void)state;
    wait_warm("default");
    pid_t zygote = find_zygote("");
    push_sleeper("orphan");
    assert_true(wait_until(is_cold_without, &zygote, RIG_WAIT_MS));
    expect_sleeper("orphan", 1);
    wait_another(zygote);
    expect_start("default", "warm");
    assert_true(wait_until(no_zombie, NULL, LEFT_MS));
}

/* In the midst of forks. */
static void attack_113_a_zygote_killed_at_work_harms_no_job(void **state)
{
    enum { ROUNDS = 3, JOBS = 10 };
    char id[32];

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        wait_warm("default");
        pid_t zygote = find_zygote("");
        for (int i = 0; i < JOBS; i++) {
            snprintf(id, sizeof(id), "midst-%d-%d", round, i);
            push("default", id, "print(6*7)");
        }
        snprintf(id, sizeof(id), "midst-%d-%d", round, round);
        cJSON_Delete(take(id));
        kill_and_wait(zygote);
        for (int i = 0; i < JOBS; i++) {
            snprintf(id, sizeof(id), "midst-%d-%d", round, i);
            cJSON *r = take(id);
            stage_expect(r, "logs.stdout.0", "42\n");
            cJSON_Delete(r);
        }
    }
    wait_warm("default");
    assert_true(wait_until(no_zombie, NULL, LEFT_MS));
}

static void attack_113_jobs_outlive_their_spawner(void **state)
{
    pid_t spawner = 0;

    (void)state;
    wait_warm("default");
    push_sleeper("bereft");
    sandboxd = find_sandboxd();
    assert_true(count_processes(is_spawner, "--spawner", &spawner) >= 1);
    pid_t zygote = find_zygote("");
    kill_and_wait(spawner);
    cJSON_Delete(run("default", "print(6*7)"));
    expect_sleeper("bereft", 1);
    wait_another(zygote);
    expect_start("default", "warm");
    assert_true(wait_until(no_zombie, NULL, LEFT_MS));
}

static void attack_113_jobs_of_a_dead_sandboxd_run_again(void **state)
{
    static struct household dead;

    (void)state;
    wait_warm("default");
    push_sleeper("again");
    pid_t zygote = find_zygote("");
    household_list(sandboxd, &dead);
    kill_and_wait(sandboxd);
    household_gone(&dead, LEFT_MS);
    expect_sleeper("again", 2);
    wait_another(zygote);
    expect_start("default", "warm");
}

/* ---- 115: what cannot be forked
 * ---------------------------------------------- */

static const struct {
    const char *module, *source, *reason;
} refused[] = {
    {"with_thread",
     "import threading\n"
     "threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
     "2 threads: one of the preloaded packages started some"},
    {"with_file", "kept = open(__file__)\n", "a preloaded package keeps "},
    {"with_socket", "import socket\nkept = socket.socketpair()\n",
     "a preloaded package keeps socket:"},
    {"with_exit", "import os\nos._exit(3)\n", "warm a zygote up: it died"},
};

#define REFUSED (sizeof(refused) / sizeof(refused[0]))

static bool log_says(void *ctx)
{
    AUTO_FREE char *log = proc_err(&worker);

    return strstr(log, ctx) != NULL;
}

static bool is_refused(void *ctx)
{
    size_t i = *(size_t *)ctx;
    cJSON *r = run(refused[i].module, "print(6*7)");

    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, START, "cold");
    cJSON_Delete(r);
    return log_says((void *)(uintptr_t)refused[i].reason);
}

static void attack_115_packages_that_cannot_be_forked_go_cold(void **state)
{
    (void)state;
    for (size_t i = 0; i < REFUSED; i++)
        if (!wait_until(is_refused, &i, RIG_WAIT_MS))
            fail_msg("%s: the log does not say \"%s\"", refused[i].module,
                     refused[i].reason);
}

static void attack_115_algebra_works_in_a_fork(void **state)
{
    (void)state;
    wait_warm("data");
    cJSON *r = run(
        "data", "import numpy as np, os\n"
                "a = np.random.rand(200, 200)\n"
                "print(np.allclose(np.linalg.inv(a) @ a, np.eye(200)))\n"
                "print(np.linalg.svd(a)[1].shape, np.linalg.eigvals(a).size)"
                "\nif os.fork() == 0:\n"
                "  print(np.linalg.det(np.eye(300))); os._exit(0)\n"
                "os.wait()\n"
                "from concurrent.futures import ThreadPoolExecutor as P\n"
                "print(sum(P(3).map(lambda i: (a @ a).shape[0], range(6))))\n"
                "try: from sklearn.linear_model import LinearRegression\n"
                "except ImportError: print(True)\n"
                "else:\n"
                "  m = LinearRegression().fit(a, a[:, 0])\n"
                "  from sklearn.cluster import KMeans\n"
                "  KMeans(3, n_init=2).fit(a)\n"
                "  print(m.score(a, a[:, 0]) > .9)");
    stage_expect(r, START, "warm");
    stage_expect(r, "logs.stdout.0", "True\n(200,) 200\n1.0\n1200\nTrue\n");
    cJSON_Delete(r);
}

/* ---- 117: many that wait ---------------------------------------------------
 */

/* A waiting program is its init's child and a copy of the zygote. */
static bool is_waiting_program(const struct process *p, const char *word)
{
    return p->depth == 2 && p->parent != sandboxd &&
           strstr(p->command, "zygote.py") && strstr(p->command, word);
}

static int waiting(void)
{
    return count_processes(is_waiting_program, "pandas", NULL);
}

static int most; /* that waited since nothing ran */

static bool all_wait(void *ctx)
{
    int now = waiting();

    (void)ctx;
    most = now > most ? now : most;
    return now >= WAITING;
}

static bool half_are_gone(void *ctx)
{
    (void)ctx;
    return waiting() <= WAITING / 2;
}

static long private_kb(pid_t pid)
{
    static char text[PROC_BYTES_MAX];
    size_t size;
    long kb = 0;

    if (!read_file(pid, "smaps_rollup", text, &size))
        return -1;
    for (const char *at = text; (at = strstr(at, "\nPrivate_")); at++)
        kb += atol(strchr(at, ':') + 1);
    return kb;
}

/* False: some have gone already. */
static bool they_are_small(void)
{
    static struct process p;
    int seen = 0;

    household_list(worker.pid, &house);
    for (int i = 0; i < house.count; i++) {
        if (!look_at(house.members[i].pid, &p) ||
            !(is_init(&p, "") || is_waiting_program(&p, "pandas")))
            continue;
        long kb = private_kb(p.pid);
        if (kb >= PRIVATE_KB_MAX)
            fail_msg("%ld kB of a waiting sandbox are its own", kb);
        seen += kb > 0;
    }
    return seen >= 2 * WAITING;
}

/* As many as were asked for in a quarter of a second are made and held for
 * about one: false if the machine was too slow for that. */
static bool a_burst_leaves_many(void *ctx)
{
    enum { JOBS = 16, HELD_MS = 2000 };
    int *burst = ctx;
    char id[32];

    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "many-%d-%d", *burst, i);
        push("data", id, "import time; time.sleep(.3)");
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "many-%d-%d", *burst, i);
        cJSON_Delete(take(id));
    }
    ++*burst;
    most = 0;
    return wait_until(all_wait, NULL, HELD_MS) && they_are_small();
}

static void attack_117_many_that_wait_are_small_and_go(void **state)
{
    static const char *const many[] = {folder_env,
                                       "CAPIBOX_CONCURRENCY=16",
                                       "CAPIBOX_WAITING=12",
                                       "CAPIBOX_ALLOW_DEGRADED=1",
                                       "CAPIBOX_MEMORY_BUDGET_MB=4096",
                                       NULL};
    int burst = 0;

    (void)state;
    assert_int_equal(stage_end_worker(&worker), 0);
    stage_worker(&rig, &worker, many);
    wait_warm("data");
    sandboxd = find_sandboxd();
    assert_true(wait_until(a_burst_leaves_many, &burst, 3 * RIG_WAIT_MS));
    for (int i = 0; i < 10; i++)
        all_wait(NULL);
    /* Nothing runs: so no more than the setting says. */
    assert_int_equal(most, WAITING);
    cJSON *r = run("data", "print(6*7)");
    stage_expect(r, START, "waiting, warm");
    cJSON_Delete(r);
    assert_true(wait_until(half_are_gone, NULL, RIG_WAIT_MS));
}

/* ---- stage ------------------------------------------------------------------
 */

static struct attack_host host;

static void attacks_on_zygotes_leave_nothing(void **state)
{
    char why[ATTACK_HOST_WHY_MAX];

    (void)state;
    attack_next_job_is_fine(&rig, "after-all");
    household_list(worker.pid, &house);
    assert_int_equal(stage_end_worker(&worker), 0);
    household_gone(&house, LEFT_MS);
    assert_true(rig_settled(&rig));
    if (!attack_host_same(&host, why))
        fail_msg("%s", why);
}

static void write_template(const char *id, const char *python,
                           const char *preload)
{
    char path[400];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.json", folder, id);
    MUST(file = fopen(path, "w"));
    fprintf(file,
            "{\"id\":\"%s\",\"name\":\"x\",\"languages\":[\"python\"],"
            "\"limits\":{\"timeout\":20,\"memory_limit_mb\":256,"
            "\"cpu_limit_percent\":100,\"pids_limit\":32},\"packages\":[],"
            "\"local\":{\"python\":\"%s\"%s%s}}",
            id, python, *preload ? ",\"preload\":" : "", preload);
    MUST0(fclose(file));
}

static int open_all(void **state)
{
    char preload[64];

    (void)state;
    attack_host_look(&host);
    stage_open(&rig, NULL);
    snprintf(folder, sizeof(folder), "%s/templates", rig.server.dir);
    snprintf(folder_env, sizeof(folder_env), "CAPIBOX_TEMPLATES=%s", folder);
    MUST0(mkdir(folder, 0755));
    venv_make_seeing_system(venv_dir, "empty", venv_python,
                            sizeof(venv_python));
    write_template("default", "/usr/bin/python3", "");
    write_template("data", "/usr/bin/python3",
                   "[\"numpy\",\"pandas\",\"matplotlib.pyplot\"]");
    for (size_t i = 0; i < REFUSED; i++) {
        venv_write(venv_dir, refused[i].module, refused[i].source);
        snprintf(preload, sizeof(preload), "[\"%s\"]", refused[i].module);
        write_template(refused[i].module, venv_python, preload);
    }
    stage_worker(&rig, &worker, env);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    proc_stop(&worker);
    rig_close(&rig);
    attack_remove_folder(venv_dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attack_109_no_change_outlives_its_job),
        cmocka_unit_test(attack_111_a_zygote_is_out_of_reach),
        cmocka_unit_test(attack_112_a_stopped_zygote_delays_jobs_by_seconds),
        cmocka_unit_test(attack_113_jobs_outlive_their_zygote),
        cmocka_unit_test(attack_113_a_zygote_killed_at_work_harms_no_job),
        cmocka_unit_test(attack_113_jobs_outlive_their_spawner),
        cmocka_unit_test(attack_113_jobs_of_a_dead_sandboxd_run_again),
        cmocka_unit_test(attack_115_packages_that_cannot_be_forked_go_cold),
        cmocka_unit_test(attack_115_algebra_works_in_a_fork),
        cmocka_unit_test(attack_117_many_that_wait_are_small_and_go),
        cmocka_unit_test(attacks_on_zygotes_leave_nothing),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
