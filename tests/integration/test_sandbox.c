/* The local backend against the real capibox-sandboxd: honest and hostile
 * code. Runs as root or as an ordinary user; what needs cgroups says SKIP. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/packages.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "worker/backend.h"

#define LEFTOVER_MS  3000
#define CONTROLLERS  4 /* of cgroup v1; on v2 one folder has them all */
#define WAITING_MAX  4
#define FADE_MS      15000 /* until there is little demand */
#define CGROUP_DEPTH 8

static struct settings settings;
static struct backend *backend;

/* One job, by hand; what matters is set by the tests. */
struct run {
    struct job job;
    struct template tpl;
    struct spec spec;
    struct outcome o;
    int rc;
    char *out, *err; /* JSON arrays */
};

static const char *const interpreters[LANGUAGE_COUNT] = {
    [LANGUAGE_PYTHON] = "/usr/bin/python3",
    [LANGUAGE_JAVASCRIPT] = "/usr/bin/node",
    [LANGUAGE_BASH] = "/bin/bash",
};

static void prepare(struct run *r, enum language language, const char *code)
{
    memset(r, 0, sizeof(*r));
    r->job.code = (char *)code;
    r->job.code_bytes = strlen(code);
    r->job.language = language;
    r->spec.tpl = &r->tpl;
    r->spec.language = language;
    r->spec.interpreter = interpreters[language];
    r->spec.limits = (struct template_limits){
        .timeout_ms = 20000,
        .memory_bytes = 256ll << 20,
        .cpu_percent = 200,
        .disk_bytes = 32ll << 20,
        .disk_inodes = 1024,
        .pids = 32,
        .output_bytes = 64 << 10,
    };
}

static char *text_of(struct capture *c)
{
    struct strbuf text = STRBUF_INIT;

    capture_to_json(c, &text);
    return strbuf_take(&text);
}

/* create, run, collect, destroy, as a worker does. */
static void go(struct run *r)
{
    struct sandbox *sandbox = NULL;

    MUST0(outcome_init(&r->o, (size_t)r->spec.limits.output_bytes));
    r->rc = backend_local.create(backend, &r->job, &r->spec, &sandbox, &r->o);
    if (r->rc == 0)
        r->rc = backend_local.run(sandbox, NULL, &r->o);
    if (r->rc == 0)
        r->rc = backend_local.collect(sandbox, &r->o);
    backend_local.destroy(sandbox, &r->o);
    r->out = text_of(&r->o.out);
    r->err = text_of(&r->o.err);
}

static void done(struct run *r)
{
    outcome_fini(&r->o);
    free(r->out);
    free(r->err);
}

static void explain(const struct run *r)
{
    print_error("rc %d verdict %s exit %d signal %d error %s\nout %.2000s\n"
                "err %.2000s\n",
                r->rc, verdict_name(r->o.verdict), r->o.exit_code, r->o.signal,
                r->o.error ? r->o.error : "-", r->out, r->err);
}

static void expect(struct run *r, enum verdict verdict, const char *out)
{
    bool as_expected = r->o.verdict == verdict && strcmp(r->out, out) == 0;

    if (!as_expected)
        explain(r);
    assert_true(as_expected);
}

static void expect_verdict(struct run *r, enum verdict verdict)
{
    if (r->o.verdict != verdict)
        explain(r);
    assert_string_equal(verdict_name(r->o.verdict), verdict_name(verdict));
}

/* Runs code and expects exactly this output and verdict. */
static void check(enum language language, const char *code,
                  enum verdict verdict, const char *out)
{
    struct run r;

    prepare(&r, language, code);
    go(&r);
    expect(&r, verdict, out);
    done(&r);
}

static bool in_cgroup(void)
{
    struct run r;

    prepare(&r, LANGUAGE_BASH, ":");
    go(&r);
    bool limited = strncmp(r.o.enforced.memory, "cgroup", 6) == 0;
    done(&r);
    if (!limited)
        print_message("SKIP: this process may make no cgroups\n");
    return limited;
}

/* ---- honest code ------------------------------------------------------ */

static void python_prints_and_returns_its_last_value(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON, "print('hello')\n6*7");
    go(&r);
    expect(&r, VERDICT_OK, "[\"hello\\n\"]");
    assert_int_equal(r.o.exit_code, 0);
    assert_true(r.o.sandbox_created && r.o.sandbox_destroyed);
    assert_true(r.o.code_started);
    assert_non_null(strstr(r.o.results.text, "\"text\":\"42\""));
    assert_null(r.o.error);
    done(&r);
}

static void bash_and_node_print(void **state)
{
    (void)state;
    check(LANGUAGE_BASH, "echo hello", VERDICT_OK, "[\"hello\\n\"]");
    check(LANGUAGE_JAVASCRIPT, "console.log('hello')", VERDICT_OK,
          "[\"hello\\n\"]");
}

static void the_cost_of_a_run_is_measured(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON,
            "b = bytearray(50 << 20)\nfor i in range(3000000): pass");
    go(&r);
    expect_verdict(&r, VERDICT_OK);
    assert_true(r.o.usage.cpu_seconds > 0.02);
    assert_true(r.o.usage.peak_memory_mb > 50);
    assert_true(r.o.timings.run > 0.02 && r.o.timings.create > 0);
    done(&r);
}

static void an_uncaught_error_is_the_users(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON, "print('a')\nraise ValueError('no')");
    go(&r);
    expect(&r, VERDICT_USER_ERROR, "[\"a\\n\"]");
    assert_string_equal(r.o.error_name, "ValueError");
    assert_string_equal(r.o.error, "ValueError: no");
    assert_int_equal(r.o.exit_code, 1);
    done(&r);
}

static void exit_codes_and_signals_are_told_apart(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH, "exit 7");
    go(&r);
    expect_verdict(&r, VERDICT_USER_ERROR);
    assert_int_equal(r.o.exit_code, 7);
    done(&r);
    prepare(&r, LANGUAGE_PYTHON, "import os; os.abort()");
    go(&r);
    expect_verdict(&r, VERDICT_SIGNAL);
    assert_int_equal(r.o.signal, SIGABRT);
    assert_int_equal(r.o.exit_code, -1);
    done(&r);
    prepare(&r, LANGUAGE_BASH, "kill -9 $$");
    go(&r);
    expect_verdict(&r, VERDICT_SIGNAL);
    assert_int_equal(r.o.signal, SIGKILL);
    done(&r);
    prepare(&r, LANGUAGE_BASH, "kill -9 1; kill -9 -1; echo alive");
    go(&r);
    expect(&r, VERDICT_OK, "[\"alive\\n\"]");
    done(&r);
}

static void stdin_is_given_or_empty(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH, "cat; echo end");
    r.job.stdin_text = (char *)"a\nb\n";
    r.job.stdin_bytes = 4;
    go(&r);
    expect(&r, VERDICT_OK, "[\"a\\nb\\nend\\n\"]");
    done(&r);
    check(LANGUAGE_BASH, "cat; echo end", VERDICT_OK, "[\"end\\n\"]");
}

static void stdin_that_nobody_reads_blocks_nothing(void **state)
{
    size_t size = 4 << 20;
    char *text = malloc(size);
    struct run r;

    (void)state;
    MUST(text);
    memset(text, 'x', size);
    prepare(&r, LANGUAGE_BASH, "echo done");
    r.job.stdin_text = text;
    r.job.stdin_bytes = size;
    go(&r);
    expect(&r, VERDICT_OK, "[\"done\\n\"]");
    done(&r);
    prepare(&r, LANGUAGE_BASH, "wc -c");
    r.job.stdin_text = text;
    r.job.stdin_bytes = size;
    go(&r);
    expect(&r, VERDICT_OK, "[\"4194304\\n\"]");
    done(&r);
    free(text);
}

static void files_args_and_env_arrive_literally(void **state)
{
    struct job_file files[] = {
        {(char *)"a.txt", (unsigned char *)"A", 1},
        {(char *)"d/e/b c.txt", (unsigned char *)"B\n", 2},
    };
    struct job_pair env[] = {{(char *)"X", (char *)"$(id) 'q' \"\n"},
                             {(char *)"HOME", (char *)"/tmp"}};
    char *args[] = {(char *)"one two", (char *)"$HOME", (char *)"", NULL};
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH,
            "cat a.txt 'd/e/b c.txt'; printf '[%s]' \"$@\" \"$X\" $HOME $PWD");
    r.job.files = files;
    r.job.nfiles = 2;
    r.job.env = env;
    r.job.nenv = 2;
    r.job.args = args;
    go(&r);
    expect(&r, VERDICT_OK,
           "[\"AB\\n[one two][$HOME][][$(id) 'q' \\\"\\n][/tmp]"
           "[/home/user]\"]");
    done(&r);
}

static void named_files_come_back(void **state)
{
    char *globs[] = {(char *)"*.txt", (char *)"sub/x.bin", NULL};
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH,
            "echo -n hey > a.txt; mkdir sub; echo -n 1 > sub/x.bin; "
            "ln -s /etc/passwd b.txt; chmod 0 a.txt");
    r.job.output_files = globs;
    go(&r);
    expect_verdict(&r, VERDICT_OK);
    assert_non_null(strstr(r.o.files.text, "\"path\":\"a.txt\",\"size\":3"));
    assert_non_null(strstr(r.o.files.text, "sub/x.bin"));
    assert_null(strstr(r.o.files.text, "cm9vd")); /* "root" of a passwd */
    done(&r);
}

/* ---- limits ----------------------------------------------------------- */

static void a_timeout_keeps_what_was_printed(void **state)
{
    struct run r;

    (void)state;
    /* Some time is enough for a slow start of python. */
    for (int64_t ms = 1500;; ms *= 2) {
        prepare(&r, LANGUAGE_PYTHON,
                "import signal, time\nfor s in (1, 2, 15, 24): "
                "signal.signal(s, signal.SIG_IGN)\nprint('a')\n"
                "while True: time.sleep(1)");
        r.spec.limits.timeout_ms = ms;
        go(&r);
        if (ms >= 6000 || strcmp(r.out, "[]") != 0)
            break;
        done(&r);
    }
    expect(&r, VERDICT_TIMEOUT, "[\"a\\n\"]");
    double limit = (double)r.spec.limits.timeout_ms / 1000;
    assert_true(r.o.timings.run > limit - 0.01 &&
                r.o.timings.run < limit + 2.5);
    done(&r);
}

static void busy_stopped_and_detached_code_times_out(void **state)
{
    static const char *const codes[] = {
        "while :; do :; done",
        "kill -STOP $$",
        "mkfifo f; cat f",
        "setsid sleep 100 >/dev/null 2>&1 & sleep 100",
    };
    struct run r;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        prepare(&r, LANGUAGE_BASH, codes[i]);
        r.spec.limits.timeout_ms = 300;
        go(&r);
        expect_verdict(&r, VERDICT_TIMEOUT);
        done(&r);
    }
}

static void a_daemon_dies_with_the_main_program(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH,
            "setsid nohup sleep 100 >/dev/null 2>&1 </dev/null & echo ok");
    go(&r);
    expect(&r, VERDICT_OK, "[\"ok\\n\"]");
    assert_true(r.o.timings.run < 5);
    done(&r);
    /* Also one that holds the output open. */
    prepare(&r, LANGUAGE_BASH, "sleep 100 & echo ok");
    go(&r);
    expect(&r, VERDICT_OK, "[\"ok\\n\"]");
    done(&r);
}

static void too_much_memory_is_oom_and_not_a_crash(void **state)
{
    struct run r;

    (void)state;
    if (!in_cgroup())
        return;
    prepare(&r, LANGUAGE_PYTHON,
            "print('start')\nx = []\nwhile True: x.append(bytearray(1 << 20))");
    r.spec.limits.memory_bytes = 64 << 20;
    go(&r);
    expect(&r, VERDICT_OOM, "[\"start\\n\"]");
    assert_true(r.o.usage.peak_memory_mb <= 65);
    done(&r);
}

static void a_child_that_runs_out_of_memory_is_oom_too(void **state)
{
    struct run r;

    (void)state;
    if (!in_cgroup())
        return;
    prepare(&r, LANGUAGE_PYTHON,
            "import subprocess, sys, time\n"
            "subprocess.run([sys.executable, '-c', 'x=[]\\nwhile 1: "
            "x.append(bytearray(1<<20))'])\nprint('survived')\ntime.sleep(9)");
    r.spec.limits.memory_bytes = 64 << 20;
    go(&r);
    expect_verdict(&r, VERDICT_OOM);
    assert_true(r.o.timings.run < 8);
    done(&r);
}

static void an_impossible_allocation_is_the_users_error(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON, "bytearray(1 << 46)");
    go(&r);
    expect_verdict(&r, VERDICT_USER_ERROR);
    assert_string_equal(r.o.error_name, "MemoryError");
    done(&r);
}

static void a_fork_bomb_meets_its_limit(void **state)
{
    struct run r;

    (void)state;
    if (!in_cgroup())
        return;
    prepare(&r, LANGUAGE_BASH, ":(){ :|:& };: ; sleep 60");
    r.spec.limits.timeout_ms = 1500;
    go(&r);
    expect_verdict(&r, VERDICT_PIDS_LIMIT);
    done(&r);
    prepare(&r, LANGUAGE_PYTHON,
            "import os, time\nfor i in range(100):\n  if os.fork() == 0: "
            "time.sleep(60)");
    go(&r);
    expect_verdict(&r, VERDICT_PIDS_LIMIT);
    assert_true(r.o.usage.peak_processes <= r.spec.limits.pids);
    done(&r);
}

static void a_full_disk_is_named(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH,
            "head -c 100M /dev/zero > /tmp/big || { echo full; exit 1; }");
    go(&r);
    expect(&r, VERDICT_DISK_LIMIT, "[\"full\\n\"]");
    done(&r);
    prepare(&r, LANGUAGE_PYTHON,
            "for i in range(5000): open(f'/home/user/{i}', 'w').close()");
    go(&r);
    expect_verdict(&r, VERDICT_DISK_LIMIT);
    done(&r);
    /* /dev/shm is the same disk. */
    prepare(&r, LANGUAGE_BASH, "head -c 100M /dev/zero > /dev/shm/big");
    go(&r);
    expect_verdict(&r, VERDICT_DISK_LIMIT);
    done(&r);
}

static void a_flood_is_cut_and_ended(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH, "echo start; exec yes");
    go(&r);
    expect_verdict(&r, VERDICT_OUTPUT_LIMIT);
    assert_true(r.o.out.dropped > 0);
    assert_int_equal(strncmp(r.out, "[\"start\\n", 9), 0);
    assert_true(r.o.timings.run < 10);
    done(&r);
    /* Some more than the limit is only cut. */
    prepare(&r, LANGUAGE_BASH, "head -c 100000 /dev/zero | tr '\\0' x >&2");
    go(&r);
    expect_verdict(&r, VERDICT_OK);
    assert_int_equal(r.o.err.total, 100000);
    assert_true(r.o.err.dropped > 0);
    done(&r);
}

static void cpu_is_shared_as_told(void **state)
{
    struct run r;

    (void)state;
    if (!in_cgroup())
        return;
    prepare(&r, LANGUAGE_BASH, "while :; do :; done");
    r.spec.limits.timeout_ms = 1000;
    r.spec.limits.cpu_percent = 20;
    go(&r);
    expect_verdict(&r, VERDICT_TIMEOUT);
    assert_true(r.o.usage.cpu_seconds < 0.45);
    done(&r);
}

/* ---- what a sandbox cannot do ----------------------------------------- */

static void there_is_no_network(void **state)
{
    (void)state;
    check(LANGUAGE_PYTHON,
          "import socket\n"
          "for to in ('1.1.1.1', '127.0.0.1', '169.254.169.254'):\n"
          "  try: socket.create_connection((to, 80), 1); print('open')\n"
          "  except OSError as e: print(e.errno)\n"
          "try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\n"
          "except OSError as e: print(e.errno)\n",
          VERDICT_OK, "[\"101\\n101\\n101\\n97\\n\"]");
}

static void network_that_is_asked_for_is_rejected(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_BASH, "echo x");
    r.spec.limits.network = true;
    go(&r);
    expect(&r, VERDICT_REJECTED, "[]");
    assert_int_equal(r.rc, 0);
    assert_false(r.o.sandbox_created);
    assert_non_null(strstr(r.o.error, "requirements.network"));
    done(&r);
}

static void nothing_of_the_host_is_there(void **state)
{
    (void)state;
    check(LANGUAGE_BASH,
          "for f in /etc/shadow /root /sys /home/* /var/* /run/* /work /boot "
          "/proc/sys /proc/meminfo /proc/kcore; do [ -e $f ] && echo $f; done; "
          "set -- /proc/[0-9]*; [ ! -e /proc/1/fd/0 ] && echo few; cat "
          "/proc/1/environ "
          "2>&1; "
          "hostname; whoami",
          VERDICT_OK,
          "[\"/home/user\\n/var/tmp\\n/run/capibox\\n/run/capibox-runtime\\n/"
          "run/lock\\nfew\\n"
          "cat: /proc/1/environ: No such file or directory\\nsandbox\\n"
          "user\\n\"]");
}

static void only_four_descriptors_are_open(void **state)
{
    (void)state;
    check(LANGUAGE_PYTHON,
          "import os\nfds = sorted(map(int, os.listdir('/proc/self/fd')))[:-1]"
          "\nprint(fds, [os.readlink(f'/proc/self/fd/{f}')[:5] for f in fds])\n"
          "print('CAPIBOX_RESULT_FD' in os.environ)",
          VERDICT_OK,
          "[\"[0, 1, 2, 3] ['pipe:', 'pipe:', 'pipe:', 'pipe:']\\n"
          "False\\n\"]");
}

static void only_its_own_folders_can_be_written(void **state)
{
    (void)state;
    check(LANGUAGE_BASH,
          "for d in / /usr /etc /run /run/capibox /dev /proc /var "
          "/usr/lib/python3 /home /opt /etc/alternatives; do "
          "touch $d/x 2>/dev/null && echo $d; done; "
          "touch /home/user/x /tmp/x /dev/shm/x /var/tmp/y && echo ok; "
          "echo x > /run/capibox/main.sh; echo 0 > /proc/self/oom_score_adj; "
          "cat /proc/self/oom_score_adj",
          VERDICT_OK, "[\"ok\\n1000\\n\"]");
}

static void no_right_is_left_and_none_comes_back(void **state)
{
    (void)state;
    check(LANGUAGE_BASH,
          "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d "
          "'\\t' | sort -u | cut -d: -f2 | tr '\\n' ' '; ulimit -c; ulimit -l; "
          "id -u; id -G; su -c id 2>/dev/null; mount 2>&1 | grep -c "
          "'(rw' ",
          VERDICT_OK,
          "[\"0000000000000000 0000000000000000 0000000000000000 "
          "0000000000000000 0000000000000000 1 2 0\\n0\\n1000\\n1000\\n"
          "3\\n\"]");
}

static void namespaces_mounts_and_tracing_are_refused(void **state)
{
    (void)state;
    check(LANGUAGE_PYTHON,
          "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
          "def t(n, *a):\n  r = c.syscall(n, *a); "
          "print(n, ctypes.get_errno() if r < 0 else 'DONE')\n"
          "t(272, 0x10000000)\n"            /* unshare(NEWUSER) */
          "t(56, 0x10000011, 0, 0, 0, 0)\n" /* clone(NEWUSER) */
          "t(435, 0, 0)\n"                  /* clone3 */
          "t(165, 0, 0, 0, 0, 0)\n"         /* mount */
          "t(101, 0, 0, 0, 0)\n"            /* ptrace(TRACEME) */
          "t(308, 0, 0)\n"                  /* setns */
          "t(425, 1, 0)\n"                  /* io_uring_setup */
          "t(321, 0, 0, 0)\n"               /* bpf */
          "t(161, b'/')\n"                  /* chroot */
          "t(9999)\n",
          VERDICT_OK,
          "[\"272 1\\n56 1\\n435 38\\n165 1\\n101 1\\n308 1\\n425 38\\n321 1"
          "\\n161 1\\n9999 38\\n\"]");
}

static void a_foreign_system_call_table_kills(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON,
            "import ctypes, mmap\n"
            "m = mmap.mmap(-1, 4096, prot=7)\n"
            "m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
            "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
            "print('go')\nctypes.CFUNCTYPE(ctypes.c_int)(a)()\nprint('after')");
    go(&r);
    expect(&r, VERDICT_DENIED_SYSCALL, "[\"go\\n\"]");
    assert_int_equal(r.o.signal, SIGSYS);
    done(&r);
}

static void nothing_stays_for_the_next_job(void **state)
{
    (void)state;
    check(LANGUAGE_BASH, "echo x | tee /tmp/l /var/tmp/l2 /dev/shm/l ~/l",
          VERDICT_OK, "[\"x\\n\"]");
    check(LANGUAGE_BASH, "find /tmp /var/tmp/ /dev/shm ~ -type f | wc -l",
          VERDICT_OK, "[\"0\\n\"]");
}

/* ---- our own failures ------------------------------------------------- */

static void a_missing_interpreter_is_named(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON, "1");
    r.spec.interpreter = "/usr/bin/python9";
    go(&r);
    expect_verdict(&r, VERDICT_SETUP_FAILED);
    assert_true(r.rc < 0);
    assert_false(r.o.code_started);
    assert_non_null(strstr(r.o.error, "/usr/bin/python9"));
    done(&r);
}

/* A virtual environment of a template's own. */
static void an_interpreter_outside_usr_is_shown_with_its_tree(void **state)
{
    struct run r;

    (void)state;
    if (system("test -w /opt && mkdir -p /opt/capibox-test/v/bin && "
               "ln -sf /usr/bin/python3 /opt/capibox-test/v/bin/python && "
               "echo home = /usr/bin > /opt/capibox-test/v/pyvenv.cfg") != 0) {
        print_message("SKIP: /opt is not writable\n");
        return;
    }
    prepare(&r, LANGUAGE_PYTHON,
            "import sys, os; print(sys.prefix, os.listdir('/opt/capibox-test'),"
            " os.access('/opt/capibox-test/v', os.W_OK))");
    r.spec.interpreter = "/opt/capibox-test/v/bin/python";
    go(&r);
    MUST0(system("rm -rf /opt/capibox-test"));
    expect(&r, VERDICT_OK, "[\"/opt/capibox-test/v ['v'] False\\n\"]");
    done(&r);
}

static void hostile_file_names_end_the_setup(void **state)
{
    static const char *const names[] = {"../x", "a/../../x", "/x",
                                        ".",    "a//b",      ""};
    struct run r;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct job_file file = {(char *)names[i], (unsigned char *)"x", 1};

        prepare(&r, LANGUAGE_BASH, ":");
        r.job.files = &file;
        r.job.nfiles = 1;
        go(&r);
        expect_verdict(&r, VERDICT_SETUP_FAILED);
        assert_true(r.rc < 0);
        done(&r);
    }
}

static void too_little_memory_fails_with_a_word(void **state)
{
    struct run r;

    (void)state;
    if (!in_cgroup())
        return;
    prepare(&r, LANGUAGE_PYTHON, "print(1)");
    r.spec.limits.memory_bytes = 1 << 20;
    go(&r);
    if (r.o.verdict != VERDICT_OOM && r.o.verdict != VERDICT_SETUP_FAILED)
        explain(&r);
    assert_true(r.o.verdict == VERDICT_OOM ||
                r.o.verdict == VERDICT_SETUP_FAILED);
    assert_non_null(r.o.error);
    done(&r);
}

/* ---- packages ---------------------------------------------------------- */

#define NOWHERE "capibox_nowhere"

/* A template whose Python lacks one of its packages, and one without any. */
struct shelf {
    struct template lacks, bare;
    struct template *order[2];
    struct template_set set;
};

static void stock(struct shelf *s)
{
    static const char *packages[] = {"json", NOWHERE, NULL};
    struct template_runtime python = {LANGUAGE_PYTHON,
                                      (char *)interpreters[LANGUAGE_PYTHON]};

    memset(s, 0, sizeof(*s));
    strcpy(s->lacks.id, "lacks");
    strcpy(s->bare.id, "bare");
    s->lacks.packages = (char **)packages;
    s->lacks.runtimes[0] = s->bare.runtimes[0] = python;
    s->lacks.nruntimes = s->bare.nruntimes = 1;
    s->order[0] = &s->bare;
    s->order[1] = &s->lacks;
    s->set.items = s->order;
    s->set.count = 2;
    MUST0(packages_probe(&s->set, NULL, NULL));
}

static void go_with(struct run *r, const struct shelf *s,
                    const struct template *tpl, const char *code,
                    const char **more)
{
    prepare(r, LANGUAGE_PYTHON, code);
    strcpy(r->spec.template_used, tpl->id);
    r->spec.tpl = tpl;
    r->spec.packages = tpl->packages;
    r->spec.more_packages = (char **)more;
    r->spec.installed = s->set.packages;
    go(r);
}

static void a_missing_package_not_imported_is_a_warning(void **state)
{
    static const char *more[] = {"json", "capibox-elsewhere", NULL};
    struct shelf s;
    struct run r;

    (void)state;
    stock(&s);
    go_with(&r, &s, &s.lacks, "print(1) # import " NOWHERE, more);
    expect(&r, VERDICT_OK, "[\"1\\n\"]");
    assert_int_equal(r.o.nwarnings, 2);
    assert_string_equal(r.o.warnings[0],
                        "package " NOWHERE " is listed by template lacks but "
                        "not installed for /usr/bin/python3");
    assert_string_equal(
        r.o.warnings[1],
        "requirements.packages: capibox-elsewhere is not installed for "
        "/usr/bin/python3 (template lacks); templates that have it: none");
    done(&r);
    packages_destroy(s.set.packages);
}

/* Whether the template or the job lists it, or just another template does. */
static void a_missing_package_imported_is_named_in_the_error(void **state)
{
    static const char *more[] = {NOWHERE, NULL};
    char expected[300];
    struct shelf s;
    struct run r;

    (void)state;
    stock(&s);
    for (int i = 0; i < 3; i++) {
        const struct template *tpl = i == 0 ? &s.lacks : &s.bare;

        snprintf(expected, sizeof(expected),
                 "No module named '" NOWHERE "'. " NOWHERE
                 " is not installed for /usr/bin/python3 (template %s); "
                 "templates that have it: none",
                 tpl->id);
        go_with(&r, &s, tpl, "import " NOWHERE ".sub", i == 1 ? more : NULL);
        expect_verdict(&r, VERDICT_USER_ERROR);
        assert_string_equal(r.o.error_name, "ModuleNotFoundError");
        assert_string_equal(r.o.error_value, expected);
        assert_int_equal(r.o.nwarnings, 0);
        done(&r);
    }
    packages_destroy(s.set.packages);
}

static void other_import_errors_get_no_hint(void **state)
{
    struct shelf s;
    struct run r;

    (void)state;
    stock(&s);
    go_with(&r, &s, &s.lacks, "import capibox_unheard_of", NULL);
    expect_verdict(&r, VERDICT_USER_ERROR);
    assert_string_equal(r.o.error_value,
                        "No module named 'capibox_unheard_of'");
    done(&r);
    go_with(&r, &s, &s.lacks, "from json import " NOWHERE, NULL);
    expect_verdict(&r, VERDICT_USER_ERROR);
    assert_null(strstr(r.o.error_value, "templates"));
    done(&r);
    /* What was asked for and is caught is no error. */
    go_with(&r, &s, &s.lacks,
            "try: import " NOWHERE "\nexcept ImportError: print('none')", NULL);
    expect(&r, VERDICT_OK, "[\"none\\n\"]");
    assert_int_equal(r.o.nwarnings, 0);
    done(&r);
    packages_destroy(s.set.packages);
}

/* ---- from other threads ----------------------------------------------- */

static void *go_thread(void *arg)
{
    go(arg);
    return NULL;
}

/* The process that is our child and runs capibox-sandboxd. */
static pid_t find_sandboxd(pid_t parent)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0;

    for (const struct dirent *e; proc && (e = readdir(proc));) {
        char path[300];
        char *text;
        int ppid = 0;
        char name[32] = "";

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

static void twenty_run_side_by_side(void **state)
{
    enum { MANY = 20 };
    static struct run runs[MANY];
    pthread_t threads[MANY];
    pid_t sandboxd = find_sandboxd(getpid());

    (void)state;
    for (int i = 0; i < MANY; i++) {
        prepare(&runs[i], LANGUAGE_BASH, "echo $$; sleep 0.2; echo end");
        MUST0(pthread_create(&threads[i], NULL, go_thread, &runs[i]));
    }
    for (int i = 0; i < MANY; i++) {
        MUST0(pthread_join(threads[i], NULL));
        expect(&runs[i], VERDICT_OK, "[\"2\\nend\\n\"]");
        done(&runs[i]);
    }
    assert_int_equal(find_sandboxd(getpid()), sandboxd); /* it never died */
}

struct interrupted {
    struct run *run;
    enum verdict why;
    struct sandbox *sandbox;
};

static void interrupt_at_first_output(void *ctx, bool is_stderr,
                                      const char *data, size_t size)
{
    const struct interrupted *i = ctx;

    (void)is_stderr, (void)data, (void)size;
    backend_local.interrupt(i->sandbox, i->why);
}

static void run_interrupted(struct run *r, enum verdict why)
{
    struct interrupted i = {.run = r, .why = why};
    struct run_sink sink = {interrupt_at_first_output, &i};

    prepare(r, LANGUAGE_BASH, "echo on; sleep 60");
    MUST0(outcome_init(&r->o, 1000));
    MUST0(backend_local.create(backend, &r->job, &r->spec, &i.sandbox, &r->o));
    r->rc = backend_local.run(i.sandbox, &sink, &r->o);
    backend_local.destroy(i.sandbox, &r->o);
    r->out = text_of(&r->o.out);
    r->err = text_of(&r->o.err);
}

static void an_interrupted_run_is_cancelled_or_given_up(void **state)
{
    struct run r;

    (void)state;
    run_interrupted(&r, VERDICT_CANCELLED);
    expect(&r, VERDICT_CANCELLED, "[\"on\\n\"]");
    assert_int_equal(r.rc, 0);
    done(&r);
    run_interrupted(&r, VERDICT_NONE);
    expect(&r, VERDICT_NONE, "[\"on\\n\"]");
    assert_int_equal(r.rc, -ECANCELED);
    done(&r);
}

static void kill_all_ends_every_run_until_resume(void **state)
{
    struct run r, next;
    pthread_t thread;

    (void)state;
    prepare(&r, LANGUAGE_BASH, "sleep 60");
    MUST0(pthread_create(&thread, NULL, go_thread, &r));
    usleep(300000); /* anywhere between create and run is a good moment */
    assert_int_equal(backend_local.kill_all(backend, clock_ms() + 5000), 0);
    prepare(&next, LANGUAGE_BASH, "echo x");
    go(&next);
    assert_int_equal(next.rc, -ECANCELED);
    done(&next);
    MUST0(pthread_join(thread, NULL));
    assert_int_equal(r.rc, -ECANCELED);
    expect_verdict(&r, VERDICT_NONE);
    done(&r);
    backend_local.resume(backend);
    check(LANGUAGE_BASH, "echo x", VERDICT_OK, "[\"x\\n\"]");
}

/* ---- what is left ----------------------------------------------------- */

/* A program that looks like nothing else here, to be found in /proc. */
/* A sleeper that can be told from those of another run of this program. */
static char mark[48], marked_code[96];

static void make_mark(void)
{
    snprintf(mark, sizeof(mark), "capibox-test-mark-%d-", getpid());
    snprintf(marked_code, sizeof(marked_code),
             "bash -c 'sleep 61; : %s' & wait", mark);
}

static int count_processes(void)
{
    DIR *proc = opendir("/proc");
    int count = 0;

    for (const struct dirent *e; proc && (e = readdir(proc));) {
        char path[300], text[4096];
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : io_read_full(fd, text, sizeof(text));
        if (fd >= 0)
            close(fd);
        count += got > 0 && memmem(text, (size_t)got, mark, strlen(mark));
    }
    closedir(proc);
    return count;
}

static bool mark_is_gone(void *ctx)
{
    (void)ctx;
    return count_processes() == 0;
}

static bool mark_is_there(void *ctx)
{
    (void)ctx;
    return count_processes() > 0;
}

/* Cgroups whose name starts so, below one whose path holds `within`. */
static int count_cgroups(const char *prefix, const char *within,
                         const char *dir, int depth)
{
    DIR *d = depth > 0 ? opendir(dir) : NULL;
    int count = 0;

    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[1024];

        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        count += strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
                 strstr(dir, within);
        snprintf(path, sizeof(path), "%.700s/%.255s", dir, e->d_name);
        count += count_cgroups(prefix, within, path, depth - 1);
    }
    if (d)
        closedir(d);
    return count;
}

static void a_killed_sandboxd_takes_its_sandboxes_along(void **state)
{
    struct run r;
    pthread_t thread;
    char folder[32];

    (void)state;
    prepare(&r, LANGUAGE_BASH, marked_code);
    MUST0(pthread_create(&thread, NULL, go_thread, &r));
    assert_true(wait_until(mark_is_there, NULL, 20000));
    pid_t sandboxd = find_sandboxd(getpid());
    snprintf(folder, sizeof(folder), "capibox-%d-", sandboxd);
    MUST0(kill(sandboxd, SIGKILL));
    MUST0(pthread_join(thread, NULL));
    expect_verdict(&r, VERDICT_BACKEND_ERROR);
    assert_true(r.rc < 0);
    done(&r);
    assert_true(wait_until(mark_is_gone, NULL, LEFTOVER_MS));
    /* The next job gets a new one, which tidies up after the dead one. */
    check(LANGUAGE_BASH, "echo x", VERDICT_OK, "[\"x\\n\"]");
    assert_int_equal(count_cgroups(folder, "", "/sys/fs/cgroup", CGROUP_DEPTH),
                     0);
}

static void kill_all_needs_no_sandboxd_that_answers(void **state)
{
    struct run r;
    pthread_t thread;

    (void)state;
    prepare(&r, LANGUAGE_BASH, marked_code);
    MUST0(pthread_create(&thread, NULL, go_thread, &r));
    assert_true(wait_until(mark_is_there, NULL, 20000));
    MUST0(kill(find_sandboxd(getpid()), SIGSTOP));
    assert_int_equal(backend_local.kill_all(backend, clock_ms() + 2000), 0);
    MUST0(pthread_join(thread, NULL));
    assert_int_equal(r.rc, -ECANCELED);
    expect_verdict(&r, VERDICT_NONE);
    done(&r);
    assert_true(wait_until(mark_is_gone, NULL, LEFTOVER_MS));
    backend_local.resume(backend);
    check(LANGUAGE_BASH, "echo x", VERDICT_OK, "[\"x\\n\"]");
}

static void a_hung_sandboxd_cannot_keep_code_running(void **state)
{
    struct run r;
    pthread_t thread;
    pid_t sandboxd;

    (void)state;
    prepare(&r, LANGUAGE_BASH, marked_code);
    r.spec.limits.timeout_ms = 3000;
    MUST0(pthread_create(&thread, NULL, go_thread, &r));
    assert_true(wait_until(mark_is_there, NULL, 20000));
    sandboxd = find_sandboxd(getpid());
    MUST0(kill(sandboxd, SIGSTOP));
    /* The sandbox's own init has a clock, too. */
    assert_true(wait_until(mark_is_gone, NULL, 10000));
    MUST0(kill(sandboxd, SIGCONT));
    MUST0(pthread_join(thread, NULL));
    expect_verdict(&r, VERDICT_TIMEOUT);
    done(&r);
}

static void a_flood_of_results_is_ended(void **state)
{
    struct run r;

    (void)state;
    prepare(&r, LANGUAGE_PYTHON,
            "import os\nwhile True: os.write(3, b'R\\xff\\xff\\0\\0' * 9999)");
    go(&r);
    expect_verdict(&r, VERDICT_OUTPUT_LIMIT);
    assert_int_equal(r.o.nresults, 0);
    done(&r);
}

/* A worker of its own that is killed while its sandbox runs. */
static pid_t start_worker(void)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    struct run r;
    struct complaint why;

    backend = NULL;
    MUST0(backend_local.open(&settings, &backend, &why));
    prepare(&r, LANGUAGE_BASH, marked_code);
    go(&r);
    _exit(0);
}

static bool is_dead(void *ctx)
{
    return kill(*(pid_t *)ctx, 0) < 0 && errno == ESRCH;
}

static void a_killed_worker_leaves_nothing(void **state)
{
    pid_t worker = start_worker();
    pid_t sandboxd;

    (void)state;
    assert_true(wait_until(mark_is_there, NULL, 10000));
    sandboxd = find_sandboxd(worker);
    assert_true(sandboxd > 0);
    MUST0(kill(worker, SIGKILL));
    MUST(waitpid(worker, NULL, 0) == worker);
    assert_true(wait_until(mark_is_gone, NULL, LEFTOVER_MS));
    assert_true(wait_until(is_dead, &sandboxd, LEFTOVER_MS));
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    while (dir && readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* The sandboxes that wait for the next job have theirs: fewer than have run. */
static bool no_cgroup_is_left(void *ctx)
{
    return count_cgroups("local-", ctx, "/sys/fs/cgroup", CGROUP_DEPTH) <=
           CONTROLLERS * WAITING_MAX;
}

static void nothing_is_left_after_many_runs(void **state)
{
    char folder[32];
    pid_t sandboxd;
    int before;

    (void)state;
    check(LANGUAGE_BASH, ":", VERDICT_OK, "[]");
    sandboxd = find_sandboxd(getpid());
    before = count_fds();
    for (int i = 0; i < 20; i++)
        check(LANGUAGE_BASH, "sleep 1 &", VERDICT_OK, "[]");
    assert_int_equal(count_fds(), before);
    snprintf(folder, sizeof(folder), "/capibox-%d-", sandboxd);
    assert_true(wait_until(no_cgroup_is_left, folder, FADE_MS));
    assert_int_equal(find_sandboxd(getpid()), sandboxd); /* it never died */
}

static int open_backend(void **state)
{
    struct complaint why = {0};

    (void)state;
    make_mark();
    setenv("CAPIBOX_SANDBOXD", proc_program("capibox-sandboxd"), 1);
    if (settings_init(&settings) < 0)
        return -1;
    settings.allow_degraded = true;
    if (backend_local.open(&settings, &backend, &why) < 0) {
        print_error("%s: %s\n", why.field, why.text);
        return -1;
    }
    return 0;
}

static int close_backend(void **state)
{
    (void)state;
    backend_local.close(backend);
    settings_fini(&settings);
    return find_sandboxd(getpid()) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_prints_and_returns_its_last_value),
        cmocka_unit_test(bash_and_node_print),
        cmocka_unit_test(the_cost_of_a_run_is_measured),
        cmocka_unit_test(an_uncaught_error_is_the_users),
        cmocka_unit_test(exit_codes_and_signals_are_told_apart),
        cmocka_unit_test(stdin_is_given_or_empty),
        cmocka_unit_test(stdin_that_nobody_reads_blocks_nothing),
        cmocka_unit_test(files_args_and_env_arrive_literally),
        cmocka_unit_test(named_files_come_back),
        cmocka_unit_test(a_timeout_keeps_what_was_printed),
        cmocka_unit_test(busy_stopped_and_detached_code_times_out),
        cmocka_unit_test(a_daemon_dies_with_the_main_program),
        cmocka_unit_test(too_much_memory_is_oom_and_not_a_crash),
        cmocka_unit_test(a_child_that_runs_out_of_memory_is_oom_too),
        cmocka_unit_test(an_impossible_allocation_is_the_users_error),
        cmocka_unit_test(a_fork_bomb_meets_its_limit),
        cmocka_unit_test(a_full_disk_is_named),
        cmocka_unit_test(a_flood_is_cut_and_ended),
        cmocka_unit_test(cpu_is_shared_as_told),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(network_that_is_asked_for_is_rejected),
        cmocka_unit_test(nothing_of_the_host_is_there),
        cmocka_unit_test(only_four_descriptors_are_open),
        cmocka_unit_test(only_its_own_folders_can_be_written),
        cmocka_unit_test(no_right_is_left_and_none_comes_back),
        cmocka_unit_test(namespaces_mounts_and_tracing_are_refused),
        cmocka_unit_test(a_foreign_system_call_table_kills),
        cmocka_unit_test(nothing_stays_for_the_next_job),
        cmocka_unit_test(a_missing_interpreter_is_named),
        cmocka_unit_test(an_interpreter_outside_usr_is_shown_with_its_tree),
        cmocka_unit_test(hostile_file_names_end_the_setup),
        cmocka_unit_test(too_little_memory_fails_with_a_word),
        cmocka_unit_test(a_missing_package_not_imported_is_a_warning),
        cmocka_unit_test(a_missing_package_imported_is_named_in_the_error),
        cmocka_unit_test(other_import_errors_get_no_hint),
        cmocka_unit_test(twenty_run_side_by_side),
        cmocka_unit_test(an_interrupted_run_is_cancelled_or_given_up),
        cmocka_unit_test(kill_all_ends_every_run_until_resume),
        cmocka_unit_test(a_killed_sandboxd_takes_its_sandboxes_along),
        cmocka_unit_test(kill_all_needs_no_sandboxd_that_answers),
        cmocka_unit_test(a_hung_sandboxd_cannot_keep_code_running),
        cmocka_unit_test(a_flood_of_results_is_ended),
        cmocka_unit_test(a_killed_worker_leaves_nothing),
        cmocka_unit_test(nothing_is_left_after_many_runs),
    };

    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
