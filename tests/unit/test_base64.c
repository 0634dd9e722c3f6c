/* tests/unit/test_base64.c -- base64 decoded. */
#include "common/base64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/strbuf.h"
#include "tests/support/cmocka_all.h"

static void check(const char *text, const char *data, size_t size)
{
    AUTO_FREE unsigned char *out = NULL;
    size_t got = 99, bad_at;

    assert_int_equal(base64_decode(text, strlen(text), &out, &got, &bad_at), 0);
    assert_int_equal(got, size);
    assert_memory_equal(out, data, size);
}

static void check_bad(const char *text, size_t at)
{
    unsigned char *out = NULL;
    size_t got, bad_at = 99;

    assert_int_equal(base64_decode(text, strlen(text), &out, &got, &bad_at),
                     -EINVAL);
    assert_int_equal(bad_at, at);
    assert_null(out);
}

static void whole_groups_and_padding_decode(void **state)
{
    (void)state;
    check("", "", 0);
    check("Zg==", "f", 1);
    check("Zm8=", "fo", 2);
    check("Zm9v", "foo", 3);
    check("Zm9v\r\nYmFy\n", "foobar", 6);
    check("+/+/", "\xfb\xff\xbf", 3);
}

static void what_is_no_base64_is_refused_with_its_place(void **state)
{
    (void)state;
    check_bad("Zm9v*", 4);
    check_bad("Zm9", 3);
    check_bad("Z===", 1);
    check_bad("Zg=a", 3);
    check_bad("Zg==Zg==", 4);
    check_bad("Zh==", 3); /* bits below the padding */
    check_bad("Zm 9v", 2);
    check_bad("=", 0);
}

static void what_was_encoded_comes_back(void **state)
{
    char data[300];

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7);
    for (size_t size = 0; size <= sizeof data; size++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

        strbuf_add_base64(&sb, data, size);
        check(sb.text, data, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_groups_and_padding_decode),
        cmocka_unit_test(what_is_no_base64_is_refused_with_its_place),
        cmocka_unit_test(what_was_encoded_comes_back),
    };

    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
