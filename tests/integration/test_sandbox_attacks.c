/* Hostile programs through the local backend, named by what they try. Each must
 * end with the right verdict and leave the next job a sound sandbox. Runs as
 * root or as an ordinary user; what needs cgroups says SKIP. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "worker/local/link.h"

#define LEFTOVER_MS 1000
#define ALARM_S     120 /* a test that hangs is a failure, too */

#define backend sandbox_run_backend

static void expect(const struct sandbox_run *r, enum verdict verdict,
                   const char *out)
{
    bool as_expected =
        r->o.verdict == verdict && (!out || strcmp(r->out, out) == 0);

    if (!as_expected)
        sandbox_run_explain(r);
    assert_true(as_expected);
}

/* Runs code; out NULL: whatever it prints. */
static void check(enum language language, const char *code,
                  enum verdict verdict, const char *out)
{
    struct sandbox_run r;

    sandbox_run_prepare(&r, language, code);
    sandbox_run_go(&r);
    expect(&r, verdict, out);
    sandbox_run_done(&r);
}

static void the_next_job_is_fine(void)
{
    check(LANGUAGE_BASH, "echo fine", VERDICT_OK, "[\"fine\\n\"]");
}

static bool in_cgroup(void)
{
    struct sandbox_run r;

    sandbox_run_prepare(&r, LANGUAGE_BASH, ":");
    sandbox_run_go(&r);
    bool limited = strncmp(r.o.enforced.memory, "cgroup", 6) == 0;
    sandbox_run_done(&r);
    if (!limited)
        print_message("SKIP: this process may make no cgroups\n");
    return limited;
}

/* The child of `parent` that runs capibox-sandboxd, or 0. */
static pid_t find_sandboxd(pid_t parent)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0;

    for (const struct dirent *e; proc && (e = readdir(proc));) {
        char path[300], name[32] = "";
        char *text;
        int ppid = 0;

        snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        if (io_read_file(path, 4096, &text, NULL) < 0)
            continue;
        if (sscanf(text, "%*d (%31[^)]) %*c %d", name, &ppid) == 2 &&
            ppid == parent && strncmp(name, "capibox-sandbox", 15) == 0)
            found = atoi(e->d_name);
        free(text);
    }
    closedir(proc);
    return found;
}

/* ---- one job against the others --------------------------------------- */

static void *go_thread(void *arg)
{
    sandbox_run_go(arg);
    return NULL;
}

struct sender {
    struct link link;
    atomic_bool stop;
};

static void *send_jobs(void *arg)
{
    struct sender *s = arg;

    while (!atomic_load(&s->stop)) {
        int fd = link_job(&s->link, NULL, NULL);
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

/* More jobs than a socket holds messages, for a sandboxd that takes none: it
 * must be possible to kill it all the same. */
static void a_hung_sandboxd_can_be_killed_under_load(void **state)
{
    static struct sender s;
    struct complaint why;
    pthread_t thread;

    (void)state;
    MUST0(link_find(&s.link, &why));
    MUST0(link_open(&s.link, &why));
    MUST0(kill(s.link.pid, SIGSTOP));
    MUST0(pthread_create(&thread, NULL, send_jobs, &s));
    usleep(500000); /* some hundred are on their way, then it is full */
    int64_t start = clock_ms();
    link_kill(&s.link);
    assert_true(clock_ms() - start < 1000);
    atomic_store(&s.stop, true);
    MUST0(pthread_join(thread, NULL));
    int fd = link_job(&s.link, NULL, NULL);
    assert_true(fd >= 0);
    close(fd);
    link_close(&s.link);
}

/* In a process of its own, with few files: some jobs get no sandbox, the
 * others run to their end. */
static int run_with_few_files(void)
{
    enum { MANY = 16 };
    static struct sandbox_run runs[MANY], hog;
    pthread_t threads[MANY], first;
    int ended = 0;

    sandbox_run_prepare(&hog, LANGUAGE_BASH, "echo on; sleep 3; echo end");
    sandbox_run_begin(&hog, &first);
    for (int i = 0; i < MANY; i++) {
        sandbox_run_prepare(&runs[i], LANGUAGE_BASH, "sleep 2");
        MUST0(pthread_create(&threads[i], NULL, go_thread, &runs[i]));
    }
    for (int i = 0; i < MANY; i++) {
        MUST0(pthread_join(threads[i], NULL));
        ended += runs[i].o.verdict == VERDICT_OK;
    }
    MUST0(pthread_join(first, NULL));
    expect(&hog, VERDICT_OK, "[\"on\\nend\\n\"]");
    return ended;
}

static struct rlimit few = {48, 48};

static void a_sandboxd_without_files_to_spare_keeps_its_sandboxes(void **state)
{
    pid_t pid = fork();
    int status;

    (void)state;
    MUST(pid >= 0);
    if (pid == 0) {
        struct rlimit many;

        /* sandboxd alone gets few: it raises its limit to the hard one. */
        MUST0(getrlimit(RLIMIT_NOFILE, &many));
        MUST0(sandbox_run_open(NULL));
        pid_t sandboxd = find_sandboxd(getpid());
        MUST0(prlimit(sandboxd, RLIMIT_NOFILE, &few, NULL));
        int ended = run_with_few_files();
        bool same = find_sandboxd(getpid()) == sandboxd;
        sandbox_run_close(NULL);
        _exit(same && ended > 0 && ended < 16 ? 0 : 1);
    }
    MUST(waitpid(pid, &status, 0) == pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* As an ordinary user all sandboxes and the worker share one account of fds
 * that are on their way through sockets. */
static void fds_on_their_way_end_no_other_job(void **state)
{
    static const char code[] =
        "import os, socket, time\n"
        "kept = []\n"
        "def fill():\n"
        "  a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "  kept.append((a, b)); a.setblocking(False)\n"
        "  for i in range(9):\n"
        "    socket.send_fds(a, [b'x'], [1] * 253)\n"
        "try:\n"
        "  for i in range(60): fill()\n"
        "except OSError as e: print(e.errno, flush=True)\n"
        "time.sleep(2)\n";
    static struct sandbox_run hostile;
    pthread_t thread;

    (void)state;
    sandbox_run_prepare(&hostile, LANGUAGE_PYTHON, code);
    MUST0(pthread_create(&thread, NULL, go_thread, &hostile));
    usleep(1000000);
    the_next_job_is_fine();
    MUST0(pthread_join(thread, NULL));
    expect(&hostile, VERDICT_OK, NULL);
    sandbox_run_done(&hostile);
    the_next_job_is_fine();
}

/* ---- memory, processes, time ------------------------------------------ */

static void memory_that_is_no_process_own_counts(void **state)
{
    static const char *const codes[] = {
        /* a file without a name */
        "import os\nf = os.memfd_create('x')\n"
        "while True: os.write(f, bytes(1 << 20))",
        /* shared with nobody */
        "import mmap\nm = [mmap.mmap(-1, 1 << 20) for i in range(9999)]\n"
        "for x in m: x.write(bytes(1 << 20))",
        /* pipes full of bytes */
        "import os\nwhile os.fork() == 0:\n"
        "  os.closerange(4, 1024)\n  for i in range(500):\n    r, w = "
        "os.pipe()\n"
        "    os.set_blocking(w, False); os.write(w, bytes(65536))\n"
        "os.wait()",
    };

    (void)state;
    if (!in_cgroup())
        return;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        struct sandbox_run r;

        sandbox_run_prepare(&r, LANGUAGE_PYTHON, codes[i]);
        r.spec.limits.memory_bytes = 64 << 20;
        sandbox_run_go(&r);
        expect(&r, VERDICT_OOM, NULL);
        assert_true(r.o.usage.peak_memory_mb < 66);
        sandbox_run_done(&r);
    }
    the_next_job_is_fine();
}

/* The program's end and the timeout meet: one of the two, never both. */
static void an_end_at_the_timeout_has_one_verdict(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i++) {
        struct sandbox_run r;

        sandbox_run_prepare(&r, LANGUAGE_BASH, "sleep 0.1");
        r.spec.limits.timeout_ms = 100 + i % 12;
        sandbox_run_go(&r);
        expect(&r, r.o.exit_code == 0 ? VERDICT_OK : VERDICT_TIMEOUT, NULL);
        sandbox_run_done(&r);
    }
}

static void code_that_will_not_end_times_out(void **state)
{
    static const char *const codes[] = {
        "import atexit, time; atexit.register(time.sleep, 60)",
        "import threading, time; "
        "threading.Thread(target=time.sleep, args=(60,)).start()",
        "import sys, time; sys.excepthook = lambda *a: time.sleep(60); 1/0",
        "import signal; signal.pthread_sigmask(0, range(1, 65)); "
        "signal.sigwait([1])",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        struct sandbox_run r;

        double took = 60;

        /* Once at least nobody is held up for a second. */
        for (int tries = 0; tries < 4 && took >= 1.6; tries++) {
            sandbox_run_prepare(&r, LANGUAGE_PYTHON, codes[i]);
            r.spec.limits.timeout_ms = 600;
            sandbox_run_go(&r);
            expect(&r, VERDICT_TIMEOUT, NULL);
            took = r.o.timings.run;
            sandbox_run_done(&r);
        }
        assert_true(took < 1.6);
    }
    the_next_job_is_fine();
}

/* Each is gone before anything could look at it, and its number with it. */
static void a_storm_of_forks_is_ended(void **state)
{
    struct sandbox_run r;

    (void)state;
    sandbox_run_prepare(
        &r, LANGUAGE_PYTHON,
        "import os\nif os.fork() == 0:\n  while True:\n    try:\n"
        "      if os.fork(): os._exit(0)\n    except OSError: pass\n"
        "while True:\n  try: os.wait()\n  except OSError: pass");
    r.spec.limits.timeout_ms = 600;
    sandbox_run_go(&r);
    if (r.o.verdict != VERDICT_PIDS_LIMIT)
        expect(&r, VERDICT_TIMEOUT, NULL);
    assert_true(r.o.timings.run < 1.6);
    sandbox_run_done(&r);
    the_next_job_is_fine();
}

/* Any call with any arguments, by children that may well crash. */
static void system_calls_at_random_harm_nobody(void **state)
{
    static const char code[] =
        "import ctypes, os, random, signal, time\n"
        "c = ctypes.CDLL(None)\nend = time.time() + 3\n"
        /* leave out what ends or stops the loop: exits, waits, kills */
        "out = {15, 34, 60, 61, 62, 128, 129, 130, 200, 231, 234, 247, 297, "
        "424}\nmem = ctypes.create_string_buffer(8192)\n"
        "at = ctypes.addressof(mem)\n"
        "def arg():\n  return random.choice((random.randrange(8), at, -1,\n"
        "    random.getrandbits(32), random.getrandbits(64), "
        "1 << random.randrange(64)))\n"
        "def child():\n  signal.alarm(1); random.seed(os.urandom(8))\n"
        "  while True:\n    nr = random.randrange(470)\n"
        "    if nr not in out:\n      c.syscall(ctypes.c_long(nr), "
        "*[ctypes.c_ulong(arg() % 2**64) for i in range(6)])\n"
        "while time.time() < end:\n"
        "  try:\n    if os.fork() == 0: child()\n"
        "  except OSError: pass\n"
        "  time.sleep(.02)\n"
        "  try:\n    while os.waitpid(-1, os.WNOHANG)[0]: pass\n"
        "  except ChildProcessError: pass\n"
        "os._exit(7)";
    struct sandbox_run r;

    (void)state;
    sandbox_run_prepare(&r, LANGUAGE_PYTHON, code);
    r.spec.limits.memory_bytes = 128 << 20;
    sandbox_run_go(&r);
    /* It may have run into a limit, but it was not stopped by us. */
    if (r.o.verdict == VERDICT_TIMEOUT || r.rc != 0)
        sandbox_run_explain(&r);
    assert_int_equal(r.rc, 0);
    assert_true(r.o.verdict != VERDICT_TIMEOUT);
    sandbox_run_done(&r);
    the_next_job_is_fine();
}

/* ---- files ------------------------------------------------------------ */

static void only_honest_files_come_back(void **state)
{
    static const char code[] =
        "import os, socket\n"
        "os.symlink('/etc/passwd', 'link.t'); os.symlink('me.t', 'me.t')\n"
        "os.symlink('/proc/self/root/etc/shadow', 'root.t')\n"
        "os.mkfifo('fifo.t'); socket.socket(socket.AF_UNIX).bind('sock.t')\n"
        "open('ok.t', 'w').write('ok'); os.link('ok.t', 'hard.t')\n"
        "try: open('huge.t', 'w').truncate(1 << 40)\n"
        /* without a cgroup the size of a file is limited, too */
        "except OSError: open('huge.t', 'w').truncate(20 << 20)\n"
        "os.mkdir('d'); open('d/in.t', 'w').write('in'); os.symlink('d', 'e')\n"
        "open(b'\\xc3\\x28\\n\\x1b.t', 'w').close()\n"
        "open('a' * 253 + '.t', 'w').close(); os.mkdir('deep'); "
        "os.chdir('deep')\n"
        "for i in range(500): os.mkdir('x'); os.chdir('x')\n"
        "open('bottom.t', 'w').close()\n";
    static const char *const expected[] = {
        "{\"path\":\"link.t\",\"size\":0,\"skipped\":\"symlink\"}",
        "{\"path\":\"root.t\",\"size\":0,\"skipped\":\"symlink\"}",
        "{\"path\":\"me.t\",\"size\":0,\"skipped\":\"symlink\"}",
        "{\"path\":\"fifo.t\",\"size\":0,\"skipped\":\"not a regular file\"}",
        "{\"path\":\"sock.t\",\"size\":0,\"skipped\":\"not a regular file\"}",
        "{\"path\":\"e/in.t\",\"size\":0,\"skipped\":\"symlink\"}",
        ",\"skipped\":\"too large: over 16 MB\"}",
        "\"path\":\"hard.t\",\"size\":2",
        "\"path\":\"d/in.t\",\"size\":2",
    };
    char *globs[] = {(char *)"**/*.t", (char *)"e/in.t", NULL};
    struct sandbox_run r;

    (void)state;
    sandbox_run_prepare(&r, LANGUAGE_PYTHON, code);
    r.job.output_files = globs;
    sandbox_run_go(&r);
    expect(&r, VERDICT_OK, "[]");
    for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++)
        if (!strstr(r.o.files.text, expected[i]))
            fail_msg("%s is not in %s", expected[i], r.o.files.text);
    assert_null(strstr(r.o.files.text, "bottom.t"));
    assert_null(memchr(r.o.files.text, '\n', r.o.files.len));
    assert_true(r.o.timings.collect < 2);
    sandbox_run_done(&r);
    the_next_job_is_fine();
}

/* ---- real programs ---------------------------------------------------- */

static void expect_program(enum language language, const char *code,
                           const char *out)
{
    struct sandbox_run r;

    sandbox_run_prepare(&r, language, code);
    r.spec.limits.memory_bytes = 1024ll << 20;
    r.spec.limits.disk_bytes = 128 << 20;
    r.spec.limits.pids = 128;
    sandbox_run_go(&r);
    expect(&r, VERDICT_OK, out);
    assert_int_equal(r.o.nwarnings, 0);
    sandbox_run_done(&r);
}

static void the_usual_packages_work(void **state)
{
    (void)state;
    if (access("/usr/lib/python3/dist-packages/sklearn", F_OK) < 0 ||
        access("/usr/lib/python3/dist-packages/plotly", F_OK) < 0) {
        print_message("SKIP: sklearn or plotly is not installed\n");
        return;
    }
    expect_program(
        LANGUAGE_PYTHON,
        "import numpy as np, pandas as pd\na = np.random.rand(100, 100)\n"
        "print(np.linalg.svd(a)[1].shape, np.linalg.inv(a).shape)\n"
        "d = pd.DataFrame({'a': [1, 2, 2], 'b': [1., 2, 3]})\n"
        "d.to_csv('x.csv')\nprint(pd.read_csv('x.csv').groupby('a').b.sum()"
        ".tolist())\nimport scipy.optimize as so\n"
        "print(round(so.minimize(lambda x: (x[0]-1)**2, [0.]).x[0], 3))\n"
        "from sklearn.ensemble import RandomForestClassifier as F\n"
        "print(F(5, n_jobs=2).fit(a, [0, 1] * 50).score(a, [0, 1] * 50) > .7)\n"
        "import seaborn, matplotlib.pyplot as plt\n"
        "seaborn.histplot(d['b']); plt.savefig('s.png'); plt.close()\n"
        "import plotly.graph_objects as go\n"
        "print(len(go.Figure(go.Bar(y=[1])).to_html()) > 1000, "
        "open('s.png', 'rb').read(4)[1:])",
        "[\"(100,) (100, 100)\\n[1.0, 5.0]\\n1.0\\nTrue\\nTrue "
        "b'PNG'\\n\"]");
}

static void the_standard_library_works(void **state)
{
    (void)state;
    expect_program(
        LANGUAGE_PYTHON,
        "import sqlite3, asyncio, math, multiprocessing as mp, subprocess\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "async def talk():\n"
        "  p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)\n"
        "  s = await asyncio.start_unix_server("
        "lambda r, w: (w.write(b'yo'), w.close()), '/tmp/s')\n"
        "  r, w = await asyncio.open_unix_connection('/tmp/s')\n"
        "  print((await p.communicate())[0], await r.read()); s.close()\n"
        "if __name__ == '__main__':\n"
        "  c = sqlite3.connect('x.db'); c.execute('create table t(a)')\n"
        "  c.execute('pragma journal_mode=wal')\n"
        "  c.executemany('insert into t values (?)', [(i,) for i in "
        "range(100)])\n"
        "  c.commit(); print(c.execute('select sum(a) from t').fetchone())\n"
        "  asyncio.run(talk())\n"
        "  print(subprocess.getoutput('seq 3 | sort -r | head -1'))\n"
        "  with ThreadPoolExecutor(8) as e: "
        "print(sum(e.map(abs, range(100))))\n"
        "  for how in ('fork', 'spawn', 'forkserver'):\n"
        "    with mp.get_context(how).Pool(2) as p: "
        "print(p.map(math.sqrt, [4, 9]))\n"
        "  m = SharedMemory(create=True, size=99); m.close(); m.unlink()",
        "[\"(4950,)\\nb'hi\\\\n' b'yo'\\n3\\n4950\\n[2.0, 3.0]\\n[2.0, "
        "3.0]\\n[2.0, 3.0]\\n\"]");
}

static void node_and_the_shell_work(void **state)
{
    (void)state;
    expect_program(
        LANGUAGE_JAVASCRIPT,
        "const fs = require('fs'), cp = require('child_process'), z = "
        "require('zlib'), c = require('crypto');\n"
        "const {Worker} = require('worker_threads');\n"
        "fs.writeFileSync('a', 'b');\n"
        "console.log(fs.readFileSync('a', 'utf8'), "
        "c.createHash('sha256').update('x').digest('hex').slice(0, 8), "
        "cp.execSync('echo hi') + '', z.gunzipSync(z.gzipSync('z')) + '');\n"
        "new Worker(\"require('worker_threads').parentPort.postMessage(7)\", "
        "{eval: true}).on('message', (m) => console.log(m));",
        "[\"b 2d711642 hi\\n z\\n7\\n\"]");
    expect_program(
        LANGUAGE_BASH,
        "set -e; d=$(mktemp -d); cd $d; seq 100 > n; tar czf t.tgz n; mkdir o; "
        "tar xzf t.tgz -C o; cmp n o/n; dd if=/dev/zero of=z bs=1k count=9 "
        "2> /dev/null; cp -a o p; mv p r; sync; diff <(seq 3) <(seq 3); "
        "find . -type f | xargs -n1 -P2 md5sum | wc -l; flock n true; "
        "timeout 5 sort -r n | head -1; ulimit -n",
        "[\"5\\n99\\n1024\\n\"]");
}

/* ---- what the host is short of ---------------------------------------- */

/* A cgroup v1 of half a core, as a container may be in. "" if it cannot be. */
static void make_small_cgroup(char *path, size_t size)
{
    char file[300];

    snprintf(path, size, "/sys/fs/cgroup/cpu/capibox-test-%d", getpid());
    snprintf(file, sizeof(file), "%s/cpu.cfs_quota_us", path);
    if (mkdir(path, 0755) == 0 && io_write_file(file, "50000") == 0)
        return;
    rmdir(path);
    *path = '\0';
}

static _Noreturn void run_in_cgroup(const char *path)
{
    struct sandbox_run r;
    char file[300];

    snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    MUST0(io_write_file(file, "0"));
    MUST0(sandbox_run_open(NULL));
    sandbox_run_prepare(&r, LANGUAGE_BASH, "while :; do :; done");
    r.spec.limits.timeout_ms = 1000;
    sandbox_run_go(&r);
    if (r.o.verdict != VERDICT_TIMEOUT || r.o.usage.cpu_seconds > 0.75)
        sandbox_run_explain(&r);
    bool good = r.o.verdict == VERDICT_TIMEOUT && r.o.usage.cpu_seconds <= 0.75;
    sandbox_run_done(&r);
    sandbox_run_close(NULL);
    _exit(good ? 0 : 1);
}

/* TSan keeps a thread of its own in every process, and a process with threads
 * may not enter a new user namespace. */
#ifndef __SANITIZE_THREAD__
/* Root, but of a namespace that has one user id, as in a rootless container. */
static _Noreturn void run_as_small_root(uid_t uid, gid_t gid)
{
    struct sandbox_run r;
    char text[64];

    MUST0(unshare(CLONE_NEWUSER));
    MUST0(io_write_file("/proc/self/setgroups", "deny"));
    snprintf(text, sizeof(text), "0 %u 1", uid);
    MUST0(io_write_file("/proc/self/uid_map", text));
    snprintf(text, sizeof(text), "0 %u 1", gid);
    MUST0(io_write_file("/proc/self/gid_map", text));
    if (sandbox_run_open(NULL) < 0)
        _exit(2);
    sandbox_run_prepare(&r, LANGUAGE_BASH, "id -u; echo x > f; cat f");
    sandbox_run_go(&r);
    bool good =
        r.o.verdict == VERDICT_OK && strcmp(r.out, "[\"1000\\nx\\n\"]") == 0;
    if (!good)
        sandbox_run_explain(&r);
    sandbox_run_done(&r);
    sandbox_run_close(NULL);
    _exit(good ? 0 : 1);
}

static void root_with_few_user_ids_is_enough(void **state)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int status;

    (void)state;
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        run_as_small_root(uid, gid);
    MUST(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

#endif

static bool is_removed(void *path)
{
    return rmdir(path) == 0;
}

static void a_host_with_less_cpu_than_a_job_may_use_is_no_obstacle(void **state)
{
    char path[200];
    int status;

    (void)state;
    make_small_cgroup(path, sizeof(path));
    if (!*path) {
        print_message("SKIP: no cgroup v1 of its own for CPU here\n");
        return;
    }
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        run_in_cgroup(path);
    MUST(waitpid(pid, &status, 0) == pid);
    assert_true(wait_until(is_removed, path, LEFTOVER_MS));
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_host_with_less_cpu_than_a_job_may_use_is_no_obstacle),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(root_with_few_user_ids_is_enough),
#endif
        cmocka_unit_test(memory_that_is_no_process_own_counts),
        cmocka_unit_test(an_end_at_the_timeout_has_one_verdict),
        cmocka_unit_test(code_that_will_not_end_times_out),
        cmocka_unit_test(a_storm_of_forks_is_ended),
        cmocka_unit_test(system_calls_at_random_harm_nobody),
        cmocka_unit_test(only_honest_files_come_back),
        cmocka_unit_test(the_usual_packages_work),
        cmocka_unit_test(the_standard_library_works),
        cmocka_unit_test(node_and_the_shell_work),
        cmocka_unit_test(a_hung_sandboxd_can_be_killed_under_load),
        cmocka_unit_test(a_sandboxd_without_files_to_spare_keeps_its_sandboxes),
        cmocka_unit_test(fds_on_their_way_end_no_other_job),
    };

    alarm(ALARM_S);
    return cmocka_run_group_tests(tests, sandbox_run_open, sandbox_run_close);
}
