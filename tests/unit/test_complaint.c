/* tests/unit/test_complaint.c -- one sentence a person can act on. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/complaint.h"
#include "common/scope.h"

static void it_returns_einval_so_callers_can_return_it(void **state)
{
    struct complaint c;
    (void)state;

    assert_int_equal(complain(&c, "code", "is missing"), -EINVAL);
    assert_int_equal(complain(NULL, "code", "is missing"), -EINVAL);
}

static void it_keeps_field_and_text(void **state)
{
    struct complaint c;
    char line[700];
    (void)state;

    complain(&c, "files[3].path", "\"%s\" climbs out", "../x");
    assert_string_equal(c.field, "files[3].path");
    assert_string_equal(c.text, "\"../x\" climbs out");
    complaint_print(&c, line, sizeof line);
    assert_string_equal(line, "files[3].path: \"../x\" climbs out");
}

static void without_a_field_only_the_text_is_shown(void **state)
{
    struct complaint c;
    char line[700];
    (void)state;

    complain(&c, NULL, "not JSON");
    assert_string_equal(c.field, "");
    complaint_print(&c, line, sizeof line);
    assert_string_equal(line, "not JSON");
}

static void controls_and_broken_utf8_become_question_marks(void **state)
{
    struct complaint c;
    (void)state;

    complain(&c, "a\nb", "%s", "x\n\x1b[31m\x7f\xc2\x9b\xff\xe2\x80\xa8y");
    assert_string_equal(c.field, "a?b");
    assert_string_equal(c.text, "x??[31m????y");
    complain(&c, NULL, "%.4s", "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(c.text, "gr\xc3\xbc");
    complain(&c, NULL, "%.3s", "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(c.text, "gr?");
}

static void long_text_ends_with_an_ellipsis(void **state)
{
    struct complaint c;
    char text[5000];
    (void)state;

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    complain(&c, text, "%s", text);
    assert_int_equal(strlen(c.text), sizeof c.text - 1);
    assert_string_equal(c.text + sizeof c.text - 5, "x…");
    assert_int_equal(strlen(c.field), sizeof c.field - 1);
    assert_string_equal(c.field + sizeof c.field - 5, "x…");
}

static void text_that_just_fits_is_whole(void **state)
{
    struct complaint c;
    char text[sizeof c.text + 1];
    (void)state;

    memset(text, 'x', sizeof text);
    text[sizeof c.text - 1] = '\0';
    complain(&c, NULL, "%s", text);
    assert_string_equal(c.text, text);
}

static void a_cut_never_splits_a_character(void **state)
{
    struct complaint c;
    char text[900];
    (void)state;

    for (int shift = 0; shift < 4; shift++) {
        memset(text, 'x', sizeof text);
        for (int i = shift; i + 4 < (int)sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x98\x80", 4);
        text[sizeof text - 1] = '\0';
        complain(&c, NULL, "%s", text);
        size_t len = strlen(c.text);
        assert_true(len >= sizeof c.text - 4);
        assert_string_equal(c.text + len - 3, "…");
        assert_int_equal((len - 3 - (size_t)shift) % 4, 0);
        assert_null(strchr(c.text, '?'));
    }
}

static void printing_fits_any_buffer(void **state)
{
    struct complaint c;
    (void)state;

    complain(&c, "timeout", "0 is out of range");
    for (size_t size = 0; size < 40; size++) {
        AUTO_FREE char *out = malloc(size + 1);

        memset(out, '#', size + 1);
        complaint_print(&c, out, size);
        if (size > 0)
            assert_true(strlen(out) < size);
        assert_int_equal(out[size], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_returns_einval_so_callers_can_return_it),
        cmocka_unit_test(it_keeps_field_and_text),
        cmocka_unit_test(without_a_field_only_the_text_is_shown),
        cmocka_unit_test(controls_and_broken_utf8_become_question_marks),
        cmocka_unit_test(long_text_ends_with_an_ellipsis),
        cmocka_unit_test(text_that_just_fits_is_whole),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(printing_fits_any_buffer),
    };

    return cmocka_run_group_tests_name("complaint", tests, NULL, NULL);
}
