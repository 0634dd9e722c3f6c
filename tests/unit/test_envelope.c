/* tests/unit/test_envelope.c -- the delivery prefix of a list entry. */
#include "tests/support/cmocka_all.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/envelope.h"
#include "common/must.h"
#include "common/scope.h"

static const struct envelope nothing;

/* Parses a copy that ends where the entry ends, so that ASan sees a step past.
 */
static size_t parse(const char *entry, size_t size, struct envelope *e)
{
    AUTO_FREE char *copy = malloc(size ? size : 1);

    MUST(copy);
    memcpy(copy, entry, size);
    memset(e, 0xa5, sizeof *e);
    return envelope_parse(copy, size, e);
}

static void assert_raw(const char *entry, size_t size)
{
    struct envelope e;

    assert_int_equal(parse(entry, size, &e), 0);
    assert_memory_equal(&e, &nothing, sizeof e);
}

static void a_full_prefix_is_split_from_its_body(void **state)
{
    static const char entry[] =
        "!c1;d2;a3;t1700000000000;ijob:1._-;phost-1-ab/7@high.x;"
        "u1700000000001|{\"code\":\"a|b\"}";
    struct envelope e;
    (void)state;

    size_t body = parse(entry, strlen(entry), &e);
    assert_string_equal(entry + body, "{\"code\":\"a|b\"}");
    assert_int_equal(e.suspicions, 1);
    assert_int_equal(e.deliveries, 2);
    assert_int_equal(e.attempts, 3);
    assert_int_equal(e.enqueued_ms, 1700000000000);
    assert_string_equal(e.id, "job:1._-");
    assert_string_equal(e.parent, "host-1-ab/7@high.x");
    assert_int_equal(e.due_ms, 1700000000001);
}

static void what_is_absent_is_zero_and_order_is_free(void **state)
{
    struct envelope e;
    (void)state;

    assert_int_equal(parse("!ix;c0|", 7, &e), 7);
    assert_string_equal(e.id, "x");
    assert_int_equal(e.suspicions, 0);
    assert_int_equal(e.deliveries, 0);
    assert_string_equal(e.parent, "");
}

static void anything_else_is_raw(void **state)
{
    static const char *const raw[] = {
        "",          "{}",     "!",      "!|",       "!c1",         "!c1;",
        "!c1;|{}",   "!;c1|",  "!c|",    "!c1c2|",   "!c1;c2|",     "!c-1|",
        "!c+1|",     "!c 1|",  "!c1 |",  "!c0x1|",   "!C1|",        "!x1|",
        " !c1|",     "!i|",    "!ia b|", "!ia@b|",   "!i\"|",       "!p|",
        "!pa b|",    "!c1.0|", "!!c1|",  "!c1;;d1|", "!i\xc3\xbc|", "!c1\n|{}",
        "!iabc\x7f|"};
    (void)state;

    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++)
        assert_raw(raw[i], strlen(raw[i]));
    assert_raw("!ia\0|", 5);
    assert_raw("!c\0|", 4);
}

static void the_body_may_be_anything(void **state)
{
    struct envelope e;
    (void)state;

    assert_int_equal(parse("!pa|b", 5, &e), 4);
    assert_int_equal(parse("!d1|", 4, &e), 4);
    assert_int_equal(parse("!d1|!d2|", 8, &e), 4);
    assert_int_equal(e.deliveries, 1);
}

static void numbers_fit_or_the_entry_is_raw(void **state)
{
    struct envelope e;
    (void)state;

    assert_int_equal(parse("!d2147483647|", 13, &e), 13);
    assert_int_equal(e.deliveries, INT_MAX);
    assert_raw("!d2147483648|", 13);
    assert_raw("!d99999999999999999999|", 23);
    assert_int_equal(parse("!t9223372036854775807|", 22, &e), 22);
    assert_int_equal(e.enqueued_ms, INT64_MAX);
    assert_raw("!t9223372036854775808|", 22);
}

static void texts_fit_or_the_entry_is_raw(void **state)
{
    char entry[600];
    struct envelope e;
    int size;
    (void)state;

    size = snprintf(entry, sizeof entry, "!i%0*d|", JOB_ID_MAX, 0);
    assert_int_equal(parse(entry, (size_t)size, &e), size);
    assert_int_equal(strlen(e.id), JOB_ID_MAX);
    size = snprintf(entry, sizeof entry, "!i%0*d|", JOB_ID_MAX + 1, 0);
    assert_raw(entry, (size_t)size);
    size = snprintf(entry, sizeof entry, "!p%0*d|", TOKEN_MAX, 0);
    assert_int_equal(parse(entry, (size_t)size, &e), size);
    size = snprintf(entry, sizeof entry, "!p%0*d|", TOKEN_MAX + 1, 0);
    assert_raw(entry, (size_t)size);
}

static void a_prefix_without_end_is_given_up(void **state)
{
    char entry[2 * ENVELOPE_BYTES_MAX];
    struct envelope e;
    (void)state;

    /* Leading zeros are digits: only the bound on the prefix stops this. */
    memset(entry, '0', sizeof entry);
    memcpy(entry, "!c", 2);
    entry[ENVELOPE_BYTES_MAX] = '|';
    assert_raw(entry, sizeof entry);
    entry[ENVELOPE_BYTES_MAX - 1] = '|';
    assert_int_equal(parse(entry, sizeof entry, &e), ENVELOPE_BYTES_MAX);
}

static void nothing_known_prints_nothing(void **state)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;
    struct envelope e = {.deliveries = -1, .id = "no good"};
    (void)state;

    envelope_print(&nothing, &out);
    assert_int_equal(out.len, 0);
    envelope_print(&e, &out);
    assert_int_equal(out.len, 0);
}

static void printing_has_one_form(void **state)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;
    struct envelope e = {.suspicions = 1,
                         .deliveries = 2,
                         .attempts = 1,
                         .enqueued_ms = 1700000000000,
                         .id = "JOBID",
                         .parent = "TOKEN"};
    (void)state;

    envelope_print(&e, &out);
    assert_string_equal(out.text, "!c1;d2;a1;t1700000000000;iJOBID;pTOKEN|");
}

/* ---- random ------------------------------------------------------------ */

static void random_text(unsigned *seed, char *out, size_t most,
                        const char *alphabet)
{
    size_t len = (size_t)rand_r(seed) % (most + 1);

    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[(size_t)rand_r(seed) % strlen(alphabet)];
    out[len] = '\0';
}

static void random_envelope(unsigned *seed, struct envelope *e)
{
    memset(e, 0, sizeof *e);
    if (rand_r(seed) % 2)
        e->suspicions = rand_r(seed) >> rand_r(seed) % 31;
    if (rand_r(seed) % 2)
        e->deliveries = rand_r(seed) >> rand_r(seed) % 31;
    if (rand_r(seed) % 2)
        e->attempts = INT_MAX;
    if (rand_r(seed) % 2)
        e->enqueued_ms = INT64_MAX >> rand_r(seed) % 63;
    if (rand_r(seed) % 2)
        random_text(seed, e->id, JOB_ID_MAX, "azAZ09._:-");
    if (rand_r(seed) % 2)
        random_text(seed, e->parent, TOKEN_MAX, "azAZ09._:-@/");
    if (rand_r(seed) % 2)
        e->due_ms = rand_r(seed);
}

static void any_envelope_reads_back(void **state)
{
    unsigned seed = 7;
    (void)state;

    for (int round = 0; round < 20000; round++) {
        AUTO_STRBUF struct strbuf out = STRBUF_INIT;
        struct envelope in, back;

        random_envelope(&seed, &in);
        envelope_print(&in, &out);
        size_t body = out.len;
        assert_true(body <= ENVELOPE_BYTES_MAX);
        strbuf_adds(&out, "{\"code\":\"!c9|\"}");
        assert_int_equal(parse(out.text, out.len, &back), body);
        assert_memory_equal(&back, &in, sizeof in);
    }
}

/* Good prefixes with a few bytes changed, removed or cut: never a step past
 * the entry (ASan), and what is accepted is stable. */
static void damaged_entries_are_raw_or_stable(void **state)
{
    static const char bytes[] = "!|;cdatipu019-+ {\"\xff";
    unsigned seed = 11;
    int accepted = 0;
    (void)state;

    for (int round = 0; round < 50000; round++) {
        AUTO_STRBUF struct strbuf text = STRBUF_INIT, again = STRBUF_INIT;
        struct envelope e, back;

        random_envelope(&seed, &e);
        envelope_print(&e, &text);
        strbuf_adds(&text, "{}");
        for (int hits = rand_r(&seed) % 4; hits > 0; hits--)
            text.text[(size_t)rand_r(&seed) % text.len] =
                bytes[(size_t)rand_r(&seed) % sizeof bytes];
        size_t size = (size_t)rand_r(&seed) % (text.len + 1);
        size_t body = parse(text.text, size, &e);
        assert_true(body <= size);
        if (body == 0) {
            assert_memory_equal(&e, &nothing, sizeof e);
            continue;
        }
        accepted++;
        envelope_print(&e, &again);
        if (again.len == 0) /* only zeros, such as "!c0|" */
            continue;
        assert_int_equal(parse(again.text, again.len, &back), again.len);
        assert_memory_equal(&back, &e, sizeof e);
    }
    assert_true(accepted > 100); /* or the damage left nothing to look at */
}

static void random_bytes_never_read_past_the_entry(void **state)
{
    unsigned seed = 13;
    (void)state;

    for (int round = 0; round < 50000; round++) {
        char entry[40];
        struct envelope e;
        size_t size = (size_t)rand_r(&seed) % sizeof entry;

        for (size_t i = 0; i < size; i++)
            entry[i] = (char)rand_r(&seed);
        entry[0] = '!';
        assert_true(parse(entry, size, &e) <= size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_prefix_is_split_from_its_body),
        cmocka_unit_test(what_is_absent_is_zero_and_order_is_free),
        cmocka_unit_test(anything_else_is_raw),
        cmocka_unit_test(the_body_may_be_anything),
        cmocka_unit_test(numbers_fit_or_the_entry_is_raw),
        cmocka_unit_test(texts_fit_or_the_entry_is_raw),
        cmocka_unit_test(a_prefix_without_end_is_given_up),
        cmocka_unit_test(nothing_known_prints_nothing),
        cmocka_unit_test(printing_has_one_form),
        cmocka_unit_test(any_envelope_reads_back),
        cmocka_unit_test(damaged_entries_are_raw_or_stable),
        cmocka_unit_test(random_bytes_never_read_past_the_entry),
    };

    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
