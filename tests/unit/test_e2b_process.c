/* tests/unit/test_e2b_process.c -- envd's stream of a process: envelopes cut,
 * odd and hostile. */
#include "worker/e2b/process.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/e2b/events.h"

#define LIMIT (1 << 20)
#define START "{\"event\":{\"start\":{\"pid\":7}}}"
#define OUT   "{\"event\":{\"data\":{\"stdout\":\"aGkK\"}}}"
#define ERR   "{\"event\":{\"data\":{\"stderr\":\"b2g=\"}}}"
#define ALIVE "{\"event\":{\"keepalive\":{}}}"
#define ENDED \
    "{\"event\":{\"end\":{\"exited\":true,\"status\":\"exit status 0\"}}}"

struct fixture {
    struct outcome o;
    struct process p;
    struct strbuf wire;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    MUST0(outcome_init(&f->o, LIMIT));
    process_init(&f->p, &f->o, NULL, LIMIT);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    process_fini(&f->p);
    outcome_fini(&f->o);
    strbuf_fini(&f->wire);
    free(f);
    return 0;
}

static void again(struct fixture *f)
{
    process_fini(&f->p);
    outcome_fini(&f->o);
    strbuf_clear(&f->wire);
    MUST0(outcome_init(&f->o, LIMIT));
    process_init(&f->p, &f->o, NULL, LIMIT);
}

static void add(struct fixture *f, int flag, const char *message)
{
    size_t at = f->wire.len;

    envelope_wrap(message, strlen(message), &f->wire);
    f->wire.text[at] = (char)flag;
}

static int feed(struct fixture *f)
{
    int rc = process_feed(&f->p, f->wire.text, f->wire.len);

    strbuf_clear(&f->wire);
    return rc;
}

static void add_whole(struct fixture *f)
{
    add(f, 0, START);
    add(f, 0, ALIVE);
    add(f, 0, OUT);
    add(f, 0, ERR);
    add(f, 0, ENDED);
    add(f, 2, "{}");
}

static void assert_whole(const struct fixture *f)
{
    assert_true(f->p.started && f->p.exited && f->p.ended);
    assert_int_equal(f->p.exit_code, 0);
    assert_int_equal(f->p.signal, 0);
    assert_string_equal(f->p.code, "");
    assert_int_equal(f->o.out.total, 3);
    assert_memory_equal(f->o.out.head.text, "hi\n", 3);
    assert_memory_equal(f->o.err.head.text, "oh", 2);
}

static void it_may_be_cut_at_every_byte(void **state)
{
    struct fixture *f = *state;
    size_t size;

    add_whole(f);
    size = f->wire.len;
    for (size_t cut = 0; cut <= size; cut++) {
        again(f);
        add_whole(f);
        assert_int_equal(process_feed(&f->p, f->wire.text, cut), 0);
        assert_true(f->p.ended == (cut == size));
        if (cut < size)
            assert_int_equal(
                process_feed(&f->p, f->wire.text + cut, size - cut), 0);
        assert_whole(f);
    }
}

static void without_an_outcome_its_text_is_kept(void **state)
{
    struct fixture *f = *state;

    process_fini(&f->p);
    process_init(&f->p, NULL, NULL, 0);
    add_whole(f);
    assert_int_equal(feed(f), 0);
    assert_string_equal(f->p.text.text, "hi\n");
}

static void an_end_tells_code_or_signal(void **state)
{
    static const struct {
        const char *end;
        int exit_code, signal;
    } rows[] = {
        {"\"exitCode\":3,\"exited\":true,\"status\":\"exit status 3\"", 3, 0},
        {"\"exited\":true", 0, 0},
        {"\"exitCode\":137,\"exited\":true", 137, 0},
        {"\"exitCode\":-1,\"status\":\"signal: killed\"", -1, SIGKILL},
        {"\"exitCode\":-1,\"status\":\"signal: segmentation fault (core "
         "dumped)\"",
         -1, SIGSEGV},
        {"\"exitCode\":-1,\"status\":\"signal: terminated\"", -1, SIGTERM},
        {"\"exitCode\":-1,\"status\":\"signal: bad system call\"", -1, SIGSYS},
        {"\"exitCode\":-1,\"status\":\"signal: signal 35\"", -1, 35},
        {"\"exitCode\":-1,\"status\":\"signal: news to us\"", -1, SIGKILL},
        {"\"exitCode\":-1,\"status\":\"signal: signal -5\"", -1, SIGKILL},
    };
    struct fixture *f = *state;
    char message[200];

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        again(f);
        snprintf(message, sizeof(message), "{\"event\":{\"end\":{%s}}}",
                 rows[i].end);
        add(f, 0, message);
        assert_int_equal(feed(f), 0);
        assert_true(f->p.exited && !f->p.ended);
        assert_int_equal(f->p.signal, rows[i].signal);
        assert_int_equal(f->p.exit_code, rows[i].exit_code);
    }
}

static void the_streams_end_may_carry_an_error(void **state)
{
    struct fixture *f = *state;

    add(f, 0, START);
    add(f, 2,
        "{\"error\":{\"code\":\"unavailable\",\"message\":\"it is "
        "gone\",\"details\":[]},\"metadata\":{}}");
    assert_int_equal(feed(f), 0);
    assert_true(f->p.ended && !f->p.exited);
    assert_string_equal(f->p.code, "unavailable");
    assert_string_equal(f->p.why, "it is gone");
    again(f);
    add(f, 2, "{\"error\":{}}");
    assert_int_equal(feed(f), 0);
    assert_string_equal(f->p.code, "unknown");
    again(f);
    add(f, 2, "{\"error\":null}");
    assert_int_equal(feed(f), 0);
    assert_string_equal(f->p.code, "");
}

static void a_long_error_is_cut(void **state)
{
    struct fixture *f = *state;
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;

    strbuf_adds(&message, "{\"error\":{\"code\":\"");
    for (int i = 0; i < 500; i++)
        strbuf_adds(&message, "code");
    strbuf_adds(&message, "\",\"message\":\"");
    for (int i = 0; i < 500; i++)
        strbuf_adds(&message, "text");
    strbuf_adds(&message, "\"}}");
    add(f, 2, message.text);
    assert_int_equal(feed(f), 0);
    assert_int_equal(strlen(f->p.code), sizeof(f->p.code) - 1);
    assert_int_equal(strlen(f->p.why), sizeof(f->p.why) - 1);
    again(f); /* and no character is torn */
    strbuf_clear(&message);
    strbuf_adds(&message, "{\"error\":{\"message\":\"x");
    for (int i = 0; i < 500; i++)
        strbuf_adds(&message, "\xe2\x82\xac");
    strbuf_adds(&message, "\"}}");
    add(f, 2, message.text);
    assert_int_equal(feed(f), 0);
    assert_int_equal(strlen(f->p.why), 1 + (sizeof(f->p.why) - 2) / 3 * 3);
}

static void an_errors_text_shows_no_token(void **state)
{
    struct fixture *f = *state;

    f->p.secrets[0] = "9f9f9f";
    add(f, 2, "{\"error\":{\"message\":\"bad token 9F9F9F\"}}");
    assert_int_equal(feed(f), 0);
    assert_string_equal(f->p.why, "bad token ***");
}

static void nothing_counts_after_the_end(void **state)
{
    struct fixture *f = *state;

    add_whole(f);
    add(f, 0, OUT);
    assert_int_equal(feed(f), 0);
    assert_whole(f);
    add(f, 0, OUT);
    assert_int_equal(feed(f), -EPROTO);
    assert_whole(f);
}

static void what_is_not_the_protocol_is_named(void **state)
{
    static const struct {
        int flag;
        const char *message, *why;
    } rows[] = {
        {1, "\x1f\x8b", "a compressed message"},
        {3, "{}", "a compressed message"},
        {0, "", "a message that is not JSON"},
        {0, "<html>", "a message that is not JSON"},
        {2, "no", "a message that is not JSON"},
        {0, "[]", "a message without an event"},
        {0, "{}", "a message without an event"},
        {0, "{\"event\":7}", "a message without an event"},
        {0, "{\"event\":{\"data\":{\"stdout\":\"no base64!\"}}}",
         "output that is not base64"},
        {0, "{\"event\":{\"data\":{\"stdout\":5}}}", "output that is no text"},
        {0, "{\"event\":{\"data\":{\"stderr\":{}}}}", "output that is no text"},
        {0, "{\"event\":{\"data\":7}}", "data of the wrong shape"},
        {0, "{\"event\":{\"end\":{}}}",
         "an end with neither an exit nor a signal"},
        {0, "{\"event\":{\"end\":{\"exited\":false,\"exitCode\":3}}}",
         "an end with neither an exit nor a signal"},
        {0, "{\"event\":{\"end\":null}}", "an end of the wrong shape"},
        {0, "{\"event\":{\"end\":{\"exited\":\"yes\"}}}",
         "an end of the wrong shape"},
        {0, "{\"event\":{\"end\":{\"exitCode\":\"3\"}}}", NULL},
        {0, "{\"event\":{\"end\":{\"status\":[]}}}", NULL},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        again(f);
        add(f, rows[i].flag, rows[i].message);
        if (feed(f) != -EPROTO || f->p.exited ||
            (rows[i].why && strcmp(f->p.why, rows[i].why) != 0))
            fail_msg("%s -> %s", rows[i].message, f->p.why);
    }
}

static void nothing_comes_of_a_process_that_has_ended(void **state)
{
    static const char *const more[] = {OUT, ENDED};
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        again(f);
        add(f, 0, START);
        add(f, 0, ENDED);
        add(f, 0, ALIVE);
        assert_int_equal(feed(f), 0);
        add(f, 0, more[i]);
        assert_int_equal(feed(f), -EPROTO);
        assert_string_equal(f->p.why, "more of a process that has ended");
        assert_int_equal(f->o.out.total, 0);
    }
}

static void what_is_new_to_us_is_passed_over(void **state)
{
    struct fixture *f = *state;

    add(f, 0, "{\"event\":{\"later\":{}},\"more\":1}");
    add(f, 0, "{\"event\":{}}");
    add(f, 0, "{\"event\":{\"data\":{\"pty\":\"aGkK\"}}}");
    add(f, 0, "{\"event\":{\"data\":{}}}");
    add_whole(f);
    assert_int_equal(feed(f), 0);
    assert_whole(f);
}

static void a_giant_envelope_is_not_waited_for(void **state)
{
    static const char heads[][6] = {"\0\xff\xff\xff\xff", "\0\0\x10\0\x01"};
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        again(f);
        assert_int_equal(process_feed(&f->p, heads[i], 5), -EPROTO);
        assert_string_equal(f->p.why, "a message larger than any may be");
    }
    again(f); /* the largest that may be */
    assert_int_equal(process_feed(&f->p, "\0\0\x10\0\0", 5), 0);
}

static void a_flood_ends_it(void **state)
{
    struct fixture *f = *state;
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    int rc = 0;

    strbuf_adds(&message, "{\"event\":{\"data\":{\"stdout\":\"");
    for (int i = 0; i < 10000; i++)
        strbuf_adds(&message, "eHh4");
    strbuf_adds(&message, "\"}}}");
    for (int i = 0; i < 200 && rc == 0; i++) {
        add(f, 0, message.text);
        rc = feed(f);
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_true(f->o.out.total > (uint64_t)LIMIT * OUTPUT_FLOOD);
    assert_true(f->o.out.dropped > 0);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(it_may_be_cut_at_every_byte),
        FRESH(without_an_outcome_its_text_is_kept),
        FRESH(an_end_tells_code_or_signal),
        FRESH(the_streams_end_may_carry_an_error),
        FRESH(a_long_error_is_cut),
        FRESH(an_errors_text_shows_no_token),
        FRESH(nothing_counts_after_the_end),
        FRESH(what_is_not_the_protocol_is_named),
        FRESH(nothing_comes_of_a_process_that_has_ended),
        FRESH(what_is_new_to_us_is_passed_over),
        FRESH(a_giant_envelope_is_not_waited_for),
        FRESH(a_flood_ends_it),
    };

    return cmocka_run_group_tests_name("e2b process", tests, NULL, NULL);
}
