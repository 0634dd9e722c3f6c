/* tests/integration/test_nursery.c -- spawners and zygotes with their real
 * processes: how they are replaced when old, and what follows a death.
 *
 * This program is the spawner, too, as capibox-sandboxd is: it is started with
 * --spawner then. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/proc.h"
#include "worker/sandboxd/nursery.h"
#include "worker/sandboxd/spawner.h"

#define PYTHON  "/usr/bin/python3"
#define WAIT_MS 30000

static struct host host;
static struct nursery nursery;
static struct zygote *zygote;
static char *modules[] = {NULL};
static int epoll_fd, lost_zygotes, lost_spawners;

static void on_answer(void *ctx, uint64_t token, pid_t pid,
                      const struct step *why)
{
    (void)ctx;
    (void)token;
    (void)pid;
    (void)why;
}

static void on_lost(void *ctx, const struct spawner_link *s,
                    const struct zygote *z)
{
    (void)ctx;
    lost_spawners += s != NULL;
    lost_zygotes += z != NULL;
}

static int begin(void **state)
{
    struct step why = {0};

    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (host_open(&host, &why) < 0)
        fail_msg("%s", why.what);
    MUST((epoll_fd = loop_open()) >= 0);
    nursery_init(&nursery, &host, epoll_fd);
    MUST(realpath("worker/runtime", nursery.runtime));
    MUST(realpath(proc_program("capibox-zygote.so"), nursery.zygote_lib));
    nursery.answered = on_answer;
    nursery.lost = on_lost;
    lost_zygotes = lost_spawners = 0;
    zygote = nursery_kind(&nursery, PYTHON, true, modules)->zygote;
    return 0;
}

static int end(void **state)
{
    (void)state;
    nursery_fini(&nursery);
    host_close(&host);
    close(epoll_fd);
    return 0;
}

typedef bool holds(void);

static void turn(int64_t now_ms)
{
    MUST0(loop_turn(epoll_fd, clock_ms() + 5));
    nursery_tick(&nursery, now_ms);
}

/* Serves until it holds. */
static bool comes(holds *it)
{
    int64_t deadline = clock_ms() + WAIT_MS;

    while (!it() && clock_ms() < deadline)
        turn(clock_ms());
    return it();
}

/* It ended by a signal; whoever has the loop reaps it. */
static bool is_killed(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static bool is_ready(void)
{
    return zygote_is_ready(zygote);
}

static bool next_is_ready(void)
{
    return zygote->next.ready;
}

static bool is_replaced(void)
{
    return zygote->generation == 1;
}

static bool is_lost(void)
{
    return lost_zygotes > 0;
}

static void a_zygote_that_forked_often_is_replaced(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    pid_t old = zygote->now.pid;
    assert_true(zygote->now.shared_bytes > 1 << 20);
    zygote->now.forks = ZYGOTE_FORKS_MAX - 1;
    turn(clock_ms());
    assert_int_equal(zygote->next.socket.fd, -1);
    zygote->now.forks++;
    turn(clock_ms());
    assert_true(zygote->next.socket.fd >= 0);
    assert_true(zygote->now.ready); /* and serves meanwhile */
    assert_true(comes(is_replaced));
    assert_int_not_equal(zygote->now.pid, old);
    assert_true(is_killed(old));
    assert_int_equal(zygote->now.forks, 0);
    assert_true(is_ready());
    assert_int_equal(zygote->next.socket.fd, -1);
    assert_int_equal(lost_zygotes, 0);
}

static void an_old_zygote_is_replaced(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    nursery_tick(&nursery, zygote->now.started_ms + ZYGOTE_MS_MAX - 1);
    assert_int_equal(zygote->next.socket.fd, -1);
    nursery_tick(&nursery, zygote->now.started_ms + ZYGOTE_MS_MAX);
    assert_true(comes(is_replaced));
}

static void one_that_owes_an_answer_is_not_replaced(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    zygote->now.pending = 1;
    zygote->now.oldest_ms = clock_ms() + WAIT_MS;
    zygote->now.forks = ZYGOTE_FORKS_MAX;
    assert_true(comes(next_is_ready));
    for (int i = 0; i < 5; i++)
        turn(clock_ms());
    assert_int_equal(zygote->generation, 0);
    zygote->now.pending = 0;
    turn(clock_ms());
    assert_int_equal(zygote->generation, 1);
}

static void a_new_one_that_fails_leaves_the_old_one(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    pid_t old = zygote->now.pid;
    zygote->now.forks = ZYGOTE_FORKS_MAX;
    turn(clock_ms());
    zygote->next.started_ms -= 60000; /* hangs in its imports */
    turn(clock_ms());
    assert_int_equal(zygote->next.socket.fd, -1);
    assert_int_equal(zygote->now.pid, old);
    assert_true(is_ready());
    turn(clock_ms());
    assert_int_equal(zygote->next.socket.fd, -1); /* backs off */
    assert_int_equal(lost_zygotes, 0);
    assert_true(comes(is_replaced));
}

static void a_killed_zygote_comes_back_after_the_backoff(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    pid_t old = zygote->now.pid;
    int64_t died_ms = clock_ms();
    MUST0(kill(old, SIGKILL));
    assert_true(comes(is_lost));
    assert_false(is_ready());
    assert_non_null(strstr(zygote->trouble, "the zygote died"));
    assert_true(is_killed(old)); /* reaped */
    assert_true(comes(is_ready));
    assert_true(clock_ms() - died_ms >= 900);
    assert_int_not_equal(zygote->now.pid, old);
    assert_string_equal(zygote->trouble, "");
}

/* Each time later, until it is warm once. */
static void one_that_never_gets_warm_is_tried_less_and_less(void **state)
{
    int64_t least[8], most[8], n = 0;

    (void)state;
    MUST0(zygote->backoff_ms);
    for (; n < 8; n++) {
        zygote->retry_ms = 0;
        assert_false(is_ready());
        assert_true(zygote->now.socket.fd >= 0);
        zygote->now.started_ms -= 60000;
        int64_t before_ms = clock_ms();
        nursery_tick(&nursery, before_ms);
        assert_int_equal(zygote->now.socket.fd, -1);
        least[n] = zygote->retry_ms - clock_ms();
        most[n] = zygote->retry_ms - before_ms;
        assert_false(is_ready());
        assert_int_equal(zygote->now.socket.fd, -1);
    }
    assert_true(least[0] <= 1000 && most[0] >= 1000);
    assert_true(least[1] <= 2000 && most[1] >= 2000);
    assert_true(least[7] <= 60000 && most[7] >= 60000);
    zygote->retry_ms = 0;
    assert_true(comes(is_ready));
    assert_int_equal(zygote->backoff_ms, 0);
}

/* The old ones could enter none of the sandboxes that the new spawner makes. */
static void zygotes_go_with_their_spawner(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    pid_t old = zygote->now.pid, spawner = zygote->spawner->pid;
    MUST0(kill(spawner, SIGKILL));
    assert_true(comes(is_lost));
    assert_int_equal(lost_spawners, 1);
    assert_true(is_killed(old));
    assert_true(is_killed(spawner));
    assert_true(comes(is_ready));
    assert_int_not_equal(zygote->spawner->pid, spawner);
}

static void a_spawner_that_never_worked_is_tried_later(void **state)
{
    (void)state;
    assert_false(is_ready());
    MUST0(kill(zygote->spawner->pid, SIGKILL));
    assert_true(comes(is_lost));
    zygote->retry_ms = 0;
    assert_false(is_ready());
    assert_int_equal(zygote->spawner->pid, 0);
    zygote->retry_ms = zygote->spawner->retry_ms = 0;
    assert_true(comes(is_ready));
}

static void a_spawner_that_hangs_is_replaced(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    pid_t spawner = zygote->spawner->pid;
    assert_int_equal(zygote->spawner->pending, 0);
    MUST0(kill(spawner, SIGSTOP));
    MUST0(kill(zygote->now.pid, SIGKILL));
    assert_true(comes(is_lost));
    zygote->retry_ms = 0;
    assert_false(is_ready()); /* asks for one */
    assert_int_equal(zygote->spawner->pending, 1);
    nursery_tick(&nursery, clock_ms() + 4000);
    assert_int_equal(lost_spawners, 0);
    nursery_tick(&nursery, clock_ms() + 6000);
    assert_int_equal(lost_spawners, 1);
    assert_true(is_killed(spawner));
    assert_non_null(strstr(zygote->trouble, "wait for the spawner"));
    assert_true(comes(is_ready));
}

static void its_own_processes_are_known_by_their_pids(void **state)
{
    (void)state;
    assert_true(comes(is_ready));
    assert_true(nursery_owns(&nursery, zygote->now.pid));
    assert_true(nursery_owns(&nursery, zygote->spawner->pid));
    assert_false(nursery_owns(&nursery, getpid()));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_zygote_that_forked_often_is_replaced),
        TEST(an_old_zygote_is_replaced),
        TEST(one_that_owes_an_answer_is_not_replaced),
        TEST(a_new_one_that_fails_leaves_the_old_one),
        TEST(a_killed_zygote_comes_back_after_the_backoff),
        TEST(one_that_never_gets_warm_is_tried_less_and_less),
        TEST(zygotes_go_with_their_spawner),
        TEST(a_spawner_that_never_worked_is_tried_later),
        TEST(a_spawner_that_hangs_is_replaced),
        TEST(its_own_processes_are_known_by_their_pids),
    };

    if (argc == 2 && strcmp(argv[1], "--spawner") == 0)
        _exit(spawner_main());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
