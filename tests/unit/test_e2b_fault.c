/* tests/unit/test_e2b_fault.c -- the table of E2B's answers. */
#include "worker/e2b/fault.h"

#include <stdio.h>
#include <string.h>

#include "common/strbuf.h"
#include "common/utf8.h"
#include "tests/support/cmocka_all.h"

#define JSON(code, message) "{\"code\":" #code ",\"message\":\"" message "\"}"

/* What the proxy says of one sandbox. */
#define GUEST(message) \
    "{\"sandboxId\":\"i1\",\"message\":\"" message "\",\"code\":502}"

#define CODED(code) \
    "{\"code\":503,\"message\":\"Failed\",\"error_code\":\"" code "\"}"

static void fill(struct http_call *call, int status, int retry_after_s,
                 const char *body)
{
    *call =
        (struct http_call){.status = status, .retry_after_s = retry_after_s};
    strbuf_adds(&call->answer, body);
}

static void every_answer_has_its_fault(void **state)
{
    static const struct {
        int status, retry_after_s;
        const char *body;
        enum fault control, sandbox;
    } rows[] = {
        {200, -1, "", FAULT_NONE, FAULT_NONE},
        {201, -1, "{}", FAULT_NONE, FAULT_NONE},
        {204, -1, "", FAULT_NONE, FAULT_NONE},
        {301, -1, "", FAULT_NONSENSE, FAULT_NONSENSE},
        {307, -1, "", FAULT_NONSENSE, FAULT_NONSENSE},
        {400, -1, JSON(400, "validation error: x"), FAULT_REFUSED,
         FAULT_REFUSED},
        {401, -1, JSON(401, "Invalid API key"), FAULT_KEY, FAULT_KEY},
        {403, -1, JSON(403, "Team is blocked"), FAULT_FORBIDDEN,
         FAULT_FORBIDDEN},
        {404, -1, JSON(404, "not found"), FAULT_GONE, FAULT_GONE},
        {400, -1, "<html>Bad Request", FAULT_NONSENSE, FAULT_REFUSED},
        {404, -1, "<html>Not Found", FAULT_NONSENSE, FAULT_GONE},
        {404, -1, "{\"detail\":\"Not Found\"}", FAULT_NONSENSE, FAULT_GONE},
        {404, -1, "", FAULT_NONSENSE, FAULT_GONE},
        {409, -1, JSON(409, "changing"), FAULT_CONFLICT, FAULT_CONFLICT},
        {422, -1, "{\"detail\":[]}", FAULT_REFUSED, FAULT_REFUSED},
        /* (a) of the account, (b) of a route, (c) of the edge */
        {429, -1,
         JSON(429, "you have reached the maximum number of concurrent E2B "
                   "sandboxes (20)"),
         FAULT_ACCOUNT, FAULT_ACCOUNT},
        {429, 3, JSON(429, "Rate limit exceeded"), FAULT_RATE, FAULT_RATE},
        {429, 3, JSON(429, "too many concurrent requests"), FAULT_RATE,
         FAULT_RATE},
        {429, -1, "<!doctype html>concurrent", FAULT_RATE, FAULT_RATE},
        {429, -1, "", FAULT_RATE, FAULT_RATE},
        {500, -1, JSON(500, "Failed to place sandbox"), FAULT_UNSURE,
         FAULT_UNSURE},
        {502, -1, "<html>502 Bad Gateway", FAULT_UNSURE, FAULT_UNSURE},
        {502, -1, GUEST("The sandbox was not found"), FAULT_UNSURE, FAULT_GONE},
        {502, -1, GUEST("It is no more"), FAULT_UNSURE, FAULT_GONE},
        {502, -1,
         "{\"sandboxId\":\"i1\",\"message\":\"Nobody listens\",\"port\":"
         "49999,\"code\":502}",
         FAULT_UNSURE, FAULT_SHUT},
        {502, -1, "{\"message\":\"page not found\"}", FAULT_UNSURE,
         FAULT_UNSURE},
        {502, -1, "{\"message\":502}", FAULT_UNSURE, FAULT_UNSURE},
        {503, -1, JSON(503, "no capacity"), FAULT_AWAY, FAULT_AWAY},
        {503, -1, CODED("sandbox_capacity_unavailable"), FAULT_AWAY,
         FAULT_AWAY},
        {503, -1, CODED("sandbox_no_compatible_node"), FAULT_NO_NODE,
         FAULT_NO_NODE},
        {504, -1, JSON(504, "in time"), FAULT_UNSURE, FAULT_UNSURE},
        {507, -1, JSON(507, "not enough disk space"), FAULT_REFUSED,
         FAULT_REFUSED},
        {599, -1, "", FAULT_UNSURE, FAULT_UNSURE},
        {0, -1, "", FAULT_NONSENSE, FAULT_NONSENSE},
        {101, -1, "", FAULT_NONSENSE, FAULT_NONSENSE},
        {999, -1, "", FAULT_UNSURE, FAULT_UNSURE},
    };
    struct http_call call;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        fill(&call, rows[i].status, rows[i].retry_after_s, rows[i].body);
        if (fault_of(&call, PLANE_CONTROL) != rows[i].control ||
            fault_of(&call, PLANE_SANDBOX) != rows[i].sandbox)
            fail_msg("HTTP %d %s", rows[i].status, rows[i].body);
        http_call_fini(&call);
    }
}

static void no_answer_is_unsure_once_it_was_sent(void **state)
{
    static const struct {
        enum http_trouble trouble;
        bool sent;
        enum fault fault;
    } rows[] = {
        {HTTP_NO_NAME, false, FAULT_AWAY},
        {HTTP_NO_CONNECT, false, FAULT_AWAY},
        {HTTP_NO_TLS, false, FAULT_AWAY},
        {HTTP_BROKEN, false, FAULT_AWAY},
        {HTTP_BROKEN, true, FAULT_UNSURE},
        {HTTP_STALLED, true, FAULT_UNSURE},
        {HTTP_LATE, true, FAULT_UNSURE},
        {HTTP_LATE, false, FAULT_AWAY},
        {HTTP_ABORTED, true, FAULT_ABORTED},
        {HTTP_ABORTED, false, FAULT_ABORTED},
        {HTTP_REFUSED, true, FAULT_NONSENSE},
    };
    char text[120];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct http_call call = {
            .rc = -1, .trouble = rows[i].trouble, .sent = rows[i].sent};

        /* A status that came before it broke is worth nothing. */
        call.status = rows[i].sent ? 201 : 0;
        assert_int_equal(fault_of(&call, PLANE_CONTROL), rows[i].fault);
        fault_text(&call, text, sizeof(text));
        assert_true(strlen(text) > 5);
    }
}

/* Whatever the cut meets, it leaves whole characters. */
static void a_long_message_is_cut_between_characters(void **state)
{
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac",
                                             "\xf0\x9f\x98\x80"};
    char body[2000], text[400];
    struct http_call call;
    uint32_t point;

    (void)state;
    for (size_t i = 0; i < 4 * 4; i++) {
        char *end = body + sprintf(body, "{\"code\":400,\"message\":\"%.*s",
                                   (int)(i / 4), "abc");

        for (int n = 0; n < 300; n++)
            end = stpcpy(end, characters[i % 4]);
        strcpy(end, "\"}");
        fill(&call, 400, -1, body);
        fault_text(&call, text, sizeof(text));
        assert_in_range(strlen(text), 190, 220);
        for (size_t at = 0, step; text[at]; at += step) {
            step = utf8_decode(text + at, strlen(text + at), &point);
            assert_int_not_equal(step, 0);
        }
        http_call_fini(&call);
    }
}

static void only_what_says_that_it_is_away_is_an_outage(void **state)
{
    static const enum fault outages[] = {FAULT_AWAY, FAULT_UNSURE, FAULT_KEY,
                                         FAULT_FORBIDDEN, FAULT_NONSENSE};
    static const enum fault others[] = {
        FAULT_NONE,     FAULT_REFUSED, FAULT_GONE,   FAULT_SHUT,
        FAULT_CONFLICT, FAULT_ACCOUNT, FAULT_RATE,   FAULT_ABORTED,
        FAULT_LATE,     FAULT_FLOOD,   FAULT_NO_NODE};

    (void)state;
    for (size_t i = 0; i < sizeof(outages) / sizeof(*outages); i++)
        assert_true(fault_is_outage(outages[i]));
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        assert_false(fault_is_outage(others[i]));
}

static void its_words_are_short_and_tame(void **state)
{
    struct http_call call;
    char text[120];

    (void)state;
    fill(&call, 500, -1, JSON(500, "a\\u001b[31mred\\nline"));
    fault_text(&call, text, sizeof(text));
    assert_string_equal(text, "HTTP 500: a [31mred line");
    http_call_fini(&call);
    fill(&call, 302, -1, "");
    fault_text(&call, text, sizeof(text));
    assert_string_equal(text, "HTTP 302: a redirect, which is not followed");
    http_call_fini(&call);
    fill(&call, 502, -1, "<html>not JSON</html>");
    fault_text(&call, text, sizeof(text));
    assert_string_equal(text, "HTTP 502");
    http_call_fini(&call);
    fill(&call, 400, -1, "{\"message\":\"");
    for (int i = 0; i < 5000; i++)
        strbuf_adds(&call.answer, "long ");
    strbuf_adds(&call.answer, "\"}");
    fault_text(&call, text, sizeof(text));
    assert_int_equal(strlen(text), sizeof(text) - 1);
    http_call_fini(&call);
}

static void a_closed_port_tells_what_to_do(void **state)
{
    struct http_call call;
    char text[200];

    (void)state;
    fill(&call, 502, -1,
         "{\"sandboxId\":\"i1\",\"message\":\"The sandbox is running but port "
         "is not open\",\"port\":49999,\"code\":502}");
    fault_text(&call, text, sizeof(text));
    assert_non_null(strstr(text, "start command"));
    http_call_fini(&call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_has_its_fault),
        cmocka_unit_test(no_answer_is_unsure_once_it_was_sent),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(only_what_says_that_it_is_away_is_an_outage),
        cmocka_unit_test(its_words_are_short_and_tame),
        cmocka_unit_test(a_closed_port_tells_what_to_do),
    };

    return cmocka_run_group_tests_name("e2b fault", tests, NULL, NULL);
}
