/* tests/unit/test_e2b_guest.c -- how a sandbox is reached: which host, which
 * headers. The calls go nowhere; each takes the next answer of a list. */
#include "worker/e2b/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"

#define ID "i1q2w3e4r5t6y7u8i9o0p"

struct answer {
    enum http_trouble trouble;
    int status;
    const char *body;
    int retry_after_s; /* 0: not said */
};

struct fixture {
    struct settings settings;
    struct control control;
    struct guest_route route;
    struct guest guest;
    struct control_sandbox sandbox;
    char text[CONTROL_TEXT_MAX];
};

#define ASKED_MAX 4
static const struct answer *script; /* status 0 and no trouble: its end */
static struct {
    char url[600], headers[2000];
} asked[ASKED_MAX];
static int nasked;

int __wrap_call_slot_do(struct call_slot *slot, struct http *http,
                        struct http_call *call);
int __wrap_call_slot_do(struct call_slot *slot, struct http *http,
                        struct http_call *call)
{
    char *headers = asked[nasked].headers;

    (void)slot, (void)http;
    MUST(nasked < ASKED_MAX && (script->status || script->trouble));
    snprintf(asked[nasked].url, sizeof(asked[nasked].url), "%s", call->url);
    headers[0] = '\0';
    for (int i = 0; i < HTTP_HEADERS_MAX && call->headers[i]; i++) {
        strcat(headers, call->headers[i]);
        strcat(headers, "\n");
    }
    nasked++;
    strbuf_clear(&call->answer);
    strbuf_adds(&call->answer, script->body ? script->body : "");
    call->trouble = script->trouble;
    call->rc = script->trouble ? -1 : 0;
    call->status = script->status;
    call->retry_after_s = script->retry_after_s ? script->retry_after_s : -1;
    script++;
    return call->rc;
}

static int64_t napped_ms;

bool __wrap_call_slot_nap(struct call_slot *slot, int64_t ms);
bool __wrap_call_slot_nap(struct call_slot *slot, int64_t ms)
{
    (void)slot;
    napped_ms += ms;
    return true;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    MUST0(settings_init(&f->settings));
    strcpy(f->sandbox.id, ID);
    strcpy(f->sandbox.token, "9f9f");
    nasked = 0;
    napped_ms = 0;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    guest_fini(&f->guest);
    settings_fini(&f->settings);
    free(f);
    return 0;
}

static void replace(char **text, const char *with)
{
    free(*text);
    *text = strdup(with);
    MUST(*text);
}

static void begin(struct fixture *f, const struct answer *answers)
{
    script = answers;
    MUST0(control_init(&f->control, &f->settings, NULL));
    guest_route_init(&f->route, &f->settings);
    guest_init(&f->guest, &f->control, &f->route);
    guest_found(&f->guest, &f->sandbox);
}

/* One more call on the way. */
static enum fault list(struct fixture *f)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;

    return guest_list(&f->guest, &out, f->text);
}

#define LIST_DIR "/filesystem.Filesystem/ListDir"

static const struct answer well[] = {{0, 200, "{}", 0},
                                     {0, 200, "{}", 0},
                                     {0, 200, "{}", 0},
                                     {HTTP_FINE, 0, NULL, 0}};

/* ---- where --------------------------------------------------------------- */

static void one_address_may_end_with_a_slash(void **state)
{
    struct fixture *f = *state;

    replace(&f->settings.e2b_sandbox_url, "https://my.host/base//");
    begin(f, well);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[0].url, "https://my.host/base" LIST_DIR);
}

#define AT_SHARED "https://sandbox.e2b.app" LIST_DIR
#define AT_OWN    "https://49983-" ID ".e2b.app" LIST_DIR

static void e2bs_own_domains_share_a_host(void **state)
{
    struct fixture *f = *state;

    begin(f, well);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[0].url, AT_SHARED);
    assert_non_null(strstr(asked[0].headers, "E2b-Sandbox-Id: " ID "\n"));
    assert_non_null(strstr(asked[0].headers, "E2b-Sandbox-Port: 49983\n"));
    assert_non_null(strstr(asked[0].headers, "X-Access-Token: 9f9f\n"));
}

/* Protocol section 2.2: not all clusters of one's own can. */
static void a_sandbox_of_another_domain_has_a_host_of_its_own(void **state)
{
    struct fixture *f = *state;

    strcpy(f->sandbox.domain, "own.example");
    begin(f, well);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[0].url,
                        "https://49983-" ID ".own.example" LIST_DIR);
    replace(&f->settings.e2b_shared_host, "always");
    begin(f, well);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[1].url, "https://sandbox.own.example" LIST_DIR);
    replace(&f->settings.e2b_shared_host, "never");
    f->sandbox.domain[0] = '\0';
    begin(f, well);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[2].url, AT_OWN);
}

static void a_proxy_that_shares_no_host_is_believed(void **state)
{
    static const struct answer answers[] = {{0, 400, "Invalid host", 0},
                                            {0, 200, "{}", 0},
                                            {0, 200, "{}", 0},
                                            {HTTP_FINE, 0, NULL, 0}};
    struct fixture *f = *state;

    begin(f, answers);
    assert_int_equal(list(f), FAULT_NONE);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[0].url, AT_SHARED);
    assert_string_equal(asked[1].url, AT_OWN);
    assert_string_equal(asked[2].url, AT_OWN); /* and not asked again */
}

static void names_that_are_not_known_for_a_while_change_nothing(void **state)
{
    static const struct answer answers[] = {{HTTP_NO_NAME, 0, NULL, 0},
                                            {HTTP_NO_NAME, 0, NULL, 0},
                                            {0, 200, "{}", 0},
                                            {HTTP_FINE, 0, NULL, 0}};
    struct fixture *f = *state;

    begin(f, answers);
    assert_int_equal(list(f), FAULT_AWAY);
    assert_int_equal(list(f), FAULT_NONE);
    assert_string_equal(asked[1].url, AT_OWN);
    assert_string_equal(asked[2].url, AT_SHARED);
}

/* ---- who ----------------------------------------------------------------- */

static void envd_is_told_the_user(void **state)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    struct fixture *f = *state;
    struct process p;

    strcpy(f->sandbox.traffic, "7a7a"); /* as many headers as there may be */
    begin(f, well);
    strbuf_adds(&message, "{}");
    process_init(&p, NULL, NULL, 0);
    assert_int_equal(guest_start(&f->guest, &message, 1000, &p, f->text),
                     FAULT_NONE);
    process_fini(&p);
    assert_int_equal(list(f), FAULT_NONE);
    for (int i = 0; i < 2; i++) {
        assert_non_null(
            strstr(asked[i].headers, "Authorization: Basic dXNlcjo=\n"));
        assert_non_null(
            strstr(asked[i].headers, "E2B-Traffic-Access-Token: 7a7a\n"));
    }
}

/* ---- what ---------------------------------------------------------------- */

/* Protocol section 2.5: nothing was passed on, so nothing is done twice. */
static void what_the_proxy_puts_off_is_asked_again(void **state)
{
    static const struct answer answers[] = {
        {0, 409, "{\"sandboxId\":\"i1\",\"code\":409}", 0},
        {0, 429, "{\"sandboxId\":\"i1\",\"code\":429}", 2},
        {0, 200, "{}", 0},
        {HTTP_FINE, 0, NULL, 0}};
    struct fixture *f = *state;

    begin(f, answers);
    assert_int_equal(list(f), FAULT_NONE);
    assert_int_equal(nasked, 3);
    assert_int_equal(napped_ms, 500 + 2000);
    assert_string_equal(asked[2].headers, asked[0].headers);
}

static void but_neither_for_ever_nor_after_a_long_wait(void **state)
{
    static const struct answer often[] = {{0, 429, "", 0},
                                          {0, 429, "", 0},
                                          {0, 429, "", 0},
                                          {0, 429, "", 0},
                                          {HTTP_FINE, 0, NULL, 0}};
    static const struct answer late[] = {{0, 429, "", 60},
                                         {HTTP_FINE, 0, NULL, 0}};
    struct fixture *f = *state;

    begin(f, often);
    assert_int_equal(list(f), FAULT_RATE);
    assert_int_equal(nasked, 4);
    nasked = 0;
    begin(f, late);
    assert_int_equal(list(f), FAULT_RATE);
    assert_int_equal(nasked, 1);
}

/* Its answer goes to logs, Redis and the job's result. */
static void no_token_comes_back_in_words(void **state)
{
    static const struct answer answers[] = {
        {0, 400, "{\"code\":400,\"message\":\"X-Access-Token: 9F9f, 7a7a\"}",
         0},
        {0, 400, "{\"code\":400,\"message\":\"bad 9\\u00669f\"}", 0},
        {HTTP_FINE, 0, NULL, 0}};
    struct fixture *f = *state;

    strcpy(f->sandbox.traffic, "7a7a");
    replace(&f->settings.e2b_shared_host, "never");
    begin(f, answers);
    assert_int_equal(list(f), FAULT_REFUSED);
    assert_string_equal(f->text, "HTTP 400: X-Access-Token: ***, ***");
    assert_int_equal(list(f), FAULT_REFUSED);
    assert_string_equal(f->text, "HTTP 400: bad ***");
}

/* Only our own clock says that the code's time is over. */
static void envds_deadline_is_believed_after_ours_alone(void **state)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    struct fixture *f = *state;
    struct process p;

    strbuf_adds(&message, "{}");
    for (int late = 0; late < 2; late++) {
        begin(f, well);
        process_init(&p, NULL, NULL, 0);
        strcpy(p.code, "deadline_exceeded");
        assert_int_equal(
            guest_start(&f->guest, &message, late ? -1 : 1000, &p, f->text),
            late ? FAULT_LATE : FAULT_NONE);
        process_fini(&p);
    }
}

/* Else its job failed for a reason that is not ours. */
static void a_home_that_is_gone_has_no_files(void **state)
{
    static const struct answer answers[] = {
        {0, 404, "{\"code\":\"not_found\",\"message\":\"path not found\"}", 0},
        {0, 404, "{\"code\":404,\"message\":\"not_found\"}", 0},
        {HTTP_FINE, 0, NULL, 0}};
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;
    struct fixture *f = *state;

    begin(f, answers);
    assert_int_equal(guest_list(&f->guest, &out, f->text), FAULT_NONE);
    assert_string_equal(out.text, "{}");
    assert_int_equal(list(f), FAULT_GONE);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(one_address_may_end_with_a_slash),
        FRESH(e2bs_own_domains_share_a_host),
        FRESH(a_sandbox_of_another_domain_has_a_host_of_its_own),
        FRESH(a_proxy_that_shares_no_host_is_believed),
        FRESH(envd_is_told_the_user),
        FRESH(what_the_proxy_puts_off_is_asked_again),
        FRESH(but_neither_for_ever_nor_after_a_long_wait),
        FRESH(envds_deadline_is_believed_after_ours_alone),
        FRESH(no_token_comes_back_in_words),
        FRESH(a_home_that_is_gone_has_no_files),
        FRESH(names_that_are_not_known_for_a_while_change_nothing),
    };

    return cmocka_run_group_tests_name("e2b guest", tests, NULL, NULL);
}
