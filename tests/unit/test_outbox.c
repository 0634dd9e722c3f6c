/* tests/unit/test_outbox.c -- who wakes the exchange thread, and when. */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/delivery.h"
#include "worker/outbox.h"

static int setup(void **state)
{
    static struct outbox box;

    *state = &box;
    return outbox_init(&box);
}

static int teardown(void **state)
{
    outbox_fini(*state);
    return 0;
}

static struct output_piece *a_piece(size_t size)
{
    struct output_piece *piece = calloc(1, sizeof(*piece) + size);

    assert_non_null(piece);
    piece->size = size;
    return piece;
}

/* Whether the reader would be woken; takes the wake-up, as the reader does. */
static bool woken(struct outbox *box)
{
    struct pollfd fd = {.fd = box->wake, .events = POLLIN};
    uint64_t count;

    if (poll(&fd, 1, 0) != 1)
        return false;
    assert_int_equal(read(box->wake, &count, sizeof(count)), sizeof(count));
    return true;
}

/* How many deliveries and pieces there were; frees the pieces. */
static int take(struct outbox *box, bool sleeping)
{
    struct delivery *first;
    struct output_piece *pieces;
    int n = 0;

    outbox_take(box, sleeping, &first, &pieces);
    for (; first; first = first->next)
        n++;
    while (pieces) {
        struct output_piece *piece = pieces;

        pieces = piece->next;
        free(piece);
        n++;
    }
    return n;
}

static void a_sleeping_reader_is_woken_once(void **state)
{
    struct delivery a = {.number = 1}, b = {.number = 2};

    assert_int_equal(take(*state, true), 0);
    outbox_post(*state, &a);
    assert_true(woken(*state));
    outbox_post(*state, &b); /* it is awake and will look */
    assert_false(woken(*state));
    assert_int_equal(take(*state, true), 2);
}

static void output_wakes_it_too(void **state)
{
    assert_int_equal(take(*state, true), 0);
    outbox_post_output(*state, a_piece(1));
    assert_true(woken(*state));
    assert_int_equal(take(*state, true), 1);
}

static void a_reader_that_got_something_looks_again_unasked(void **state)
{
    struct delivery a = {.number = 1}, b = {.number = 2};

    outbox_post(*state, &a);
    woken(*state);
    assert_int_equal(take(*state, true), 1);
    outbox_post(*state, &b);
    assert_false(woken(*state));
    assert_int_equal(take(*state, true), 1);
    /* Only now, empty-handed, it sleeps. */
    assert_int_equal(take(*state, true), 0);
    outbox_post(*state, &a);
    assert_true(woken(*state));
    assert_int_equal(take(*state, true), 1);
}

static void a_reader_that_does_not_sleep_is_left_alone(void **state)
{
    struct delivery a = {.number = 1};

    assert_int_equal(take(*state, false), 0);
    outbox_post(*state, &a);
    assert_false(woken(*state));
    assert_int_equal(take(*state, false), 1);
}

static void deliveries_come_in_the_order_of_posting(void **state)
{
    struct delivery d[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    struct delivery *first;
    struct output_piece *pieces;

    for (int i = 0; i < 3; i++)
        outbox_post(*state, &d[i]);
    outbox_take(*state, true, &first, &pieces);
    for (int i = 0; i < 3; i++, first = first->next)
        assert_ptr_equal(first, &d[i]);
    assert_null(first);
    assert_null(pieces);
}

static void output_over_the_bound_is_dropped_until_taken(void **state)
{
    size_t half = OUTBOX_OUTPUT_MAX / 2;

    outbox_post_output(*state, a_piece(half));
    outbox_post_output(*state, a_piece(half)); /* exactly full */
    outbox_post_output(*state, a_piece(1));
    assert_int_equal(take(*state, true), 2);
    outbox_post_output(*state, a_piece(1));
    assert_int_equal(take(*state, true), 1);
}

static void a_dropped_piece_wakes_nobody(void **state)
{
    assert_int_equal(take(*state, true), 0);
    outbox_post_output(*state, a_piece(OUTBOX_OUTPUT_MAX + 1));
    assert_false(woken(*state));
    assert_int_equal(take(*state, true), 0);
}

static void what_was_never_taken_is_freed(void **state)
{
    outbox_post_output(*state, a_piece(10)); /* ASan would tell */
}

/* ---- the protocol as a whole ------------------------------------------- */

#define POSTS 5000

struct poster {
    struct outbox *box;
    struct delivery *deliveries;
};

static void *post_all(void *arg)
{
    struct poster *poster = arg;

    for (int i = 0; i < POSTS; i++)
        outbox_post(poster->box, &poster->deliveries[i]);
    return NULL;
}

/* Sleeps like the exchange thread; a lost wake-up hangs until the deadline. */
static void no_wake_up_is_ever_lost(void **state)
{
    struct poster posters[2];
    pthread_t threads[2];
    int got = 0;

    for (int i = 0; i < 2; i++) {
        posters[i].box = *state;
        posters[i].deliveries = calloc(POSTS, sizeof(struct delivery));
        assert_non_null(posters[i].deliveries);
        MUST0(pthread_create(&threads[i], NULL, post_all, &posters[i]));
    }
    while (got < 2 * POSTS) {
        struct outbox *box = *state;
        struct pollfd fd = {.fd = box->wake, .events = POLLIN};
        int n = take(box, true);
        uint64_t count;

        got += n;
        if (n > 0)
            continue;
        assert_int_equal(poll(&fd, 1, 20000), 1);
        assert_int_equal(read(box->wake, &count, sizeof(count)), sizeof(count));
    }
    for (int i = 0; i < 2; i++) {
        MUST0(pthread_join(threads[i], NULL));
        free(posters[i].deliveries);
    }
}

#define WITH_BOX(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOX(a_sleeping_reader_is_woken_once),
        WITH_BOX(output_wakes_it_too),
        WITH_BOX(a_reader_that_got_something_looks_again_unasked),
        WITH_BOX(a_reader_that_does_not_sleep_is_left_alone),
        WITH_BOX(deliveries_come_in_the_order_of_posting),
        WITH_BOX(output_over_the_bound_is_dropped_until_taken),
        WITH_BOX(a_dropped_piece_wakes_nobody),
        WITH_BOX(what_was_never_taken_is_freed),
        WITH_BOX(no_wake_up_is_ever_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
