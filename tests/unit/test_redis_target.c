/* tests/unit/test_redis_target.c -- Redis URLs. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/redis.h"

static struct redis_target parsed(const char *url)
{
    struct redis_target t = {0};
    struct complaint why = {0};

    if (redis_target_parse(url, NULL, &t, &why) != 0)
        fail_msg("%s: %s", url, why.text);
    return t;
}

static void expect_tcp(const char *url, const char *host, const char *port,
                       int db)
{
    struct redis_target t = parsed(url);

    assert_int_equal(t.kind, REDIS_TCP);
    assert_string_equal(t.host, host);
    assert_string_equal(t.port, port);
    assert_int_equal(t.db, db);
    redis_target_fini(&t);
}

static void a_tcp_url_has_host_port_and_database(void **state)
{
    (void)state;
    expect_tcp("redis://10.0.0.1:7000/3", "10.0.0.1", "7000", 3);
    expect_tcp("redis://cache.example", "cache.example", "6379", 0);
    expect_tcp("redis://cache.example/", "cache.example", "6379", 0);
    expect_tcp("redis://h:1?db=5", "h", "1", 5);
    expect_tcp("redis://h/?db=5", "h", "6379", 5);
    expect_tcp("redis://h:65535/65535", "h", "65535", 65535);
}

static void an_ipv6_address_stands_in_brackets(void **state)
{
    struct redis_target t = parsed("redis://[::1]:7000/1");

    (void)state;
    assert_string_equal(t.host, "::1");
    assert_string_equal(t.port, "7000");
    assert_string_equal(t.shown, "redis://[::1]:7000/1");
    redis_target_fini(&t);
    expect_tcp("redis://[2001:db8::7]", "2001:db8::7", "6379", 0);
}

static void a_login_is_decoded(void **state)
{
    struct redis_target t = parsed("redis://al%69ce:p%40ss%2Fw:o%25rd@h:1/0");

    (void)state;
    assert_string_equal(t.user, "alice");
    assert_string_equal(t.password, "p@ss/w:o%rd");
    assert_string_equal(t.host, "h");
    redis_target_fini(&t);
}

static void a_password_may_come_without_a_user(void **state)
{
    struct redis_target t = parsed("redis://:secret@h");

    (void)state;
    assert_null(t.user);
    assert_string_equal(t.password, "secret");
    assert_string_equal(t.shown, "redis://:***@h:6379/0");
    redis_target_fini(&t);
}

static void a_raw_at_sign_in_a_password_is_understood(void **state)
{
    struct redis_target t = parsed("redis://u:a@b@h:1");

    (void)state;
    assert_string_equal(t.password, "a@b");
    assert_string_equal(t.host, "h");
    redis_target_fini(&t);
}

static void a_unix_url_has_a_path_and_a_database(void **state)
{
    struct redis_target t = parsed("unix:///run/my%20redis.sock?db=4");

    (void)state;
    assert_int_equal(t.kind, REDIS_UNIX);
    assert_string_equal(t.path, "/run/my redis.sock");
    assert_int_equal(t.db, 4);
    assert_string_equal(t.shown, "unix:///run/my redis.sock?db=4");
    redis_target_fini(&t);
}

static void a_unix_url_may_carry_a_login(void **state)
{
    struct redis_target t = parsed("unix://u:pw@/run/r.sock");

    (void)state;
    assert_string_equal(t.path, "/run/r.sock");
    assert_string_equal(t.user, "u");
    assert_string_equal(t.password, "pw");
    assert_string_equal(t.shown, "unix://u:***@/run/r.sock?db=0");
    redis_target_fini(&t);
}

static void the_shown_url_masks_the_password_and_control_bytes(void **state)
{
    struct redis_target t = parsed("rediss://bob%0a:hunter2@h:6380/2");

    (void)state;
    assert_int_equal(t.kind, REDIS_TLS);
    assert_string_equal(t.shown, "rediss://bob?:***@h:6380/2");
    redis_target_fini(&t);
}

/* Whatever is wrong with a URL, no word of it may come back: with a stray '/'
 * or '?' the password is in any part. */
static void a_complaint_never_quotes_the_url(void **state)
{
    static const char *const urls[] = {
        "http://u:hunter2@h",        "redis://u:hunter2/x@h:1",
        "redis://u:hun/hunter2@h",   "redis://u:x?hunter2@h:1",
        "redis://u:hunter2%zz@h",    "redis://u:hunter2@h:0",
        "redis://u:hunter2@h:99999", "redis://u:hunter2@h/hunter2",
        "redis://hunter2@h",         "redis://u:hunter2@",
        "redis://u:#hunter2@h",      "unix://u:hunter2@run/hunter2",
        "redis://[::hunter2",        "redis://h?hunter2=1",
        "redis://u:hunter2%00@h",    "hunter2",
        "redis://u:hunter2@h h:1",   "redis://[::1]hunter2",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct redis_target t = {0};
        struct complaint why = {0};

        if (redis_target_parse(urls[i], NULL, &t, &why) != -EINVAL)
            fail_msg("accepted: %s", urls[i]);
        assert_string_equal(why.field, "CAPIBOX_REDIS_URL");
        assert_true(strlen(why.text) > 0);
        assert_null(strstr(why.text, "hunter2"));
    }
}

static void expect_refused(const char *url)
{
    struct redis_target t = {0};
    struct complaint why = {0};

    if (redis_target_parse(url, NULL, &t, &why) != -EINVAL)
        fail_msg("accepted: %s", url);
}

static void what_is_not_a_redis_url_is_refused(void **state)
{
    (void)state;
    expect_refused("");
    expect_refused("redis://");
    expect_refused("redis://:6379");
    expect_refused("redis://h:");
    expect_refused("redis://h:+1");
    expect_refused("redis://h: 1");
    expect_refused("redis://h:1/-1");
    expect_refused("redis://h:1/0x1");
    expect_refused("redis://h:1/65536");
    expect_refused("redis://h:1/99999999999999999999");
    expect_refused("redis://h:1/1?db=2");
    expect_refused("redis://h:1/1/2");
    expect_refused("redis://u@h:1");
    expect_refused("redis://u:@h:1");
    expect_refused("redis://u:%4@h:1");
    expect_refused("redis://u:%@h:1");
    expect_refused("redis://[]:1");
    expect_refused("unix://");
    expect_refused("unix:///");
    expect_refused("unix://relative/path");
    expect_refused("unix:///p?db=");
}

static void a_url_that_never_ends_is_refused(void **state)
{
    size_t size = 1 << 20;
    char *url = malloc(size + 1);

    (void)state;
    memset(url, 'a', size);
    memcpy(url, "redis://", 8);
    url[size] = '\0';
    expect_refused(url);
    free(url);
}

static void tls_takes_its_files_from_the_settings(void **state)
{
    struct settings s = {.redis_ca = (char *)"ca.pem",
                         .redis_cert = (char *)"c.pem",
                         .redis_key = (char *)"k.pem"};
    struct redis_target t = {0};
    struct complaint why = {0};

    (void)state;
    assert_int_equal(redis_target_parse("rediss://h", &s, &t, &why), 0);
    assert_string_equal(t.ca_file, "ca.pem");
    assert_string_equal(t.cert_file, "c.pem");
    assert_string_equal(t.key_file, "k.pem");
    redis_target_fini(&t);
    s.redis_ca = (char *)"";
    s.redis_key = (char *)"";
    assert_int_equal(redis_target_parse("rediss://h", &s, &t, &why), -EINVAL);
    assert_string_equal(why.field, "CAPIBOX_REDIS_CERT");
    assert_int_equal(redis_target_parse("redis://h", &s, &t, &why), 0);
    assert_null(t.ca_file);
    assert_null(t.cert_file);
    redis_target_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tcp_url_has_host_port_and_database),
        cmocka_unit_test(an_ipv6_address_stands_in_brackets),
        cmocka_unit_test(a_login_is_decoded),
        cmocka_unit_test(a_password_may_come_without_a_user),
        cmocka_unit_test(a_raw_at_sign_in_a_password_is_understood),
        cmocka_unit_test(a_unix_url_has_a_path_and_a_database),
        cmocka_unit_test(a_unix_url_may_carry_a_login),
        cmocka_unit_test(the_shown_url_masks_the_password_and_control_bytes),
        cmocka_unit_test(a_complaint_never_quotes_the_url),
        cmocka_unit_test(what_is_not_a_redis_url_is_refused),
        cmocka_unit_test(a_url_that_never_ends_is_refused),
        cmocka_unit_test(tls_takes_its_files_from_the_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
