/* tests/unit/test_e2b_http.c -- single HTTP calls against a scripted server. */
#include "worker/e2b/http.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/answers.h"
#include "tests/support/cmocka_all.h"
#include "worker/e2b/control.h"

#define OK "HTTP/1.1 200 OK\r\n\r\nfine"

#define NO_ANSWER_MS 4000

/* Name servers that do not answer: libcurl asks in threads of its own. */
static atomic_int names_asked, names_given_up;

int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **out)
{
    __typeof__(getaddrinfo) *real;

    if (node && strcmp(node, "no.answer.test") == 0) {
        atomic_fetch_add(&names_asked, 1);
        usleep(NO_ANSWER_MS * 1000);
        atomic_fetch_add(&names_given_up, 1);
        return EAI_AGAIN;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, out);
}

/* The network thread's watches that the kernel refuses from now on. */
static atomic_int watches_refused;

int epoll_ctl(int epoll_fd, int what, int fd, struct epoll_event *event)
{
    if (what != EPOLL_CTL_DEL && atomic_load(&watches_refused) > 0) {
        atomic_fetch_sub(&watches_refused, 1);
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll_fd, what, fd, event);
}

struct fixture {
    struct answers a;
    struct http *http;
    struct http_call call;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    MUST0(http_open("", 4, &f->http));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    http_call_fini(&f->call);
    http_close(f->http);
    if (f->a.url[0])
        answers_close(&f->a);
    free(f);
    return 0;
}

static void prepare(struct fixture *f, enum http_method method)
{
    http_call_fini(&f->call);
    f->call = (struct http_call){
        .method = method, .url = f->a.url, .deadline_ms = clock_ms() + 10000};
    if (method == HTTP_POST) {
        f->call.body = "hello";
        f->call.body_size = 5;
    }
}

static int ask(struct fixture *f, enum http_method method)
{
    prepare(f, method);
    return http_do(f->http, &f->call);
}

static void a_connection_is_kept_and_used_again(void **state)
{
    static const char *const script[] = {OK, OK, OK, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    assert_int_equal(ask(f, HTTP_POST), 0);
    assert_int_equal(f->call.status, 200);
    assert_memory_equal(f->call.answer.text, "fine", 4);
    assert_int_equal(ask(f, HTTP_GET), 0);
    f->call.last = true;
    assert_int_equal(ask(f, HTTP_DELETE), 0);
    assert_int_equal(answers_connections(&f->a), 1);
    assert_memory_equal(f->a.seen[0], "POST / HTTP/1.1\r\n", 17);
    assert_non_null(strstr(f->a.seen[0], "\r\n\r\nhello"));
    assert_null(strstr(f->a.seen[0], "Expect:"));
    assert_memory_equal(f->a.seen[2], "DELETE / HTTP/1.1\r\n", 19);
    assert_non_null(strstr(f->a.seen[1], "User-Agent: capibox/"));
    assert_int_equal(http_counts(f->http).connects, 1);
}

/* The server may have done it before the kept connection died. */
static void a_post_is_never_sent_again_behind_our_back(void **state)
{
    static const char *const script[] = {OK, ANSWER_CLOSE, OK, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    assert_int_equal(ask(f, HTTP_POST), 0);
    assert_true(ask(f, HTTP_POST) < 0);
    assert_int_equal(f->call.trouble, HTTP_BROKEN);
    assert_true(f->call.sent);
    usleep(50000);
    assert_int_equal(answers_requests(&f->a), 2);
}

/* And not that we gave it up, which is how libcurl is kept from sending again.
 */
static void it_says_who_closed_the_connection(void **state)
{
    static const char *const ends[] = {ANSWER_CLOSE, ANSWER_RESET};
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        const char *const script[] = {OK, ends[i], OK, NULL};

        answers_open(&f->a, script);
        ask(f, HTTP_POST);
        assert_true(ask(f, HTTP_POST) < 0);
        assert_string_equal(f->call.error, HTTP_CLOSED_BY_SERVER);
        answers_close(&f->a);
    }
    f->a.url[0] = '\0';
}

static void what_may_be_repeated_is(void **state)
{
    static const char *const script[] = {OK, ANSWER_CLOSE, OK, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    assert_int_equal(ask(f, HTTP_POST), 0);
    assert_int_equal(ask(f, HTTP_DELETE), 0);
    assert_int_equal(answers_requests(&f->a), 3);
}

static void every_trouble_has_its_name(void **state)
{
    static const struct {
        const char *answer;
        enum http_trouble trouble;
    } rows[] = {
        {ANSWER_CLOSE, HTTP_BROKEN},
        {ANSWER_RESET, HTTP_BROKEN},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nx",
         HTTP_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close"
         "\r\n\r\n4\r\nab",
         HTTP_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close"
         "\r\n\r\nzz\r\n",
         HTTP_BROKEN},
        {"garbage\r\nConnection: close\r\n\r\n", HTTP_BROKEN},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const char *const script[] = {rows[i].answer, NULL};

        answers_open(&f->a, script);
        assert_true(ask(f, HTTP_POST) < 0);
        if (f->call.trouble != rows[i].trouble || !f->call.sent)
            fail_msg("%s -> %d: %s", rows[i].answer, f->call.trouble,
                     f->call.error);
        answers_close(&f->a);
    }
    f->a.url[0] = '\0';
}

/* The key would go to it in clear. */
static void a_plain_address_is_asked_past_any_proxy(void **state)
{
    static const char *const names[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    static const char *const script[] = {OK, OK, OK, OK, NULL};
    struct fixture *f = *state;
    struct answers proxy;
    int passed;

    answers_open(&f->a, script);
    answers_open(&proxy, script);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        setenv(names[i], proxy.url, 1);
        ask(f, HTTP_GET);
        unsetenv(names[i]);
    }
    passed = answers_requests(&proxy);
    answers_close(&proxy);
    assert_int_equal(passed, 0);
    assert_int_equal(answers_requests(&f->a), 3);
}

static void nobody_there_is_nothing_sent(void **state)
{
    struct fixture *f = *state;

    answers_open(&f->a, NULL);
    answers_close(&f->a);
    assert_true(ask(f, HTTP_POST) < 0);
    assert_int_equal(f->call.trouble, HTTP_NO_CONNECT);
    assert_false(f->call.sent);
    prepare(f, HTTP_POST);
    f->call.url = "http://no.such.host.invalid/";
    assert_true(http_do(f->http, &f->call) < 0);
    assert_int_equal(f->call.trouble, HTTP_NO_NAME);
    assert_false(f->call.sent);
    f->a.url[0] = '\0';
}

static void silence_ends_at_the_stall_or_the_deadline(void **state)
{
    static const char *const script[] = {ANSWER_STALL, ANSWER_STALL, NULL};
    struct fixture *f = *state;
    int64_t start = clock_ms();

    answers_open(&f->a, script);
    prepare(f, HTTP_POST);
    f->call.stall_s = 1;
    assert_true(http_do(f->http, &f->call) < 0);
    assert_int_equal(f->call.trouble, HTTP_STALLED);
    /* libcurl measures over five seconds more. */
    assert_in_range(clock_ms() - start, 900, 9000);
    prepare(f, HTTP_POST);
    f->call.deadline_ms = clock_ms() + 100;
    assert_true(http_do(f->http, &f->call) < 0);
    assert_int_equal(f->call.trouble, HTTP_LATE);
    assert_int_equal(f->call.rc, -ETIMEDOUT);
}

/* libcurl keeps no deadline of a call that waits for a free connection. */
static void a_hanging_janitor_takes_no_sandboxs_connection(void **state)
{
    static const char *script[CONTROL_KILLS_MAX + 2];
    struct fixture *f = *state;
    struct http_call *kills = calloc(CONTROL_KILLS_MAX, sizeof(*kills));
    int64_t start = clock_ms();

    MUST(kills);
    for (int i = 0; i <= CONTROL_KILLS_MAX; i++)
        script[i] = ANSWER_STALL;
    answers_open(&f->a, script);
    http_close(f->http);
    MUST0(http_open("", 1 + HTTP_CONNECTIONS_MORE, &f->http));
    for (int i = 0; i < CONTROL_KILLS_MAX; i++) {
        kills[i] = (struct http_call){.method = HTTP_DELETE,
                                      .url = f->a.url,
                                      .deadline_ms = start + 3000};
        http_start(f->http, &kills[i]);
    }
    prepare(f, HTTP_POST);
    f->call.deadline_ms = start + 300;
    assert_true(http_do(f->http, &f->call) < 0);
    assert_in_range(clock_ms() - start, 299, 1500);
    for (int i = 0; i < CONTROL_KILLS_MAX; i++) {
        http_abort(f->http, &kills[i]);
        http_await(&kills[i]);
    }
    free(kills);
}

/* There is a limit to them, of all programs of a user. */
static void a_watch_that_is_refused_ends_no_other_call(void **state)
{
    static const char *const script[] = {ANSWER_STALL, OK, NULL};
    struct fixture *f = *state;
    struct http_call other = {.method = HTTP_GET};
    int64_t start = clock_ms();

    answers_open(&f->a, script);
    other.url = f->a.url;
    other.deadline_ms = start + 2000;
    http_start(f->http, &other);
    assert_true(answers_wait(&f->a, 1, 1000));
    atomic_store(&watches_refused, 2); /* it tries twice */
    prepare(f, HTTP_GET);
    f->call.deadline_ms = clock_ms() + 500;
    http_do(f->http, &f->call);
    assert_int_equal(atomic_load(&watches_refused), 0);
    http_await(&other);
    assert_int_equal(other.trouble, HTTP_LATE);
    assert_in_range(clock_ms() - start, 1990, 3000);
    http_call_fini(&other);
}

/* glibc asks each name server in turn, for longer than any call may take. */
static void name_servers_that_do_not_answer_hold_nobody_up(void **state)
{
    static const char *const script[] = {OK, NULL};
    struct fixture *f = *state;
    int64_t start = clock_ms();

    answers_open(&f->a, script);
    prepare(f, HTTP_POST);
    f->call.url = "http://no.answer.test/";
    f->call.deadline_ms = clock_ms() + 200;
    assert_true(http_do(f->http, &f->call) < 0);
    assert_int_equal(f->call.trouble, HTTP_LATE);
    assert_int_equal(ask(f, HTTP_POST), 0);
    assert_in_range(clock_ms() - start, 200, NO_ANSWER_MS / 2);
    /* The thread that asks may begin late. */
    while (atomic_load(&names_given_up) == 0)
        usleep(10000);
    assert_int_equal(atomic_load(&names_asked), 1);
}

static void redirects_are_answers(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/x\r\n\r\n", OK,
        NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    assert_int_equal(ask(f, HTTP_POST), 0);
    assert_int_equal(f->call.status, 307);
    assert_int_equal(answers_requests(&f->a), 1);
}

static void headers_that_matter_are_read(void **state)
{
    static const char *const script[] = {
        "HTTP/1.1 429 Slow\r\nRetry-After:  12 \r\nX-Next-Token: abc\r\n"
        "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
        OK, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    ask(f, HTTP_GET);
    assert_int_equal(f->call.retry_after_s, 12);
    assert_string_equal(f->call.next_token, "abc");
    assert_int_equal(f->call.date_s, 784111777);
    ask(f, HTTP_GET);
    assert_int_equal(f->call.retry_after_s, -1);
}

#define BUSY         "HTTP/1.1 503 Busy\r\n"
#define AFTER(value) "Retry-After: " value "\r\n"
#define DATE         "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

/* Seconds or a date (RFC 9110 section 10.2.3); nobody waits for days. */
static void a_pause_is_read_in_either_form_and_bounded(void **state)
{
    static const struct {
        const char *head;
        int wait_s;
    } rows[] = {
        {AFTER("0"), 0},
        {AFTER("0000000007"), 7},
        {AFTER("86400"), HTTP_RETRY_AFTER_MAX_S},
        {AFTER("10000000"), HTTP_RETRY_AFTER_MAX_S},
        {AFTER("99999999999999999999999"), HTTP_RETRY_AFTER_MAX_S},
        /* By the clock of who says it. */
        {AFTER("Sun, 06 Nov 1994 08:49:45 GMT") DATE, 8},
        {DATE AFTER("Sun, 06 Nov 1994 08:49:45 GMT"), 8},
        {AFTER("Sun, 06 Nov 1994 08:49:00 GMT") DATE, 0},
        {AFTER("Mon, 07 Nov 1994 08:49:00 GMT") DATE, HTTP_RETRY_AFTER_MAX_S},
        {AFTER("Fri, 31 Dec 1999 23:59:59 GMT"), 0}, /* by ours */
        {AFTER("soon"), -1},
        {AFTER("-5"), -1},
        {AFTER(""), -1},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char answer[256];
        const char *const script[] = {answer, NULL};

        snprintf(answer, sizeof(answer), BUSY "%s\r\n", rows[i].head);
        answers_open(&f->a, script);
        ask(f, HTTP_POST);
        if (f->call.retry_after_s != rows[i].wait_s)
            fail_msg("%s -> %d", rows[i].head, f->call.retry_after_s);
        answers_close(&f->a);
    }
    f->a.url[0] = '\0';
}

static void an_answer_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    struct strbuf big = STRBUF_INIT;

    strbuf_adds(&big, "HTTP/1.1 200 OK\r\n\r\n");
    for (unsigned i = 0; i < HTTP_BODY_MAX / 64 + 1; i++)
        strbuf_adds(&big, "0123456789abcdef0123456789abcdef"
                          "0123456789abcdef0123456789abcdef");
    const char *const script[] = {big.text, NULL};

    answers_open(&f->a, script);
    assert_int_equal(ask(f, HTTP_GET), -EMSGSIZE);
    assert_int_equal(f->call.trouble, HTTP_REFUSED);
    assert_true(f->call.answer.len <= HTTP_BODY_MAX);
    answers_close(&f->a);
    f->a.url[0] = '\0';
    strbuf_fini(&big);
}

static int refuse(void *ctx, const char *data, size_t size)
{
    (void)ctx, (void)data, (void)size;
    return -ENOBUFS;
}

static void who_takes_the_data_may_refuse_it(void **state)
{
    static const char *const script[] = {
        OK, "HTTP/1.1 500 No\r\n\r\n{\"message\":\"x\"}", NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    prepare(f, HTTP_GET);
    f->call.data = refuse;
    assert_int_equal(http_do(f->http, &f->call), -ENOBUFS);
    assert_int_equal(f->call.trouble, HTTP_REFUSED);
    prepare(f, HTTP_GET); /* an error's text is kept, not given */
    f->call.data = refuse;
    assert_int_equal(http_do(f->http, &f->call), 0);
    assert_int_equal(f->call.answer.len, 15);
}

static void a_call_can_be_given_up(void **state)
{
    static const char *const script[] = {ANSWER_STALL, OK, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    prepare(f, HTTP_POST);
    http_start(f->http, &f->call);
    assert_true(answers_wait(&f->a, 1, 5000));
    http_abort(f->http, &f->call);
    assert_int_equal(http_await(&f->call), -ECANCELED);
    assert_int_equal(f->call.trouble, HTTP_ABORTED);
    assert_int_equal(ask(f, HTTP_GET), 0);
}

/* Given up before the network thread knows of it at all. */
static void also_before_it_starts(void **state)
{
    static const char *const script[] = {ANSWER_STALL, ANSWER_STALL, NULL};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    prepare(f, HTTP_POST);
    http_abort(f->http, &f->call);
    usleep(50000); /* it has looked, and found nothing */
    http_start(f->http, &f->call);
    assert_int_equal(http_await(&f->call), -ECANCELED);
    assert_int_equal(f->call.trouble, HTTP_ABORTED);
}

static void files_go_as_parts_of_a_form(void **state)
{
    static const char *const script[] = {OK, NULL};
    const struct http_part parts[] = {{"a/b.txt", "one", 3}, {"c", "", 0}};
    struct fixture *f = *state;

    answers_open(&f->a, script);
    prepare(f, HTTP_POST);
    f->call.parts = parts;
    f->call.nparts = 2;
    assert_int_equal(http_do(f->http, &f->call), 0);
    assert_non_null(strstr(f->a.seen[0], "multipart/form-data"));
    assert_non_null(
        strstr(f->a.seen[0], "name=\"file\"; filename=\"a/b.txt\""));
    assert_non_null(strstr(f->a.seen[0], "\r\n\r\none\r\n"));
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(a_connection_is_kept_and_used_again),
        FRESH(a_post_is_never_sent_again_behind_our_back),
        FRESH(it_says_who_closed_the_connection),
        FRESH(what_may_be_repeated_is),
        FRESH(every_trouble_has_its_name),
        FRESH(a_plain_address_is_asked_past_any_proxy),
        FRESH(nobody_there_is_nothing_sent),
        FRESH(silence_ends_at_the_stall_or_the_deadline),
        FRESH(a_hanging_janitor_takes_no_sandboxs_connection),
        FRESH(a_watch_that_is_refused_ends_no_other_call),
        FRESH(name_servers_that_do_not_answer_hold_nobody_up),
        FRESH(redirects_are_answers),
        FRESH(headers_that_matter_are_read),
        FRESH(a_pause_is_read_in_either_form_and_bounded),
        FRESH(an_answer_too_large_is_refused),
        FRESH(who_takes_the_data_may_refuse_it),
        FRESH(a_call_can_be_given_up),
        FRESH(also_before_it_starts),
        FRESH(files_go_as_parts_of_a_form),
    };

    return cmocka_run_group_tests_name("e2b http", tests, NULL, NULL);
}
