/* tests/unit/test_e2b_place.c -- how many sandboxes there may be, and when. */
#include "worker/e2b/place.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"

#define CONCURRENCY 16

static int room(struct place *p)
{
    int64_t at;

    return place_room(p, &at);
}

/* Time stands still for what is no matter of waiting, so that pauses are not
 * over before they were looked at. */
static struct timespec stopped;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (clock != CLOCK_MONOTONIC || stopped.tv_sec == 0)
        return (int)syscall(SYS_clock_gettime, clock, ts);
    *ts = stopped;
    return 0;
}

/* When time alone makes more room. */
static int64_t grows_at_ms(struct place *p)
{
    int64_t at;

    place_room(p, &at);
    return at;
}

static int set_up_going_on(void **state)
{
    static struct place place;

    place_init(&place, CONCURRENCY);
    *state = &place;
    return 0;
}

static int set_up(void **state)
{
    clock_gettime(CLOCK_MONOTONIC, &stopped);
    return set_up_going_on(state);
}

static int tear_down(void **state)
{
    place_fini(*state);
    stopped = (struct timespec){0};
    return 0;
}

static void note_times(struct place *p, enum fault_plane plane,
                       enum fault fault, int times)
{
    for (int i = 0; i < times; i++)
        place_note(p, plane, fault, "told to");
}

/* The time of the breaker's pause is over. */
static void let_pass(struct breaker *b)
{
    assert_int_equal(b->state, BREAKER_OPEN);
    b->until_ms = clock_ms();
}

static void it_is_as_large_as_the_concurrency(void **state)
{
    int64_t again;

    assert_int_equal(room(*state), CONCURRENCY);
    assert_int_equal(grows_at_ms(*state), 0);
    assert_true(place_admits(*state, false, &again));
    assert_false(place_is_away(*state, &again));
}

static void either_plane_that_is_away_closes_it(void **state)
{
    static const enum fault_plane planes[] = {PLANE_CONTROL, PLANE_SANDBOX};
    int64_t again;

    for (int i = 0; i < 2; i++) {
        struct place *p = *state;

        note_times(p, planes[i], FAULT_UNSURE, BREAKER_FAILURES);
        assert_int_equal(room(p), 0);
        assert_false(place_admits(p, false, &again));
        assert_in_range(again, 1, BREAKER_PAUSE_MS);
        assert_true(place_is_away(p, &again));
        assert_true(grows_at_ms(p) > clock_ms() - 1);
        place_note(p, planes[i], FAULT_NONE, "");
        assert_int_equal(room(p), CONCURRENCY);
    }
}

static void one_goes_through_to_see_whether_it_is_back(void **state)
{
    struct place *p = *state;
    int64_t again;

    note_times(p, PLANE_CONTROL, FAULT_AWAY, BREAKER_FAILURES);
    let_pass(&p->api);
    assert_int_equal(room(p), 1);
    assert_true(place_admits(p, false, &again));
    assert_int_equal(room(p), 0);
    assert_false(place_admits(p, false, &again));
    assert_in_range(again, 1, BREAKER_PAUSE_MAX_MS);
    place_note(p, PLANE_CONTROL, FAULT_REFUSED,
               ""); /* it answers: it is well */
    assert_int_equal(room(p), CONCURRENCY);
}

/* How many sandboxes is said with those that run: they count as held. */
static void those_that_run_take_nobodys_turn(void **state)
{
    struct place *p = *state;
    uint64_t count;
    int64_t again;
    AUTO_FD int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    place_watch(p, fd);
    place_entered(p);
    place_entered(p);
    assert_int_equal(read(fd, &count, sizeof(count)), -1);
    note_times(p, PLANE_SANDBOX, FAULT_AWAY, BREAKER_FAILURES);
    assert_int_equal(room(p), 0);
    let_pass(&p->guests);
    assert_int_equal(room(p), 3);
    place_entered(p); /* asked for before */
    assert_int_equal(room(p), 4);
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_true(place_admits(p, false, &again));
    assert_int_equal(room(p), 0);
    place_note(p, PLANE_SANDBOX, FAULT_NONE, "");
    assert_int_equal(room(p), CONCURRENCY);
    for (int i = 3; i < CONCURRENCY; i++)
        place_entered(p);
    note_times(p, PLANE_SANDBOX, FAULT_AWAY, BREAKER_FAILURES);
    let_pass(&p->guests);
    assert_int_equal(room(p), CONCURRENCY);
}

static void looking_takes_nobodys_turn(void **state)
{
    struct place *p = *state;
    int64_t again;

    note_times(p, PLANE_CONTROL, FAULT_AWAY, BREAKER_FAILURES);
    let_pass(&p->api);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(room(p), 1);
        assert_true(place_is_away(p, &again));
    }
    assert_true(place_admits(p, false, &again));
}

static void one_that_tells_nothing_gives_its_turn_back(void **state)
{
    struct place *p = *state;
    int64_t again;

    note_times(p, PLANE_SANDBOX, FAULT_AWAY, BREAKER_FAILURES);
    let_pass(&p->guests);
    assert_true(place_admits(p, false, &again));
    assert_false(place_admits(p, false, &again));
    place_note(p, PLANE_SANDBOX, FAULT_ABORTED, "");
    assert_true(place_admits(p, false, &again));
}

static void it_is_e2b_after_a_few_failures_in_a_row(void **state)
{
    struct place *p = *state;
    int64_t again;

    note_times(p, PLANE_CONTROL, FAULT_UNSURE, PLACE_AWAY_FAILURES - 1);
    assert_false(place_is_away(p, &again));
    place_note(p, PLANE_CONTROL, FAULT_NONE, "");
    note_times(p, PLANE_CONTROL, FAULT_UNSURE, PLACE_AWAY_FAILURES - 1);
    assert_false(place_is_away(p, &again));
    place_note(p, PLANE_CONTROL, FAULT_UNSURE, "");
    assert_true(place_is_away(p, &again));
    assert_true(place_admits(p, false, &again));
}

static void what_one_job_did_wrong_closes_nothing(void **state)
{
    static const enum fault faults[] = {
        FAULT_REFUSED, FAULT_GONE,    FAULT_SHUT, FAULT_CONFLICT, FAULT_ACCOUNT,
        FAULT_RATE,    FAULT_ABORTED, FAULT_LATE, FAULT_FLOOD};

    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        note_times(*state, PLANE_CONTROL, faults[i], 20);
        note_times(*state, PLANE_SANDBOX, faults[i], 20);
    }
    assert_int_equal(room(*state), CONCURRENCY);
}

static void a_refused_key_closes_it_at_once(void **state)
{
    struct place *p = *state;

    place_note(p, PLANE_SANDBOX, FAULT_KEY, "of one sandbox");
    assert_int_equal(room(p), CONCURRENCY);
    place_note(p, PLANE_CONTROL, FAULT_KEY, "Invalid API key");
    assert_int_equal(room(p), 0);
    assert_string_equal(p->api.why, "Invalid API key");
    assert_in_range(p->api.pause_ms, 2 * BREAKER_PAUSE_MS,
                    2 * BREAKER_PAUSE_MS);
}

static void a_full_account_lowers_it_and_it_grows_again(void **state)
{
    struct place *p = *state;
    int now, before = 4, steps = 0;

    for (int i = 0; i < 4; i++)
        place_entered(p);
    place_lower(p);
    assert_int_equal(room(p), 4);
    assert_int_equal(grows_at_ms(p) - clock_ms(), PLACE_LOWERED_MS);
    for (; p->grows_at_ms; steps++) {
        p->grows_at_ms -= steps == 0 ? PLACE_LOWERED_MS : PLACE_GROW_MS;
        now = room(p);
        assert_in_range(now, before + 1, CONCURRENCY);
        before = now;
    }
    assert_in_range(steps, 3, 10);
    assert_int_equal(room(p), CONCURRENCY);
    assert_int_equal(grows_at_ms(p), 0);
}

static void it_never_lowers_to_nothing(void **state)
{
    struct place *p = *state;

    place_lower(p);
    assert_int_equal(room(p), 1);
    for (int i = 0; i < 2 * CONCURRENCY; i++)
        place_entered(p);
    place_lower(p);
    assert_int_equal(room(p), CONCURRENCY);
}

/* Who waits for room must not have to look again and again. */
static void who_watches_is_told_what_no_clock_tells(void **state)
{
    struct place *p = *state;
    uint64_t count;
    int64_t again;
    AUTO_FD int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    place_watch(p, fd);
    note_times(p, PLANE_CONTROL, FAULT_AWAY, BREAKER_FAILURES);
    assert_true(grows_at_ms(p) > clock_ms());
    assert_int_equal(read(fd, &count, sizeof(count)), -1);
    let_pass(&p->api);
    assert_int_equal(grows_at_ms(p), 0); /* the one may go */
    assert_true(place_admits(p, false, &again));
    place_note(p, PLANE_CONTROL, FAULT_ABORTED, "");
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_true(place_admits(p, false, &again));
    place_note(p, PLANE_CONTROL, FAULT_NONE, "");
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    place_note(p, PLANE_CONTROL, FAULT_NONE, "");
    assert_int_equal(read(fd, &count, sizeof(count)), -1);
}

static void a_pause_that_was_asked_for_is_kept(void **state)
{
    struct place *p = *state;
    int64_t again;

    place_pause(p, 5000);
    place_pause(p, 1000); /* the longer one holds */
    assert_int_equal(room(p), 0);
    assert_false(place_admits(p, false, &again));
    assert_int_equal(again, 5000);
    assert_false(place_is_away(p, &again));
    assert_int_equal(grows_at_ms(p) - clock_ms(), 5000);
    p->paused_till_ms = clock_ms();
    assert_int_equal(room(p), CONCURRENCY);
    assert_true(place_admits(p, false, &again));
}

/* ---- sandboxes that do not answer ---------------------------------------- */

static bool waits(struct place *p, const char *job)
{
    int64_t again;
    bool waits = place_missed(p, job, NULL, FAULT_UNSURE, "told to", &again);

    if (waits)
        assert_in_range(again, PLACE_MISS_WAIT_MS, BREAKER_PAUSE_MAX_MS);
    return waits;
}

static void what_one_job_alone_misses_is_its_own(void **state)
{
    struct place *p = *state;

    for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
        assert_false(waits(p, "a"));
    assert_int_equal(room(p), CONCURRENCY);
}

static void what_two_jobs_miss_is_e2bs(void **state)
{
    struct place *p = *state;

    assert_false(waits(p, "a"));
    assert_true(waits(p, "b"));
    assert_true(waits(p, "a"));
    for (int i = 0; i < BREAKER_FAILURES; i++)
        assert_true(waits(p, "b"));
    assert_int_equal(room(p), 0);
}

/* No connection, or 503: that is not for one job's sandbox. */
static void nothing_got_through_is_e2bs(void **state)
{
    struct place *p = *state;
    int64_t again;

    for (int i = 0; i < BREAKER_FAILURES; i++)
        assert_true(place_missed(p, "a", NULL, FAULT_AWAY, "told to", &again));
    assert_int_equal(room(p), 0);
    for (int i = BREAKER_FAILURES; i < PLACE_MISSED_MAX; i++)
        assert_true(place_missed(p, "a", NULL, FAULT_AWAY, "told to", &again));
    assert_false(place_missed(p, "a", NULL, FAULT_AWAY, "told to", &again));
}

static void an_answer_between_them_explains_nothing(void **state)
{
    struct place *p = *state;

    for (int i = 0; i < 2 * BREAKER_FAILURES; i++) {
        assert_false(waits(p, i % 2 ? "a" : "b"));
        place_note(p, PLANE_SANDBOX, FAULT_NONE, "");
    }
    assert_int_equal(room(p), CONCURRENCY);
}

/* The same job is let through each time, as the only one there is. */
static void a_job_that_waits_for_e2b_costs_no_more_than_that(void **state)
{
    struct place *p = *state;
    int64_t again;

    assert_false(waits(p, "a"));
    for (int i = 0; i < PLACE_MISSED_MAX; i++) {
        assert_true(waits(p, "b"));
        if (p->guests.state == BREAKER_OPEN) {
            let_pass(&p->guests);
            assert_true(place_admits(p, false, &again));
        }
    }
    assert_false(waits(p, "b"));
    assert_true(waits(p, "c"));
    place_answered(p, "b");
    assert_true(waits(p, "b"));
}

/* More jobs than are remembered: those that missed most still are. */
static void who_missed_most_is_remembered(void **state)
{
    struct place *p = *state;
    char job[8];

    assert_false(waits(p, "a"));
    for (int i = 0; i < PLACE_MISSED_MAX; i++)
        assert_true(waits(p, "b"));
    for (int i = 0; i < 3 * PLACE_MISSERS; i++) {
        snprintf(job, sizeof(job), "c%d", i);
        assert_true(waits(p, job));
    }
    assert_false(waits(p, "b"));
}

static void what_a_jobs_own_template_misses_closes_nothing(void **state)
{
    struct place *p = *state;
    int64_t again;
    char job[8];

    for (int i = 0; i < 2 * BREAKER_FAILURES; i++) {
        snprintf(job, sizeof(job), "o%d", i);
        assert_false(
            place_missed(p, job, "broken", FAULT_UNSURE, "told to", &again));
        place_note(p, PLANE_SANDBOX, FAULT_ABORTED, ""); /* it is destroyed */
    }
    assert_int_equal(room(p), CONCURRENCY);
    /* But with others: */
    assert_true(
        place_missed(p, "other", "whole", FAULT_UNSURE, "told to", &again));
    assert_true(
        place_missed(p, "o1", "broken", FAULT_UNSURE, "told to", &again));
    assert_true(waits(p, "a"));
    assert_int_equal(room(p), CONCURRENCY);
}

/* Whether E2B is back, others tell; if there are none, it gives its turn back.
 */
static void a_job_with_its_own_template_goes_after_the_others(void **state)
{
    struct place *p = *state;
    int64_t again;

    note_times(p, PLANE_SANDBOX, FAULT_AWAY, BREAKER_FAILURES);
    let_pass(&p->guests);
    assert_false(place_admits(p, true, &again));
    assert_int_equal(again, PLACE_OWN_LAST_MS);
    assert_true(place_admits(p, false, &again));
    place_note(p, PLANE_SANDBOX, FAULT_ABORTED, "");
    p->guests.until_ms = clock_ms() - PLACE_OWN_LAST_MS;
    assert_true(place_admits(p, true, &again));
    assert_int_equal(room(p), 0);
    place_missed(p, "o", "its own", FAULT_UNSURE, "told to", &again);
    assert_int_equal(room(p), 1);
    assert_false(place_admits(p, true, &again));
    assert_true(place_admits(p, false, &again));
    place_note(p, PLANE_SANDBOX, FAULT_NONE, "");
    assert_true(place_admits(p, true, &again));
    assert_int_equal(again, 0);
}

/* ---- waiting for one of our own to end ----------------------------------- */

struct waiter {
    pthread_t thread;
    struct place *place;
    int64_t seen, within_ms;
    bool left;
};

/* No asserts in here: cmocka may only jump out of its own thread. */
static void *wait_for_one(void *arg)
{
    struct waiter *w = arg;

    w->left = place_wait(w->place, w->seen, clock_ms() + w->within_ms);
    return NULL;
}

static int waiting(struct place *p)
{
    int count;

    MUST0(pthread_mutex_lock(&p->lock));
    count = p->waiting;
    MUST0(pthread_mutex_unlock(&p->lock));
    return count;
}

static void each_that_leaves_lets_one_waiter_go_on(void **state)
{
    struct waiter w[4];
    struct place *p = *state;
    int went = 0;

    for (int i = 0; i < 3; i++)
        place_entered(p);
    for (int i = 0; i < 4; i++) {
        w[i] = (struct waiter){.place = p, .within_ms = 20000};
        MUST0(pthread_create(&w[i].thread, NULL, wait_for_one, &w[i]));
    }
    while (waiting(p) < 4)
        sched_yield();
    place_left(p);
    place_left(p);
    while (waiting(p) > 2)
        sched_yield();
    assert_int_equal(p->tickets, 0);
    assert_int_equal(place_departures(p), 2);
    assert_int_equal(place_alive(p), 1);
    /* The last one lets one go on, too, and nobody wait. */
    place_left(p);
    for (int i = 0; i < 4; i++) {
        MUST0(pthread_join(w[i].thread, NULL));
        went += w[i].left;
    }
    assert_int_equal(went, 3);
}

/* But not for ever. */
static void a_wait_ends_at_its_deadline(void **state)
{
    place_entered(*state);
    assert_false(place_wait(*state, 0, clock_ms() + 50));
}

static void one_that_left_meanwhile_is_seen(void **state)
{
    int64_t seen = place_departures(*state);

    place_entered(*state);
    place_entered(*state);
    place_left(*state);
    assert_true(place_wait(*state, seen, clock_ms() + 10000));
}

static void with_none_of_ours_there_is_nothing_to_wait_for(void **state)
{
    int64_t start = clock_ms();

    assert_false(place_wait(*state, 0, start + 10000));
    assert_in_range(clock_ms() - start, 0, 1000);
}

static void it_tells_people_how_it_is(void **state)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    note_times(*state, PLANE_CONTROL, FAULT_UNSURE, BREAKER_FAILURES);
    place_entered(*state);
    place_to_json(*state, &out);
    assert_string_equal(
        out.text, "{\"api\":{\"state\":\"open\",\"failures\":5,\"why\":\"told "
                  "to\"},\"sandboxes\":{\"state\":\"closed\",\"failures\":0,"
                  "\"why\":null},\"limit\":16,\"alive\":1}");
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define GOING_ON(test) \
    cmocka_unit_test_setup_teardown(test, set_up_going_on, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(it_is_as_large_as_the_concurrency),
        FRESH(either_plane_that_is_away_closes_it),
        FRESH(one_goes_through_to_see_whether_it_is_back),
        FRESH(those_that_run_take_nobodys_turn),
        FRESH(looking_takes_nobodys_turn),
        FRESH(one_that_tells_nothing_gives_its_turn_back),
        FRESH(it_is_e2b_after_a_few_failures_in_a_row),
        FRESH(what_one_job_did_wrong_closes_nothing),
        FRESH(a_refused_key_closes_it_at_once),
        FRESH(a_full_account_lowers_it_and_it_grows_again),
        FRESH(it_never_lowers_to_nothing),
        FRESH(who_watches_is_told_what_no_clock_tells),
        FRESH(a_pause_that_was_asked_for_is_kept),
        FRESH(what_one_job_alone_misses_is_its_own),
        FRESH(what_two_jobs_miss_is_e2bs),
        FRESH(nothing_got_through_is_e2bs),
        FRESH(an_answer_between_them_explains_nothing),
        FRESH(a_job_that_waits_for_e2b_costs_no_more_than_that),
        FRESH(who_missed_most_is_remembered),
        FRESH(what_a_jobs_own_template_misses_closes_nothing),
        FRESH(a_job_with_its_own_template_goes_after_the_others),
        GOING_ON(each_that_leaves_lets_one_waiter_go_on),
        GOING_ON(a_wait_ends_at_its_deadline),
        GOING_ON(one_that_left_meanwhile_is_seen),
        GOING_ON(with_none_of_ours_there_is_nothing_to_wait_for),
        FRESH(it_tells_people_how_it_is),
    };

    return cmocka_run_group_tests_name("e2b place", tests, NULL, NULL);
}
