/* A job on E2B that is cancelled at each of its steps, on the backend itself:
 * always the verdict cancelled, never a sandbox left, nothing waited for. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/double.h"
#include "tests/support/proc.h"
#include "worker/backend.h"

#define OUTPUT  (1 << 20)
#define WAIT_MS 20000

struct fixture {
    struct e2b_double e2b;
    struct settings settings;
    struct template_set *set;
    struct backend *backend;
    struct job *job;
    struct spec spec;
    struct outcome o;
    /* What the thread does, and with which end. */
    pthread_mutex_t lock;
    struct sandbox *sandbox; /* guarded by lock */
    int rc;
    atomic_bool heard; /* of some output */
};

static void ignore(void *ctx, const char *file, int line,
                   const struct complaint *why)
{
    (void)ctx, (void)file, (void)line, (void)why;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct complaint why = {0};

    MUST(f);
    double_open(&f->e2b, NULL);
    MUST0(settings_init(&f->settings));
    double_settings(&f->e2b, &f->settings);
    MUST0(template_set_load("templates", ignore, NULL, &f->set));
    MUST0(backend_e2b.open(&f->settings, &f->backend, &why));
    MUST0(outcome_init(&f->o, OUTPUT));
    MUST0(pthread_mutex_init(&f->lock, NULL));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    backend_e2b.close(f->backend);
    double_end(&f->e2b);
    outcome_fini(&f->o);
    job_destroy(f->job);
    template_set_unref(f->set);
    settings_fini(&f->settings);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static void take_job(struct fixture *f, const char *text)
{
    struct complaint why = {0};
    char id[JOB_ID_MAX + 1];

    if (job_parse(text, strlen(text), &f->job, id, &why) < 0 ||
        spec_resolve(f->set, &f->settings, f->job, &f->spec, &why) < 0)
        fail_msg("%s: %s", why.field, why.text);
}

static void note_output(void *ctx, bool is_stderr, const char *data,
                        size_t size)
{
    struct fixture *f = ctx;

    (void)is_stderr, (void)data, (void)size;
    atomic_store(&f->heard, true);
}

static bool has_heard(void *ctx)
{
    struct fixture *f = ctx;

    return atomic_load(&f->heard);
}

/* As an executor does it. No asserts: it is not cmocka's thread. */
static void *execute(void *arg)
{
    struct fixture *f = arg;
    struct run_sink sink = {note_output, f};
    struct sandbox *sandbox = NULL;

    f->rc = backend_e2b.create(f->backend, f->job, &f->spec, &sandbox, &f->o);
    MUST0(pthread_mutex_lock(&f->lock));
    f->sandbox = sandbox;
    MUST0(pthread_mutex_unlock(&f->lock));
    if (!sandbox)
        return NULL;
    if (f->rc == 0)
        f->rc = backend_e2b.run(sandbox, &sink, &f->o);
    if (f->rc == 0)
        f->rc = backend_e2b.collect(sandbox, &f->o);
    MUST0(pthread_mutex_lock(&f->lock));
    f->sandbox = NULL;
    MUST0(pthread_mutex_unlock(&f->lock));
    backend_e2b.destroy(sandbox, &f->o);
    return NULL;
}

static bool interrupt(struct fixture *f, enum verdict why)
{
    bool there;

    MUST0(pthread_mutex_lock(&f->lock));
    there = f->sandbox != NULL;
    if (there)
        backend_e2b.interrupt(f->sandbox, why);
    MUST0(pthread_mutex_unlock(&f->lock));
    return there;
}

static void start(struct fixture *f, pthread_t *thread, const char *job,
                  const char *until)
{
    take_job(f, job);
    MUST0(pthread_create(thread, NULL, execute, f));
    while (double_number(&f->e2b, until) < 1)
        usleep(5000);
}

static void join(pthread_t thread, int64_t since)
{
    MUST0(pthread_join(thread, NULL));
    assert_in_range(clock_ms() - since, 0, 8000);
}

/* Nothing is left. */
static void end_well(struct fixture *f)
{
    backend_e2b.close(f->backend);
    f->backend = NULL;
    double_close(&f->e2b);
}

static void while_it_runs(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    int64_t since;

    start(f, &thread,
          "{\"id\":\"a\",\"code\":\"import time\\nprint('on', flush=True)\\n"
          "time.sleep(60)\"}",
          "requests.execute");
    assert_true(wait_until(has_heard, f, WAIT_MS));
    since = clock_ms();
    assert_true(interrupt(f, VERDICT_CANCELLED));
    join(thread, since);
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->o.verdict, VERDICT_CANCELLED);
    assert_string_equal(f->o.error, "cancelled while it ran");
    assert_memory_equal(f->o.out.head.text, "on\n", 3);
    assert_true(f->o.sandbox_created && f->o.sandbox_destroyed);
    end_well(f);
}

static void while_a_shell_runs(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    int64_t since;

    start(f, &thread,
          "{\"id\":\"a\",\"template_id\":\"quick_script\",\"language\":"
          "\"bash\",\"code\":\"echo on; sleep 60\"}",
          "requests.start");
    assert_true(wait_until(has_heard, f, WAIT_MS));
    since = clock_ms();
    assert_true(interrupt(f, VERDICT_CANCELLED));
    join(thread, since);
    assert_int_equal(f->o.verdict, VERDICT_CANCELLED);
    assert_memory_equal(f->o.out.head.text, "on\n", 3);
    end_well(f);
}

static void while_its_output_is_fetched(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    int64_t since;

    double_fault(&f->e2b, "\"route\":\"files_get\",\"kind\":\"stall\"");
    start(f, &thread, "{\"id\":\"a\",\"output_files\":[\"x\"],\"code\":\"1\"}",
          "requests.files_get");
    since = clock_ms();
    assert_true(interrupt(f, VERDICT_CANCELLED));
    join(thread, since);
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->o.verdict, VERDICT_CANCELLED);
    end_well(f);
}

static void one_that_is_given_up_has_no_verdict(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    int64_t since;

    start(f, &thread, "{\"id\":\"a\",\"code\":\"import time; time.sleep(60)\"}",
          "requests.execute");
    since = clock_ms();
    while (!interrupt(f, VERDICT_NONE))
        usleep(1000);
    /* What comes later does not turn it into a result. */
    interrupt(f, VERDICT_CANCELLED);
    join(thread, since);
    assert_int_equal(f->rc, -ECANCELED);
    assert_int_equal(f->o.verdict, VERDICT_NONE);
    end_well(f);
}

/* kill_all() reaches also those that no executor has in hand yet. */
static void killing_all(struct fixture *f, const char *fault, const char *job,
                        const char *until)
{
    pthread_t thread;
    int64_t since;
    struct sandbox *none = NULL;

    double_fault(&f->e2b, fault);
    start(f, &thread, job, until);
    since = clock_ms();
    assert_int_equal(backend_e2b.kill_all(f->backend, since + 8000), 0);
    join(thread, since);
    assert_int_equal(f->rc, -ECANCELED);
    assert_int_equal(f->o.verdict, VERDICT_NONE);
    /* And nobody makes new ones. */
    assert_int_equal(
        backend_e2b.create(f->backend, f->job, &f->spec, &none, &f->o),
        -ECANCELED);
    assert_null(none);
    end_well(f);
}

/* Before an executor has a sandbox in hand, the job is its name. */
static void cancel_create(struct fixture *f, const char *fault, const char *job,
                          const char *until)
{
    pthread_t thread;
    int64_t since;

    double_fault(&f->e2b, fault);
    start(f, &thread, job, until);
    since = clock_ms();
    backend_e2b.interrupt_create(f->backend, NULL); /* nobody's */
    backend_e2b.interrupt_create(f->backend, f->job);
    MUST0(pthread_join(thread, NULL));
    /* Not as long as a call may take (CONTROL_CALL_MS). */
    assert_in_range(clock_ms() - since, 0, 5000);
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->o.verdict, VERDICT_CANCELLED);
    assert_string_equal(f->o.error, "cancelled before it started");
    assert_false(f->o.code_started);
}

static void while_create_is_silent(void **state)
{
    cancel_create(*state, "\"route\":\"create\",\"kind\":\"stall\"",
                  "{\"id\":\"a\",\"code\":\"1\"}", "requests.create");
    end_well(*state);
}

static bool has_created(void *ctx)
{
    struct fixture *f = ctx;

    return double_number(&f->e2b, "creates") == 1;
}

/* Its sandbox comes all the same, and is looked for. */
static void while_create_is_slow(void **state)
{
    struct fixture *f = *state;

    cancel_create(f, "\"route\":\"create\",\"kind\":\"delay\",\"ms\":6000",
                  "{\"id\":\"a\",\"code\":\"1\"}", "requests.create");
    assert_true(wait_until(has_created, f, WAIT_MS));
    assert_true(double_settled(&f->e2b, 5000));
    end_well(f);
}

static void while_the_account_is_full(void **state)
{
    cancel_create(*state,
                  "\"route\":\"create\",\"kind\":\"429a\",\"count\":100",
                  "{\"id\":\"a\",\"code\":\"1\"}", "requests.create");
    end_well(*state);
}

static void while_files_go_in(void **state)
{
    cancel_create(*state, "\"route\":\"files_post\",\"kind\":\"stall\"",
                  "{\"id\":\"a\",\"code\":\"1\",\"files\":[{\"path\":\"x\","
                  "\"content\":\"aGkK\"}]}",
                  "requests.files_post");
    end_well(*state);
}

static void all_are_killed_while_create_is_silent(void **state)
{
    killing_all(*state, "\"route\":\"create\",\"kind\":\"stall\"",
                "{\"id\":\"a\",\"code\":\"1\"}", "requests.create");
}

static void all_are_killed_while_files_go_in(void **state)
{
    killing_all(*state, "\"route\":\"files_post\",\"kind\":\"stall\"",
                "{\"id\":\"a\",\"code\":\"1\",\"files\":[{\"path\":\"x\","
                "\"content\":\"aGkK\"}]}",
                "requests.files_post");
}

static void all_are_killed_while_the_account_is_full(void **state)
{
    killing_all(*state, "\"route\":\"create\",\"kind\":\"429a\",\"count\":100",
                "{\"id\":\"a\",\"code\":\"1\"}", "requests.create");
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(while_it_runs),
        FRESH(while_a_shell_runs),
        FRESH(while_its_output_is_fetched),
        FRESH(while_create_is_silent),
        FRESH(while_create_is_slow),
        FRESH(while_the_account_is_full),
        FRESH(while_files_go_in),
        FRESH(one_that_is_given_up_has_no_verdict),
        FRESH(all_are_killed_while_create_is_silent),
        FRESH(all_are_killed_while_files_go_in),
        FRESH(all_are_killed_while_the_account_is_full),
    };

    return cmocka_run_group_tests_name("e2b cancel", tests, NULL, NULL);
}
