/* tests/unit/test_log.c -- one event, one line, nothing forged. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <regex.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/must.h"
#include "common/utf8.h"

/* What was written to stderr, and how. */
static struct {
    pthread_mutex_t lock;
    bool taking;
    char text[65536];
    size_t len;
    int writes, interrupts, fail_errno;
} page = {.lock = PTHREAD_MUTEX_INITIALIZER};

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

static ssize_t take(const void *data, size_t size)
{
    page.writes++;
    if (page.interrupts > 0) {
        page.interrupts--;
        errno = EINTR;
        return -1;
    }
    if (page.fail_errno) {
        errno = page.fail_errno;
        return -1;
    }
    MUST(page.len + size < sizeof page.text);
    memcpy(page.text + page.len, data, size);
    page.len += size;
    page.text[page.len] = '\0';
    return (ssize_t)size;
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    ssize_t put;

    if (fd != STDERR_FILENO || !page.taking)
        return __real_write(fd, data, size);
    MUST0(pthread_mutex_lock(&page.lock));
    put = take(data, size);
    MUST0(pthread_mutex_unlock(&page.lock));
    return put;
}

static void start_page(void)
{
    page.taking = true;
    page.len = 0;
    page.text[0] = '\0';
    page.writes = page.interrupts = page.fail_errno = 0;
}

static int set_up_text(void **state)
{
    (void)state;
    start_page();
    log_setup(false, LOG_INFO);
    return 0;
}

static int set_up_json(void **state)
{
    (void)state;
    start_page();
    log_setup(true, LOG_INFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    page.taking = false;
    return 0;
}

/* The line behind its time. */
static const char *untimed(void)
{
    regex_t form;
    int rc;

    MUST0(regcomp(&form,
                  "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
                  "\\.[0-9]{3}Z ",
                  REG_EXTENDED | REG_NOSUB));
    rc = regexec(&form, page.text, 0, NULL, 0);
    regfree(&form);
    assert_int_equal(rc, 0);
    return page.text + strlen("2026-01-02T03:04:05.678Z ");
}

/* The one line as JSON; the caller deletes it. */
static cJSON *parsed(void)
{
    cJSON *line = cJSON_Parse(page.text);
    uint32_t point;

    if (!cJSON_IsObject(line))
        fail_msg("not JSON: %s", page.text);
    for (size_t at = 0, step; at < page.len - 1; at += step) {
        step = utf8_decode(page.text + at, page.len - at, &point);
        assert_int_not_equal(step, 0);
        assert_true(point >= 0x20);
    }
    assert_int_equal(page.text[page.len - 1], '\n');
    return line;
}

static const char *member(const cJSON *line, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, name));
}

/* ---- text -------------------------------------------------------------- */

static void a_text_line_is_as_the_header_shows(void **state)
{
    (void)state;
    log_info("worker started", LOG_S("id", "w-1"), LOG_I("slots", 4),
             LOG_F("load", 0.25), LOG_END);
    assert_string_equal(untimed(),
                        "info  worker started id=w-1 slots=4 load=0.25\n");
    assert_int_equal(page.writes, 1);
}

static void values_that_need_them_get_quotes(void **state)
{
    (void)state;
    log_warn("x", LOG_S("a", "two words"), LOG_S("b", ""), LOG_S("c", NULL),
             LOG_S("d", "k=v"), LOG_S("e", "say \"hi\\\""), LOG_S("f", "ü"),
             LOG_END);
    assert_string_equal(untimed(), "warn  x a=\"two words\" b=\"\" c=\"\" "
                                   "d=\"k=v\" e=\"say \\\"hi\\\\\\\"\" f=ü\n");
}

static void a_job_cannot_forge_a_text_line(void **state)
{
    (void)state;
    log_error("bad\nline \"x\"",
              LOG_S("v", "a\n2026 \x1b[2J\r\x7f\xff\xc2\x9b\xe2\x80\xae"
                         "\xe2\x80\xa8z"),
              LOG_END);
    assert_string_equal(untimed(),
                        "error bad\\nline \"x\" "
                        "v=\"a\\n2026 \\u001b[2J\\u000d\\u007f\\xff\\u009b"
                        "\\u202e\\u2028z\"\n");
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    log_debug("no", LOG_END);
    assert_int_equal(page.writes, 0);
    log_setup(false, LOG_ERROR);
    log_warn("no", LOG_END);
    assert_int_equal(page.writes, 0);
    log_setup(false, LOG_DEBUG);
    log_debug("yes", LOG_END);
    assert_string_equal(untimed(), "debug yes\n");
}

static void numbers_at_their_ends_are_whole(void **state)
{
    (void)state;
    log_info("n", LOG_I("least", INT64_MIN), LOG_F("time", 1700000000.125),
             LOG_F("nan", NAN), LOG_F("inf", -INFINITY), LOG_END);
    assert_string_equal(untimed(), "info  n least=-9223372036854775808 "
                                   "time=1700000000.125 nan=null inf=null\n");
}

/* ---- JSON -------------------------------------------------------------- */

static void a_json_line_is_one_object(void **state)
{
    (void)state;
    log_info("worker started", LOG_S("id", "w-1"), LOG_I("slots", 4),
             LOG_F("load", NAN), LOG_S("none", NULL), LOG_END);
    cJSON *line = parsed();
    assert_string_equal(page.text + strlen("{\"time\":\"2026-01-02T03:04:05."
                                           "678Z\""),
                        ",\"level\":\"info\",\"message\":\"worker started\","
                        "\"id\":\"w-1\",\"slots\":4,\"load\":null,"
                        "\"none\":\"\"}\n");
    assert_int_equal(strlen(member(line, "time")), 24);
    cJSON_Delete(line);
}

static void a_job_cannot_forge_a_json_line(void **state)
{
    (void)state;
    log_info("a\"b\\", LOG_S("v", "\"},{\n\xff\x01\xe2\x80\xa8\t\x7f"),
             LOG_END);
    cJSON *line = parsed();
    assert_string_equal(member(line, "message"), "a\"b\\");
    assert_string_equal(member(line, "v"),
                        "\"},{\n\\xff\x01\xe2\x80\xa8\t\x7f");
    cJSON_Delete(line);
}

/* ---- bounds ------------------------------------------------------------ */

/* Every length around the border, with characters of every width. */
static void a_long_value_is_cut_with_an_ellipsis(void **state)
{
    static const char *const fill[] = {"x", "ü", "€", "😀", "\n", "\xff", "\""};
    char value[9000];
    (void)state;

    for (int json = 0; json < 2; json++) {
        log_setup(json, LOG_INFO);
        for (int i = 0; i < 7 * 300; i++) {
            size_t one = strlen(fill[i % 7]), len = 0;

            for (size_t most = 7900 + (size_t)i / 7; len + one <= most;
                 len += one)
                memcpy(value + len, fill[i % 7], one);
            value[len] = '\0';
            start_page();
            log_info("m", LOG_S("v", value), LOG_S("w", "more"),
                     LOG_S("last", value), LOG_END);
            assert_true(page.len <= 8192);
            assert_int_equal(page.writes, 1);
            assert_non_null(strstr(page.text, json ? "\"cut\":true" : "…"));
            assert_ptr_equal(strchr(page.text, '\n'), page.text + page.len - 1);
            if (json)
                cJSON_Delete(parsed());
        }
    }
}

static void many_fields_are_bounded_too(void **state)
{
    char value[300];
    (void)state;

    memset(value, 'y', sizeof value);
    for (int json = 0; json < 2; json++) {
        log_setup(json, LOG_INFO);
        for (size_t len = 0; len < sizeof value; len++) {
            struct log_field f = LOG_S("field", value);

            value[sizeof value - 1 - len] = '\0';
            start_page();
            log_info("m", f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f,
                     f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f,
                     LOG_END);
            value[sizeof value - 1 - len] = 'y';
            assert_true(page.len <= 8192);
            if (json)
                cJSON_Delete(parsed());
        }
    }
}

static void a_long_message_leaves_no_room_for_fields(void **state)
{
    char message[10000];
    (void)state;

    memset(message, 'm', sizeof message);
    message[sizeof message - 1] = '\0';
    log_info(message, LOG_S("a", "b"), LOG_END);
    assert_string_equal(page.text + page.len - strlen("mm…\n"), "mm…\n");
    start_page();
    log_setup(true, LOG_INFO);
    log_info(message, LOG_S("a", "b"), LOG_END);
    assert_string_equal(page.text + page.len - strlen("mm…\",\"cut\":true}\n"),
                        "mm…\",\"cut\":true}\n");
    start_page();
    log_info(NULL, LOG_END);
    cJSON *line = parsed();
    assert_string_equal(member(line, "message"), "");
    cJSON_Delete(line);
}

/* ---- faults, threads --------------------------------------------------- */

static void an_interrupted_write_is_repeated(void **state)
{
    (void)state;
    page.interrupts = 2;
    log_info("m", LOG_END);
    assert_int_equal(page.writes, 3);
    assert_string_equal(untimed(), "info  m\n");
}

static void a_line_that_cannot_be_written_is_dropped(void **state)
{
    (void)state;
    page.fail_errno = EAGAIN;
    errno = ENOTDIR;
    log_info("m", LOG_END);
    assert_int_equal(page.writes, 1);
    assert_int_equal(errno, ENOTDIR);
}

static void *log_some(void *arg)
{
    for (int i = 0; i < 50; i++)
        log_info("from", LOG_S("thread", (const char *)arg), LOG_END);
    return NULL;
}

static void lines_of_threads_never_mix(void **state)
{
    pthread_t threads[4];
    char name[] = "one";
    int lines = 0;
    (void)state;

    for (int i = 0; i < 4; i++)
        MUST0(pthread_create(&threads[i], NULL, log_some, name));
    for (int i = 0; i < 4; i++)
        MUST0(pthread_join(threads[i], NULL));
    for (char *line = strtok(page.text, "\n"); line;
         line = strtok(NULL, "\n")) {
        lines++;
        assert_string_equal(line + 25, "info  from thread=one");
    }
    assert_int_equal(lines, 200);
    assert_int_equal(page.writes, 200);
}

#define AS_TEXT(test) \
    cmocka_unit_test_setup_teardown(test, set_up_text, tear_down)
#define AS_JSON(test) \
    cmocka_unit_test_setup_teardown(test, set_up_json, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AS_TEXT(a_text_line_is_as_the_header_shows),
        AS_TEXT(values_that_need_them_get_quotes),
        AS_TEXT(a_job_cannot_forge_a_text_line),
        AS_TEXT(lines_below_the_level_are_not_written),
        AS_TEXT(numbers_at_their_ends_are_whole),
        AS_JSON(a_json_line_is_one_object),
        AS_JSON(a_job_cannot_forge_a_json_line),
        AS_TEXT(a_long_value_is_cut_with_an_ellipsis),
        AS_TEXT(many_fields_are_bounded_too),
        AS_TEXT(a_long_message_leaves_no_room_for_fields),
        AS_TEXT(an_interrupted_write_is_repeated),
        AS_TEXT(a_line_that_cannot_be_written_is_dropped),
        AS_TEXT(lines_of_threads_never_mix),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
