/* text.h, follow.h, save.h: what reaches terminals and folders. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "producer/follow.h"
#include "producer/save.h"
#include "producer/text.h"

/* ---- text --------------------------------------------------------------- */

static void assert_escaped(const char *text, const char *want)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    text_escape(&out, text, strlen(text));
    assert_string_equal(out.text, want);
}

static void control_characters_and_broken_bytes_are_escaped(void **state)
{
    (void)state;
    assert_escaped("caf\xc3\xa9 \xe2\x82\xac", "caf\xc3\xa9 \xe2\x82\xac");
    assert_escaped("\033[2Ja\nb\x7f", "\\x1b[2Ja\\x0ab\\x7f");
    assert_escaped("\xc2\x9b", "\\xc2\\x9b"); /* CSI as one character */
    assert_escaped("\xe2\x80\xae", "\\xe2\\x80\\xae"); /* turns text round */
    assert_escaped("\xd8\x9c", "\\xd8\\x9c");          /* so does U+061C */
    assert_escaped("a\xff\xc3", "a\\xff\\xc3");
}

static void assert_tamed(const char *text, const char *want)
{
    /* In pieces of every size, as the pieces of a stream may end anywhere. */
    for (size_t step = 1; step <= strlen(text); step++) {
        AUTO_STRBUF struct strbuf out = STRBUF_INIT;
        struct text_tamer t = {.nheld = 0};

        for (size_t at = 0; at < strlen(text); at += step)
            text_tame(&t, &out, text + at, strnlen(text + at, step));
        text_tame_end(&t, &out);
        assert_string_equal(out.text, want);
    }
}

static void output_keeps_its_colours_and_nothing_else(void **state)
{
    (void)state;
    assert_tamed("a\tb\r\nc", "a\tb\r\nc");
    assert_tamed("\033[1;31mred\033[0m", "\033[1;31mred\033[0m");
    assert_tamed("\033[mx", "\033[mx");
    assert_tamed("\033[8mhidden", "\033[8mhidden\033[0m");
    assert_tamed("\033]0;title\x07", "\\x1b]0;title\\x07");
    assert_tamed("\033[2J\033[H", "\\x1b[2J\\x1b[H");
    assert_tamed("\033", "\\x1b");
    assert_tamed("\033[1", "\\x1b[1");
    assert_tamed("\033[0000000000000000000000000000000000000000m",
                 "\\x1b[0000000000000000000000000000000000000000m");
    assert_tamed("caf\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x82\xac",
                 "caf\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x82\xac");
    assert_tamed("\xed\x9f\xbf\xe0\xa0\x80\xf4\x8f\xbf\xbf",
                 "\xed\x9f\xbf\xe0\xa0\x80\xf4\x8f\xbf\xbf");
    assert_tamed("\xc2\x9b\x7f\x08", "\\xc2\\x9b\\x7f\\x08");
    assert_tamed("\xff\xe2\x82", "\\xff\\xe2\\x82");
}

static void what_is_cut_says_so(void **state)
{
    char out[8];

    (void)state;
    text_cut(out, sizeof(out), "1234567");
    assert_string_equal(out, "1234567");
    text_cut(out, sizeof(out), "12345678");
    assert_string_equal(out, "1234…");
    text_cut(out, sizeof(out), "123\xc3\xa9 678");
    assert_string_equal(out, "123…");
}

static void times_and_sizes_are_in_human_units(void **state)
{
    char out[TEXT_SHORT];

    (void)state;
    assert_string_equal(text_seconds(out, 0.0042), "4.2 ms");
    assert_string_equal(text_seconds(out, 0.25), "250 ms");
    assert_string_equal(text_seconds(out, 1.5), "1.50 s");
    assert_string_equal(text_seconds(out, 600), "10 min 0 s");
    assert_string_equal(text_seconds(out, 4000), "1 h 6 min");
    assert_string_equal(text_bytes(out, 512), "512 B");
    assert_string_equal(text_bytes(out, 1536), "1.5 KB");
    assert_string_equal(text_bytes(out, 1024.0 * 1024 * 512), "512 MB");
}

static void columns_line_up_whatever_the_alphabet(void **state)
{
    struct grid g = {.columns = 2};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    grid_cell(&g, "A");
    grid_cell(&g, "B");
    grid_cell(&g, "\xc3\xa9\xc3\xa9\xc3\xa9");
    grid_cell(&g, "x\ny");
    grid_print(&g, out);
    fclose(out);
    assert_string_equal(text, "A    B\n\xc3\xa9\xc3\xa9\xc3\xa9  x\\x0ay\n");
    free(text);
}

/* ---- follow ------------------------------------------------------------- */

struct screen {
    struct follow f;
    char *text[2];
    size_t size[2];
};

static int screen_open(void **state)
{
    struct screen *s = calloc(1, sizeof(*s));

    if (!s)
        return -1;
    follow_init(&s->f, open_memstream(&s->text[0], &s->size[0]),
                open_memstream(&s->text[1], &s->size[1]));
    *state = s;
    return 0;
}

static int screen_close(void **state)
{
    struct screen *s = *state;

    for (int i = 0; i < 2; i++) {
        fclose(s->f.streams[i]);
        free(s->text[i]);
    }
    free(s);
    return 0;
}

static const char *seen(struct screen *s, int which)
{
    fflush(s->f.streams[which]);
    return s->text[which];
}

static void piece(struct screen *s, const char *text, uint64_t offset)
{
    follow_event(&s->f, "stdout", text, strlen(text), offset);
}

static void rest(struct screen *s, const char *json)
{
    cJSON *result = cJSON_Parse(json);

    assert_non_null(result);
    follow_rest(&s->f, result);
    cJSON_Delete(result);
}

static void pieces_that_overlap_are_shown_once(void **state)
{
    struct screen *s = *state;

    piece(s, "abc", 0);
    piece(s, "bcde", 1);
    piece(s, "abc", 0);
    assert_string_equal(seen(s, 0), "abcde");
}

static void output_is_tame_on_a_terminal_only(void **state)
{
    struct screen *s = *state;

    s->f.tame[0] = true;
    piece(s, "a\033]0;t\x07\n", 0);
    follow_event(&s->f, "stderr", "\x07", 1, 0);
    assert_string_equal(seen(s, 0), "a\\x1b]0;t\\x07\n");
    assert_string_equal(seen(s, 1), "\x07");
}

static void a_gap_is_said(void **state)
{
    struct screen *s = *state;

    piece(s, "abc", 10);
    assert_string_equal(seen(s, 0), "abc");
    assert_non_null(strstr(seen(s, 1), "10 bytes of output were not kept"));
}

static void what_was_seen_elsewhere_is_no_gap(void **state)
{
    struct screen *s = *state;

    follow_resume(&s->f);
    piece(s, "abc", 10);
    piece(s, "bcd", 11);
    assert_string_equal(seen(s, 0), "abcd");
    assert_string_equal(seen(s, 1), "");
    piece(s, "x", 99);
    assert_non_null(strstr(seen(s, 1), "85 bytes of output were not kept"));
}

static void a_second_start_shows_the_output_anew(void **state)
{
    struct screen *s = *state;

    follow_event(&s->f, "state", "running", 7, 0);
    piece(s, "abc", 0);
    follow_event(&s->f, "state", "running", 7, 0);
    piece(s, "abc", 0);
    assert_string_equal(seen(s, 0), "abcabc");
    assert_non_null(strstr(seen(s, 1), "runs again"));
}

static void the_end_is_seen(void **state)
{
    struct screen *s = *state;

    follow_event(&s->f, "state", "running", 7, 0);
    assert_false(s->f.ended);
    follow_event(&s->f, "end", "", 0, 0);
    assert_true(s->f.ended);
}

static void logs_fill_in_what_the_stream_did_not_bring(void **state)
{
    struct screen *s = *state;

    piece(s, "abc", 0);
    rest(s, "{\"logs\":{\"stdout\":[\"abcdef\"],\"stderr\":[\"e\"]},"
            "\"usage\":{\"stdout_bytes\":6,\"stderr_bytes\":1}}");
    assert_string_equal(seen(s, 0), "abcdef");
    assert_string_equal(seen(s, 1), "e");
}

static void what_was_streamed_whole_is_not_repeated(void **state)
{
    struct screen *s = *state;

    /* One byte that is no UTF-8 is four characters in the logs. */
    piece(s, "\xff\n", 0);
    rest(s, "{\"logs\":{\"stdout\":[\"\\\\xff\\n\"],\"stderr\":[]},"
            "\"usage\":{\"stdout_bytes\":2}}");
    assert_string_equal(seen(s, 0), "\xff\n");
}

static void head_and_tail_are_parted_by_what_was_dropped(void **state)
{
    struct screen *s = *state;

    rest(s, "{\"logs\":{\"stdout\":[\"head\",\"tail\"],\"stderr\":[]},"
            "\"usage\":{\"stdout_bytes\":108}}");
    assert_string_equal(seen(s, 0), "headtail");
    assert_non_null(strstr(seen(s, 1), "100 bytes of output were not kept"));
}

static void a_stream_cut_in_the_tail_goes_on_there(void **state)
{
    struct screen *s = *state;

    piece(s, "head....ta", 0);
    rest(s, "{\"logs\":{\"stdout\":[\"head\",\"tail\"],\"stderr\":[]},"
            "\"usage\":{\"stdout_bytes\":12}}");
    assert_string_equal(seen(s, 0), "head....tail");
}

static void odd_results_do_no_harm(void **state)
{
    struct screen *s = *state;

    rest(s, "{}");
    rest(s, "{\"logs\":{\"stdout\":[1,2],\"stderr\":\"x\"}}");
    rest(s, "{\"logs\":{\"stdout\":[\"abc\",\"defgh\"]},"
            "\"usage\":{\"stdout_bytes\":2}}");
    assert_string_equal(seen(s, 0), "abcdefgh");
    rest(s, "{\"logs\":{\"stdout\":[\"abc\"]},\"usage\":{\"stdout_bytes\":"
            "1e30}}");
    assert_string_equal(seen(s, 0), "abcdefghabc");
}

/* ---- save --------------------------------------------------------------- */

static void assert_name(const char *path, const char *want)
{
    char name[SAVE_NAME_MAX + 1];

    save_name(path, name);
    assert_string_equal(name, want);
}

static void saved_names_stay_below_the_folder(void **state)
{
    (void)state;
    assert_name("a/b.txt", "a/b.txt");
    assert_name("/etc/passwd", "etc/passwd");
    assert_name("../../x", "__/__/x");
    assert_name("a//./b/", "a/b");
    assert_name("..", "__");
    assert_name("...", "...");
    assert_name("", "file");
    assert_name("/", "file");
    assert_name("a\033b\nc\xff", "a_b_c_");
    assert_name("caf\xc3\xa9", "caf\xc3\xa9");
}

/* A limit of the process stands for a full disk. */
static int save_with_room(rlim_t bytes, const char *dir)
{
    struct rlimit before, less;
    cJSON *result = cJSON_Parse(
        "{\"files\":[{\"path\":\"a\",\"content_base64\":\"aGVsbG8=\"}]}");
    FILE *say = fopen("/dev/null", "w");
    int rc;

    MUST(result && say);
    MUST0(getrlimit(RLIMIT_FSIZE, &before));
    less = before;
    less.rlim_cur = bytes;
    signal(SIGXFSZ, SIG_IGN);
    MUST0(setrlimit(RLIMIT_FSIZE, &less));
    rc = save_all(result, dir, say);
    MUST0(setrlimit(RLIMIT_FSIZE, &before));
    fclose(say);
    cJSON_Delete(result);
    return rc;
}

static void a_file_that_does_not_fit_leaves_what_was_there(void **state)
{
    char dir[] = "/tmp/capibox-save-XXXXXX", path[64];
    char *kept = NULL;
    size_t size;

    (void)state;
    MUST(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/a", dir);
    assert_int_equal(save_with_room(2, dir), -EFBIG);
    assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
    assert_int_equal(save_with_room(100, dir), 0);
    assert_int_equal(save_with_room(2, dir), -EFBIG);
    assert_int_equal(io_read_file(path, 100, &kept, &size), 0);
    assert_string_equal(kept, "hello");
    free(kept);
    MUST0(unlink(path));
    assert_int_equal(rmdir(dir), 0);
}

static void saved_names_have_a_bound(void **state)
{
    char path[2000], name[SAVE_NAME_MAX + 1];

    (void)state;
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    save_name(path, name);
    assert_string_equal(name, "file");
    for (size_t i = 10; i < sizeof(path) - 1; i += 10)
        path[i] = '/';
    save_name(path, name);
    assert_true(strlen(name) <= SAVE_NAME_MAX);
    assert_true(strlen(name) > 100);
}

#define ON_SCREEN(test) \
    cmocka_unit_test_setup_teardown(test, screen_open, screen_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_and_broken_bytes_are_escaped),
        cmocka_unit_test(output_keeps_its_colours_and_nothing_else),
        cmocka_unit_test(what_is_cut_says_so),
        cmocka_unit_test(times_and_sizes_are_in_human_units),
        cmocka_unit_test(columns_line_up_whatever_the_alphabet),
        ON_SCREEN(pieces_that_overlap_are_shown_once),
        ON_SCREEN(output_is_tame_on_a_terminal_only),
        ON_SCREEN(a_gap_is_said),
        ON_SCREEN(what_was_seen_elsewhere_is_no_gap),
        ON_SCREEN(a_second_start_shows_the_output_anew),
        ON_SCREEN(the_end_is_seen),
        ON_SCREEN(logs_fill_in_what_the_stream_did_not_bring),
        ON_SCREEN(what_was_streamed_whole_is_not_repeated),
        ON_SCREEN(head_and_tail_are_parted_by_what_was_dropped),
        ON_SCREEN(a_stream_cut_in_the_tail_goes_on_there),
        ON_SCREEN(odd_results_do_no_harm),
        cmocka_unit_test(saved_names_stay_below_the_folder),
        cmocka_unit_test(saved_names_have_a_bound),
        cmocka_unit_test(a_file_that_does_not_fit_leaves_what_was_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
