/* tests/unit/test_replies.c -- bytes to replies, commands to bytes. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/redis_private.h"
#include "common/replies.h"

#define LIMIT (1u << 20)

int __real_redisReaderFeed(redisReader *reader, const char *data, size_t size);
int __wrap_redisReaderFeed(redisReader *reader, const char *data, size_t size);

static size_t largest_feed;

int __wrap_redisReaderFeed(redisReader *reader, const char *data, size_t size)
{
    if (size > largest_feed)
        largest_feed = size;
    return __real_redisReaderFeed(reader, data, size);
}

static int start(void **state)
{
    struct replies *rs = malloc(sizeof(*rs));

    *state = rs;
    return rs ? replies_init(rs, LIMIT) : -ENOMEM;
}

static int stop(void **state)
{
    replies_fini(*state);
    free(*state);
    return 0;
}

static int feed(struct replies *rs, const char *text)
{
    return replies_feed(rs, text, strlen(text));
}

static void replies_come_in_order_however_they_are_cut(void **state)
{
    static const char text[] =
        ":1\r\n$5\r\nhello\r\n*2\r\n:2\r\n$-1\r\n+OK\r\n-ERR no\r\n";
    static const int types[] = {REDIS_REPLY_INTEGER, REDIS_REPLY_STRING,
                                REDIS_REPLY_ARRAY, REDIS_REPLY_STATUS,
                                REDIS_REPLY_ERROR};

    for (size_t cut = 1; cut < sizeof(text); cut++) {
        for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
            size_t left = sizeof(text) - 1 - at;

            assert_int_equal(
                replies_feed(*state, text + at, left < cut ? left : cut), 0);
        }
        for (size_t i = 0; i < 5; i++) {
            redisReply *reply = replies_take(*state);

            assert_non_null(reply);
            assert_int_equal(reply->type, types[i]);
            freeReplyObject(reply);
        }
        assert_null(replies_take(*state));
    }
}

static void the_queue_grows_and_wraps(void **state)
{
    long long next = 0, taken = 0;

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 30; i++) {
            char text[32];

            snprintf(text, sizeof(text), ":%lld\r\n", next++);
            assert_int_equal(feed(*state, text), 0);
        }
        for (int i = 0; i < 25; i++) {
            redisReply *reply = replies_take(*state);

            assert_int_equal(reply->integer, taken++);
            freeReplyObject(reply);
        }
    }
}

static void nonsense_is_a_protocol_error_with_words(void **state)
{
    struct replies *rs = *state;

    assert_int_equal(feed(rs, "HTTP/1.1 400 Bad Request\r\n"), -EPROTO);
    assert_non_null(strstr(rs->why, "rotocol error"));
    assert_int_equal(feed(rs, ":1\r\n"), -EPROTO);
    assert_null(replies_take(rs));
}

static void replies_before_the_nonsense_are_kept(void **state)
{
    redisReply *reply;

    assert_int_equal(feed(*state, ":7\r\nnonsense\r\n"), -EPROTO);
    reply = replies_take(*state);
    assert_int_equal(reply->integer, 7);
    freeReplyObject(reply);
}

static void a_reply_over_the_limit_is_refused(void **state)
{
    struct replies *rs = *state;
    char *filler = calloc(1, 65536);
    int rc = feed(rs, "$100000000\r\n");
    size_t fed = 0;

    while (rc == 0 && fed < 2 * LIMIT) {
        rc = replies_feed(rs, filler, 65536);
        fed += 65536;
    }
    free(filler);
    assert_int_equal(rc, -EPROTO);
    assert_true(fed <= LIMIT + 65536);
}

static void many_replies_may_pass_the_limit_together(void **state)
{
    char *text = malloc(65536 + 64);
    int head = sprintf(text, "$65536\r\n");

    memset(text + head, 'x', 65536);
    memcpy(text + head + 65536, "\r\n", 2);
    for (int i = 0; i < 40; i++) {
        redisReply *reply;

        assert_int_equal(replies_feed(*state, text, (size_t)head + 65536 + 2),
                         0);
        reply = replies_take(*state);
        assert_int_equal(reply->len, 65536);
        freeReplyObject(reply);
    }
    free(text);
}

static void an_announced_giant_array_takes_no_memory(void **state)
{
    struct replies *rs = *state;

    assert_int_equal(feed(rs, "*2000000000\r\n"), -EPROTO);
    assert_non_null(strstr(rs->why, "too many elements"));
}

static void endless_nesting_is_refused(void **state)
{
    int rc = 0;

    for (int i = 0; i < 100 && rc == 0; i++)
        rc = feed(*state, "*1\r\n");
    assert_int_equal(rc, -EPROTO);
}

/* The reader moves all it still holds after each reply: were it given the 8 MB
 * below in one piece, it would copy 16 GB. */
static void a_backlog_is_given_to_the_reader_in_slices(void **state)
{
    enum { REPLIES = 4096, BYTES = 2048 };
    struct replies *rs = *state;
    char *text = malloc(REPLIES * (BYTES + 16));
    size_t size = 0;

    for (int i = 0; i < REPLIES; i++) {
        size += (size_t)sprintf(text + size, "$%d\r\n", BYTES);
        memset(text + size, 'x', BYTES);
        size += BYTES;
        memcpy(text + size, "\r\n", 2);
        size += 2;
    }
    largest_feed = 0;
    assert_int_equal(replies_feed(rs, text, size), 0);
    assert_int_equal(rs->len, REPLIES);
    assert_in_range(largest_feed, 1, 32768);
    free(text);
}

static void the_room_of_a_huge_reply_is_given_back(void **state)
{
    struct replies *rs = *state;
    size_t size = 3u << 20;
    char *text = calloc(1, size + 64);
    int head = sprintf(text, "$%zu\r\n", size);

    rs->bytes_max = 2 * size;
    memcpy(text + head + size, "\r\n", 2);
    assert_int_equal(replies_feed(rs, text, (size_t)head + size + 2), 0);
    assert_int_equal(rs->largest, 0); /* a new reader */
    freeReplyObject(replies_take(rs));
    assert_int_equal(feed(rs, ":3\r\n"), 0);
    freeReplyObject(replies_take(rs));
    free(text);
}

static void commands_are_written_as_hiredis_writes_them(void **state)
{
    struct strbuf out = STRBUF_INIT;
    unsigned seed = 20240601;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        const char *argv[12];
        size_t lens[12];
        char bytes[4096];
        char *theirs = NULL;
        int argc = 1 + (int)(rand_r(&seed) % 12);
        int theirs_len;

        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (char)rand_r(&seed);
        for (int i = 0; i < argc; i++) {
            argv[i] = bytes + rand_r(&seed) % 2048;
            lens[i] = (size_t)rand_r(&seed) % (round % 2 ? 2048 : 12);
        }
        theirs_len = redisFormatCommandArgv(&theirs, argc, argv, lens);
        strbuf_clear(&out);
        assert_true(redis_format(&out, argc, argv, lens));
        assert_int_equal(out.len, theirs_len);
        assert_memory_equal(out.text, theirs, out.len);
        redisFreeCommand(theirs);
    }
    strbuf_fini(&out);
}

static void plain_strings_need_no_lengths(void **state)
{
    struct strbuf out = STRBUF_INIT;
    const char *argv[] = {"SET", "k", ""};

    (void)state;
    assert_true(redis_format(&out, 3, argv, NULL));
    assert_string_equal(out.text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    strbuf_fini(&out);
}

#define WITH_REPLIES(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REPLIES(replies_come_in_order_however_they_are_cut),
        WITH_REPLIES(the_queue_grows_and_wraps),
        WITH_REPLIES(nonsense_is_a_protocol_error_with_words),
        WITH_REPLIES(replies_before_the_nonsense_are_kept),
        WITH_REPLIES(a_reply_over_the_limit_is_refused),
        WITH_REPLIES(many_replies_may_pass_the_limit_together),
        WITH_REPLIES(an_announced_giant_array_takes_no_memory),
        WITH_REPLIES(endless_nesting_is_refused),
        WITH_REPLIES(a_backlog_is_given_to_the_reader_in_slices),
        WITH_REPLIES(the_room_of_a_huge_reply_is_given_back),
        cmocka_unit_test(commands_are_written_as_hiredis_writes_them),
        cmocka_unit_test(plain_strings_need_no_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
