/* tests/integration/test_sandbox_cancel.c -- cancelling the making of a local
 * sandbox. Somebody who has a part in it is stopped, and must still be when
 * create() has returned: so nobody waited until he was given up. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "tests/support/kin.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "worker/local/command.h"
#include "worker/local/input.h"
#include "worker/local/link.h"
#include "worker/local/wire.h"

#define WAIT_MS 20000
#define JOBS    600 /* more than sandboxd's socket holds */

static struct settings settings;
static pid_t sandboxd;
static int idle_fds;

static bool has_no_box(void *ctx)
{
    (void)ctx;
    return kin_inits(sandboxd) == 0;
}

static bool has_a_box(void *ctx)
{
    (void)ctx;
    return kin_init(sandboxd) > 0;
}

static bool is_idle(void *ctx)
{
    return has_no_box(ctx) && kin_fds(sandboxd) <= idle_fds;
}

static bool is_busy(void *ctx)
{
    int fds = kin_fds(sandboxd);

    (void)ctx;
    return fds < 0 || fds > idle_fds;
}

static bool has_a_home(void *ctx)
{
    (void)ctx;
    return kin_homes(sandboxd) != 0;
}

/* ---- one create ---------------------------------------------------------- */

struct making {
    struct sandbox_run run;
    struct sandbox *sandbox;
    pthread_t thread;
    atomic_bool ended;
};

static void *make(void *arg)
{
    struct making *m = arg;

    m->run.rc = backend_local.create(sandbox_run_backend, &m->run.job,
                                     &m->run.spec, &m->sandbox, &m->run.o);
    atomic_store(&m->ended, true);
    return NULL;
}

static void begin(struct making *m, enum language language)
{
    *m = (struct making){.sandbox = NULL};
    sandbox_run_prepare(&m->run, language,
                        language == LANGUAGE_BASH ? "echo x" : "print('x')");
    MUST0(outcome_init(&m->run.o, 1000));
    MUST0(pthread_create(&m->thread, NULL, make, m));
}

/* Who cancels tells it again: a create that has not begun does not hear. */
static void cancel(struct making *m)
{
    int64_t start = clock_us();

    while (!atomic_load(&m->ended)) {
        backend_local.interrupt_create(sandbox_run_backend, &m->run.job);
        usleep(1000);
    }
    print_message("given up after %d ms\n", (int)((clock_us() - start) / 1000));
    MUST0(pthread_join(m->thread, NULL));
    assert_int_equal(m->run.rc, -ECANCELED);
    assert_null(m->sandbox);
    assert_int_equal(m->run.o.verdict, VERDICT_NONE);
    assert_null(m->run.o.error);
    assert_int_equal(m->run.o.sandbox_created, m->run.o.sandbox_destroyed);
    outcome_fini(&m->run.o);
}

static void go_on(pid_t pid)
{
    assert_true(pid > 0 && kin_is_stopped(pid));
    MUST0(kill(pid, SIGCONT));
}

static void runs(enum language language)
{
    struct sandbox_run r;

    sandbox_run_prepare(&r, language,
                        language == LANGUAGE_BASH ? "echo x" : "print('x')");
    sandbox_run_go(&r);
    if (r.rc != 0 || r.o.verdict != VERDICT_OK ||
        strcmp(r.out, "[\"x\\n\"]") != 0) {
        sandbox_run_explain(&r);
        fail_msg("a job that nobody cancelled does not run");
    }
    sandbox_run_done(&r);
}

static void rest(void)
{
    assert_true(wait_until(has_no_box, NULL, WAIT_MS));
    idle_fds = kin_fds(sandboxd);
}

/* ---- a backend ------------------------------------------------------------
 */

static int open_with(int waiting)
{
    struct template_set none = {.count = 0};
    struct complaint why = {0};

    setenv("CAPIBOX_SANDBOXD", proc_program("capibox-sandboxd"), 1);
    MUST0(settings_init(&settings));
    settings.allow_degraded = true;
    settings.waiting = waiting;
    if (backend_local.open(&settings, &sandbox_run_backend, &why) < 0) {
        fprintf(stderr, "%s: %s\n", why.field, why.text);
        return -1;
    }
    backend_local.prepare(sandbox_run_backend, &none);
    runs(LANGUAGE_BASH);
    sandboxd = kin_sandboxd(getpid());
    return 0;
}

static int open_backend(void **state)
{
    (void)state;
    return open_with(0);
}

static int open_pool(void **state)
{
    (void)state;
    return open_with(1);
}

static int close_backend(void **state)
{
    (void)state;
    backend_local.close(sandbox_run_backend);
    settings_fini(&settings);
    return 0;
}

/* A sandbox is asked for, and its spawner stands still. Returns that. */
static pid_t begin_without_spawner(struct making *m)
{
    rest();
    pid_t spawner = kin_spawner(sandboxd);
    kin_stop(spawner);
    begin(m, LANGUAGE_BASH);
    assert_true(wait_until(is_busy, NULL, WAIT_MS));
    return spawner;
}

/* ---- tests ----------------------------------------------------------------
 */

static void a_create_waits_for_no_spawner_once_cancelled(void **state)
{
    struct making m;

    (void)state;
    pid_t spawner = begin_without_spawner(&m);
    cancel(&m);
    go_on(spawner);
    /* What it made late is gone, too. */
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    runs(LANGUAGE_BASH);
    assert_int_equal(kin_spawner(sandboxd), spawner);
}

/* The first ones are cold, and make it start. */
static void wait_warm(void)
{
    char start[sizeof(((struct outcome *)0)->start)] = "";
    int64_t until = clock_ms() + WAIT_MS;

    while (strcmp(start, "warm") != 0) {
        struct sandbox_run r;

        assert_true(clock_ms() < until);
        sandbox_run_prepare(&r, LANGUAGE_PYTHON, "1");
        r.spec.tpl = NULL; /* no modules */
        sandbox_run_go(&r);
        memcpy(start, r.o.start, sizeof(start));
        sandbox_run_done(&r);
    }
}

static void a_cancel_disturbs_nobody_at_the_same_zygote(void **state)
{
    struct making m, other;

    (void)state;
    wait_warm();
    rest();
    pid_t zygote = kin_zygote(sandboxd);
    kin_stop(zygote);
    assert_true(kin_homes(sandboxd) <= 0);
    begin(&m, LANGUAGE_PYTHON);
    assert_true(
        wait_until(has_a_home, NULL, WAIT_MS)); /* a fork is asked for */
    begin(&other, LANGUAGE_PYTHON);
    cancel(&m);
    assert_false(atomic_load(&other.ended));
    go_on(zygote);
    MUST0(pthread_join(other.thread, NULL));
    assert_int_equal(other.run.rc, 0);
    MUST0(backend_local.run(other.sandbox, NULL, &other.run.o));
    assert_int_equal(other.run.o.verdict, VERDICT_OK);
    backend_local.destroy(other.sandbox, &other.run.o);
    outcome_fini(&other.run.o);
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    assert_int_equal(kin_zygote(sandboxd), zygote);
    runs(LANGUAGE_PYTHON);
}

static bool is_gone(void *ctx)
{
    return kill(*(const pid_t *)ctx, 0) < 0 && errno == ESRCH;
}

/* False if the job got another one, as that was not made yet. */
static bool dies_with_the_create(pid_t init)
{
    struct making m;
    int64_t start;

    kin_stop(init);
    begin(&m, LANGUAGE_BASH);
    start = clock_ms();
    while (!atomic_load(&m.ended))
        backend_local.interrupt_create(sandbox_run_backend, &m.run.job);
    assert_in_range(clock_ms() - start, 0, 5000); /* by itself: 10 s */
    MUST0(pthread_join(m.thread, NULL));
    backend_local.destroy(m.sandbox, &m.run.o);
    outcome_fini(&m.run.o);
    if (is_gone(&init))
        return m.run.rc == -ECANCELED;
    MUST0(kill(init, SIGKILL));
    assert_true(wait_until(is_gone, &init, WAIT_MS));
    return false;
}

/* The job's files are on their way into one that waited. */
static void a_half_filled_sandbox_is_dead_once_it_is_cancelled(void **state)
{
    int64_t until = clock_ms() + 2 * WAIT_MS;

    (void)state;
    do {
        assert_true(clock_ms() < until);
        assert_true(wait_until(has_a_box, NULL, WAIT_MS));
    } while (!dies_with_the_create(kin_init(sandboxd)));
    runs(LANGUAGE_BASH);
}

static void a_sandboxd_that_hangs_holds_no_cancel_up(void **state)
{
    struct making m;

    (void)state;
    rest();
    kin_stop(sandboxd);
    begin(&m, LANGUAGE_BASH);
    cancel(&m);
    go_on(sandboxd);
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    runs(LANGUAGE_BASH);
    assert_int_equal(kin_sandboxd(getpid()), sandboxd);
}

static void kill_all_still_ends_what_is_being_made(void **state)
{
    struct making m;

    (void)state;
    pid_t spawner = begin_without_spawner(&m);
    assert_int_equal(
        backend_local.kill_all(sandbox_run_backend, clock_ms() + WAIT_MS), 0);
    assert_true(kin_is_stopped(spawner));
    MUST0(pthread_join(m.thread, NULL));
    assert_int_equal(m.run.rc, -ECANCELED);
    assert_null(m.sandbox);
    outcome_fini(&m.run.o);
    go_on(spawner);
    backend_local.resume(sandbox_run_backend);
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    runs(LANGUAGE_BASH);
}

/* ---- what sandboxd says ---------------------------------------------------
 */

static struct link link_to;

static bool is_there(void *ctx)
{
    (void)ctx;
    return kin_sandboxd(getpid()) == link_to.pid;
}

static int open_link(void **state)
{
    struct complaint why = {0};
    struct strbuf greeting = STRBUF_INIT;
    struct wire_word pool = {.kind = WIRE_POOL}; /* none waits */
    uint32_t size = sizeof(pool);

    (void)state;
    setenv("CAPIBOX_SANDBOXD", proc_program("capibox-sandboxd"), 1);
    MUST0(link_find(&link_to, &why));
    MUST0(link_open(&link_to, &why));
    strbuf_add(&greeting, &size, sizeof(size));
    strbuf_add(&greeting, &pool, sizeof(pool));
    link_greet(&link_to, &greeting);
    sandboxd = link_to.pid;
    return wait_until(is_there, NULL, WAIT_MS) ? 0 : -1; /* past its exec */
}

static int close_link(void **state)
{
    (void)state;
    link_close(&link_to);
    return 0;
}

/* Asks for a sandbox; the job socket. */
static int ask(enum language language)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    struct sandbox_run r;
    struct input in;
    int job_fd = link_job(&link_to, NULL, NULL);

    MUST(job_fd >= 0);
    sandbox_run_prepare(&r, language, ":");
    input_init(&in);
    int input_fd = input_seal(&in);
    MUST(input_fd >= 0);
    MUST0(command_build(&r.job, &r.spec, true, &message));
    MUST0(io_send_fds(job_fd, message.text, message.len, &input_fd, 1));
    close(input_fd);
    return job_fd;
}

static int32_t start_of_answer(int job_fd)
{
    struct wire_created m = {.kind = 0};
    int fds[IO_FDS_MAX];

    MUST(io_recv_fds(job_fd, &m, sizeof(m), fds, IO_FDS_MAX) > 0);
    assert_int_equal(m.kind, WIRE_CREATED);
    for (int i = 0; i < IO_FDS_MAX; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return m.start;
}

/* Waits as long as that takes. */
static void destroy(int job_fd)
{
    struct wire_word word = {.kind = WIRE_DESTROY};
    struct wire_gone gone = {.kind = 0};
    int64_t start = clock_us();

    MUST0(io_send_fds(job_fd, &word, sizeof(word), NULL, 0));
    assert_int_equal(io_recv_fds(job_fd, &gone, sizeof(gone), NULL, 0),
                     sizeof(gone));
    print_message("gone after %d ms\n", (int)((clock_us() - start) / 1000));
    assert_int_equal(gone.kind, WIRE_GONE);
    assert_int_equal(gone.leftovers, 0);
    close(job_fd);
}

static void who_leaves_waits_for_no_answer_of_a_spawner(void **state)
{
    (void)state;
    int job_fd = ask(LANGUAGE_BASH);
    start_of_answer(job_fd);
    destroy(job_fd);
    rest();
    pid_t spawner = kin_spawner(sandboxd);
    kin_stop(spawner);
    job_fd = ask(LANGUAGE_BASH);
    assert_true(wait_until(is_busy, NULL, WAIT_MS));
    destroy(job_fd);
    go_on(spawner);
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    assert_int_equal(kin_spawner(sandboxd), spawner);
}

static void who_leaves_waits_for_no_answer_of_a_zygote(void **state)
{
    int64_t until = clock_ms() + WAIT_MS;
    int32_t start;
    int job_fd;

    (void)state;
    do {
        assert_true(clock_ms() < until);
        job_fd = ask(LANGUAGE_PYTHON);
        start = start_of_answer(job_fd);
        destroy(job_fd);
    } while (start != WIRE_WARMED);
    rest();
    pid_t zygote = kin_zygote(sandboxd);
    kin_stop(zygote);
    job_fd = ask(LANGUAGE_PYTHON);
    assert_true(
        wait_until(has_a_home, NULL, WAIT_MS)); /* a fork is asked for */
    destroy(job_fd);
    assert_int_equal(kin_inits(sandboxd), 0); /* dead, not only left alone */
    go_on(zygote);
    assert_true(wait_until(is_idle, NULL, WAIT_MS));
    assert_int_equal(kin_zygote(sandboxd), zygote);
}

static bool gives_up(const void *ctx)
{
    (void)ctx;
    return true;
}

static void a_cancel_waits_for_no_room_on_the_way_to_sandboxd(void **state)
{
    static int fds[JOBS];
    int n = 0, rc = 0;

    (void)state;
    kin_stop(sandboxd);
    while (n < JOBS && (rc = link_job(&link_to, gives_up, NULL)) >= 0)
        fds[n++] = rc;
    assert_in_range(n, 1, JOBS - 1);
    assert_int_equal(rc, -ECANCELED);
    go_on(sandboxd); /* else it was replaced */
    while (n > 0)
        close(fds[--n]);
}

#define WITH(open, test) \
    cmocka_unit_test_setup_teardown(test, open, close_backend)
#define WITH_LINK(test) \
    cmocka_unit_test_setup_teardown(test, open_link, close_link)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(open_backend, a_create_waits_for_no_spawner_once_cancelled),
        WITH(open_backend, a_cancel_disturbs_nobody_at_the_same_zygote),
        WITH(open_pool, a_half_filled_sandbox_is_dead_once_it_is_cancelled),
        WITH(open_backend, a_sandboxd_that_hangs_holds_no_cancel_up),
        WITH(open_backend, kill_all_still_ends_what_is_being_made),
        WITH_LINK(who_leaves_waits_for_no_answer_of_a_spawner),
        WITH_LINK(who_leaves_waits_for_no_answer_of_a_zygote),
        WITH_LINK(a_cancel_waits_for_no_room_on_the_way_to_sandboxd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
