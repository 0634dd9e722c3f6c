/* tests/unit/test_e2b_events.c -- /execute's stream, cut, odd and hostile. */
#include "worker/e2b/events.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"

#define LIMIT (1 << 20)
#define END   "{\"type\": \"end_of_execution\"}\n"

struct fixture {
    struct outcome o;
    struct events e;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    MUST0(outcome_init(&f->o, LIMIT));
    MUST0(events_init(&f->e, &f->o, NULL, LIMIT));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    events_fini(&f->e);
    outcome_fini(&f->o);
    free(f);
    return 0;
}

static void again(struct fixture *f)
{
    events_fini(&f->e);
    outcome_fini(&f->o);
    MUST0(outcome_init(&f->o, LIMIT));
    MUST0(events_init(&f->e, &f->o, NULL, LIMIT));
}

static int feed(struct fixture *f, const char *text)
{
    return events_feed(&f->e, text, strlen(text));
}

static void assert_captured(struct capture *c, const char *text)
{
    assert_int_equal(c->total, strlen(text));
    assert_memory_equal(c->head.text ? c->head.text : "", text, strlen(text));
}

/* size times byte, between two texts. */
static int feed_long(struct fixture *f, const char *before, char byte,
                     size_t size, const char *after)
{
    char block[64 << 10];
    int rc = feed(f, before);

    memset(block, byte, sizeof(block));
    for (size_t at = 0; at < size && rc == 0; at += sizeof(block))
        rc = events_feed(&f->e, block, sizeof(block));
    return rc == 0 ? feed(f, after) : rc;
}

/* ---- the ordinary ------------------------------------------------------ */

static const char whole[] =
    "{\"type\": \"number_of_executions\", \"execution_count\": 1}\n"
    "{\"type\": \"stdout\", \"text\": \"gr\\u00fc\xc3\xbc\xf0\x9f\x98\x80"
    "\\ud83d\\ude00\\n\", \"timestamp\": \"t\"}\n"
    "{\"type\": \"keepalive\"}\n"
    "{\"type\": \"stderr\", \"text\": \"oh\", \"timestamp\": \"t\"}\r\n"
    "{\"type\": \"result\", \"text\": \"2\", \"extra\": {}, "
    "\"is_main_result\": true}\n"
    "\n"
    "{\"type\": \"error\", \"name\": \"E\", \"value\": \"v\", "
    "\"traceback\": \"\\u001b[0;31mE\\u001b[0m: v\\n\"}\n" END;

static void assert_whole(struct fixture *f)
{
    assert_true(f->e.ended);
    assert_captured(&f->o.out, "gr\xc3\xbc\xc3\xbc\xf0\x9f\x98\x80"
                               "\xf0\x9f\x98\x80\n");
    assert_captured(&f->o.err, "oh");
    assert_int_equal(f->o.nresults, 1);
    assert_string_equal(f->o.error_name, "E");
    assert_string_equal(f->o.error_value, "v");
    assert_string_equal(f->o.error_traceback, "E: v\n");
    assert_true(f->e.failed);
    assert_string_equal(f->e.lost, "");
    assert_int_equal(f->o.nwarnings, 0);
}

static void it_may_be_cut_at_every_byte(void **state)
{
    struct fixture *f = *state;
    size_t size = sizeof(whole) - 1;

    for (size_t cut = 0; cut <= size; cut++) {
        again(f);
        assert_int_equal(events_feed(&f->e, whole, cut), 0);
        /* The last line ends with its newline, and not before. */
        assert_true(f->e.ended == (cut == size));
        if (cut < size)
            assert_int_equal(events_feed(&f->e, whole + cut, size - cut), 0);
        assert_whole(f);
    }
}

static void it_may_come_byte_by_byte(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(whole) - 1; i++)
        assert_int_equal(events_feed(&f->e, whole + i, 1), 0);
    assert_whole(f);
}

static void without_its_end_it_is_not_whole(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed(f, "{\"type\":\"stdout\",\"text\":\"x\"}\n"), 0);
    assert_int_equal(feed(f, "{\"type\":\"end_of_execution\""), 0);
    events_last(&f->e);
    assert_false(f->e.ended); /* half a line is no line */
    assert_int_equal(feed(f, "}\n"), 0);
    assert_true(f->e.ended);
}

static void the_last_line_needs_no_newline(void **state)
{
    static const char *const ends[] = {
        "{\"type\":\"end_of_execution\"}",
        "{\"type\": \"end_of_execution\"} \r",
        "{\"n\":1,\"type\":\"end_of_execution\"}"};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        again(f);
        assert_int_equal(feed(f, ends[i]), 0);
        assert_false(f->e.ended); /* more of it could come */
        events_last(&f->e);
        assert_true(f->e.ended);
    }
}

static void what_only_names_the_end_is_not_it(void **state)
{
    static const char *const others[] = {
        "{\"type\":\"stdout\",\"text\":\"\\\"end_of_execution\\\"\"}",
        "{\"type\":\"x\",\"of\":\"end_of_execution\"}",
        "[\"end_of_execution\"]", "\"end_of_execution\"",
        "{\"type\":\"end_of_execution\"}x"};
    struct fixture *f = *state;

    events_last(&f->e);
    assert_false(f->e.ended);
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        again(f);
        assert_int_equal(feed(f, others[i]), 0);
        events_last(&f->e);
        assert_false(f->e.ended);
    }
}

static void nothing_counts_after_the_end(void **state)
{
    struct fixture *f = *state;
    const char *more = END "{\"type\":\"stdout\",\"text\":\"late\"}\n" END;

    assert_int_equal(feed(f, more), 0);
    assert_captured(&f->o.out, "");
    /* More of it is not read for ever. */
    assert_int_equal(feed(f, "{\"type\":\"keepalive\"}\n"), -EPROTO);
    assert_true(f->e.ended);
    assert_captured(&f->o.out, "");
}

static void unknown_types_and_blank_lines_are_passed_over(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed(f, "\n\r\n  \n{\"type\":\"from_the_future\",\"text\":"
                             "[1,{}]}\n{\"type\":\"\"}\n" END),
                     0);
    assert_true(f->e.ended);
    assert_captured(&f->o.out, "");
    assert_int_equal(f->o.nwarnings, 0);
}

/* ---- nonsense ---------------------------------------------------------- */

static void what_is_not_the_protocol_is_named(void **state)
{
    static const struct {
        const char *line, *why;
    } rows[] = {
        {"<html>502</html>\n", "a line that is not JSON"},
        {"[]\n", "a line that is no object"},
        {"\"stdout\"\n", "a line that is no object"},
        {"{}\n", "a line without a type"},
        {"{\"type\":7}\n", "a line without a type"},
        {"{\"type\":\"stdout\"}\n", "output without text"},
        {"{\"type\":\"stderr\",\"text\":[]}\n", "output without text"},
        {"{\"type\":\"error\",\"name\":\"E\",\"value\":\"v\"}\n",
         "an error without name, value and traceback"},
        {"{\"type\":\"error\",\"name\":1,\"value\":2,\"traceback\":3}\n",
         "an error without name, value and traceback"},
        {"{\"type\":\"stdout\",\"text\":\"\xff\"}\n",
         "a line that is not JSON"},
        {"{\"type\":\"stdout\",\"text\":\"x\"}}\n", "a line that is not JSON"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        again(f);
        if (feed(f, rows[i].line) != -EPROTO ||
            strcmp(f->e.why, rows[i].why) != 0)
            fail_msg("%s -> %s", rows[i].line, f->e.why);
    }
}

static void a_raw_nul_is_nonsense_but_no_overrun(void **state)
{
    static const char line[] = "{\"type\":\"stdout\",\"text\":\"a\0b\"}\n";
    struct fixture *f = *state;

    assert_int_equal(events_feed(&f->e, line, sizeof(line) - 1), -EPROTO);
}

static void results_of_the_wrong_shape_cost_only_themselves(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed(f, "{\"type\":\"result\",\"text\":[[]]}\n"
                             "{\"type\": \"result\" oops\n"
                             "{\"text\":\"late type\",\"type\":\"result\"}\n"
                             "{\"type\":\"stdout\",\"text\":\"on\"}\n" END),
                     0);
    assert_captured(&f->o.out, "on");
    assert_true(f->o.nwarnings > 0);
    assert_true(f->o.nresults >= 1);
}

/* ---- what code may print ------------------------------------------------ */

static void nuls_and_half_surrogates_are_shown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed(f, "{\"type\":\"stdout\",\"text\":\"a\\u0000b\"}\n"),
                     0);
    assert_int_equal(feed(f, "{\"type\":\"stdout\",\"text\":"
                             "\"\\ud83d|\\uDE00|\\ud83d\\ud83d\\ude00\"}\n"),
                     0);
    /* An escaped backslash in front: no escape at all. */
    assert_int_equal(feed(f, "{\"type\":\"stdout\",\"text\":\"\\\\ud83d\"}\n"),
                     0);
    assert_captured(&f->o.out, "a\\x00b"
                               "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd"
                               "\xf0\x9f\x98\x80"
                               "\\ud83d");
}

static void a_flood_keeps_what_came_and_ends_the_run(void **state)
{
    struct fixture *f = *state;
    int rc = 0;

    for (int i = 0; i < 5 * LIMIT / 1024 && rc == 0; i++)
        rc = feed_long(f, "{\"type\":\"stdout\",\"text\":\"", 'x', 1, "\"}\n");
    assert_int_equal(rc, -ENOBUFS);
    assert_true(f->o.out.total > (uint64_t)LIMIT * OUTPUT_FLOOD);
    assert_true(f->o.out.head.len > 0);
}

static void an_output_too_long_for_a_line_is_a_flood(void **state)
{
    static const char *const heads[] = {
        "{\"type\": \"stdout\", \"text\": \"begin",
        "{\"type\":\"stdout\",\"text\":\"begin",
        "{\"type\":\"stderr\",\"text\":\"begin",
    };
    /* A tail of escapes, of characters in parts, of plain text. */
    static const char bytes[] = {'x', '\\', '\xc3', '"'};
    struct fixture *f = *state;

    for (size_t i = 0; i < 3; i++)
        for (size_t b = 0; b < sizeof(bytes); b++) {
            again(f);
            assert_int_equal(
                feed_long(f, heads[i], bytes[b], EVENT_LINE_MAX, ""), -ENOBUFS);
            assert_int_equal(f->e.line.cap, 0);
            if (bytes[b] == 'x')
                assert_memory_equal((i == 2 ? &f->o.err : &f->o.out)->head.text,
                                    "beginxxx", 8);
        }
}

static void a_result_too_long_is_left_out(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed_long(f, "{\"type\": \"result\", \"png\": \"", 'A',
                               EVENT_LINE_MAX, "\"}\n" END),
                     0);
    assert_true(f->e.ended);
    assert_int_equal(f->o.nresults, 0);
    assert_int_equal(f->o.nwarnings, 1);
}

static void any_other_line_too_long_is_nonsense(void **state)
{
    static const char *const heads[] = {"{\"type\":\"keepalive\",\"x\":\"",
                                        "{\"type\":\"new\",\"x\":\"", "", "["};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        again(f);
        assert_int_equal(feed_long(f, heads[i], 'x', EVENT_LINE_MAX + 1, ""),
                         -EPROTO);
        assert_string_equal(f->e.why, "a line without an end");
    }
}

static void results_without_an_end_are_a_flood(void **state)
{
    struct fixture *f = *state;

    f->e.bytes = EVENTS_BYTES_MAX - 10;
    assert_int_equal(feed(f, "{\"type\":\"result\",\"text\":\"x\"}\n"),
                     -ENOBUFS);
}

/* ---- errors ------------------------------------------------------------ */

static void the_servers_own_errors_are_told_from_forged_ones(void **state)
{
    static const char *const names[] = {"ContextRestarting", "WebSocketError",
                                        "ExecutionAborted",
                                        "UnexpectedEndOfExecution"};
    struct fixture *f = *state;
    char line[256];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        again(f);
        snprintf(line, sizeof(line),
                 "{\"type\":\"error\",\"name\":\"%s\",\"value\":\"\","
                 "\"traceback\":\"\"}\n",
                 names[i]);
        assert_int_equal(feed(f, line), 0);
        assert_string_equal(f->e.lost, names[i]);
        /* class ContextRestarting(Exception): its traceback has lines. */
        again(f);
        snprintf(line, sizeof(line),
                 "{\"type\":\"error\",\"name\":\"%s\",\"value\":\"\","
                 "\"traceback\":\"Traceback\\n  line 1\\n%s\"}\n",
                 names[i], names[i]);
        assert_int_equal(feed(f, line), 0);
        assert_string_equal(f->e.lost, "");
        assert_string_equal(f->o.error_name, names[i]);
    }
    again(f);
    assert_int_equal(feed(f, "{\"type\":\"error\",\"name\":\"ValueError\","
                             "\"value\":\"\",\"traceback\":\"\"}\n"),
                     0);
    assert_string_equal(f->e.lost, "");
}

static void an_error_larger_than_a_frame_is_still_an_error(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed_long(f,
                               "{\"type\": \"error\", \"name\": \"E\", "
                               "\"traceback\": \"t\", \"value\": \"",
                               'v', 1 << 20, "\"}\n" END),
                     0);
    assert_true(f->e.ended && f->e.failed);
    assert_string_equal(f->o.error_name, "E");
    assert_in_range(strlen(f->o.error_value), 1000, ERROR_TEXT_MAX);
    assert_int_equal(f->o.nwarnings, 0);
}

static void so_is_one_larger_than_a_line(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed_long(f,
                               "{\"type\": \"error\", \"name\": "
                               "\"ContextRestarting\", \"value\": \"",
                               'v', 2 * EVENT_LINE_MAX,
                               "\", \"traceback\": \"\"}\n" END),
                     0);
    assert_true(f->e.ended && f->e.failed);
    assert_string_equal(f->o.error_name, "ContextRestarting");
    assert_string_equal(f->e.lost, ""); /* the server's own are short */
    assert_string_equal(f->e.why, "");
}

static void results_still_come_after_a_giant_error(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(feed_long(f,
                               "{\"type\":\"error\",\"name\":\"E\",\"value\":"
                               "\"\",\"traceback\":\"",
                               'v', 1 << 20, "\"}\n"),
                     0);
    assert_int_equal(feed(f, "{\"type\":\"result\",\"text\":\"2\"}\n" END), 0);
    assert_int_equal(f->o.nresults, 1);
}

static void colours_are_taken_out(void **state)
{
    char text[] = "\033[1;31mred\033[0m \033[38;5;1mx\033[K\033]y \033[";

    (void)state;
    strip_escapes(text);
    assert_string_equal(text, "red x\033]y ");
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(it_may_be_cut_at_every_byte),
        FRESH(it_may_come_byte_by_byte),
        FRESH(without_its_end_it_is_not_whole),
        FRESH(the_last_line_needs_no_newline),
        FRESH(what_only_names_the_end_is_not_it),
        FRESH(nothing_counts_after_the_end),
        FRESH(unknown_types_and_blank_lines_are_passed_over),
        FRESH(what_is_not_the_protocol_is_named),
        FRESH(a_raw_nul_is_nonsense_but_no_overrun),
        FRESH(results_of_the_wrong_shape_cost_only_themselves),
        FRESH(nuls_and_half_surrogates_are_shown),
        FRESH(a_flood_keeps_what_came_and_ends_the_run),
        FRESH(an_output_too_long_for_a_line_is_a_flood),
        FRESH(a_result_too_long_is_left_out),
        FRESH(any_other_line_too_long_is_nonsense),
        FRESH(results_without_an_end_are_a_flood),
        FRESH(the_servers_own_errors_are_told_from_forged_ones),
        FRESH(an_error_larger_than_a_frame_is_still_an_error),
        FRESH(so_is_one_larger_than_a_line),
        FRESH(results_still_come_after_a_giant_error),
        FRESH(colours_are_taken_out),
    };

    return cmocka_run_group_tests_name("e2b events", tests, NULL, NULL);
}
