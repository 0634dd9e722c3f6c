/* tests/unit/test_strbuf.c -- text that grows, JSON strings, base64. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/strbuf.h"
#include "common/utf8.h"

static int reallocs_left = -1; /* -1: none fails */

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_realloc(void *old, size_t size)
{
    if (reallocs_left == 0)
        return NULL;
    if (reallocs_left > 0)
        reallocs_left--;
    return __real_realloc(old, size);
}

static int memory_comes_back(void **state)
{
    (void)state;
    reallocs_left = -1;
    return 0;
}

static void pieces_become_one_terminated_text(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_adds(&sb, "one");
    strbuf_addc(&sb, ' ');
    strbuf_add(&sb, "two!", 3);
    strbuf_addf(&sb, " %d%%", 3);
    assert_string_equal(sb.text, "one two 3%");
    assert_int_equal(sb.len, 10);
    assert_false(sb.failed);
}

static void adding_nothing_gives_an_empty_text(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_add(&sb, NULL, 0);
    assert_non_null(sb.text);
    assert_string_equal(sb.text, "");
}

static void nul_bytes_inside_count(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_add(&sb, "a\0b", 3);
    assert_int_equal(sb.len, 3);
    assert_memory_equal(sb.text, "a\0b", 4);
}

static void a_format_longer_than_the_room_is_whole(void **state)
{
    (void)state;
    for (int width = 1; width < 300; width++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

        strbuf_adds(&sb, "x");
        strbuf_addf(&sb, "%*d", width, 7);
        assert_int_equal(sb.len, width + 1);
        assert_int_equal(strlen(sb.text), width + 1);
        assert_int_equal(sb.text[width], '7');
    }
}

static void growing_keeps_what_was_there(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    for (int i = 0; i < 100000; i++)
        strbuf_addc(&sb, (char)('a' + i % 26));
    assert_int_equal(sb.len, 100000);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(sb.text[i], 'a' + i % 26);
}

static void room_is_what_was_asked_and_one_for_the_nul(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    for (size_t len = 0; len < 200; len++) {
        strbuf_clear(&sb);
        char *room = strbuf_room(&sb, len);
        assert_non_null(room);
        memset(room, 'x', len);
        room[len] = '\0';
        sb.len += len;
        assert_true(sb.len < sb.cap);
    }
}

static void room_that_cannot_exist_fails_without_wrapping(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_adds(&sb, "abc");
    assert_null(strbuf_room(&sb, SIZE_MAX - 1));
    assert_true(sb.failed);
    assert_string_equal(sb.text, "abc");
}

static void clearing_keeps_the_memory(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_adds(&sb, "something");
    char *before = sb.text;
    strbuf_clear(&sb);
    assert_string_equal(sb.text, "");
    strbuf_adds(&sb, "else");
    assert_ptr_equal(sb.text, before);
    assert_string_equal(sb.text, "else");
}

static void taking_hands_over_and_empties(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_adds(&sb, "mine");
    AUTO_FREE char *text = strbuf_take(&sb);
    assert_string_equal(text, "mine");
    assert_null(sb.text);
    AUTO_FREE char *empty = strbuf_take(&sb);
    assert_string_equal(empty, "");
}

/* ---- faults ------------------------------------------------------------ */

static void add_everything(struct strbuf *sb)
{
    strbuf_adds(sb, "0123456789012345678901234567890123456789");
    strbuf_addf(sb, "%0200d", 1);
    strbuf_add_json(sb, "\"\n\xff\xe2\x80\xa8 plain", 13);
    for (int i = 0; i < 700; i++)
        strbuf_addc(sb, 'c');
    strbuf_add_base64(sb, "0123456789", 10);
}

static void failed_memory_is_sticky_and_harmless(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 4; allowed++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

        reallocs_left = allowed;
        add_everything(&sb);
        reallocs_left = -1;
        assert_true(sb.failed);
        size_t len = sb.len;
        add_everything(&sb);
        assert_true(sb.failed);
        assert_int_equal(sb.len, len);
        if (sb.text)
            assert_int_equal(sb.text[sb.len], '\0');
        assert_null(strbuf_take(&sb));
        assert_null(sb.text);
    }
}

static void clearing_after_a_failure_starts_anew(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    reallocs_left = 0;
    strbuf_adds(&sb, "lost");
    assert_true(sb.failed);
    reallocs_left = -1;
    strbuf_clear(&sb);
    strbuf_adds(&sb, "kept");
    assert_false(sb.failed);
    assert_string_equal(sb.text, "kept");
}

/* ---- JSON -------------------------------------------------------------- */

static void assert_json(const char *in, size_t len, const char *want)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    strbuf_add_json(&sb, in, len);
    assert_false(sb.failed);
    assert_string_equal(sb.text, want);
    assert_int_equal(sb.len, strlen(want));
}

#define JSON(in, want) assert_json(in, sizeof in - 1, want)

static void json_quotes_and_escapes(void **state)
{
    (void)state;
    JSON("", "\"\"");
    JSON("plain text", "\"plain text\"");
    JSON("a\"b\\c", "\"a\\\"b\\\\c\"");
    JSON("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\"");
    JSON("\0\1\x1f\x7f", "\"\\u0000\\u0001\\u001f\\u007f\"");
    JSON("/", "\"/\"");
}

static void json_keeps_valid_utf8(void **state)
{
    (void)state;
    JSON("\xc2\x80 \xdf\xbf", "\"\xc2\x80 \xdf\xbf\"");
    JSON("gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"");
    JSON("\xe0\xa0\x80\xef\xbf\xbf", "\"\xe0\xa0\x80\xef\xbf\xbf\"");
    JSON("\xed\x9f\xbf\xee\x80\x80", "\"\xed\x9f\xbf\xee\x80\x80\"");
    JSON("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
         "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"");
}

static void json_escapes_line_separators(void **state)
{
    (void)state;
    JSON("a\xe2\x80\xa8"
         "b\xe2\x80\xa9",
         "\"a\\u2028b\\u2029\"");
    JSON("\xe2\x80\xa7\xe2\x80\xaa", "\"\xe2\x80\xa7\xe2\x80\xaa\"");
}

static void json_shows_each_invalid_byte(void **state)
{
    (void)state;
    JSON("\xff", "\"\\\\xff\"");
    JSON("a\x80z", "\"a\\\\x80z\"");
    JSON("\xc0\x80", "\"\\\\xc0\\\\x80\"");                       /* overlong */
    JSON("\xc1\xbf", "\"\\\\xc1\\\\xbf\"");                       /* overlong */
    JSON("\xe0\x9f\xbf", "\"\\\\xe0\\\\x9f\\\\xbf\"");            /* overlong */
    JSON("\xf0\x8f\xbf\xbf", "\"\\\\xf0\\\\x8f\\\\xbf\\\\xbf\""); /* same */
    JSON("\xed\xa0\x80", "\"\\\\xed\\\\xa0\\\\x80\""); /* surrogate */
    JSON("\xf4\x90\x80\x80", "\"\\\\xf4\\\\x90\\\\x80\\\\x80\""); /* too far */
    JSON("\xf5\x80\x80\x80", "\"\\\\xf5\\\\x80\\\\x80\\\\x80\"");
    JSON("\xe2\x82", "\"\\\\xe2\\\\x82\""); /* cut short */
    JSON("\xe2\x82z", "\"\\\\xe2\\\\x82z\"");
    JSON("\xf0\x9f\x98", "\"\\\\xf0\\\\x9f\\\\x98\"");
}

/* Another decoder must agree: what cJSON reads back is what went in. */
static void json_of_any_character_reads_back(void **state)
{
    (void)state;
    for (uint32_t point = 1; point <= 0x10ffff;
         point += point < 0x3000 ? 1 : 97) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
        char in[5] = {0};
        size_t len = 1;

        if (point >= 0xd800 && point <= 0xdfff)
            continue;
        if (point < 0x80) {
            in[0] = (char)point;
        } else {
            len = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
            for (size_t i = len - 1; i > 0; i--)
                in[i] = (char)(0x80 | (point >> 6 * (len - 1 - i) & 0x3f));
            in[0] = (char)((0xf00 >> len) | (point >> 6 * (len - 1)));
        }
        strbuf_add_json(&sb, in, len);
        cJSON *back = cJSON_Parse(sb.text);
        assert_string_equal(cJSON_GetStringValue(back), in);
        cJSON_Delete(back);
    }
}

static void json_of_random_bytes_is_valid(void **state)
{
    unsigned seed = 1;
    (void)state;

    for (int round = 0; round < 20000; round++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
        size_t len = (size_t)(rand_r(&seed) % 24);
        /* On the heap and exactly as long, so that ASan sees a step past. */
        AUTO_FREE char *in = malloc(len ? len : 1);

        for (size_t i = 0; i < len; i++)
            in[i] = (char)(rand_r(&seed) % 4 ? 0x80 | rand_r(&seed)
                                             : rand_r(&seed));
        strbuf_add_json(&sb, in, len);
        uint32_t point;
        for (size_t at = 0, step; at < sb.len; at += step) {
            step = utf8_decode(sb.text + at, sb.len - at, &point);
            assert_int_not_equal(step, 0);
            assert_true(point >= 0x20);
        }
        cJSON *back = cJSON_Parse(sb.text);
        assert_true(cJSON_IsString(back));
        cJSON_Delete(back);
    }
}

/* ---- base64 ------------------------------------------------------------ */

static void base64_is_rfc_4648(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    (void)state;

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

        strbuf_adds(&sb, "<");
        strbuf_add_base64(&sb, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(sb.text + 1, pairs[i][1]);
        assert_int_equal(sb.len, 1 + strlen(pairs[i][1]));
    }
}

static void base64_uses_the_whole_alphabet(void **state)
{
    static const unsigned char all[48] = {
        0x00, 0x10, 0x83, 0x10, 0x51, 0x87, 0x20, 0x92, 0x8b, 0x30, 0xd3, 0x8f,
        0x41, 0x14, 0x93, 0x51, 0x55, 0x97, 0x61, 0x96, 0x9b, 0x71, 0xd7, 0x9f,
        0x82, 0x18, 0xa3, 0x92, 0x59, 0xa7, 0xa2, 0x9a, 0xab, 0xb2, 0xdb, 0xaf,
        0xc3, 0x1c, 0xb3, 0xd3, 0x5d, 0xb7, 0xe3, 0x9e, 0xbb, 0xf3, 0xdf, 0xbf};
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    (void)state;

    strbuf_add_base64(&sb, all, sizeof all);
    assert_string_equal(sb.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
                                 "stuvwxyz0123456789+/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_become_one_terminated_text),
        cmocka_unit_test(adding_nothing_gives_an_empty_text),
        cmocka_unit_test(nul_bytes_inside_count),
        cmocka_unit_test(a_format_longer_than_the_room_is_whole),
        cmocka_unit_test(growing_keeps_what_was_there),
        cmocka_unit_test(room_is_what_was_asked_and_one_for_the_nul),
        cmocka_unit_test(room_that_cannot_exist_fails_without_wrapping),
        cmocka_unit_test(clearing_keeps_the_memory),
        cmocka_unit_test(taking_hands_over_and_empties),
        cmocka_unit_test_teardown(failed_memory_is_sticky_and_harmless,
                                  memory_comes_back),
        cmocka_unit_test_teardown(clearing_after_a_failure_starts_anew,
                                  memory_comes_back),
        cmocka_unit_test(json_quotes_and_escapes),
        cmocka_unit_test(json_keeps_valid_utf8),
        cmocka_unit_test(json_escapes_line_separators),
        cmocka_unit_test(json_shows_each_invalid_byte),
        cmocka_unit_test(json_of_any_character_reads_back),
        cmocka_unit_test(json_of_random_bytes_is_valid),
        cmocka_unit_test(base64_is_rfc_4648),
        cmocka_unit_test(base64_uses_the_whole_alphabet),
    };

    return cmocka_run_group_tests_name("strbuf", tests, NULL, NULL);
}
