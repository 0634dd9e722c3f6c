/* tests/unit/test_outcome.c -- verdicts and captured output. */
#include "common/outcome.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/cmocka_all.h"

static void add_all(struct capture *c, const char *text, size_t step)
{
    size_t len = strlen(text);

    for (size_t at = 0; at < len; at += step)
        capture_add(c, text + at, len - at < step ? len - at : step);
}

/* Whatever the size of the writes, the same comes out. */
static void check(size_t limit, const char *text, const char *json,
                  uint64_t dropped)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
        struct capture c;

        assert_int_equal(capture_init(&c, limit), 0);
        add_all(&c, text, step);
        capture_to_json(&c, &sb);
        assert_string_equal(sb.text, json);
        assert_int_equal(c.dropped, dropped);
        assert_int_equal(c.total, strlen(text));
        strbuf_clear(&sb);
        capture_to_json(&c, &sb);
        assert_string_equal(sb.text, json); /* asking changes nothing */
        capture_fini(&c);
    }
}

static void output_below_the_limit_is_one_text(void **state)
{
    (void)state;
    check(16, "", "[]", 0);
    check(16, "hello", "[\"hello\"]", 0);
    check(16, "0123456789abcdef", "[\"0123456789abcdef\"]", 0);
}

static void a_flood_keeps_its_head_and_its_tail(void **state)
{
    (void)state;
    check(16, "0123456789abcdefg", "[\"0123456789ab\",\"defg\"]", 1);
    check(16, "0123456789abXXXXXXXXXXXXXXXXXXXXXend.",
          "[\"0123456789ab\",\"end.\"]", 21);
}

static void characters_beside_the_gap_are_whole(void **state)
{
    (void)state;
    /* The head ends inside a euro sign, the tail begins inside one. */
    check(16,
          "0123456789\xe2\x82\xac-----\xe2\x82\xac"
          "ab",
          "[\"0123456789\",\"ab\"]", 3 + 5 + 3);
    check(16,
          "01234567\xf0\x9f\x98\x80-----\xe2\x82\xac"
          "a",
          "[\"01234567\xf0\x9f\x98\x80\",\"\xe2\x82\xac"
          "a\"]",
          5);
}

static void without_a_gap_a_character_across_the_border_is_whole(void **state)
{
    (void)state;
    check(16,
          "0123456789\xe2\x82\xac"
          "abc",
          "[\"0123456789\xe2\x82\xac"
          "abc\"]",
          0);
}

static void a_limit_of_nothing_keeps_nothing(void **state)
{
    (void)state;
    check(0, "abc", "[]", 3);
    check(2, "abc", "[\"ab\"]", 1);
}

static void a_huge_flood_costs_no_more_than_its_limit(void **state)
{
    static char block[65536];
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    const char *ring;
    struct capture c;
    size_t cap;

    (void)state;
    memset(block, 'x', sizeof block);
    capture_init(&c, 1 << 20);
    for (int i = 0; i < 32; i++)
        capture_add(&c, block, sizeof block);
    ring = c.ring;
    cap = c.head.cap;
    for (int i = 0; i < 4096; i++)
        capture_add(&c, block, sizeof block);
    assert_ptr_equal(c.ring, ring);
    assert_int_equal(c.head.cap, cap);
    capture_to_json(&c, &sb);
    assert_int_equal(c.total, 4128ull * sizeof block);
    assert_int_equal(c.dropped, c.total - (1 << 20));
    assert_int_equal(sb.len, (1 << 20) + strlen("[\"\",\"\"]"));
    capture_fini(&c);
}

static void bytes_that_are_no_text_are_escaped(void **state)
{
    (void)state;
    check(64, "a\xff\x1b[1m", "[\"a\\\\xff\\u001b[1m\"]", 0);
}

static void every_verdict_has_its_name_and_status(void **state)
{
    static const struct {
        enum verdict verdict;
        const char *name, *status;
    } all[] = {
        {VERDICT_OK, "ok", "succeeded"},
        {VERDICT_USER_ERROR, "user_error", "failed"},
        {VERDICT_TIMEOUT, "timeout", "failed"},
        {VERDICT_OOM, "oom", "failed"},
        {VERDICT_PIDS_LIMIT, "pids_limit", "failed"},
        {VERDICT_DISK_LIMIT, "disk_limit", "failed"},
        {VERDICT_OUTPUT_LIMIT, "output_limit", "failed"},
        {VERDICT_SIGNAL, "signal", "failed"},
        {VERDICT_DENIED_SYSCALL, "denied_syscall", "failed"},
        {VERDICT_CANCELLED, "cancelled", "cancelled"},
        {VERDICT_EXPIRED, "expired", "expired"},
        {VERDICT_REJECTED, "rejected", "failed"},
        {VERDICT_SETUP_FAILED, "setup_failed", "dead"},
        {VERDICT_BACKEND_ERROR, "backend_error", "dead"},
        {VERDICT_LOST, "lost", "dead"},
    };
    size_t count = sizeof all / sizeof *all;

    (void)state;
    assert_int_equal(count, VERDICT_COUNT - 1);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(verdict_name(all[i].verdict), all[i].name);
        assert_string_equal(verdict_status(all[i].verdict), all[i].status);
        assert_int_equal(verdict_from_name(all[i].name), all[i].verdict);
        assert_int_equal(verdict_retryable(all[i].verdict),
                         all[i].verdict == VERDICT_SETUP_FAILED ||
                             all[i].verdict == VERDICT_BACKEND_ERROR);
    }
    assert_int_equal(verdict_from_name("fine"), VERDICT_NONE);
    assert_int_equal(verdict_from_name(""), VERDICT_NONE);
}

static void error_texts_and_warnings_are_bounded(void **state)
{
    static char big[3 * ERROR_TEXT_MAX];
    struct outcome o;

    (void)state;
    for (size_t i = 0; i + 3 < sizeof big; i += 3)
        memcpy(big + i, "€", 3);
    outcome_init(&o, 16);
    outcome_error(&o, "first %d", 1);
    outcome_error(&o, "%s, then %s", o.error, big);
    assert_true(strlen(o.error) <= ERROR_TEXT_MAX);
    assert_memory_equal(o.error, "first 1, then €", 17);
    assert_string_equal(o.error + strlen(o.error) - 6, "€…");
    for (int i = 0; i < JOB_WARNINGS_MAX + 5; i++)
        outcome_warn(&o, "warning %d", i);
    assert_int_equal(o.nwarnings, JOB_WARNINGS_MAX);
    outcome_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_below_the_limit_is_one_text),
        cmocka_unit_test(a_flood_keeps_its_head_and_its_tail),
        cmocka_unit_test(characters_beside_the_gap_are_whole),
        cmocka_unit_test(without_a_gap_a_character_across_the_border_is_whole),
        cmocka_unit_test(a_limit_of_nothing_keeps_nothing),
        cmocka_unit_test(a_huge_flood_costs_no_more_than_its_limit),
        cmocka_unit_test(bytes_that_are_no_text_are_escaped),
        cmocka_unit_test(every_verdict_has_its_name_and_status),
        cmocka_unit_test(error_texts_and_warnings_are_bounded),
    };

    return cmocka_run_group_tests_name("outcome", tests, NULL, NULL);
}
