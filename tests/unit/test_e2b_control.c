/* tests/unit/test_e2b_control.c -- the control plane's requests as they go over
 * the wire, and answers that must not be swallowed. */
#include "worker/e2b/control.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/answers.h"
#include "tests/support/cmocka_all.h"

#define BARE "0123456789abcdef0123456789abcdef01234567"
#define KEY  "e2b_" BARE
#define ID   "i1q2w3e4r5t6y7u8i9o0p"
#define MADE                                                       \
    "\"alias\":\"code-interpreter-v1\",\"clientID\":\"6532622b\"," \
    "\"envdVersion\":\"0.6.13\",\"templateID\":\"nlhz8vlwyupq845jsdg9\""

struct fixture {
    struct answers a;
    struct http *http;
    struct control c;
    struct settings settings;
    char text[CONTROL_TEXT_MAX];
    struct control_sandbox made;
    int retry_after_s;
};

static void replace(char **text, const char *with)
{
    free(*text);
    *text = strdup(with);
    MUST(*text);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    MUST0(settings_init(&f->settings));
    MUST0(http_open("", 8, &f->http));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    http_close(f->http);
    if (f->a.url[0])
        answers_close(&f->a);
    settings_fini(&f->settings);
    free(f);
    return 0;
}

static void begin(struct fixture *f, const char *const *script)
{
    answers_open(&f->a, script);
    replace(&f->settings.e2b_key, KEY);
    replace(&f->settings.e2b_api_url, f->a.url);
    MUST0(control_init(&f->c, &f->settings, f->http));
}

static enum fault create(struct fixture *f)
{
    const struct control_create want = {
        .template_id = "team/\"odd\":v1",
        .ttl_s = 180,
        .internet = false,
        .meta = {{"capibox", "f1"}, {"capibox_job", "a\"b\\c"}},
    };

    return control_create(&f->c, &want, NULL, &f->made, &f->retry_after_s,
                          f->text);
}

/* ---- create -------------------------------------------------------------- */

static void create_asks_in_so_many_words(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 201 Created\r\n\r\n{" MADE ",\"sandboxID\":\"" ID
        "\",\"envdAccessToken\":\"9f9f\",\"trafficAccessToken\":null,"
        "\"domain\":\"d.example\",\"later\":[1]}",
        NULL};
    struct fixture *f = *state;

    begin(f, script);
    assert_int_equal(create(f), FAULT_NONE);
    assert_string_equal(f->made.id, ID);
    assert_string_equal(f->made.token, "9f9f");
    assert_string_equal(f->made.traffic, "");
    assert_string_equal(f->made.domain, "d.example");
    assert_int_equal(f->retry_after_s, -1);
    assert_memory_equal(f->a.seen[0], "POST /sandboxes HTTP/1.1\r\n", 26);
    assert_non_null(strstr(f->a.seen[0], "\r\nX-API-Key: " KEY "\r\n"));
    assert_non_null(
        strstr(f->a.seen[0], "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(f->a.seen[0], "\r\nAccept: application/json\r\n"));
    assert_string_equal(
        strstr(f->a.seen[0], "\r\n\r\n") + 4,
        "{\"templateID\":\"team/\\\"odd\\\":v1\",\"timeout\":180,\"secure\":"
        "true,\"allow_internet_access\":false,\"metadata\":{\"capibox\":\"f1\","
        "\"capibox_job\":\"a\\\"b\\\\c\"}}");
}

static void an_answer_that_is_no_sandbox_is_nonsense(void **state)
{
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "<html>created</html>",
        "{\"sandboxID\":\"" ID "\"",
        "{\"sandboxID\":\"" ID "\"}", /* not secure: no token */
        "{\"sandboxID\":7,\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"\",\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"../../x?y#z\",\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"a-b\",\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"A\",\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"a\\r\\nX-Evil: 1\",\"envdAccessToken\":\"t\"}",
        "{\"sandboxID\":\"a\",\"envdAccessToken\":\"t\\r\\nX-Evil: 1\"}",
        "{\"sandboxID\":\"a\",\"envdAccessToken\":\"t\",\"domain\":\"e/..@x\"}",
        "{\"sandboxID\":\"a\",\"envdAccessToken\":\"t\",\"domain\":[]}",
        "{\"sandboxID\":\"a\",\"envdAccessToken\":\"t\","
        "\"trafficAccessToken\":\"a b\"}",
        "{\"sandboxID\":"
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "a"
        "\",\"envdAccessToken\":\"t\"}",
    };
    struct fixture *f = *state;
    char answer[512];

    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        const char *const script[] = {answer, NULL};

        snprintf(answer, sizeof(answer), "HTTP/1.1 201 Created\r\n\r\n%s",
                 bodies[i]);
        begin(f, script);
        if (create(f) != FAULT_NONSENSE || !strstr(f->text, "makes no sense"))
            fail_msg("%s -> %s", bodies[i], f->text);
        answers_close(&f->a);
    }
    f->a.url[0] = '\0';
}

static void a_template_that_is_not_there_is_refused(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 404 Not Found\r\n\r\n{\"code\":404,\"message\":\"template "
        "'x' not found\"}",
        "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n{\"code\":429}", NULL};
    struct fixture *f = *state;

    begin(f, script);
    assert_int_equal(create(f), FAULT_REFUSED);
    assert_string_equal(f->text, "HTTP 404: template 'x' not found");
    assert_int_equal(create(f), FAULT_RATE);
    assert_int_equal(f->retry_after_s, 7);
}

static void a_server_that_repeats_the_key_does_not_spread_it(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 401 No\r\n\r\n{\"message\":\"bad key " KEY "/" KEY " of " BARE
        "\"}",
        NULL};
    struct fixture *f = *state;

    begin(f, script);
    assert_int_equal(create(f), FAULT_KEY);
    assert_string_equal(f->text, "HTTP 401: bad key ***/*** of ***");
}

/* Texts are shortened, maybe in the middle of a key. */
static void nor_a_part_of_it(void **state)
{
    char pad[181], answer[400];
    const char *script[] = {answer, NULL};
    struct fixture *f = *state;

    memset(pad, 'x', sizeof(pad) - 1);
    pad[sizeof(pad) - 1] = '\0';
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 401 No\r\n\r\n{\"message\":\"%s%s\"}", pad, KEY);
    begin(f, script);
    assert_int_equal(create(f), FAULT_KEY);
    assert_null(strstr(f->text, "e2b_"));
}

static void a_template_of_long_ago_is_refused(void **state)
{
    static const struct {
        const char *version;
        enum fault fault;
    } rows[] = {{"0.0.9", FAULT_REFUSED},
                {"0.1.0", FAULT_NONE},
                {"1.0.0-rc+x", FAULT_NONE},
                {"", FAULT_NONE}};
    struct fixture *f = *state;
    char answer[256];
    const char *const script[] = {answer, NULL};

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        snprintf(answer, sizeof(answer),
                 "HTTP/1.1 201 Created\r\n\r\n{\"sandboxID\":\"" ID
                 "\",\"envdAccessToken\":\"t\",\"envdVersion\":\"%s\"}",
                 rows[i].version);
        begin(f, script);
        assert_int_equal(create(f), rows[i].fault);
        assert_string_equal(f->made.id, ID); /* to be killed */
        assert_int_equal(!strstr(f->text, "envd 0.0.9 is too old"), i > 0);
        answers_close(&f->a);
    }
    f->a.url[0] = '\0';
}

/* ---- kill ---------------------------------------------------------------- */

static void gone_is_killed(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\n\r\n{\"code\":404}",
        "HTTP/1.1 429 No\r\nRetry-After: 7\r\n\r\n{\"code\":429}", NULL};
    struct fixture *f = *state;

    begin(f, script);
    assert_int_equal(
        control_kill(&f->c, NULL, ID, 5000, &f->retry_after_s, f->text),
        FAULT_NONE);
    assert_int_equal(
        control_kill(&f->c, NULL, ID, 5000, &f->retry_after_s, f->text),
        FAULT_NONE);
    assert_int_equal(
        control_kill(&f->c, NULL, ID, 5000, &f->retry_after_s, f->text),
        FAULT_RATE);
    assert_int_equal(f->retry_after_s, 7);
    assert_memory_equal(f->a.seen[0], "DELETE /sandboxes/" ID " HTTP/1.1\r\n",
                        40);
}

/* Else a sandbox would be forgotten that lives, and is paid for. */
static void not_found_by_another_is_no_kill(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 404 Not Found\r\n\r\n<html>nginx</html>", NULL};
    struct fixture *f = *state;

    begin(f, script);
    assert_int_equal(
        control_kill(&f->c, NULL, ID, 5000, &f->retry_after_s, f->text),
        FAULT_NONSENSE);
}

static void many_are_killed_at_once(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 No\r\nRetry-After: 9\r\n\r\n{}",
        "HTTP/1.1 404 Not Found\r\n\r\n{\"code\":404}", NULL};
    char ids[3][CONTROL_ID_MAX + 1] = {"a", "b", "c"};
    struct fixture *f = *state;
    bool good[3];
    int killed = 0;

    begin(f, script);
    control_kill_many(&f->c, ids, 3, 5000, good, &f->retry_after_s);
    for (int i = 0; i < 3; i++)
        killed += good[i];
    assert_int_equal(killed, 2);
    assert_int_equal(f->retry_after_s, 9);
    assert_int_equal(answers_requests(&f->a), 3);
}

/* ---- list ---------------------------------------------------------------- */

static void a_filter_is_encoded_three_times(void **state)
{
    AUTO_STRBUF struct strbuf url = STRBUF_INIT;

    (void)state;
    control_add_filter(&url, "k 1", "v&1"); /* as E2B's own SDK sent it */
    assert_string_equal(url.text, "k%2525201%3Dv%2525261");
    strbuf_clear(&url);
    control_add_filter(&url, "capibox_worker", "w1.2-3~4");
    assert_string_equal(url.text, "capibox_worker%3Dw1.2-3~4");
    strbuf_clear(&url);
    http_encode(&url, "a/b:\xc3\xbc", 1);
    assert_string_equal(url.text, "a%2Fb%3A%C3%BC");
}

#define OURS "\"metadata\":{\"capibox\":\"f1\""

struct found {
    int count;
    struct control_listed last;
};

static void note(void *ctx, const struct control_listed *one)
{
    struct found *found = ctx;

    found->count++;
    found->last = *one;
}

static enum fault list(struct fixture *f, struct found *found)
{
    *found = (struct found){.count = 0};
    return control_list(&f->c, NULL, "capibox", "f1", note, found,
                        &f->retry_after_s, f->text);
}

static void a_listing_goes_on_page_by_page(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 200 OK\r\nX-Next-Token: a=b/c\r\n\r\n"
        "[{\"sandboxID\":\"a\"," OURS "}},{\"sandboxID\":\"b\"," OURS "}}]",
        "HTTP/1.1 200 OK\r\n\r\n"
        "[{\"sandboxID\":\"no/id\"},{},7,{\"sandboxID\":\"c\"," OURS
        ",\"capibox_worker\":\"w 1\",\"capibox_job\":\"j1\"}}]",
        NULL};
    struct fixture *f = *state;
    struct found found;

    begin(f, script);
    assert_int_equal(list(f, &found), FAULT_NONE);
    assert_int_equal(found.count, 3);
    assert_string_equal(found.last.id, "c");
    assert_string_equal(found.last.worker, ""); /* no worker has such a name */
    assert_memory_equal(f->a.seen[0],
                        "GET /v2/sandboxes?state=running%2Cpaused&limit=100&"
                        "metadata=capibox%3Df1 HTTP/1.1\r\n",
                        83);
    assert_non_null(strstr(f->a.seen[1], "&nextToken=a%3Db%2Fc HTTP"));
}

static void what_a_broken_listing_showed_still_counts(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 200 OK\r\nX-Next-Token: x\r\n\r\n[{\"sandboxID\":\"a\"," OURS
        "}}]",
        "HTTP/1.1 502 Bad\r\nRetry-After: 4\r\n\r\n<html>",
        "HTTP/1.1 200 OK\r\n\r\n{\"x\":{\"sandboxID\":\"a\"}}", NULL};
    struct fixture *f = *state;
    struct found found;

    begin(f, script);
    assert_int_equal(list(f, &found), FAULT_UNSURE);
    assert_int_equal(f->retry_after_s, 4);
    assert_int_equal(found.count, 1);
    assert_int_equal(list(f, &found), FAULT_NONSENSE);
    assert_int_equal(found.count, 0); /* no list, no sandboxes */
}

static void what_others_run_is_never_ours(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 200 OK\r\n\r\n"
        "[{\"sandboxID\":\"a\"},{\"sandboxID\":\"b\",\"metadata\":null},"
        "{\"sandboxID\":\"c\",\"metadata\":{\"capibox\":\"f2\"}},"
        "{\"sandboxID\":\"d\",\"metadata\":{\"capibox\":1}},"
        "{\"sandboxID\":\"e\"," OURS "}}]",
        NULL};
    struct fixture *f = *state;
    struct found found;

    begin(f, script);
    assert_int_equal(list(f, &found), FAULT_NONE);
    assert_int_equal(found.count, 1);
    assert_string_equal(found.last.id, "e");
}

static void a_listing_without_end_ends(void **state)
{
    struct fixture *f = *state;
    struct found found;
    const char *script[ANSWERS_SEEN_MAX + 1] = {NULL};

    for (int i = 0; i < ANSWERS_SEEN_MAX; i++)
        script[i] = "HTTP/1.1 200 OK\r\nX-Next-Token: same\r\n\r\n[]";
    begin(f, script);
    assert_int_equal(list(f, &found), FAULT_NONE);
    assert_int_equal(answers_requests(&f->a), CONTROL_PAGES_MAX);
}

/* ---- the slot ------------------------------------------------------------ */

static void *end_it(void *arg)
{
    void **what = arg;

    answers_wait(&((struct fixture *)what[1])->a, 1, 5000);
    call_slot_abort(what[0], ((struct fixture *)what[1])->http);
    return NULL;
}

static void an_aborted_slot_ends_its_call_and_all_later_ones(void **state)
{
    static const char *const script[] = {ANSWER_STALL, NULL};
    struct fixture *f = *state;
    struct call_slot slot;
    void *what[] = {&slot, f};
    pthread_t thread;
    int64_t start = clock_ms();

    begin(f, script);
    call_slot_init(&slot);
    MUST0(pthread_create(&thread, NULL, end_it, what));
    assert_int_equal(
        control_kill(&f->c, &slot, ID, 20000, &f->retry_after_s, f->text),
        FAULT_ABORTED);
    MUST0(pthread_join(thread, NULL));
    assert_true(call_slot_aborted(&slot));
    assert_int_equal(
        control_kill(&f->c, &slot, ID, 20000, &f->retry_after_s, f->text),
        FAULT_ABORTED);
    assert_false(call_slot_nap(&slot, 20000));
    assert_in_range(clock_ms() - start, 0, 5000);
    assert_int_equal(answers_requests(&f->a), 1);
    call_slot_fini(&slot);
}

static void addresses_are_put_together_or_refused(void **state)
{
    struct fixture *f = *state;
    char *longer = malloc(600);

    replace(&f->settings.e2b_key, KEY);
    replace(&f->settings.e2b_domain, "e2b.example:8443");
    assert_int_equal(control_init(&f->c, &f->settings, f->http), 0);
    assert_string_equal(f->c.base, "https://api.e2b.example:8443");
    replace(&f->settings.e2b_api_url, "https://my.host/base//");
    assert_int_equal(control_init(&f->c, &f->settings, f->http), 0);
    assert_string_equal(f->c.base, "https://my.host/base");
    memset(longer, 'a', 599);
    longer[599] = '\0';
    free(f->settings.e2b_api_url);
    f->settings.e2b_api_url = longer;
    assert_true(control_init(&f->c, &f->settings, f->http) < 0);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(create_asks_in_so_many_words),
        FRESH(an_answer_that_is_no_sandbox_is_nonsense),
        FRESH(a_template_that_is_not_there_is_refused),
        FRESH(a_server_that_repeats_the_key_does_not_spread_it),
        FRESH(nor_a_part_of_it),
        FRESH(a_template_of_long_ago_is_refused),
        FRESH(gone_is_killed),
        FRESH(not_found_by_another_is_no_kill),
        FRESH(many_are_killed_at_once),
        FRESH(a_filter_is_encoded_three_times),
        FRESH(a_listing_goes_on_page_by_page),
        FRESH(what_a_broken_listing_showed_still_counts),
        FRESH(what_others_run_is_never_ours),
        FRESH(a_listing_without_end_ends),
        FRESH(an_aborted_slot_ends_its_call_and_all_later_ones),
        FRESH(addresses_are_put_together_or_refused),
    };

    return cmocka_run_group_tests_name("e2b control", tests, NULL, NULL);
}
