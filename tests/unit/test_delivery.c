/* tests/unit/test_delivery.c -- a claim's ids, books and ends. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "worker/delivery.h"

#define WID "host-1-ab"

static struct settings settings;
static struct template_set *templates;

static int load(void **state)
{
    (void)state;
    MUST0(settings_init(&settings));
    MUST0(template_set_load("templates", NULL, NULL, &templates));
    return 0;
}

static int unload(void **state)
{
    (void)state;
    template_set_unref(templates);
    settings_fini(&settings);
    return 0;
}

/* Claim number 7 of queue "high". */
static struct delivery *claimed(const void *entry, size_t size)
{
    struct claim claim = {
        .number = 7, .entry = malloc(size + 1), .entry_len = size};
    struct delivery *d;

    MUST(claim.entry);
    memcpy(claim.entry, entry, size);
    claim.entry[size] = '\0';
    d = delivery_create(&claim, WID, 1, "high");
    MUST(d);
    assert_null(claim.entry); /* it is the delivery's now */
    return d;
}

static struct delivery *checked(const char *entry)
{
    struct delivery *d = claimed(entry, strlen(entry));

    assert_int_equal(delivery_check(d, templates, &settings), 0);
    assert_int_equal(d->stage, DELIVERY_CHECKED);
    return d;
}

static void an_unknown_task_type_is_warned_of(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\",\"task_type\":\"nosuch\"}");

    (void)state;
    assert_false(d->rejected);
    assert_int_equal(d->job->nwarnings, 1);
    assert_non_null(strstr(d->job->warnings[0],
                           "task_type \"nosuch\" is unknown, so template "
                           "default was used; known are data_analysis, "));
    delivery_destroy(d);
    d = checked("{\"code\":\"x\",\"task_type\":\"ml\"}");
    assert_int_equal(d->job->nwarnings, 0);
    delivery_destroy(d);
    d = checked("{\"code\":\"x\",\"task_type\":\"mine\",\"template\":"
                "\"default\"}");
    assert_int_equal(d->job->nwarnings, 0);
    delivery_destroy(d);
}

/* The entry a finish gives back, as its next claimer sees it. */
static struct delivery *next_of(struct delivery *d)
{
    struct delivery *next = claimed(d->finish.entry, d->finish.entry_len);

    assert_int_equal(delivery_check(next, templates, &settings), 0);
    delivery_destroy(d);
    return next;
}

static struct outcome outcome_of(enum verdict verdict)
{
    struct outcome o;

    MUST0(outcome_init(&o, 1000));
    o.verdict = verdict;
    o.exit_code = 0;
    return o;
}

static void end_with(struct delivery *d, enum verdict verdict)
{
    struct outcome o = outcome_of(verdict);

    o.code_started = o.sandbox_created = o.sandbox_destroyed =
        verdict == VERDICT_OK;
    assert_int_equal(delivery_end(d, &o, "null"), 0);
    outcome_fini(&o);
}

/* ---- ids --------------------------------------------------------------- */

static void the_jobs_own_id_goes_before_the_enqueuers(void **state)
{
    struct delivery *d = checked("!iother|{\"id\":\"mine\",\"code\":\"x\"}");

    (void)state;
    assert_string_equal(d->job_id, "mine");
    assert_true(d->must_start);
    delivery_destroy(d);
}

static void the_enqueuers_id_goes_before_the_token(void **state)
{
    struct delivery *d = checked("!iother|{\"code\":\"x\"}");

    (void)state;
    assert_string_equal(d->job_id, "other");
    assert_true(d->must_start);
    delivery_destroy(d);
}

static void
a_job_without_any_is_named_after_its_first_claim_for_ever(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\"}");
    struct outcome o = outcome_of(VERDICT_BACKEND_ERROR);

    (void)state;
    assert_string_equal(d->job_id, WID ".7");
    assert_string_equal(d->job->id, WID ".7"); /* for its backend, too */
    assert_false(d->must_start); /* nobody else can have that id */
    assert_int_equal(delivery_release(d), 0);
    d = next_of(d);
    d->number = 8;
    assert_string_equal(d->job_id, WID ".7");
    assert_true(d->must_start); /* another claim of it may be alive */
    assert_int_equal(delivery_retry(d, &o, 0, 0), 0);
    d = next_of(d);
    assert_string_equal(d->job_id, WID ".7");
    assert_int_equal(delivery_delay(d, 5), 0);
    d = next_of(d);
    assert_string_equal(d->job_id, WID ".7");
    delivery_destroy(d);
    outcome_fini(&o);
}

/* Also when nobody has looked at it: draining gives it back as it came. */
static void a_job_given_back_unread_keeps_its_body_and_gets_a_name(void **state)
{
    static const char body[] = "{\"code\":\"x\"}";
    struct delivery *d = claimed(body, strlen(body));

    (void)state;
    assert_int_equal(delivery_release(d), 0);
    assert_int_equal(d->finish.kind, FINISH_RELEASE);
    d = next_of(d);
    assert_string_equal(d->job_id, WID ".7");
    assert_int_equal(d->body_len, strlen(body));
    assert_memory_equal(d->body, body, strlen(body));
    delivery_destroy(d);
}

static void an_unusable_prefix_is_part_of_a_bad_job(void **state)
{
    static const char *const entries[] = {"!i a|{\"code\":\"x\"}",
                                          "!i|{\"code\":\"x\"}",
                                          "!c-1|{\"code\":\"x\"}", "!|"};

    (void)state;
    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
        struct delivery *d = checked(entries[i]);

        assert_true(d->rejected);
        assert_int_equal(d->early, VERDICT_REJECTED);
        assert_int_equal(d->body_len, strlen(entries[i]));
        assert_string_equal(d->job_id, WID ".7");
        delivery_destroy(d);
    }
}

static void a_rejected_job_keeps_a_usable_id(void **state)
{
    struct delivery *d = checked("{\"id\":\"bad-one\",\"code\":7}");

    (void)state;
    assert_true(d->rejected);
    assert_string_equal(d->job_id, "bad-one");
    assert_true(d->must_start); /* the id may be a good job's */
    delivery_destroy(d);
}

/* ---- attempts, suspicion ----------------------------------------------- */

static int attempts_of(const char *prefix)
{
    char entry[128];
    struct delivery *d;
    int used;

    snprintf(entry, sizeof(entry), "%s{\"code\":\"x\"}", prefix);
    d = checked(entry);
    used = delivery_attempts_used(d);
    delivery_destroy(d);
    return used;
}

static void the_first_death_is_not_charged_and_further_ones_are(void **state)
{
    (void)state;
    assert_int_equal(attempts_of(""), 0);
    assert_int_equal(attempts_of("!c1|"), 0);
    assert_int_equal(attempts_of("!c2|"), 1);
    assert_int_equal(attempts_of("!c3;a1|"), 3);
    assert_int_equal(attempts_of("!a2|"), 2);
}

static enum verdict early_of(const char *entry)
{
    struct delivery *d = checked(entry);
    enum verdict early = d->early;

    /* What is decided already runs no risk and takes no seat. */
    assert_true(early == VERDICT_NONE || !d->suspect);
    delivery_destroy(d);
    return early;
}

static void a_job_without_attempts_left_is_lost(void **state)
{
    (void)state;
    assert_int_equal(early_of("!a2|{\"code\":\"x\"}"), VERDICT_NONE);
    assert_int_equal(early_of("!a3|{\"code\":\"x\"}"), VERDICT_LOST);
    assert_int_equal(early_of("!c3|{\"code\":\"x\"}"), VERDICT_NONE);
    assert_int_equal(early_of("!c4|{\"code\":\"x\"}"), VERDICT_LOST);
    assert_int_equal(early_of("!c2|{\"code\":\"x\",\"max_attempts\":1}"),
                     VERDICT_LOST);
    assert_int_equal(early_of("!d19|{\"code\":\"x\"}"), VERDICT_NONE);
    assert_int_equal(early_of("!d20|{\"code\":\"x\"}"), VERDICT_LOST);
}

static void a_suspect_needs_its_start_mark_and_the_seat(void **state)
{
    struct delivery *d = checked("!c1|{\"code\":\"x\"}");

    (void)state;
    assert_true(d->suspect && d->must_start);
    delivery_destroy(d);
    d = checked("!c0;a1|{\"code\":\"x\"}");
    assert_false(d->suspect);
    delivery_destroy(d);
}

static void a_streaming_job_is_marked_before_it_runs(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\",\"stream\":true}");

    (void)state;
    assert_true(d->must_start);
    delivery_destroy(d);
}

/* ---- times ------------------------------------------------------------- */

static int64_t now_ms(void)
{
    return (int64_t)(clock_unix_s() * 1000);
}

static void expiry_counts_from_the_first_enqueue(void **state)
{
    char entry[160];

    (void)state;
    snprintf(entry, sizeof(entry), "!t%lld|{\"code\":\"x\",\"expires_in\":100}",
             (long long)now_ms() - 101000);
    assert_int_equal(early_of(entry), VERDICT_EXPIRED);
    snprintf(entry, sizeof(entry), "!t%lld|{\"code\":\"x\",\"expires_in\":100}",
             (long long)now_ms() - 50000);
    assert_int_equal(early_of(entry), VERDICT_NONE);
    assert_int_equal(early_of("{\"code\":\"x\",\"expires_in\":100}"),
                     VERDICT_NONE);
    assert_int_equal(early_of("!t1|{\"code\":\"x\"}"), VERDICT_NONE);
}

static void expiry_goes_on_while_the_worker_holds_the_job(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\",\"expires_in\":100}");

    (void)state;
    assert_false(delivery_expired(d));
    d->claimed_us -= 101 * 1000000LL;
    assert_true(delivery_expired(d));
    delivery_destroy(d);
}

static void a_lost_job_is_lost_even_if_it_expired(void **state)
{
    (void)state;
    assert_int_equal(early_of("!t1;a3|{\"code\":\"x\",\"expires_in\":1}"),
                     VERDICT_LOST);
}

static int64_t due_of(const char *entry, int64_t now)
{
    struct delivery *d = checked(entry);
    int64_t due = delivery_due_ms(d, now);

    delivery_destroy(d);
    return due;
}

static void due_times_are_kept_once_and_never_in_the_past(void **state)
{
    int64_t at = now_ms() / 1000 + 1000;
    char entry[80];

    (void)state;
    assert_int_equal(due_of("{\"code\":\"x\"}", 1000), 0);
    assert_int_equal(due_of("{\"code\":\"x\",\"delay\":2.5}", 1000), 3500);
    assert_int_equal(due_of("!t400|{\"code\":\"x\",\"delay\":2}", 1000), 2400);
    assert_int_equal(due_of("!t400|{\"code\":\"x\",\"delay\":2}", 2400), 0);
    snprintf(entry, sizeof(entry), "{\"code\":\"x\",\"run_at\":%lld}",
             (long long)at);
    assert_int_equal(due_of(entry, 1000), at * 1000);
    assert_int_equal(due_of(entry, at * 1000), 0);
    /* u: kept before, whatever the clocks say. */
    assert_int_equal(due_of("!u9|{\"code\":\"x\",\"delay\":2}", 1000), 0);
    snprintf(entry, sizeof(entry), "!u9|{\"code\":\"x\",\"run_at\":%lld}",
             (long long)at);
    assert_int_equal(due_of(entry, 1000), 0);
    assert_int_equal(due_of("{\"code\":7,\"delay\":2}", 1000), 0);
}

/* ---- going back -------------------------------------------------------- */

static void a_release_uses_nothing_up(void **state)
{
    struct delivery *d = checked("!c1;d2;a1;t5;ione|{\"code\":\"x\"}");

    (void)state;
    assert_int_equal(delivery_release(d), 0);
    d = next_of(d);
    assert_int_equal(d->envelope.suspicions, 1);
    assert_int_equal(d->envelope.deliveries, 2);
    assert_int_equal(d->envelope.attempts, 1);
    assert_int_equal(d->envelope.enqueued_ms, 5);
    assert_string_equal(d->envelope.id, "one");
    assert_string_equal(d->envelope.parent, "");
    delivery_destroy(d);
}

static void a_retry_uses_one_attempt_and_one_delivery(void **state)
{
    struct outcome o = outcome_of(VERDICT_SETUP_FAILED);
    struct delivery *d = checked("!c1;d2;a1|{\"code\":\"x\"}");

    (void)state;
    o.sandbox_created = o.sandbox_destroyed = true;
    assert_int_equal(delivery_retry(d, &o, 1000, 500), 0);
    assert_int_equal(d->finish.kind, FINISH_RETRY);
    assert_int_equal(d->finish.due_ms, 1500);
    assert_true(d->finish.sandbox_created && d->finish.sandbox_destroyed);
    d = next_of(d);
    assert_int_equal(d->envelope.suspicions, 1);
    assert_int_equal(d->envelope.deliveries, 3);
    assert_int_equal(d->envelope.attempts, 2);
    delivery_destroy(d);
    outcome_fini(&o);
}

static void a_delay_uses_nothing_up_and_is_remembered(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\",\"delay\":9}");

    (void)state;
    assert_int_equal(delivery_delay(d, 12345), 0);
    assert_int_equal(d->finish.kind, FINISH_DELAY);
    assert_int_equal(d->finish.due_ms, 12345);
    d = next_of(d);
    assert_int_equal(d->envelope.due_ms, 12345);
    assert_int_equal(d->envelope.deliveries, 0);
    assert_int_equal(d->envelope.attempts, 0);
    assert_int_equal(delivery_due_ms(d, 0), 0);
    delivery_destroy(d);
}

/* Only who was let to start owns the hash, and may leave it to an heir. */
static void the_hash_is_inherited_from_who_wrote_it_last(void **state)
{
    struct delivery *d = checked("!ione;pold.3|{\"code\":\"x\"}");

    (void)state;
    assert_int_equal(delivery_release(d), 0);
    d = next_of(d);
    assert_string_equal(d->envelope.parent, "old.3");
    d->started = true;
    assert_int_equal(delivery_release(d), 0);
    d = next_of(d);
    assert_string_equal(d->envelope.parent, WID ".7");
    delivery_destroy(d);
}

static void the_first_claim_notes_when_it_came(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\"}");
    double when = d->claimed_unix;

    (void)state;
    assert_int_equal(delivery_release(d), 0);
    d = next_of(d);
    assert_int_equal(d->envelope.enqueued_ms, (int64_t)(when * 1000));
    delivery_destroy(d);
}

static void a_duplicate_gives_nothing_back(void **state)
{
    struct delivery *d = checked("{\"id\":\"a\",\"code\":\"x\"}");

    (void)state;
    delivery_duplicate(d);
    assert_int_equal(d->finish.kind, FINISH_DUPLICATE);
    assert_int_equal(d->finish.number, 7);
    assert_string_equal(d->finish.queue, "high");
    assert_null(d->finish.entry);
    delivery_destroy(d);
}

/* ---- ends -------------------------------------------------------------- */

static const char *value_of(const struct delivery *d, const char *name)
{
    static char text[4096];

    for (int i = 0; i < d->finish.nfields; i++) {
        if (strcmp(d->finish.names[i], name) != 0)
            continue;
        MUST(d->finish.value_lens[i] < sizeof(text));
        memcpy(text, d->finish.values[i], d->finish.value_lens[i]);
        text[d->finish.value_lens[i]] = '\0';
        return text;
    }
    return NULL;
}

static void an_end_has_the_fields_of_the_contract(void **state)
{
    /* Section 4, but for those that this job has no value for. */
    static const char *const fields[] = {
        "status",      "verdict",        "success",     "template_used",
        "task_type",   "language",       "backend",     "sandbox_id",
        "worker",      "attempt",        "enqueued_at", "started_at",
        "finished_at", "execution_time", "batch_id",    "result"};
    struct outcome o = outcome_of(VERDICT_OK);
    struct delivery *d =
        checked("!a1;t1700000000123|{\"id\":\"a\",\"code\":\"x\",\"task_type\":"
                "\"quick\",\"language\":\"bash\",\"batch_id\":\"b\"}");

    (void)state;
    strcpy(o.sandbox_id, "sb-1");
    o.code_started = true;
    assert_int_equal(delivery_end(d, &o, "null"), 0);
    assert_int_equal(d->finish.nfields, sizeof(fields) / sizeof(*fields));
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        assert_non_null(value_of(d, fields[i]));
    assert_string_equal(value_of(d, "status"), "succeeded");
    assert_string_equal(value_of(d, "verdict"), "ok");
    assert_string_equal(value_of(d, "success"), "1");
    assert_string_equal(value_of(d, "template_used"), "quick_script");
    assert_string_equal(value_of(d, "task_type"), "quick");
    assert_string_equal(value_of(d, "language"), "bash");
    assert_string_equal(value_of(d, "backend"), "null");
    assert_string_equal(value_of(d, "sandbox_id"), "sb-1");
    assert_string_equal(value_of(d, "worker"), WID);
    assert_string_equal(value_of(d, "attempt"), "2");
    assert_string_equal(value_of(d, "enqueued_at"), "1700000000.123000");
    assert_string_equal(value_of(d, "batch_id"), "b");
    assert_true(atof(value_of(d, "finished_at")) >=
                atof(value_of(d, "started_at")));
    outcome_fini(&o);
    delivery_destroy(d);
}

static void an_end_counts_for_template_batch_and_stream(void **state)
{
    struct delivery *d =
        checked("{\"code\":\"x\",\"template\":\"quick_script\","
                "\"batch_id\":\"b\",\"stream\":true}");

    (void)state;
    end_with(d, VERDICT_OK);
    assert_int_equal(d->finish.kind, FINISH_END);
    assert_string_equal(d->finish.template_id, "quick_script");
    assert_string_equal(d->finish.batch_id, "b");
    assert_true(d->finish.events && d->finish.success);
    assert_true(d->finish.code_started && d->finish.sandbox_created);
    assert_null(d->finish.dead_entry);
    delivery_destroy(d);
}

static void the_error_of_an_end_is_a_field(void **state)
{
    struct outcome o = outcome_of(VERDICT_USER_ERROR);
    struct delivery *d = checked("{\"code\":\"x\"}");

    (void)state;
    outcome_error(&o, "it broke");
    assert_int_equal(delivery_end(d, &o, "null"), 0);
    assert_string_equal(value_of(d, "status"), "failed");
    assert_string_equal(value_of(d, "success"), "0");
    assert_string_equal(value_of(d, "error"), "it broke");
    assert_null(d->finish.dead_entry); /* a result, not a failure of ours */
    outcome_fini(&o);
    delivery_destroy(d);
}

/* The line about a dead job, parsed; *raw_out is what follows it. */
static cJSON *dead_line(const struct delivery *d, const char **raw_out,
                        size_t *size_out)
{
    const char *entry = d->finish.dead_entry, *end;

    assert_non_null(entry);
    end = memchr(entry, '\n', d->finish.dead_entry_len);
    assert_non_null(end);
    *raw_out = end + 1;
    *size_out = d->finish.dead_entry_len - (size_t)(end + 1 - entry);
    return cJSON_ParseWithLength(entry, (size_t)(end - entry));
}

static void a_dead_entry_is_a_line_of_json_and_the_raw_bytes(void **state)
{
    static const char body[] = "not json \xff \0 \n\" at all";
    struct delivery *d = claimed(body, sizeof(body) - 1);
    struct outcome o = outcome_of(VERDICT_REJECTED);
    const char *raw;
    size_t size;
    cJSON *line;

    (void)state;
    assert_int_equal(delivery_check(d, templates, &settings), 0);
    outcome_error(&o, "a \"quoted\"\nreason");
    assert_int_equal(delivery_end(d, &o, "null"), 0);
    line = dead_line(d, &raw, &size);
    assert_non_null(line);
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(line, "job_id")), WID ".7");
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(line, "verdict")), "rejected");
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(line, "queue")), "high");
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(line, "error")),
        "a \"quoted\"\nreason");
    assert_int_equal(size, sizeof(body) - 1);
    assert_memory_equal(raw, body, size);
    cJSON_Delete(line);
    outcome_fini(&o);
    delivery_destroy(d);
}

static void
a_raw_text_larger_than_any_job_is_cut_and_its_size_said(void **state)
{
    size_t full = JOB_BYTES_MAX + 1000, size;
    AUTO_FREE char *body = malloc(full);
    struct delivery *d;
    const char *raw;
    cJSON *line;

    (void)state;
    assert_non_null(body);
    memset(body, 'x', full);
    d = claimed(body, full);
    assert_int_equal(delivery_check(d, templates, &settings), 0);
    assert_true(d->rejected);
    end_with(d, VERDICT_REJECTED);
    line = dead_line(d, &raw, &size);
    assert_int_equal(size, JOB_TEXT_BYTES_MAX);
    assert_int_equal(
        (size_t)cJSON_GetNumberValue(cJSON_GetObjectItem(line, "bytes")), full);
    assert_int_equal(
        (size_t)cJSON_GetNumberValue(cJSON_GetObjectItem(line, "kept")),
        JOB_TEXT_BYTES_MAX);
    cJSON_Delete(line);
    delivery_destroy(d);
}

/* The room on top of the limit is for what capibox's producers add. */
static void who_pushes_bare_has_4_mib(void **state)
{
    static const char head[] = "{\"code\":\"1\",\"stdin\":\"";
    static const char prefix[] = "!t1;ij1;pe.1|";
    const size_t full = JOB_BYTES_MAX + 1, skip = strlen(prefix);
    AUTO_FREE char *entry = malloc(skip + full);

    (void)state;
    assert_non_null(entry);
    memcpy(entry, prefix, skip);
    memset(entry + skip, ' ', full);
    memcpy(entry + skip, head, strlen(head));
    memcpy(entry + skip + full - 2, "\"}", 2);
    for (int bare = 0; bare < 2; bare++) {
        struct delivery *d =
            bare ? claimed(entry + skip, full) : claimed(entry, skip + full);

        assert_int_equal(delivery_check(d, templates, &settings), 0);
        assert_int_equal(d->rejected, bare);
        assert_true(!bare || strstr(d->why.text, "at most 4194304 (4 MiB)"));
        if (bare)
            end_with(d, VERDICT_REJECTED);
        delivery_destroy(d);
    }
}

static void only_ends_without_a_run_of_the_code_are_dead(void **state)
{
    static const struct {
        enum verdict verdict;
        bool dead;
    } cases[] = {
        {VERDICT_OK, false},          {VERDICT_USER_ERROR, false},
        {VERDICT_TIMEOUT, false},     {VERDICT_EXPIRED, false},
        {VERDICT_CANCELLED, false},   {VERDICT_REJECTED, true},
        {VERDICT_SETUP_FAILED, true}, {VERDICT_BACKEND_ERROR, true},
        {VERDICT_LOST, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct delivery *d = checked("{\"code\":\"x\"}");

        end_with(d, cases[i].verdict);
        assert_int_equal(d->finish.dead_entry != NULL, cases[i].dead);
        delivery_destroy(d);
    }
}

/* A job whose result could not be made is released instead. */
static void an_end_can_be_taken_back(void **state)
{
    struct delivery *d = checked("{\"code\":\"x\",\"batch_id\":\"b\"}");

    (void)state;
    end_with(d, VERDICT_LOST);
    assert_int_equal(delivery_release(d), 0);
    assert_int_equal(d->finish.kind, FINISH_RELEASE);
    assert_int_equal(d->finish.nfields, 0);
    assert_null(d->finish.dead_entry);
    assert_null(d->finish.batch_id);
    delivery_destroy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_task_type_is_warned_of),
        cmocka_unit_test(the_jobs_own_id_goes_before_the_enqueuers),
        cmocka_unit_test(the_enqueuers_id_goes_before_the_token),
        cmocka_unit_test(
            a_job_without_any_is_named_after_its_first_claim_for_ever),
        cmocka_unit_test(
            a_job_given_back_unread_keeps_its_body_and_gets_a_name),
        cmocka_unit_test(an_unusable_prefix_is_part_of_a_bad_job),
        cmocka_unit_test(a_rejected_job_keeps_a_usable_id),
        cmocka_unit_test(the_first_death_is_not_charged_and_further_ones_are),
        cmocka_unit_test(a_job_without_attempts_left_is_lost),
        cmocka_unit_test(a_suspect_needs_its_start_mark_and_the_seat),
        cmocka_unit_test(a_streaming_job_is_marked_before_it_runs),
        cmocka_unit_test(expiry_counts_from_the_first_enqueue),
        cmocka_unit_test(expiry_goes_on_while_the_worker_holds_the_job),
        cmocka_unit_test(a_lost_job_is_lost_even_if_it_expired),
        cmocka_unit_test(due_times_are_kept_once_and_never_in_the_past),
        cmocka_unit_test(a_release_uses_nothing_up),
        cmocka_unit_test(a_retry_uses_one_attempt_and_one_delivery),
        cmocka_unit_test(a_delay_uses_nothing_up_and_is_remembered),
        cmocka_unit_test(the_hash_is_inherited_from_who_wrote_it_last),
        cmocka_unit_test(the_first_claim_notes_when_it_came),
        cmocka_unit_test(a_duplicate_gives_nothing_back),
        cmocka_unit_test(an_end_has_the_fields_of_the_contract),
        cmocka_unit_test(an_end_counts_for_template_batch_and_stream),
        cmocka_unit_test(the_error_of_an_end_is_a_field),
        cmocka_unit_test(a_dead_entry_is_a_line_of_json_and_the_raw_bytes),
        cmocka_unit_test(who_pushes_bare_has_4_mib),
        cmocka_unit_test(
            a_raw_text_larger_than_any_job_is_cut_and_its_size_said),
        cmocka_unit_test(only_ends_without_a_run_of_the_code_are_dead),
        cmocka_unit_test(an_end_can_be_taken_back),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
