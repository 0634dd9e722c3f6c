/* Hostile programs through the local backend, named by what they try. Each must
 * end with the right verdict and leave the next job a sound sandbox. Runs as
 * root or as an ordinary user; what needs cgroups says SKIP. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
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
        int fd = link_job(&s->link);
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
    int fd = link_job(&s.link);
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

    sandbox_run_prepare(&hog, LANGUAGE_BASH, "echo on; sleep 1.5; echo end");
    MUST0(pthread_create(&first, NULL, go_thread, &hog));
    usleep(500000);
    for (int i = 0; i < MANY; i++) {
        sandbox_run_prepare(&runs[i], LANGUAGE_BASH, "sleep 0.5");
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
        cmocka_unit_test(memory_that_is_no_process_own_counts),
        cmocka_unit_test(a_hung_sandboxd_can_be_killed_under_load),
        cmocka_unit_test(a_sandboxd_without_files_to_spare_keeps_its_sandboxes),
        cmocka_unit_test(fds_on_their_way_end_no_other_job),
    };

    alarm(ALARM_S);
    return cmocka_run_group_tests(tests, sandbox_run_open, sandbox_run_close);
}
