/* What the gateway decides by itself: routes, keys, rates, addresses,
 * percentiles. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "producer/gateway/admit.h"
#include "producer/gateway/errands.h"
#include "producer/gateway/keys.h"
#include "producer/gateway/link.h"
#include "producer/gateway/lookup.h"
#include "producer/gateway/peers.h"
#include "producer/gateway/routes.h"
#include "producer/gateway/snapshot.h"

/* How far this process's wall clock is ahead of the kernel's. */
static time_t wall_clock_ahead_s;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, ts);

    if (rc == 0 && clock == CLOCK_REALTIME)
        ts->tv_sec += wall_clock_ahead_s;
    return rc;
}

/* ---- routes ------------------------------------------------------------- */

static const struct route table[] = {
    {"GET", "/api/v1/e2b/jobs/{id}", 0, NULL},
    {"DELETE", "/api/v1/e2b/jobs/{id}", 0, NULL},
    {"GET", "/api/v1/e2b/jobs/{id}/files/{path}", 0, NULL},
    {"GET", "/health", 0, NULL},
    {"GET", "/", 0, NULL},
};

static const char *match(const char *method, const char *path,
                         struct route_match *out)
{
    routes_match(table, sizeof(table) / sizeof(*table), method, path, out);
    return out->route ? out->route->path : "";
}

static void a_path_is_taken_apart_before_it_is_decoded(void **state)
{
    struct route_match m;

    (void)state;
    assert_string_equal(match("GET", "/api/v1/e2b/jobs/a%2Fb", &m),
                        "/api/v1/e2b/jobs/{id}");
    assert_string_equal(m.id, "a/b");
    assert_string_equal(match("GET", "/api/e2b/jobs/x/files/a/b%20c", &m),
                        "/api/v1/e2b/jobs/{id}/files/{path}");
    assert_string_equal(m.id, "x");
    assert_string_equal(m.rest, "a/b c");
    assert_string_equal(match("HEAD", "/", &m), "/");
}

static void what_is_near_a_path_is_not_it(void **state)
{
    static const char *const paths[] = {
        "",          "/healthy",          "/health/",
        "//health",  "/api/v1/e2b/jobs/", "/api/v1/e2b/jobs//files/x",
        "/e2b/jobs", "/api/v1/e2b/health"};
    struct route_match m;

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        assert_string_equal(match("GET", paths[i], &m), "");
        assert_string_equal(m.allow, "");
    }
}

static void a_path_says_which_methods_it_takes(void **state)
{
    struct route_match m;

    (void)state;
    assert_string_equal(match("PUT", "/api/v1/e2b/jobs/x", &m), "");
    assert_string_equal(m.allow, "GET, HEAD, DELETE");
}

static void a_malformed_encoding_is_noticed(void **state)
{
    static const char *const bad[] = {"%", "%a", "%zz", "%00", "a%0"};
    char path[ROUTES_ID_MAX + 64] = "/api/v1/e2b/jobs/";
    struct route_match m;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        strcpy(path + 17, bad[i]);
        match("GET", path, &m);
        assert_true(m.malformed);
        assert_string_equal(m.id, "");
    }
    memset(path + 17, 'a', ROUTES_ID_MAX + 1);
    path[17 + ROUTES_ID_MAX + 1] = '\0';
    match("GET", path, &m);
    assert_true(m.malformed);
    path[17 + ROUTES_ID_MAX] = '\0';
    match("GET", path, &m);
    assert_false(m.malformed);
}

/* ---- keys --------------------------------------------------------------- */

static int load(struct keys *keys, const char *text, struct complaint *why)
{
    char file[] = "/tmp/capibox-keys-XXXXXX";
    int fd = mkstemp(file);
    bool open;
    int rc;

    MUST(fd >= 0);
    MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    *why = (struct complaint){0};
    rc = keys_load(keys, file, &open, why);
    if (rc == 0)
        assert_false(open);
    unlink(file);
    return rc;
}

static struct holder *find(const struct keys *keys, const char *key)
{
    return keys_find(keys, key, strlen(key));
}

static void a_key_belongs_to_its_name(void **state)
{
    struct complaint why;
    struct keys keys = {0};

    (void)state;
    assert_int_equal(load(&keys,
                          "# ours\n\nalice:0123456789abcdef\r\n"
                          "alice:fedcba9876543210\nbob:with:a:colon:in:it\n",
                          &why),
                     0);
    assert_string_equal(find(&keys, "0123456789abcdef")->name, "alice");
    assert_ptr_equal(find(&keys, "0123456789abcdef"),
                     find(&keys, "fedcba9876543210"));
    assert_string_equal(find(&keys, "with:a:colon:in:it")->name, "bob");
    assert_null(find(&keys, "0123456789abcde"));
    assert_null(find(&keys, ""));
    keys_fini(&keys);
}

static void a_bad_line_changes_nothing_and_shows_no_key(void **state)
{
    static const char *const bad[] = {
        "alice 0123456789abcdef\n",  "alice:short\n",
        "a b:0123456789abcdef\n",    ":0123456789abcdef\n",
        "alice:0123456789 abcdef\n", "\n# nothing\n"};
    struct complaint why;
    struct keys keys = {0};

    (void)state;
    assert_int_equal(load(&keys, "carol:carols-own-key-1\n", &why), 0);
    find(&keys, "carols-own-key-1")->jobs = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(load(&keys, bad[i], &why), -EINVAL);
        assert_null(strstr(why.text, "0123456789"));
        assert_null(strstr(why.text, "short"));
    }
    /* Nor does a good one forget what was counted. */
    assert_int_equal(load(&keys, "carol:carols-new-key-2\n", &why), 0);
    assert_null(find(&keys, "carols-own-key-1"));
    assert_int_equal((int)find(&keys, "carols-new-key-2")->jobs, 7);
    keys_fini(&keys);
}

static void two_names_may_not_have_the_same_key(void **state)
{
    struct complaint why;
    struct keys keys = {0};

    (void)state;
    assert_int_equal(load(&keys, "carol:carols-own-key-1\n", &why), 0);
    assert_int_equal(load(&keys,
                          "alice:0123456789abcdef\nbob:fedcba9876543210\n"
                          "mallory:0123456789abcdef\n",
                          &why),
                     -EINVAL);
    assert_non_null(strstr(why.text, "line 3"));
    assert_non_null(strstr(why.text, "alice"));
    assert_non_null(strstr(why.text, "mallory"));
    assert_null(strstr(why.text, "0123456789"));
    assert_non_null(find(&keys, "carols-own-key-1"));
    /* Said twice it is still one. */
    assert_int_equal(
        load(&keys, "alice:0123456789abcdef\nalice:0123456789abcdef\n", &why),
        0);
    keys_fini(&keys);
}

static void a_bucket_fills_with_time(void **state)
{
    struct bucket b = {0};

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_true(bucket_take(&b, 10, 1000) == 0);
    assert_true(bucket_take(&b, 10, 1000) > 0.09);
    assert_true(bucket_take(&b, 10, 1050) > 0);
    assert_true(bucket_take(&b, 10, 1100) == 0);
    assert_true(bucket_take(&b, 10, 999000) == 0);
    for (int i = 0; i < 9; i++)
        assert_true(bucket_take(&b, 10, 999000) == 0);
    assert_true(bucket_take(&b, 10, 999000) > 0);
    assert_true(bucket_take(&b, 0, 999000) == 0);
}

/* ---- origins ------------------------------------------------------------ */

static void an_origin_that_no_browser_sends_is_refused(void **state)
{
    static const char *const good[] = {
        "",
        "*",
        "https://a.test",
        "http://localhost:3000, https://B.test:8443",
        "https://a.test,,*",
        "http://[::1]:8080",
        "http://10.0.0.1",
        "chrome-extension://abcdef",
        "http://a.test:443",
    };
    static const char *const bad[] = {
        "foo",
        "a.test",
        "https://",
        "://a.test",
        "https://a.test/",
        "https://a.test/app",
        "https://a.test?x",
        "https://a.test:",
        "https://a.test:0",
        "https://a.test:99999",
        "https://a.test:x",
        "https://a.test:443",
        "http://a.test:80",
        "https://me@a.test",
        "https://*.a.test",
        "http://[::1",
        "http://[]",
        "http://[::1]x",
        "https://a.test https://b.test/",
        "https://a.test;https://b.test",
    };
    struct complaint why = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        if (admit_check_origins(good[i], &why) != 0)
            fail_msg("%s: %s", good[i], why.text);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        why = (struct complaint){0};
        if (admit_check_origins(bad[i], &why) != -EINVAL)
            fail_msg("%s", bad[i]);
        assert_string_equal(why.field, "CAPIBOX_API_ORIGINS");
    }
}

/* ---- peers -------------------------------------------------------------- */

static struct sockaddr_storage address(int family, const char *text)
{
    struct sockaddr_storage at = {.ss_family = (sa_family_t)family};

    MUST(inet_pton(family, text,
                   family == AF_INET
                       ? (void *)&((struct sockaddr_in *)&at)->sin_addr
                       : (void *)&((struct sockaddr_in6 *)&at)->sin6_addr) ==
         1);
    return at;
}

static void an_address_has_so_many_connections(void **state)
{
    struct peers set = {.per_address = 2};
    struct sockaddr_storage a = address(AF_INET, "192.0.2.1");
    struct sockaddr_storage b = address(AF_INET6, "::ffff:192.0.2.1");
    struct sockaddr_storage c = address(AF_INET, "192.0.2.2");
    struct peer *first, *second;

    (void)state;
    first = peers_add(&set, (void *)&a, 100);
    assert_true(peers_let_in(&set, (void *)&b));
    second = peers_add(&set, (void *)&b, 101);
    assert_false(peers_let_in(&set, (void *)&a));
    assert_true(peers_let_in(&set, (void *)&c));
    peers_remove(&set, first);
    assert_true(peers_let_in(&set, (void *)&a));
    peers_remove(&set, second);
    assert_int_equal((int)set.count, 0);
}

static void a_network_of_ipv6_is_one_address_and_loopback_none(void **state)
{
    struct peers set = {.per_address = 1};
    struct sockaddr_storage a = address(AF_INET6, "2001:db8:1:2::1");
    struct sockaddr_storage b = address(AF_INET6, "2001:db8:1:2:ffff::9");
    struct sockaddr_storage c = address(AF_INET6, "2001:db8:1:3::1");
    struct sockaddr_storage loops[] = {address(AF_INET6, "::1"),
                                       address(AF_INET, "127.1.2.3")};
    struct peer *peer = peers_add(&set, (void *)&a, 100);

    (void)state;
    assert_false(peers_let_in(&set, (void *)&b));
    assert_true(peers_let_in(&set, (void *)&c));
    peers_remove(&set, peer);
    for (int i = 0; i < 2; i++) {
        struct peer *one = peers_add(&set, (void *)&loops[i], 100);

        assert_true(peers_let_in(&set, (void *)&loops[i]));
        peers_remove(&set, one);
    }
}

static void who_had_their_time_is_shut_down(void **state)
{
    struct peers set = {0};
    struct peer *late, *waiting;
    int late_fds[2], waiting_fds[2];
    char c;

    (void)state;
    MUST0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, late_fds));
    MUST0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, waiting_fds));
    late = peers_add(&set, NULL, late_fds[0]);
    waiting = peers_add(&set, NULL, waiting_fds[0]);
    peer_enter(late, PEER_BODY);
    assert_true(late->deadline_ms > 0);
    peer_enter(waiting, PEER_WAITING);
    peers_sweep(&set);
    assert_int_equal(read(late_fds[1], &c, 1), -1);
    late->deadline_ms = 1;
    peers_sweep(&set);
    assert_int_equal(read(late_fds[1], &c, 1), 0);
    assert_int_equal(read(waiting_fds[1], &c, 1), -1);
    peers_remove(&set, late);
    peers_remove(&set, waiting);
    for (int i = 0; i < 2; i++) {
        close(late_fds[i]);
        close(waiting_fds[i]);
    }
}

/* ---- figures ------------------------------------------------------------ */

static redisReply *text_reply(const char *text)
{
    redisReply *reply = calloc(1, sizeof(*reply));

    MUST(reply);
    reply->type = REDIS_REPLY_STRING;
    reply->str = strdup(text);
    reply->len = strlen(text);
    return reply;
}

/* The buckets 0.1, 0.25 and inf with these counts. */
static redisReply *hash_of(const char *counts[3])
{
    static const char *const names[] = {"bucket:0.1", "bucket:0.25",
                                        "bucket:inf"};
    redisReply *hash = calloc(1, sizeof(*hash));

    MUST(hash);
    hash->type = REDIS_REPLY_ARRAY;
    hash->elements = 6;
    hash->element = calloc(6, sizeof(redisReply *));
    for (int i = 0; i < 3; i++) {
        hash->element[2 * i] = text_reply(names[i]);
        hash->element[2 * i + 1] = text_reply(counts[i]);
    }
    return hash;
}

static void quantiles_are_interpolated_within_buckets(void **state)
{
    redisReply *hash = hash_of((const char *[]){"10", "10", "0"});

    (void)state;
    /* Ten between 0.05 and 0.1, ten between 0.1 and 0.25. */
    assert_true(fabs(view_quantile(hash, 0.25) - 0.075) < 1e-9);
    assert_true(fabs(view_quantile(hash, 0.5) - 0.1) < 1e-9);
    assert_true(fabs(view_quantile(hash, 0.75) - 0.175) < 1e-9);
    assert_true(fabs(view_quantile(hash, 1) - 0.25) < 1e-9);
    freeReplyObject(hash);
    hash = hash_of((const char *[]){"0", "0", "5"});
    assert_true(view_quantile(hash, 0.5) == 1800);
    freeReplyObject(hash);
    hash = hash_of((const char *[]){"0", "0", "0"});
    assert_true(view_quantile(hash, 0.5) < 0);
    freeReplyObject(hash);
    assert_true(view_quantile(NULL, 0.5) < 0);
}

/* ---- files -------------------------------------------------------------- */

static void a_displayed_picture_has_one_name(void **state)
{
    static const char *const wrong[] = {
        "result-0.png",          "result-01.png",
        "result-+1.png",         "result--1.png",
        "result-4294967297.png", "result- 1.png",
        "result-.png",           "result-18446744073709551617.png",
        "result-2.png",          "result-257.png",
        "result-1.png2"};
    cJSON *result = cJSON_Parse("{\"results\":[{\"png\":\"aGk=\"}]}");
    struct lookup_found found;

    (void)state;
    assert_true(lookup_in_result(result, "result-1.png", &found));
    free(found.data);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        if (lookup_in_result(result, wrong[i], &found))
            fail_msg("%s", wrong[i]);
    cJSON_Delete(result);
}

static void a_file_of_a_result_is_found_by_its_name_alone(void **state)
{
    static const char RESULT[] =
        "{\"files\":[{\"path\":\"a.txt\",\"mime\":\"text/plain\","
        "\"content_base64\":\"aGk=\"},{\"path\":\"big\",\"skipped\":\"too "
        "large\"},{\"path\":\"odd\",\"mime\":\"text/html\\r\\nX: y\","
        "\"content_base64\":\"aGk=\"},{\"path\":\"bad\",\"content_base64\":"
        "\"!\"}],\"results\":[{\"png\":null},{\"html\":\"<b>\"}]}";
    cJSON *result = cJSON_Parse(RESULT);
    struct lookup_found found;

    (void)state;
    assert_true(lookup_in_result(result, "/home/user/a.txt", &found));
    assert_string_equal(found.type, "text/plain; charset=utf-8");
    assert_memory_equal(found.data, "hi", 2);
    free(found.data);
    assert_true(lookup_in_result(result, "big", &found));
    assert_string_equal(found.skipped, "too large");
    assert_true(lookup_in_result(result, "odd", &found));
    assert_string_equal(found.type, "application/octet-stream");
    free(found.data);
    assert_true(lookup_in_result(result, "result-2.html", &found));
    free(found.data);
    assert_false(lookup_in_result(result, "bad", &found));
    assert_false(lookup_in_result(result, "result-1.png", &found));
    assert_false(lookup_in_result(result, "result-3.html", &found));
    assert_false(lookup_in_result(result, "../a.txt", &found));
    cJSON_Delete(result);
}

/* ---- errands ------------------------------------------------------------ */

/* A request that comes while the last answers go out. */
static void no_errand_is_taken_after_the_end(void **state)
{
    struct errands over = {0};
    struct errand e = {0};

    (void)state;
    errands_fini(&over);
    assert_int_equal(errands_add(&over, &e), -ENOTCONN);
}

static int never(struct errand *e, const struct protocol *p, struct redis *r)
{
    (void)e, (void)p, (void)r;
    return 0;
}

static void count_failed(struct errand *e)
{
    *(int *)e->ctx += e->rc == -ENOTCONN;
}

/* It takes connections, and that is all. */
static int listen_deaf(char path[static 108])
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(path, 108, "/tmp/capibox-deaf-%d", (int)getpid());
    strcpy(at.sun_path, path);
    MUST(fd >= 0);
    MUST0(bind(fd, (const struct sockaddr *)&at, sizeof(at)));
    MUST0(listen(fd, 64));
    return fd;
}

static void errands_do_not_wait_for_each_others_redis(void **state)
{
    char path[108];
    AUTO_FD int deaf = listen_deaf(path);
    struct redis_target target = {
        .kind = REDIS_UNIX, .path = path, .shown = path};
    int64_t start = clock_ms();
    struct errand all[8];
    struct errands set;
    struct loop loop;
    int failed = 0;

    (void)state;
    MUST0(loop_init(&loop));
    MUST0(errands_init(&set, &loop, NULL, &target));
    for (int i = 0; i < 8; i++) {
        all[i] = (struct errand){.run = never,
                                 .done = count_failed,
                                 .ctx = &failed,
                                 .patient = i == 1};
        MUST0(errands_add(&set, &all[i]));
    }
    while (failed < 8 && clock_ms() - start < 10 * ERRANDS_CONNECT_MS) {
        struct pollfd fd = {.fd = set.wake.fd, .events = POLLIN};

        if (poll(&fd, 1, ERRANDS_CONNECT_MS) > 0)
            set.wake.act(set.wake.ctx, EPOLLIN);
    }
    assert_int_equal(failed, 8);
    /* The patient one had a try of its own; one by one it were nine. */
    assert_in_range(clock_ms() - start, 2 * ERRANDS_CONNECT_MS - 10,
                    5 * ERRANDS_CONNECT_MS);
    errands_fini(&set);
    loop_fini(&loop);
    unlink(path);
}

/* ---- links -------------------------------------------------------------- */

/* As if it was set back during each pause. */
static void a_wall_clock_set_back_keeps_no_link_from_trying(void **state)
{
    struct redis_target target = {.kind = REDIS_UNIX,
                                  .path = (char *)"/no/such/redis.sock",
                                  .shown = (char *)"unix:///no/such"};
    const struct link_hooks none = {0};
    int64_t deadline = clock_ms() + 5000;
    uint64_t tries = 0, count;
    struct loop loop;
    struct link link;

    (void)state;
    MUST0(loop_init(&loop));
    wall_clock_ahead_s = 3600;
    MUST0(link_init(&link, &loop, &target, NULL, &none));
    while (tries < 4 && clock_ms() < deadline) {
        struct pollfd fd = {.fd = link.wake.fd, .events = POLLIN};

        poll(&fd, 1, clock_left_ms(deadline));
        if (read(fd.fd, &count, sizeof(count)) > 0)
            tries += count;
    }
    link_fini(&link);
    wall_clock_ahead_s = 0;
    loop_fini(&loop);
    assert_true(tries >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_taken_apart_before_it_is_decoded),
        cmocka_unit_test(what_is_near_a_path_is_not_it),
        cmocka_unit_test(a_path_says_which_methods_it_takes),
        cmocka_unit_test(a_malformed_encoding_is_noticed),
        cmocka_unit_test(a_key_belongs_to_its_name),
        cmocka_unit_test(a_bad_line_changes_nothing_and_shows_no_key),
        cmocka_unit_test(two_names_may_not_have_the_same_key),
        cmocka_unit_test(a_bucket_fills_with_time),
        cmocka_unit_test(an_origin_that_no_browser_sends_is_refused),
        cmocka_unit_test(an_address_has_so_many_connections),
        cmocka_unit_test(a_network_of_ipv6_is_one_address_and_loopback_none),
        cmocka_unit_test(who_had_their_time_is_shut_down),
        cmocka_unit_test(quantiles_are_interpolated_within_buckets),
        cmocka_unit_test(a_file_of_a_result_is_found_by_its_name_alone),
        cmocka_unit_test(a_displayed_picture_has_one_name),
        cmocka_unit_test(no_errand_is_taken_after_the_end),
        cmocka_unit_test(errands_do_not_wait_for_each_others_redis),
        cmocka_unit_test(a_wall_clock_set_back_keeps_no_link_from_trying),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
