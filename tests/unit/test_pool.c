/* How many sandboxes wait: demand, its fading, floors, bounds, memory, and what
 * failures do to it. Boxes are made by a fake; time is a number. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "worker/sandboxd/daemon_impl.h"

#define WINDOW_MS  250
#define QUIET_MS   4
#define PLENTY     (64ll << 30)
#define TURNS      400
#define MINUTES_MS (60 * 1000)

static struct daemon d;
static struct zygote zygote;
static struct kind warm, cold;
static bool zygote_ready, making_fails;
static int made;
static int64_t now;

/* ---- the fake ------------------------------------------------------------ */

struct box *__wrap_daemon_box(struct daemon *daemon, struct kind *kind,
                              struct step *why);
void __wrap_box_leave(struct box *b);
bool __wrap_zygote_is_ready(struct zygote *z);

struct box *__wrap_daemon_box(struct daemon *daemon, struct kind *kind,
                              struct step *why)
{
    made++;
    if (making_fails) {
        step_failed(why, EAGAIN, "make a sandbox");
        return NULL;
    }
    struct box *b = calloc(1, sizeof(*b));
    MUST(b);
    b->kind = kind;
    b->made_ms = now;
    b->generation = zygote.generation;
    b->next = daemon->boxes;
    daemon->boxes = b;
    return b;
}

void __wrap_box_leave(struct box *b)
{
    b->leaving = b->gone = true;
}

bool __wrap_zygote_is_ready(struct zygote *z)
{
    return z && zygote_ready;
}

static void free_gone(void)
{
    for (struct box **at = &d.boxes; *at;) {
        struct box *b = *at;

        if (!b->gone) {
            at = &b->next;
            continue;
        }
        *at = b->next;
        free(b);
    }
}

static void tick(void)
{
    d.memory_ms = now; /* what it said a moment ago still holds */
    pool_tick(&d, now);
    free_gone();
}

static void all_are_made(void)
{
    for (struct box *b = d.boxes; b; b = b->next)
        if (b->state < BOX_WAITING)
            b->state = BOX_WAITING;
}

/* Until it changes no more. */
static void settle(void)
{
    for (int i = 0; i < TURNS; i++) {
        tick();
        all_are_made();
    }
}

static void pass(int64_t ms)
{
    for (int64_t end = now + ms; now < end; now += WINDOW_MS)
        settle();
}

static int count(const struct kind *k)
{
    int boxes = 0;

    for (const struct box *b = d.boxes; b; b = b->next)
        boxes += b->kind == k;
    return boxes;
}

/* So many jobs at once; each box that waited is used up. */
static void burst(struct kind *k, int jobs)
{
    for (int i = 0; i < jobs; i++) {
        struct box *b = pool_take(&d, k);

        if (b)
            b->gone = true;
        free_gone();
    }
}

static int begin(void **state)
{
    (void)state;
    d = (struct daemon){.pool_most = POOL_MOST, .memory_bytes = PLENTY};
    zygote = (struct zygote){.generation = 0};
    cold = (struct kind){.floor = 0};
    warm = (struct kind){.zygote = &zygote, .next = &cold};
    d.nursery.kinds = &warm;
    zygote_ready = true;
    making_fails = false;
    made = 0;
    now = clock_ms();
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (struct box *b = d.boxes; b; b = b->next)
        b->gone = true;
    free_gone();
    return 0;
}

/* ---- demand ---------------------------------------------------------------
 */

static void nothing_waits_that_nobody_wants(void **state)
{
    (void)state;
    settle();
    assert_int_equal(made, 0);
    warm.floor = 3;
    settle();
    assert_int_equal(count(&warm), 3);
    assert_int_equal(count(&cold), 0);
    assert_int_equal(warm.waiting, 3);
}

static void as_many_wait_as_came_in_the_busiest_window(void **state)
{
    (void)state;
    burst(&warm, 1);
    settle();
    assert_int_equal(count(&warm), 1);
    burst(&warm, 5);
    now += WINDOW_MS;
    burst(&warm, 1); /* into the next one */
    settle();
    now += WINDOW_MS;
    settle();
    assert_int_equal(count(&warm), 6);
    assert_int_equal(count(&cold), 0);
}

static void demand_fades_by_half_in_seconds(void **state)
{
    (void)state;
    burst(&warm, 32);
    pass(WINDOW_MS);
    assert_int_equal(count(&warm), 32);
    pass(2500);
    assert_in_range(count(&warm), 16, 21); /* some slack is kept */
    pass(20000);
    assert_int_equal(count(&warm), 1);
}

static void what_is_idle_for_minutes_keeps_its_floor_only(void **state)
{
    (void)state;
    cold.floor = 2;
    burst(&warm, 4);
    burst(&cold, 1);
    pass(1 * MINUTES_MS);
    assert_int_equal(count(&warm), 1);
    assert_int_equal(count(&cold), 2);
    now += 3 * MINUTES_MS;
    settle();
    assert_int_equal(count(&warm), 0);
    assert_int_equal(count(&cold), 2);
}

static void no_more_wait_than_the_setting_says(void **state)
{
    (void)state;
    d.pool_most = 4;
    warm.floor = 9;
    burst(&cold, 60);
    pass(WINDOW_MS);
    assert_int_equal(count(&warm), 4);
    assert_int_equal(count(&cold), 4);
    d.pool_most = 0;
    settle();
    assert_int_equal(count(&warm) + count(&cold), 0);
    assert_null(pool_take(&d, &warm));
}

/* ---- what holds it back ----------------------------------------------------
 */

static void two_of_a_kind_are_made_at_a_time(void **state)
{
    (void)state;
    warm.floor = cold.floor = 20;
    tick();
    tick();
    assert_int_equal(count(&warm), 2);
    assert_int_equal(count(&cold), 2);
    all_are_made();
    tick();
    assert_int_equal(count(&warm), 4);
}

static void none_is_made_when_memory_is_short(void **state)
{
    (void)state;
    warm.floor = 5;
    d.memory_bytes = 512ll << 20;
    settle();
    assert_int_equal(made, 0);
    d.memory_bytes++;
    settle();
    assert_int_equal(count(&warm), 5);
}

static void memory_is_looked_at_now_and_then(void **state)
{
    (void)state;
    cold.floor = 1;
    d.memory_bytes = 0;
    d.memory_ms = now;
    pool_tick(&d, now + 499);
    assert_int_equal(d.memory_bytes, 0);
    pool_tick(&d, now + 500);
    assert_true(d.memory_bytes > 0);
}

static void a_kind_without_its_zygote_leaves_room_to_others(void **state)
{
    (void)state;
    d.pool_most = WIRE_FLOOR_MAX;
    warm.floor = WIRE_FLOOR_MAX;
    cold.floor = 1;
    zygote_ready = false;
    settle();
    assert_int_equal(count(&warm), 0);
    assert_int_equal(count(&cold), 1);
    zygote_ready = true;
    settle();
    assert_int_equal(count(&warm) + count(&cold), WIRE_FLOOR_MAX);
}

static void what_cannot_be_made_is_tried_once_a_second(void **state)
{
    (void)state;
    cold.floor = 1;
    making_fails = true;
    settle();
    assert_int_equal(made, 1);
    now += 999;
    settle();
    assert_int_equal(made, 1);
    now += 1;
    making_fails = false;
    settle();
    assert_int_equal(count(&cold), 1);
}

/* As box.c does it: the box's step failed, and it leaves. */
static void all_fail(void)
{
    for (struct box *b = d.boxes; b; b = b->next) {
        b->why.error = EPERM;
        b->leaving = true;
    }
}

static void what_fails_on_its_way_is_tried_once_a_second(void **state)
{
    (void)state;
    warm.floor = 8;
    tick();
    assert_int_equal(made, 2);
    all_fail();
    tick();
    for (struct box *b = d.boxes; b; b = b->next)
        b->gone = true;
    for (int i = 0; i < 20; i++) {
        tick();
        now += 45;
    }
    assert_int_equal(made, 2);
    now += 100;
    settle();
    assert_int_equal(count(&warm), 8);
}

/* ---- age
 * --------------------------------------------------------------------- */

static void the_oldest_is_taken_first(void **state)
{
    struct box *first, *second;

    (void)state;
    warm.floor = 1;
    settle();
    first = d.boxes;
    now += 5;
    warm.floor = 2;
    settle();
    second = d.boxes;
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(pool_take(&d, &warm), first);
    first->news = (box_news_fn *)abort; /* now a request's */
    assert_ptr_equal(pool_take(&d, &warm), second);
    second->state = BOX_PREPARING;
    assert_null(pool_take(&d, &warm));
    assert_null(pool_take(&d, &cold));
}

static void old_ones_are_replaced_and_never_taken(void **state)
{
    (void)state;
    warm.floor = 2;
    now -= 10 * MINUTES_MS;
    settle();
    assert_int_equal(made, 2);
    assert_null(pool_take(&d, &warm));
    now += 10 * MINUTES_MS;
    settle();
    assert_int_equal(made, 4);
    assert_int_equal(count(&warm), 2);
    assert_non_null(pool_take(&d, &warm));
}

static void forks_of_an_old_zygote_are_replaced(void **state)
{
    (void)state;
    warm.floor = cold.floor = 2;
    settle();
    assert_int_equal(made, 4);
    zygote.generation++;
    assert_null(pool_take(&d, &warm));
    assert_non_null(pool_take(&d, &cold));
    settle();
    assert_int_equal(made, 6);
    assert_non_null(pool_take(&d, &warm));
}

static void one_whose_init_has_ended_is_not_given_out(void **state)
{
    (void)state;
    warm.floor = 1;
    settle();
    assert_non_null(pool_take(&d, &warm));
    d.boxes->leash.fd = -1; /* its end of file came, its death not yet */
    assert_null(pool_take(&d, &warm));
}

static void jobs_go_before_what_waits_for_others(void **state)
{
    (void)state;
    warm.floor = 1;
    d.busy_ms = now; /* a job was given its box */
    settle();
    assert_int_equal(made, 0);
    assert_int_equal(pool_wake_ms(&d, now), now + QUIET_MS);
    now += QUIET_MS;
    settle();
    assert_int_equal(made, 1);
}

static void it_is_called_soon_only_when_there_is_work(void **state)
{
    (void)state;
    assert_int_equal(pool_wake_ms(&d, now), now + 10 * WINDOW_MS);
    burst(&warm, 1);
    assert_int_equal(pool_wake_ms(&d, now), now + WINDOW_MS);
    pass(10000);
    assert_int_equal(pool_wake_ms(&d, now), now + 10 * WINDOW_MS);
    warm.floor = 3;
    assert_int_equal(pool_wake_ms(&d, now), now + WINDOW_MS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_waits_that_nobody_wants),
        TEST(as_many_wait_as_came_in_the_busiest_window),
        TEST(demand_fades_by_half_in_seconds),
        TEST(what_is_idle_for_minutes_keeps_its_floor_only),
        TEST(no_more_wait_than_the_setting_says),
        TEST(two_of_a_kind_are_made_at_a_time),
        TEST(none_is_made_when_memory_is_short),
        TEST(memory_is_looked_at_now_and_then),
        TEST(a_kind_without_its_zygote_leaves_room_to_others),
        TEST(what_cannot_be_made_is_tried_once_a_second),
        TEST(what_fails_on_its_way_is_tried_once_a_second),
        TEST(the_oldest_is_taken_first),
        TEST(old_ones_are_replaced_and_never_taken),
        TEST(forks_of_an_old_zygote_are_replaced),
        TEST(one_whose_init_has_ended_is_not_given_out),
        TEST(jobs_go_before_what_waits_for_others),
        TEST(it_is_called_soon_only_when_there_is_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
