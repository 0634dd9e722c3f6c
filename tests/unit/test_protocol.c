/* Keys, ids, prefixes, script names, what error replies mean: all of the
 * protocol that needs no Redis. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <string.h>

#include "common/envelope.h"
#include "common/job.h"
#include "common/protocol_call.h"

static struct protocol protocol;

static void keys_are_made_of_prefix_kind_and_name(void **state)
{
    char key[KEY_MAX];

    (void)state;
    assert_string_equal(protocol_key(&protocol, key, "job", "j-1"),
                        "{capibox}:job:j-1");
    assert_string_equal(protocol_key(&protocol, key, "stats", NULL),
                        "{capibox}:stats");
}

static void the_longest_names_fit_a_key(void **state)
{
    AUTO_WORDS struct words w = {0};
    char prefix[64], name[JOB_NAME_MAX + 1], wid[WORKER_ID_MAX + 1];
    struct protocol p;

    (void)state;
    memset(prefix, 'p', 63);
    memset(name, 'n', JOB_NAME_MAX);
    memset(wid, 'w', WORKER_ID_MAX);
    prefix[63] = name[JOB_NAME_MAX] = wid[WORKER_ID_MAX] = '\0';
    assert_int_equal(protocol_init(&p, prefix, 60, 10000), 0);
    words_private_key(&w, &p, wid, name);
    words_key(&w, &p, "stats:template", name);
    assert_false(w.failed);
    assert_int_equal(w.size[0], 63 + strlen(":p:") + 48 + 1 + 64);
}

static void prefixes_are_checked(void **state)
{
    struct protocol p;
    char longest[66];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[64] = '\0';
    assert_int_equal(protocol_init(&p, "", 60, 10000), -EINVAL);
    assert_int_equal(protocol_init(&p, longest, 60, 10000), -EINVAL);
    assert_int_equal(protocol_init(&p, "a\nb", 60, 10000), -EINVAL);
    assert_int_equal(protocol_init(&p, longest + 1, 60, 10000), 0);
}

static void scripts_are_named_by_their_text(void **state)
{
    struct protocol other;

    (void)state;
    assert_int_equal(protocol_init(&other, "x", 1, 1), 0);
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        assert_int_equal(strlen(protocol.scripts[i].sha), 40);
        assert_int_equal(
            strncmp(protocol.scripts[i].text, "#!lua", strlen("#!lua")), 0);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(protocol.scripts[i].sha,
                                    protocol.scripts[k].sha);
    }
    other.scripts[0].text = "return 1";
    assert_int_equal(protocol_rehash(&other), 0);
    assert_string_equal(other.scripts[0].sha,
                        "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
}

static void worker_ids_fit_and_never_repeat(void **state)
{
    char a[WORKER_ID_MAX + 1], b[WORKER_ID_MAX + 1];

    (void)state;
    assert_int_equal(protocol_make_worker_id(a), 0);
    assert_int_equal(protocol_make_worker_id(b), 0);
    assert_string_not_equal(a, b);
    assert_true(strlen(a) > 18);
    for (const char *c = a; *c; c++)
        assert_non_null(strchr("abcdefghijklmnopqrstuvwxyz0123456789._-"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                               *c));
}

static void a_token_is_a_job_id_and_fits_an_envelope(void **state)
{
    char wid[WORKER_ID_MAX + 1], token[TOKEN_MAX + 1];
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    struct envelope e = {.suspicions = 1}, back;

    (void)state;
    memset(wid, 'w', WORKER_ID_MAX);
    wid[WORKER_ID_MAX] = '\0';
    protocol_token(token, wid, 99999999999999);
    assert_true(job_id_valid(token));
    strcpy(e.id, token);
    strcpy(e.parent, token);
    envelope_print(&e, &sb);
    assert_int_equal(envelope_parse(sb.text, sb.len, &back), sb.len);
    assert_string_equal(back.parent, token);
}

static void job_ids_are_valid_and_never_repeat(void **state)
{
    char a[JOB_ID_MAX + 1], b[JOB_ID_MAX + 1];

    (void)state;
    assert_int_equal(protocol_make_job_id(a), 0);
    assert_int_equal(protocol_make_job_id(b), 0);
    assert_int_equal(strlen(a), 28);
    assert_true(job_id_valid(a));
    assert_string_not_equal(a, b);
}

static void error_replies_become_errors(void **state)
{
    static const struct {
        const char *text;
        int rc;
    } rows[] = {
        {"NOSCRIPT No matching script.", -ESTALE},
        {"LOADING Redis is loading", -EAGAIN},
        {"READONLY You can't write", -EAGAIN},
        {"OOM command not allowed", -ENOSPC},
        {"NOPERM this user", -EACCES},
        {"WRONGTYPE Operation", -EPROTO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];
        redisReply reply = {.type = REDIS_REPLY_ERROR, .str = text};

        strcpy(text, rows[i].text);
        reply.len = strlen(text);
        assert_int_equal(reply_failure(&reply), rows[i].rc);
        assert_string_equal(protocol_error(), rows[i].text);
    }
    assert_int_equal(reply_failure(&(redisReply){.type = REDIS_REPLY_NIL}), 0);
    assert_int_equal(reply_failure(NULL), -EPROTO);
}

static redisReply text_item(const char *text)
{
    return (redisReply){.type = REDIS_REPLY_STRING,
                        .str = (char *)(uintptr_t)text,
                        .len = strlen(text)};
}

/* What a broken or hostile server might say instead of an exchange's answer. */
static void nonsense_instead_of_an_answer_is_refused(void **state)
{
    struct queue_share queues[1] = {{.name = "q"}};
    struct finish finishes[2] = {{.kind = FINISH_END}};
    struct exchange_request request = {
        .queues = queues, .nqueues = 1, .finishes = finishes, .nfinishes = 2};
    struct exchange_reply out;
    redisReply base = {.type = REDIS_REPLY_INTEGER, .integer = 0};
    redisReply acks = text_item("11"), trouble = text_item("");
    redisReply index = {.type = REDIS_REPLY_INTEGER, .integer = 1};
    redisReply entries = {.type = REDIS_REPLY_ARRAY};
    redisReply *items[] = {&base, &acks, &trouble, &index, &entries};
    redisReply reply = {
        .type = REDIS_REPLY_ARRAY, .elements = 3, .element = items};

    (void)state;
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), 0);
    assert_int_equal(out.nacks, 2);
    reply.elements = 2;
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), -EPROTO);
    reply.elements = 5; /* a queue that was not asked for */
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), -EPROTO);
    index.integer = 0;
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), 0);
    acks = text_item("1");
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), -EPROTO);
    acks = text_item("13");
    assert_int_equal(protocol_exchange_parse(&reply, &request, &out), -EPROTO);
}

static void requests_that_make_no_sense_are_not_sent(void **state)
{
    struct finish finish = {.kind = FINISH_RETRY, .queue = "q", .job_id = "j"};
    struct exchange_request request = {.wid = "w", .sequence = 1};

    (void)state;
    request.claim = CLAIM_MAX + 1;
    assert_int_equal(protocol_exchange_append(&protocol, NULL, &request, false),
                     -EINVAL);
    request.claim = 1;
    request.sequence = 0;
    assert_int_equal(protocol_exchange_append(&protocol, NULL, &request, false),
                     -EINVAL);
    request.sequence = 1;
    request.finishes = &finish; /* has nothing to give back */
    request.nfinishes = 1;
    assert_int_equal(protocol_exchange_append(&protocol, NULL, &request, false),
                     -EINVAL);
}

static int open_all(void **state)
{
    (void)state;
    return protocol_init(&protocol, "{capibox}", 60, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_made_of_prefix_kind_and_name),
        cmocka_unit_test(the_longest_names_fit_a_key),
        cmocka_unit_test(prefixes_are_checked),
        cmocka_unit_test(scripts_are_named_by_their_text),
        cmocka_unit_test(worker_ids_fit_and_never_repeat),
        cmocka_unit_test(a_token_is_a_job_id_and_fits_an_envelope),
        cmocka_unit_test(job_ids_are_valid_and_never_repeat),
        cmocka_unit_test(error_replies_become_errors),
        cmocka_unit_test(nonsense_instead_of_an_answer_is_refused),
        cmocka_unit_test(requests_that_make_no_sense_are_not_sent),
    };

    return cmocka_run_group_tests(tests, open_all, NULL);
}
