/* The gateway among clients that misbehave, and with a Redis that goes away. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "producer/gateway/link.h"
#include "producer/gateway/peers.h"
#include "producer/gateway/waiters.h"
#include "tests/support/stage.h"
#include "tests/support/web.h"

#define API        "/api/v1/e2b/"
#define IDLE       10000
#define LEAVERS    300
#define WAITERS    8
#define AWAY_MS    12000 /* within this time waiting requests are given up */
#define HANG_UP_MS 5000  /* and connections that are of no more use closed */

static struct rig rig;
static struct proc worker;
static struct web web;

static int open_all(void **state)
{
    static const char *const words[] = {"--appendonly", "yes", "--appendfsync",
                                        "always", NULL};

    (void)state;
    stage_open(&rig, words);
    stage_worker(&rig, &worker,
                 (const char *[]){"CAPIBOX_TEMPLATES=templates", NULL});
    web_start(&rig, &web, NULL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    assert_int_equal(web_stop(&web), 0);
    assert_int_equal(stage_end_worker(&worker), 0);
    rig_close(&rig);
    return 0;
}

static bool is_healthy(void *ctx)
{
    struct answer a;
    bool healthy;

    web_ask(ctx, &a, "GET", "/health", NULL, NULL);
    healthy = a.status == 200;
    answer_free(&a);
    return healthy;
}

static void expect_healthy(void)
{
    assert_true(wait_until(is_healthy, &web, RIG_WAIT_MS));
}

/* It is done when household_wake_one() lets it. */
static void begin_job(struct web_call *call, char body[200], const char *id)
{
    snprintf(body, 200,
             "{\"id\":\"%s\",\"code\":\"import os; os.system('exec sleep "
             "60'); print('done')\"}",
             id);
    *call = (struct web_call){
        .web = &web, .method = "POST", .path = API "execute", .body = body};
    web_begin(call);
}

static bool is_running(void *ctx)
{
    return !strcmp(rig_job(&rig, ctx, "status"), "running");
}

static void expect_running(const char *id)
{
    assert_true(wait_until(is_running, (void *)(uintptr_t)id, RIG_WAIT_MS));
}

static double gauge(const char *name)
{
    struct answer a;
    const char *at;
    char line[80];
    double value;

    web_ask(&web, &a, "GET", "/metrics", NULL, NULL);
    web_expect(&a, 200);
    snprintf(line, sizeof(line), "\n%s ", name);
    at = strstr(a.body, line);
    value = at ? strtod(at + strlen(line), NULL) : -1;
    answer_free(&a);
    return value;
}

/* ---- Redis goes away ---------------------------------------------------- */

static void a_short_absence_of_redis_is_not_noticed_by_who_waits(void **state)
{
    struct web_call call;
    char body[200];

    (void)state;
    begin_job(&call, body, "rides-on");
    expect_running("rides-on");
    redis_server_restart(&rig.server);
    household_wake_one(worker.pid);
    web_wait(&call);
    web_expect(&call.answer, 200);
    stage_expect(call.answer.json, "logs.stdout.0", "done\n");
    answer_free(&call.answer);
    expect_healthy();
}

static void who_waits_survives_the_loss_of_the_news(void **state)
{
    struct web_call call;
    char body[200];
    int64_t woken;

    (void)state;
    begin_job(&call, body, "no-news");
    expect_running("no-news");
    assert_true(rig_number(&rig, "CLIENT", "KILL", "TYPE", "pubsub", NULL) >=
                1);
    woken = clock_ms();
    household_wake_one(worker.pid);
    web_wait(&call);
    web_expect(&call.answer, 200);
    assert_true(clock_ms() - woken < WAITERS_RECHECK_MS / 2);
    answer_free(&call.answer);
}

static void a_long_absence_is_told_and_then_forgotten(void **state)
{
    struct web_call call;
    struct answer a;
    char body[200], after[256];
    cJSON *result;

    (void)state;
    begin_job(&call, body, "gives-up");
    expect_running("gives-up");
    redis_server_kill(&rig.server);
    web_wait(&call);
    web_expect(&call.answer, 503);
    stage_expect(call.answer.json, "error.code", "redis_unavailable");
    stage_expect(call.answer.json, "job_id", "gives-up");
    assert_string_equal(answer_header(&call.answer, "Retry-After", after), "1");
    assert_true(call.answer.seconds < AWAY_MS / 1000.0);
    answer_free(&call.answer);
    household_wake_one(worker.pid);
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"1\"}", NULL);
    web_expect_error(&a, 503, "redis_unavailable", NULL);
    assert_string_equal(answer_header(&a, "Retry-After", after), "1");
    assert_true(a.seconds < LINK_CONNECT_MS / 1000.0); /* nobody waited */
    answer_free(&a);
    web_ask(&web, &a, "GET", "/health", NULL, NULL);
    web_expect(&a, 503);
    answer_free(&a);
    web_ask(&web, &a, "GET", API "stats", NULL, NULL);
    web_expect(&a, 503);
    answer_free(&a);
    web_ask(&web, &a, "GET", API "health", NULL, NULL);
    web_expect(&a, 503);
    stage_expect(a.json, "status", "unhealthy");
    answer_free(&a);
    redis_server_restart(&rig.server);
    expect_healthy();
    result = stage_result(&rig, "gives-up");
    stage_expect(result, "verdict", "ok");
    cJSON_Delete(result);
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"print(1)\"}", NULL);
    web_expect(&a, 200);
    answer_free(&a);
}

static void a_redis_that_hangs_is_given_up(void **state)
{
    struct answer a;

    (void)state;
    assert_true(rig.server.pid > 0); /* 0 would be all of us */
    kill(rig.server.pid, SIGSTOP);
    web_ask(&web, &a, "GET", API "stats", NULL, NULL);
    kill(rig.server.pid, SIGCONT);
    web_expect(&a, 503);
    assert_true(a.seconds < 10);
    answer_free(&a);
    assert_true(proc_says(&web.proc, "for=commands why=\"no answer for 5 s\"",
                          RIG_WAIT_MS));
    expect_healthy();
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

static void a_redis_that_was_never_there_is_told_once(void **state)
{
    char wrong[400];
    const struct {
        const char *url, *why, *kind;
    } tried[] = {
        {"CAPIBOX_REDIS_URL=redis://127.0.0.1:1/0", "Connection refused",
         "refused"},
        {"CAPIBOX_REDIS_URL=redis://nobody.invalid:6379/0", "nobody.invalid",
         "host is not found"},
        {wrong, "password is refused", "password"},
    };

    (void)state;
    snprintf(wrong, sizeof(wrong),
             "CAPIBOX_REDIS_URL=unix://me:se-cret@%s/redis.sock",
             rig.server.dir);
    for (size_t i = 0; i < sizeof(tried) / sizeof(*tried); i++) {
        AUTO_FREE char *said = NULL;
        struct web lost = {0};
        struct answer a;

        /* It waits for a line about each of the two links. */
        web_start(&rig, &lost, (const char *[]){tried[i].url, NULL});
        usleep(1000000); /* for some more tries, that say nothing */
        web_ask(&lost, &a, "POST", API "execute", "{\"code\":\"1\"}", NULL);
        web_expect_error(&a, 503, "redis_unavailable", NULL);
        stage_expect_part(a.json, "error.message", tried[i].kind);
        assert_null(strstr(a.body, "127.0.0.1"));
        assert_null(strstr(a.body, "nobody"));
        answer_free(&a);
        said = proc_err(&lost.proc);
        if (count_of(said, "Redis is away") != 2 ||
            !strstr(said, tried[i].why) || strstr(said, "se-cret"))
            fail_msg("%s", said);
        assert_int_equal(web_stop(&lost), 0);
    }
}

static void expect_refused(struct web *by, const char *method)
{
    struct answer a;

    web_ask(by, &a, method, API "jobs/of-another-type", NULL, NULL);
    web_expect_error(&a, 503, "redis_error", NULL);
    answer_free(&a);
}

static void why_redis_refused_is_told_once(void **state)
{
    /* The link's and the errands' connection. */
    static const char *const methods[] = {"GET", "DELETE"};

    (void)state;
    rig_number(&rig, "RPUSH", "{capibox}:job:of-another-type", "x", NULL);
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
        AUTO_FREE char *said = NULL;
        struct web fresh = {0};

        web_start(&rig, &fresh, NULL);
        expect_refused(&fresh, methods[i]);
        expect_refused(&fresh, methods[i]);
        said = proc_err(&fresh.proc);
        if (count_of(said, "Redis refused") != 1 || !strstr(said, "WRONGTYPE"))
            fail_msg("%s: %s", methods[i], said);
        assert_int_equal(web_stop(&fresh), 0);
    }
    rig_number(&rig, "DEL", "{capibox}:job:of-another-type", NULL);
}

/* ---- the gateway goes away ---------------------------------------------- */

static void a_killed_gateway_leaves_its_jobs_to_be_found(void **state)
{
    struct web_call call;
    struct answer a;
    char body[200];
    cJSON *result;

    (void)state;
    begin_job(&call, body, "orphan");
    expect_running("orphan");
    proc_signal(&web.proc, SIGKILL);
    web_wait(&call);
    assert_int_equal(call.answer.status, 0);
    answer_free(&call.answer);
    proc_stop(&web.proc);
    web_start(&rig, &web, NULL);
    household_wake_one(worker.pid);
    result = stage_result(&rig, "orphan");
    cJSON_Delete(result);
    web_ask(&web, &a, "GET", API "jobs/orphan", NULL, NULL);
    web_expect(&a, 200);
    stage_expect(a.json, "logs.stdout.0", "done\n");
    answer_free(&a);
}

/* It says that it ends, and then turns who comes away. */
static bool turns_away(void *ctx)
{
    int fd = web_connect(ctx);

    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static void a_sigterm_lets_who_waits_have_the_result(void **state)
{
    struct web_call call;
    char body[200];

    (void)state;
    begin_job(&call, body, "drains");
    expect_running("drains");
    proc_signal(&web.proc, SIGTERM);
    assert_true(proc_says(&web.proc, "ending", RIG_WAIT_MS));
    assert_true(wait_until(turns_away, &web, RIG_WAIT_MS));
    household_wake_one(worker.pid);
    web_wait(&call);
    web_expect(&call.answer, 200);
    stage_expect(call.answer.json, "verdict", "ok");
    answer_free(&call.answer);
    assert_int_equal(proc_wait(&web.proc, RIG_WAIT_MS), 0);
    proc_stop(&web.proc);
    web_start(&rig, &web, NULL);
}

static void after_the_grace_they_are_told_where_to_look(void **state)
{
    struct web hasty = {0};
    struct web_call call = {.web = &hasty,
                            .method = "POST",
                            .path = API "execute",
                            .body = "{\"id\":\"late\",\"code\":\"import os; "
                                    "os.system('exec sleep 60')\"}"};
    char after[256];

    (void)state;
    web_start(&rig, &hasty, (const char *[]){"CAPIBOX_SHUTDOWN_GRACE=1", NULL});
    web_begin(&call);
    expect_running("late");
    proc_signal(&hasty.proc, SIGTERM);
    web_wait(&call);
    web_expect(&call.answer, 503);
    stage_expect(call.answer.json, "error.code", "shutting_down");
    stage_expect(call.answer.json, "job_id", "late");
    assert_string_equal(answer_header(&call.answer, "Retry-After", after), "1");
    answer_free(&call.answer);
    assert_int_equal(proc_wait(&hasty.proc, RIG_WAIT_MS), 0);
    proc_stop(&hasty.proc);
    household_wake_one(worker.pid);
}

/* ---- clients that misbehave --------------------------------------------- */

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
                     (ssize_t)strlen(text));
}

static bool hung_up(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;

    return poll(&p, 1, timeout_ms) == 1 && read(fd, &c, 1) <= 0;
}

static void who_dawdles_over_a_request_is_hung_up_on(void **state)
{
    AUTO_FD int fd = web_connect(&web);
    int64_t began = clock_ms();
    bool over = false;

    (void)state;
    send_text(fd, "GET /health HTTP/1.1\r\nHost: localhost\r\n");
    /* A byte a second is no silence, and still too slow. */
    while (!over && clock_ms() - began < (PEERS_HEAD_S + 10) * 1000) {
        if (send(fd, "X", 1, MSG_NOSIGNAL) < 0)
            break;
        over = hung_up(fd, 1000);
    }
    assert_true(clock_ms() - began > (PEERS_HEAD_S - 5) * 1000);
    assert_true(clock_ms() - began < (PEERS_HEAD_S + 8) * 1000);
    expect_healthy();
}

static void requests_that_are_none_do_no_harm(void **state)
{
    static const char *const raw[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST " API "execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        "application/json\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST " API "execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        "application/json\r\nContent-Length: -1\r\n\r\n{}",
        "POST " API "execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        "application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "GET " API "jobs/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET " API "jobs/a\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(raw) / sizeof(*raw); i++) {
        AUTO_FREE char *said = web_raw(&web, raw[i], strlen(raw[i]), 300);

        assert_null(strstr(said, "200 OK"));
        assert_null(strstr(said, "/root"));
        assert_null(strstr(said, ".c:"));
    }
    expect_healthy();
}

static void nothing_is_read_behind_a_body_of_doubtful_length(void **state)
{
#define HEAD                                                            \
    "POST " API "execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: " \
    "application/json\r\n"
#define BEHIND "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    static const char *const raw[] = {
        HEAD "Content-Length: 2\r\nContent-Length: 43\r\n\r\n{}" BEHIND,
        HEAD "Content-Length: 43\r\nContent-Length: 2\r\n\r\n{}" BEHIND,
        HEAD "Content-Length : 41\r\n\r\n" BEHIND,
        HEAD "Content-Length: 2\r\nTransfer-Encoding: "
             "chunked\r\n\r\n0\r\n\r\n" BEHIND,
        HEAD "Transfer-Encoding : chunked\r\nContent-Length: "
             "2\r\n\r\n{}" BEHIND,
        HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: "
             "identity\r\n\r\n0\r\n\r\n" BEHIND,
        /* Of these the daemon sees no end: they are refused at once. */
        HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" BEHIND,
        HEAD "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n" BEHIND,
        HEAD "Transfer-Encoding: identity\r\nContent-Length: "
             "2\r\n\r\n{}" BEHIND,
    };
#undef HEAD
#undef BEHIND

    (void)state;
    for (size_t i = 0; i < sizeof(raw) / sizeof(*raw); i++) {
        int64_t began = clock_ms();
        AUTO_FREE char *said =
            web_raw(&web, raw[i], strlen(raw[i]), RIG_WAIT_MS);

        if (!strstr(said, "ambiguous_length") || strstr(said, "200 OK"))
            fail_msg("%zu: %s", i, said);
        assert_true(clock_ms() - began < HANG_UP_MS);
    }
}

static void expect_once(const char *request, const char *status,
                        const char *part)
{
    char text[300];
    AUTO_FREE char *said = NULL;

    snprintf(text, sizeof(text), "%s\r\n", request);
    said = web_raw(&web, text, strlen(text), RIG_WAIT_MS);
    if (strncmp(said, "HTTP/1.1 ", 9) != 0 ||
        strncmp(said + 9, status, 3) != 0 || !strstr(said, part) ||
        count_of(said, "HTTP/1.1 ") != 1)
        fail_msg("%s: %s", request, said);
}

#define CLOSE "Connection: close\r\n"
#define HOST  "Host: localhost\r\n"

static void whom_a_request_is_for_is_said_once(void **state)
{
    static const struct {
        const char *request, *status, *part;
    } asked[] = {
        {"GET /health HTTP/1.1\r\n", "400", "\"code\":\"invalid_host\""},
        {"GET /health HTTP/1.0\r\n", "200", "\"ok\""},
        {"GET /health HTTP/1.1\r\n" HOST HOST, "400", "invalid_host"},
        {"GET /health HTTP/1.1\r\nHost: localhost \t\r\n" CLOSE, "200",
         "\"ok\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
        expect_once(asked[i].request, asked[i].status, asked[i].part);
}

static void a_target_may_be_a_whole_url(void **state)
{
    static const struct {
        const char *request, *status, *part;
    } asked[] = {
        {"GET http://localhost/health HTTP/1.1\r\n" HOST CLOSE, "200",
         "\"ok\""},
        {"GET HTTP://127.0.0.1:80 HTTP/1.1\r\n" HOST CLOSE, "200", "<html"},
        /* Then the header says nothing. */
        {"GET http://localhost/health HTTP/1.1\r\nHost: other\r\n" CLOSE, "200",
         "\"ok\""},
        {"GET http://evil.test/health HTTP/1.1\r\n" HOST CLOSE, "421",
         "wrong_host"},
        {"GET http://localhostile/health HTTP/1.1\r\n" HOST CLOSE, "421",
         "wrong_host"},
        {"GET ftp://localhost/health HTTP/1.1\r\n" HOST CLOSE, "404",
         "not_found"},
        {"GET " API "jobs/a b HTTP/1.1\r\n" HOST CLOSE, "400",
         "malformed_path"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
        expect_once(asked[i].request, asked[i].status, asked[i].part);
}

#undef CLOSE
#undef HOST

static void a_flood_of_headers_is_refused(void **state)
{
    static char flood[1 << 20];
    size_t n = (size_t)sprintf(flood, "GET /health HTTP/1.1\r\nHost: "
                                      "localhost\r\n");

    (void)state;
    while (n < sizeof(flood) - 64)
        n += (size_t)sprintf(flood + n, "X-%zu: aaaaaaaaaaaaaaaa\r\n", n);
    n += (size_t)sprintf(flood + n, "\r\n");
    AUTO_FREE char *said = web_raw(&web, flood, n, 2000);
    assert_null(strstr(said, "200 OK"));
    expect_healthy();
}

static void ten_thousand_idle_connections_are_no_hindrance(void **state)
{
    struct rlimit limit, was;
    int *fds = calloc(IDLE, sizeof(int));
    struct answer a;
    int n = 0;

    (void)state;
    MUST(fds);
    getrlimit(RLIMIT_NOFILE, &was);
    limit = was;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < IDLE + 200) {
        printf("SKIP: only %lu descriptors\n", (unsigned long)limit.rlim_cur);
        free(fds);
        return;
    }
    while (n < IDLE && (fds[n] = web_connect(&web)) >= 0)
        n++;
    assert_int_equal(n, IDLE);
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"print(1)\"}", NULL);
    web_expect(&a, 200);
    answer_free(&a);
    assert_true(gauge("capibox_gateway_connections") >= IDLE);
    while (n > 0)
        close(fds[--n]);
    free(fds);
    setrlimit(RLIMIT_NOFILE, &was);
    expect_healthy();
}

static bool so_many_wait_at_most(void *ctx)
{
    return gauge("capibox_gateway_waiting") <= *(int *)ctx;
}

static bool all_wait(void *ctx)
{
    return gauge("capibox_gateway_waiting") >= *(int *)ctx;
}

static void who_goes_away_frees_a_place(void **state)
{
    static const char BODY[] = "{\"code\":\"1\",\"delay\":600,"
                               "\"cancel_on_disconnect\":true}";
    int fds[LEAVERS], count = LEAVERS, nobody = 1; /* but who asks */
    char request[400];

    (void)state;
    snprintf(request, sizeof(request),
             "POST " API "execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
             "application/json\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof(BODY) - 1, BODY);
    for (int i = 0; i < LEAVERS; i++) {
        fds[i] = web_connect(&web);
        assert_true(fds[i] >= 0);
        send_text(fds[i], request);
    }
    assert_true(wait_until(all_wait, &count, RIG_WAIT_MS));
    for (int i = 0; i < LEAVERS; i++)
        close(fds[i]);
    assert_true(wait_until(so_many_wait_at_most, &nobody, RIG_WAIT_MS));
}

static void many_wait_at_once_and_each_gets_its_own(void **state)
{
    struct web_call calls[WAITERS];
    char bodies[WAITERS][200];

    (void)state;
    for (int i = 0; i < WAITERS; i++) {
        snprintf(bodies[i], sizeof(bodies[i]), "{\"code\":\"print(%d)\"}", i);
        calls[i] = (struct web_call){.web = &web,
                                     .method = "POST",
                                     .path = API "execute",
                                     .body = bodies[i]};
        web_begin(&calls[i]);
    }
    for (int i = 0; i < WAITERS; i++) {
        char line[16];

        web_wait(&calls[i]);
        web_expect(&calls[i].answer, 200);
        snprintf(line, sizeof(line), "%d\n", i);
        stage_expect(calls[i].answer.json, "logs.stdout.0", line);
        answer_free(&calls[i].answer);
    }
}

/* ---- at the end nobody is left asleep ------------------------------------ */

struct kind {
    const char *method, *path, *body;
};

/* Sends it over a connection of its own. */
static int send_kind(struct web *to, const struct kind *k)
{
    const char *body = k->body ? k->body : "";
    char text[600];
    int fd = web_connect(to);

    assert_true(fd >= 0);
    snprintf(text, sizeof(text),
             "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
             "application/json\r\nContent-Length: %zu\r\n\r\n%s",
             k->method, k->path, strlen(body), body);
    send_text(fd, text);
    return fd;
}

/* Connections are taken in turn: once a later one is answered, they are asked.
 */
static void send_kinds(struct web *to, const struct kind *kinds, int *fds,
                       size_t count)
{
    struct answer a;

    for (size_t i = 0; i < count; i++)
        fds[i] = send_kind(to, &kinds[i]);
    for (int i = 0; i < 2; i++) {
        web_ask(to, &a, "GET", "/", NULL, NULL);
        web_expect(&a, 200);
        answer_free(&a);
    }
}

static char *read_all(int fd, int timeout_ms)
{
    int64_t until = clock_ms() + timeout_ms;
    char *text = calloc(1, 65536);
    size_t n = 0;

    MUST(text);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (n == 65535 || poll(&p, 1, clock_left_ms(until)) <= 0)
            break;
        got = read(fd, text + n, 65535 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return text;
}

static void expect_sent_home(const struct kind *k, int fd)
{
    AUTO_FREE char *said = read_all(fd, RIG_WAIT_MS);
    bool health = strstr(k->path, "/health") && strstr(said, "unhealthy");
    bool streams = strstr(k->path, "/events") && strstr(said, "200 OK");

    close(fd);
    if (streams && strstr(said, "\r\n0\r\n\r\n"))
        return;
    if (strncmp(said, "HTTP/1.1 503 ", 13) != 0 ||
        !strstr(said, "\r\nRetry-After: 1\r\n") ||
        (!strstr(said, "shutting_down") && !strstr(said, "redis_unavailable") &&
         !health))
        fail_msg("%s %s: %s", k->method, k->path, said);
}

static void expect_all_sent_home(struct web *from, const struct kind *kinds,
                                 int *fds, size_t count)
{
    int64_t began = clock_ms();

    proc_signal(&from->proc, SIGTERM);
    for (size_t i = 0; i < count; i++)
        expect_sent_home(&kinds[i], fds[i]);
    assert_true(clock_ms() - began < 4000);
    if (proc_wait(&from->proc, RIG_WAIT_MS) != 0) {
        AUTO_FREE char *said = proc_err(&from->proc);

        fail_msg("ended with %d: %s", from->proc.ending, said);
    }
    proc_stop(&from->proc);
}

/* A gateway whose only queue no worker serves. */
static void start_unserved(struct web *out)
{
    web_start(&rig, out,
              (const char *[]){"CAPIBOX_SHUTDOWN_GRACE=1",
                               "CAPIBOX_QUEUES=nobodys",
                               "CAPIBOX_API_PER_ADDRESS=100", NULL});
}

#define UNSERVED(id) "{\"id\":\"" id "\",\"code\":\"1\",\"queue\":\"nobodys\"}"

/* What waits for a worker. */
static const struct kind waiting[] = {
    {"GET", API "health", NULL},
    {"GET", API "health", NULL},
    {"POST", API "execute", UNSERVED("unserved")},
    {"POST", API "execute", UNSERVED("unserved")},
    {"GET", API "jobs/unserved/events", NULL},
};
#define WAITING (sizeof waiting / sizeof *waiting)

static void send_waiting(struct web *to, int fds[WAITING])
{
    send_kinds(to, waiting, fds, WAITING - 1);
    assert_true(rig_wait_job(&rig, "unserved", "status", "queued"));
    send_kinds(to, waiting + WAITING - 1, fds + WAITING - 1, 1);
}

static void all_who_wait_are_sent_home_after_the_grace(void **state)
{
    struct web ending = {0};
    int fds[WAITING];

    (void)state;
    start_unserved(&ending);
    send_waiting(&ending, fds);
    expect_all_sent_home(&ending, waiting, fds, WAITING);
}

static void they_are_when_redis_is_away(void **state)
{
    struct web ending = {0};
    int fds[WAITING];

    (void)state;
    start_unserved(&ending);
    send_waiting(&ending, fds);
    redis_server_kill(&rig.server);
    expect_all_sent_home(&ending, waiting, fds, WAITING);
}

static int bring_redis_back(void **state)
{
    (void)state;
    redis_server_restart(&rig.server);
    expect_healthy();
    return 0;
}

/* All that asks Redis, however it does. */
static void all_are_when_redis_hangs(void **state)
{
    static const struct kind asking[] = {
        {"POST", API "execute", UNSERVED("unheard")},
        {"POST", API "execute", "{\"code\":\"1\",\"async\":true}"},
        {"POST", API "dynamic", "{\"code\":\"1\"}"},
        {"POST", API "batch", "{\"jobs\":[{\"code\":\"1\"},{\"code\":\"2\"}]}"},
        {"GET", API "batch/some", NULL},
        {"GET", API "jobs", NULL},
        {"GET", API "jobs?limit=3", NULL},
        {"GET", API "jobs/some", NULL},
        {"DELETE", API "jobs/some", NULL},
        {"GET", API "jobs/some/files/a.txt", NULL},
        {"GET", API "jobs/some/events", NULL},
        {"GET", API "dead", NULL},
        {"GET", API "dead/some", NULL},
        {"POST", API "dead/some/retry", NULL},
        {"DELETE", API "dead/some", NULL},
        {"GET", API "stats", NULL},
        {"GET", API "health", NULL},
        {"GET", API "health", NULL},
        {"GET", "/metrics", NULL},
    };
#define ASKING (sizeof asking / sizeof *asking)
    struct web ending = {0};
    struct kind kinds[WAITING + ASKING];
    int fds[WAITING + ASKING];

    (void)state;
    memcpy(kinds, waiting, sizeof(waiting));
    memcpy(kinds + WAITING, asking, sizeof(asking));
    start_unserved(&ending);
    send_waiting(&ending, fds);
    assert_true(rig.server.pid > 0);
    kill(rig.server.pid, SIGSTOP);
    send_kinds(&ending, kinds + WAITING, fds + WAITING, ASKING);
    expect_all_sent_home(&ending, kinds, fds, WAITING + ASKING);
}

static int let_redis_go_on(void **state)
{
    (void)state;
    kill(rig.server.pid, SIGCONT);
    expect_healthy();
    return 0;
}

/* ---- clients that leave half way ---------------------------------------- */

/* The bytes and the end of its sending come in one piece. */
static int send_half_closed(const char *head, const char *body)
{
    int fd = web_connect(&web);
    char text[600];
    int size = snprintf(text, sizeof(text),
                        "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                        "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        head, strlen(body), body);

    assert_true(fd >= 0);
    assert_int_equal(send(fd, text, (size_t)size, MSG_NOSIGNAL | MSG_MORE),
                     size);
    MUST0(shutdown(fd, SHUT_WR));
    return fd;
}

static void expect_silence(int fd)
{
    int64_t began = clock_ms();
    AUTO_FREE char *said = read_all(fd, RIG_WAIT_MS);

    close(fd);
    assert_string_equal(said, "");
    assert_true(clock_ms() - began < HANG_UP_MS);
}

static void who_sends_no_more_is_taken_for_gone(void **state)
{
    struct answer a;

    (void)state;
    expect_silence(send_half_closed(
        "POST " API "execute",
        "{\"id\":\"half-1\",\"code\":\"import time; time.sleep(60)\","
        "\"cancel_on_disconnect\":true}"));
    assert_true(rig_wait_job(&rig, "half-1", "status", "cancelled"));
    expect_silence(
        send_half_closed("POST " API "execute",
                         "{\"id\":\"half-2\",\"code\":\"1\",\"delay\":600}"));
    expect_silence(send_half_closed("GET " API "jobs/half-2/events", ""));
    web_ask(&web, &a, "DELETE", API "jobs/half-2", NULL, NULL);
    assert_true(a.status == 200 || a.status == 202);
    answer_free(&a);
}

static void who_asks_for_anothers_job_does_not_take_it_along(void **state)
{
    int both = 3, one = 2; /* and who asks for the gauge */
    struct web_call call;
    char body[200];
    int fd;

    (void)state;
    begin_job(&call, body, "shared");
    expect_running("shared");
    fd = send_kind(&web, &(struct kind){"POST", API "execute",
                                        "{\"id\":\"shared\",\"code\":\"1\","
                                        "\"cancel_on_disconnect\":true}"});
    assert_true(wait_until(all_wait, &both, RIG_WAIT_MS));
    close(fd);
    assert_true(wait_until(so_many_wait_at_most, &one, RIG_WAIT_MS));
    household_wake_one(worker.pid);
    web_wait(&call);
    web_expect(&call.answer, 200);
    stage_expect(call.answer.json, "verdict", "ok");
    answer_free(&call.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_wait_at_once_and_each_gets_its_own),
        cmocka_unit_test(a_short_absence_of_redis_is_not_noticed_by_who_waits),
        cmocka_unit_test(who_waits_survives_the_loss_of_the_news),
        cmocka_unit_test(a_long_absence_is_told_and_then_forgotten),
        cmocka_unit_test(a_redis_that_hangs_is_given_up),
        cmocka_unit_test(a_redis_that_was_never_there_is_told_once),
        cmocka_unit_test(why_redis_refused_is_told_once),
        cmocka_unit_test(a_killed_gateway_leaves_its_jobs_to_be_found),
        cmocka_unit_test(a_sigterm_lets_who_waits_have_the_result),
        cmocka_unit_test(after_the_grace_they_are_told_where_to_look),
        cmocka_unit_test(all_who_wait_are_sent_home_after_the_grace),
        cmocka_unit_test_teardown(they_are_when_redis_is_away,
                                  bring_redis_back),
        cmocka_unit_test_teardown(all_are_when_redis_hangs, let_redis_go_on),
        cmocka_unit_test(requests_that_are_none_do_no_harm),
        cmocka_unit_test(nothing_is_read_behind_a_body_of_doubtful_length),
        cmocka_unit_test(whom_a_request_is_for_is_said_once),
        cmocka_unit_test(a_target_may_be_a_whole_url),
        cmocka_unit_test(a_flood_of_headers_is_refused),
        cmocka_unit_test(who_goes_away_frees_a_place),
        cmocka_unit_test(who_sends_no_more_is_taken_for_gone),
        cmocka_unit_test(who_asks_for_anothers_job_does_not_take_it_along),
        cmocka_unit_test(ten_thousand_idle_connections_are_no_hindrance),
        cmocka_unit_test(who_dawdles_over_a_request_is_hung_up_on),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
