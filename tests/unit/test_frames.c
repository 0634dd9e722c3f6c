#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "common/strbuf.h"
#include "tests/support/cmocka_all.h"
#include "worker/frames.h"

struct fixture {
    struct outcome o;
    struct frames f;
    struct strbuf pipe;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));

    MUST(x != NULL);
    MUST0(outcome_init(&x->o, 4096));
    MUST0(frames_init(&x->f, &x->o));
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;

    frames_fini(&x->f);
    outcome_fini(&x->o);
    strbuf_fini(&x->pipe);
    free(x);
    return 0;
}

static void add_head(struct fixture *x, char type, uint32_t size)
{
    const unsigned char head[5] = {(unsigned char)type, size & 0xff,
                                   size >> 8 & 0xff, size >> 16 & 0xff,
                                   size >> 24};

    strbuf_add(&x->pipe, head, sizeof(head));
}

static void add_frame(struct fixture *x, char type, const char *payload)
{
    add_head(x, type, (uint32_t)strlen(payload));
    strbuf_adds(&x->pipe, payload);
}

/* Feeds what was added, and ends. */
static void feed(struct fixture *x)
{
    assert_int_equal(frames_feed(&x->f, x->pipe.text, x->pipe.len), 0);
    frames_end(&x->f);
}

static const char *warnings(struct fixture *x)
{
    return x->o.nwarnings > 0 ? x->o.warnings[0] : "";
}

#define NULLS_BEFORE_EXTRA                                                    \
    "\"markdown\":null,\"svg\":null,\"png\":null,\"jpeg\":null,\"pdf\":null," \
    "\"latex\":null,\"json\":null,\"javascript\":null,\"data\":null,"         \
    "\"chart\":null,"

static void an_item_gets_every_key_in_contract_order(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'R',
              " { \"is_main_result\" : true , \"extra\":{\"a/b\":[1e3,-0.5]},"
              "\"html\":\"<b>\\u00e9\",\"text\":\"\xc3\xa9\" } ");
    feed(x);
    assert_string_equal(
        x->o.results.text,
        "{\"text\":\"\xc3\xa9\",\"html\":\"<b>\\u00e9\"," NULLS_BEFORE_EXTRA
        "\"extra\":{\"a/b\":[1e3,-0.5]},\"is_main_result\":true}");
    assert_int_equal(x->o.nresults, 1);
    assert_int_equal(x->o.nwarnings, 0);
}

static void frames_cut_anywhere_read_the_same(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'R', "{\"text\":\"1\"}");
    add_frame(x, 'W', "careful");
    add_frame(x, 'R', "{}");
    add_frame(x, 'E', "{\"name\":\"n\",\"value\":\"v\",\"traceback\":\"t\"}");
    for (size_t i = 0; i < x->pipe.len; i++)
        assert_int_equal(frames_feed(&x->f, x->pipe.text + i, 1), 0);
    frames_end(&x->f);
    assert_int_equal(x->o.nresults, 2);
    assert_string_equal(x->o.error_traceback, "t");
    assert_int_equal(x->o.nwarnings, 1);
    assert_string_equal(warnings(x), "careful");
}

static void bad_payloads_are_left_out_and_the_next_is_read(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"text\":1}",
        "{\"text\":\"a\",\"text\":\"b\"}",
        "{\"data\":\"x\"}",
        "{\"extra\":[]}",
        "{\"is_main_result\":1}",
        "{\"png\":\"a\"}",
        "{\"png\":\"=aaa\"}",
        "{\"png\":\"aa\\/a\"}",
        "{\"data\":[NaN]}",
        "{\"data\":[Infinity]}",
        "{\"text\":\"\\ud800\"}",
        "{\"text\":\"\xff\"}",
        "{\"text\":\"a\nb\"}",
        "{\"text\":\"a\"}}",
        "{\"text\":\"a\"",
        "{\"text\"}",
        "{text:1}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        void *own;

        setup(&own);
        add_frame(own, 'R', bad[i]);
        add_frame(own, 'R', "{\"png\":\"aa==\",\"text\":null}");
        feed(own);
        if (((struct fixture *)own)->o.nresults != 1)
            fail_msg("read as good: %s", bad[i]);
        assert_non_null(strstr(warnings(own), "result_rejected: "));
        teardown(&own);
    }
    (void)state;
}

static void nesting_leaves_room_for_the_levels_around_it(void **state)
{
    for (int over = 0; over < 2; over++) {
        void *own;
        struct strbuf json = STRBUF_INIT;
        int arrays = JSON_DEPTH_MAX - 3 + over; /* results, item, value */

        setup(&own);
        strbuf_adds(&json, "{\"data\":");
        for (int i = 0; i < arrays; i++)
            strbuf_addc(&json, '[');
        for (int i = 0; i < arrays; i++)
            strbuf_addc(&json, ']');
        strbuf_addc(&json, '}');
        add_frame(own, 'R', json.text);
        feed(own);
        assert_int_equal(((struct fixture *)own)->o.nresults, 1 - over);
        strbuf_fini(&json);
        teardown(&own);
    }
    (void)state;
}

static void a_very_deep_payload_does_not_exhaust_the_stack(void **state)
{
    struct fixture *x = *state;
    struct strbuf json = STRBUF_INIT;

    strbuf_adds(&json, "{\"data\":");
    for (int i = 0; i < 1000000; i++)
        strbuf_addc(&json, '[');
    add_frame(x, 'R', json.text);
    add_frame(x, 'E', json.text);
    feed(x);
    assert_int_equal(x->o.nresults, 0);
    assert_null(x->o.error_name);
    strbuf_fini(&json);
}

static void only_one_item_is_the_main_result(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'R', "{\"is_main_result\":true}");
    add_frame(x, 'R', "{\"is_main_result\":true}");
    feed(x);
    assert_int_equal(x->o.nresults, 2);
    assert_non_null(strstr(x->o.results.text, "\"is_main_result\":true}"));
    assert_non_null(strstr(x->o.results.text, "\"is_main_result\":false}"));
}

static void unknown_keys_are_dropped_with_one_warning(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'R', "{\"verdict\":\"ok\",\"text\":\"a\"}");
    add_frame(x, 'R', "{\"job_id\":{\"a\":[\"]}\"]},\"text\":\"b\"}");
    feed(x);
    assert_int_equal(x->o.nresults, 2);
    assert_int_equal(x->o.nwarnings, 1);
    assert_non_null(strstr(warnings(x), "\"verdict\""));
    assert_null(strstr(x->o.results.text, "verdict"));
    assert_null(strstr(x->o.results.text, "job_id"));
}

static void the_first_error_wins(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'E',
              "{\"name\":\"A\",\"value\":\"\\u00e9\","
              "\"traceback\":\"l1\\nl2\"}");
    add_frame(x, 'E', "{\"name\":\"B\",\"value\":\"b\",\"traceback\":\"\"}");
    feed(x);
    assert_string_equal(x->o.error_name, "A");
    assert_string_equal(x->o.error_value, "\xc3\xa9");
    assert_string_equal(x->o.error_traceback, "l1\nl2");
}

static void an_error_of_the_wrong_shape_is_a_warning(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'E', "{\"name\":\"A\",\"value\":1,\"traceback\":\"\"}");
    add_frame(x, 'E', "[1]");
    feed(x);
    assert_null(x->o.error_name);
    assert_int_equal(x->o.nwarnings, 2);
}

static void a_long_error_is_cut_at_a_whole_character(void **state)
{
    struct fixture *x = *state;
    struct strbuf json = STRBUF_INIT;

    strbuf_adds(&json, "{\"name\":\"A\",\"traceback\":\"\",\"value\":\"x");
    for (int i = 0; i < ERROR_TEXT_MAX; i++)
        strbuf_adds(&json, "\xc3\xa9");
    strbuf_adds(&json, "\"}");
    add_frame(x, 'E', json.text);
    feed(x);
    assert_int_equal(strlen(x->o.error_value), ERROR_TEXT_MAX - 1);
    strbuf_fini(&json);
}

static void what_is_no_frame_ends_the_reading(void **state)
{
    static const struct {
        char type;
        uint32_t size;
    } bad[] = {
        {'X', 1},
        {'\0', 0},
        {'R', RESULT_BYTES_MAX + 1},
        {'R', UINT32_MAX},
        {'E', FRAMES_ERROR_BYTES_MAX + 1},
        {'W', FRAMES_WARNING_BYTES_MAX + 1},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        void *own;

        setup(&own);
        add_head(own, bad[i].type, bad[i].size);
        add_frame(own, 'R', "{}");
        feed(own);
        assert_int_equal(((struct fixture *)own)->o.nresults, 0);
        assert_int_equal(((struct fixture *)own)->o.nwarnings, 1);
        assert_non_null(strstr(warnings(own), "was not read"));
        teardown(&own);
    }
    (void)state;
}

static void a_frame_cut_short_is_a_warning(void **state)
{
    struct fixture *x = *state;

    add_frame(x, 'R', "{}");
    add_head(x, 'R', 100);
    strbuf_adds(&x->pipe, "{\"text\":");
    feed(x);
    frames_end(&x->f);
    assert_int_equal(x->o.nresults, 1);
    assert_int_equal(x->o.nwarnings, 1);
    assert_non_null(strstr(warnings(x), "cut short"));
}

static void items_past_the_limit_are_left_out(void **state)
{
    struct fixture *x = *state;

    for (int i = 0; i < RESULT_ITEMS_MAX + 10; i++)
        add_frame(x, 'R', "{}");
    add_frame(x, 'E', "{\"name\":\"n\",\"value\":\"v\",\"traceback\":\"t\"}");
    feed(x);
    assert_int_equal(x->o.nresults, RESULT_ITEMS_MAX);
    assert_int_equal(x->o.nwarnings, 1);
    assert_string_equal(x->o.error_name, "n");
}

static void bytes_past_the_limit_are_left_out(void **state)
{
    struct fixture *x = *state;
    size_t size = RESULT_BYTES_MAX / 3;
    char *text = malloc(size + 1);

    MUST(text != NULL);
    memset(text, 'a', size);
    text[size] = '\0';
    for (int i = 0; i < 5; i++) {
        add_head(x, 'R', (uint32_t)(size + strlen("{\"text\":\"\"}")));
        strbuf_adds(&x->pipe, "{\"text\":\"");
        strbuf_adds(&x->pipe, text);
        strbuf_adds(&x->pipe, "\"}");
    }
    add_frame(x, 'R', "{\"text\":\"small\"}");
    feed(x);
    assert_int_equal(x->o.nresults, 3);
    assert_true(x->o.results.len <= RESULT_BYTES_MAX);
    assert_non_null(strstr(x->o.results.text, "\"small\""));
    assert_int_equal(x->o.nwarnings, 1);
    free(text);
}

static void warnings_of_the_code_do_not_crowd_out_ours(void **state)
{
    struct fixture *x = *state;

    for (int i = 0; i < 1000; i++)
        add_frame(x, 'W', "noise %n%s");
    feed(x);
    assert_int_equal(x->o.nwarnings, FRAMES_WARNINGS_MAX);
    assert_string_equal(warnings(x), "noise %n%s");
}

static void nothing_at_all_is_fine(void **state)
{
    struct fixture *x = *state;
    struct frames zeroed = {0};

    assert_int_equal(frames_feed(&x->f, "", 0), 0);
    frames_end(&x->f);
    assert_int_equal(x->o.nwarnings, 0);
    frames_fini(&zeroed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_item_gets_every_key_in_contract_order),
        T(frames_cut_anywhere_read_the_same),
        T(bad_payloads_are_left_out_and_the_next_is_read),
        T(nesting_leaves_room_for_the_levels_around_it),
        T(a_very_deep_payload_does_not_exhaust_the_stack),
        T(only_one_item_is_the_main_result),
        T(unknown_keys_are_dropped_with_one_warning),
        T(the_first_error_wins),
        T(an_error_of_the_wrong_shape_is_a_warning),
        T(a_long_error_is_cut_at_a_whole_character),
        T(what_is_no_frame_ends_the_reading),
        T(a_frame_cut_short_is_a_warning),
        T(items_past_the_limit_are_left_out),
        T(bytes_past_the_limit_are_left_out),
        T(warnings_of_the_code_do_not_crowd_out_ours),
        T(nothing_at_all_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
