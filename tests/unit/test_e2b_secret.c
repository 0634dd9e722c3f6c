/* tests/unit/test_e2b_secret.c -- no key and no token is left in a text. */
#include "worker/e2b/secret.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/cmocka_all.h"

#define KEY "e2b_0123456789abcdef"

static void assert_hidden(const char *before, const char *secret,
                          const char *after)
{
    char text[200];

    snprintf(text, sizeof(text), "%s", before);
    hide(text, secret);
    assert_string_equal(text, after);
}

static void every_occurrence_is_hidden(void **state)
{
    (void)state;
    assert_hidden("a " KEY " b " KEY "," KEY, KEY, "a *** b ***,***");
    assert_hidden(KEY, KEY, "***");
    assert_hidden(KEY KEY, KEY, "******");
    assert_hidden("nothing", KEY, "nothing");
    assert_hidden("", KEY, "");
}

static void also_without_its_prefix_and_in_capitals(void **state)
{
    (void)state;
    assert_hidden("key 0123456789abcdef!", KEY, "key ***!");
    assert_hidden("E2B_0123456789ABCDEF 0123456789ABCdef", KEY, "*** ***");
    assert_hidden("x 89abcdef y", "a_b_89abcdef", "x *** y");
}

/* Of an account without a key, of a sandbox without a token. */
static void what_is_no_secret_stays(void **state)
{
    (void)state;
    assert_hidden("a text", "", "a text");
    assert_hidden("a text_", "_", "a text_");
    assert_hidden("a text of e2b", "e2b_t", "a text of e2b");
}

static void a_buffer_knows_its_new_length(void **state)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;
    AUTO_STRBUF struct strbuf empty = STRBUF_INIT;
    AUTO_STRBUF struct strbuf bytes = STRBUF_INIT;

    (void)state;
    strbuf_adds(&text, "{\"message\":\"" KEY "\"}");
    hide_in(&text, KEY);
    assert_string_equal(text.text, "{\"message\":\"***\"}");
    assert_int_equal(text.len, strlen(text.text));
    hide_in(&empty, KEY);
    assert_int_equal(empty.len, 0);
    strbuf_add(&bytes, "a\0" KEY, 2 + strlen(KEY));
    hide_in(&bytes, KEY);
    assert_int_equal(bytes.len, 2 + strlen(KEY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_occurrence_is_hidden),
        cmocka_unit_test(also_without_its_prefix_and_in_capitals),
        cmocka_unit_test(what_is_no_secret_stays),
        cmocka_unit_test(a_buffer_knows_its_new_length),
    };

    return cmocka_run_group_tests_name("e2b secret", tests, NULL, NULL);
}
