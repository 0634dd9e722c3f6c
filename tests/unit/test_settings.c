/* tests/unit/test_settings.c -- the table: environment, flags, ranges, help. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/must.h"
#include "common/scope.h"
#include "common/settings.h"

static int strdups_left = -1;      /* -1: none fails */
static const char *program = NULL; /* what /proc/self/exe says */

char *__wrap_strdup(const char *text);
ssize_t __real_readlink(const char *path, char *out, size_t size);
ssize_t __wrap_readlink(const char *path, char *out, size_t size);

char *__wrap_strdup(const char *text)
{
    char *copy;

    if (strdups_left == 0)
        return NULL;
    if (strdups_left > 0)
        strdups_left--;
    copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

ssize_t __wrap_readlink(const char *path, char *out, size_t size)
{
    if (!program)
        return __real_readlink(path, out, size);
    MUST(strlen(program) < size);
    memcpy(out, program, strlen(program));
    return (ssize_t)strlen(program);
}

struct desk {
    struct settings s;
    struct complaint why;
};

static int set_up(void **state)
{
    struct desk *desk = calloc(1, sizeof *desk);

    MUST(desk);
    /* All but what tells cmocka how to report. */
    char *report = getenv("CMOCKA_MESSAGE_OUTPUT");
    MUST0(clearenv());
    if (report)
        MUST0(setenv("CMOCKA_MESSAGE_OUTPUT", report, 1));
    MUST0(settings_init(&desk->s));
    *state = desk;
    return 0;
}

static int tear_down(void **state)
{
    struct desk *desk = *state;

    strdups_left = -1;
    program = NULL;
    settings_fini(&desk->s);
    free(desk);
    return 0;
}

static void assert_env_refused(struct desk *desk, const char *name,
                               const char *value, const char *text)
{
    setenv(name, value, 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_ALL, &desk->why), -EINVAL);
    assert_string_equal(desk->why.field, name);
    assert_string_equal(desk->why.text, text);
    unsetenv(name);
}

/* argv of up to 15 words; what stays is joined with spaces into left. */
struct line {
    int argc, rc;
    char *argv[16], left[256];
};

static void parse(struct desk *desk, enum settings_for who, struct line *line,
                  const char *words)
{
    static char copy[512];

    strcpy(copy, words);
    memset(line, 0, sizeof *line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        line->argv[line->argc++] = word;
    line->rc =
        settings_from_args(&desk->s, who, &line->argc, line->argv, &desk->why);
    for (int i = 0; i < line->argc; i++) {
        strcat(line->left, i ? " " : "");
        strcat(line->left, line->argv[i]);
    }
}

static void assert_args_refused(struct desk *desk, const char *words,
                                const char *field, const char *text)
{
    struct line line;

    parse(desk, FOR_ALL, &line, words);
    assert_int_equal(line.rc, -EINVAL);
    assert_string_equal(desk->why.field, field);
    assert_string_equal(desk->why.text, text);
}

/* ---- defaults ---------------------------------------------------------- */

static void defaults_are_the_contract_s(void **state)
{
    struct settings *s = &((struct desk *)*state)->s;

    assert_string_equal(s->redis_url, "redis://127.0.0.1:6379/0");
    assert_string_equal(s->prefix, "{capibox}");
    assert_int_equal(s->nqueues, 3);
    assert_string_equal(s->queues[0].name, "high");
    assert_string_equal(s->queues[1].name, "default");
    assert_string_equal(s->queues[2].name, "low");
    assert_false(s->queues_weighted);
    assert_int_equal(s->concurrency, 0);
    assert_string_equal(s->backend, "local");
    assert_string_equal(s->templates, "");
    assert_int_equal(s->result_ttl_s, 86400);
    assert_int_equal(s->shutdown_grace_s, 30);
    assert_false(s->log_json);
    assert_int_equal(s->log_level, LOG_INFO);
    assert_string_equal(s->api_listen, "127.0.0.1:8080");
    assert_string_equal(s->api_keys, "");
    assert_int_equal(s->lease_ms, 10000);
    assert_int_equal(s->memory_budget_mb, 0);
    assert_string_equal(s->warm, "start");
    assert_int_equal(s->waiting, 64);
    assert_false(s->allow_degraded || s->supervise || s->help || s->version ||
                 s->json || s->probe);
    assert_int_equal(s->max_timeout_s, 3600);
    assert_int_equal(s->max_memory_mb, 8192);
    assert_int_equal(s->max_cpu_percent, 400);
    assert_int_equal(s->max_disk_mb, 2048);
    assert_int_equal(s->max_pids, 1024);
    assert_int_equal(s->max_output_kb, 16384);
}

static void without_memory_nothing_is_left_behind(void **state)
{
    struct settings s;
    (void)state;

    for (int allowed = 0;; allowed++) {
        strdups_left = allowed;
        int rc = settings_init(&s);
        strdups_left = -1;
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_null(s.redis_url);
        assert_true(allowed < 100);
    }
    settings_fini(&s);
    settings_fini(&s);
}

/* ---- environment ------------------------------------------------------- */

static void every_kind_is_read_from_the_environment(void **state)
{
    struct desk *desk = *state;

    setenv("CAPIBOX_PREFIX", "{mine}", 1);
    setenv("CAPIBOX_CONCURRENCY", "1024", 1);
    setenv("CAPIBOX_BACKEND", "e2b", 1);
    setenv("CAPIBOX_LOG", "json", 1);
    setenv("CAPIBOX_LOG_LEVEL", "error", 1);
    setenv("CAPIBOX_SUPERVISE", "1", 1);
    setenv("CAPIBOX_QUEUES", "a*3,b*1", 1);
    setenv("CAPIBOX_SHUTDOWN_GRACE", "0", 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_ALL, &desk->why), 0);
    assert_string_equal(desk->s.prefix, "{mine}");
    assert_int_equal(desk->s.concurrency, 1024);
    assert_string_equal(desk->s.backend, "e2b");
    assert_true(desk->s.log_json);
    assert_int_equal(desk->s.log_level, LOG_ERROR);
    assert_true(desk->s.supervise);
    assert_true(desk->s.queues_weighted);
    assert_int_equal(desk->s.queues[0].weight, 3);
    assert_int_equal(desk->s.shutdown_grace_s, 0);
}

static void empty_variables_count_as_unset(void **state)
{
    struct desk *desk = *state;

    setenv("CAPIBOX_REDIS_URL", "", 1);
    setenv("REDIS_URL", "redis://other:1/2", 1);
    setenv("CAPIBOX_CONCURRENCY", "", 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_ALL, &desk->why), 0);
    assert_string_equal(desk->s.redis_url, "redis://other:1/2");
    assert_int_equal(desk->s.concurrency, 0);
}

static void our_redis_variable_wins_over_the_common_one(void **state)
{
    struct desk *desk = *state;

    setenv("REDIS_URL", "redis://other:1/2", 1);
    setenv("CAPIBOX_REDIS_URL", "unix:///run/r.sock", 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_ALL, &desk->why), 0);
    assert_string_equal(desk->s.redis_url, "unix:///run/r.sock");
    unsetenv("CAPIBOX_REDIS_URL");
    assert_env_refused(desk, "REDIS_URL", "localhost:6379",
                       "\"localhost:6379\" is no Redis URL; give "
                       "redis://host:port/db, rediss://host:port/db or "
                       "unix:///path?db=0");
}

static void rows_of_other_programs_are_left_alone(void **state)
{
    struct desk *desk = *state;
    struct line line;

    setenv("CAPIBOX_API_LISTEN", "0.0.0.0:1", 1);
    setenv("CAPIBOX_CONCURRENCY", "nonsense", 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_CLI, &desk->why), 0);
    assert_string_equal(desk->s.api_listen, "127.0.0.1:8080");
    parse(desk, FOR_API, &line, "api --json --probe");
    assert_string_equal(line.left, "api --json --probe");
    parse(desk, FOR_WORKER, &line, "worker --api-keys --probe");
    assert_string_equal(line.left, "worker --api-keys");
    parse(desk, FOR_CLI, &line, "capibox --json --probe");
    assert_string_equal(line.left, "capibox --probe");
}

static void a_misspelt_variable_is_named_without_its_value(void **state)
{
    struct desk *desk = *state;
    size_t at = 0;

    setenv("CAPIBOX_CONCURENCY", "s3cret", 1);
    setenv("CAPIBOX_CONCURRENCY", "3", 1);
    setenv("CAPIBOX_XYZ_NOTHING_LIKE_IT", "1", 1);
    setenv("CAPIBOX_SANDBOXD", "/x", 1);
    setenv("CAPIBOX_SANDBOXD", "/x", 1);
    setenv("CAPIBOX_API_SERVICE_HOST", "10.0.0.1", 1);
    setenv("CAPIBOX_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1", 1);
    setenv("CAPIBOX_API_PORT", "tcp://10.0.0.1:80", 1);
    assert_true(settings_unknown_env(&at, &desk->why));
    assert_string_equal(desk->why.text,
                        "unknown setting CAPIBOX_CONCURENCY; did you mean "
                        "CAPIBOX_CONCURRENCY?");
    assert_true(settings_unknown_env(&at, &desk->why));
    assert_string_equal(desk->why.text,
                        "unknown setting CAPIBOX_XYZ_NOTHING_LIKE_IT; --help "
                        "lists those there are");
    assert_false(settings_unknown_env(&at, &desk->why));
}

static void numbers_out_of_place_say_what_would_be_right(void **state)
{
    struct desk *desk = *state;
    static const char *const words[] = {"abc", "1x", " 1", "1.5", "-", "0x10"};
    char text[100];

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        snprintf(text, sizeof text,
                 "\"%s\" is not a whole number; give 1 to 1024", words[i]);
        assert_env_refused(desk, "CAPIBOX_CONCURRENCY", words[i], text);
    }
    assert_env_refused(desk, "CAPIBOX_CONCURRENCY", "0",
                       "\"0\" is out of range; give 1 to 1024");
    assert_env_refused(desk, "CAPIBOX_CONCURRENCY", "1025",
                       "\"1025\" is out of range; give 1 to 1024");
    assert_env_refused(desk, "CAPIBOX_SHUTDOWN_GRACE", "-1",
                       "\"-1\" is out of range; give 0 to 86400");
    assert_env_refused(
        desk, "CAPIBOX_MEMORY_BUDGET_MB", "99999999999999999999",
        "\"99999999999999999999\" is out of range; give 0 to 16777216");
    assert_int_equal(desk->s.concurrency, 0);
}

static void unknown_choices_list_the_known(void **state)
{
    struct desk *desk = *state;

    assert_env_refused(desk, "CAPIBOX_BACKEND", "docker",
                       "\"docker\" is unknown; give local|e2b");
    assert_env_refused(desk, "CAPIBOX_BACKEND", "loca",
                       "\"loca\" is unknown; give local|e2b");
    assert_env_refused(desk, "CAPIBOX_LOG_LEVEL", "info|warn",
                       "\"info|warn\" is unknown; give debug|info|warn|error");
    assert_env_refused(desk, "CAPIBOX_ALLOW_DEGRADED", "yes",
                       "\"yes\" is unknown; give 0 or 1");
}

static void texts_are_bounded_and_plain(void **state)
{
    struct desk *desk = *state;
    char longest[65];

    memset(longest, 'p', sizeof longest);
    longest[64] = '\0';
    assert_env_refused(desk, "CAPIBOX_PREFIX", longest,
                       "64 bytes are too many; give at most 63");
    assert_env_refused(desk, "CAPIBOX_PREFIX", "a\nb",
                       "holds a control character; give plain text");
}

/* ---- secrets ----------------------------------------------------------- */

static void passwords_never_show_in_complaints(void **state)
{
    struct desk *desk = *state;
    static const char *const urls[][2] = {
        {"http://me:hush@host/1", "\"http://me:***@host/1\""},
        {"http://:hush@host", "\"http://:***@host\""},
        {"http://hush@host", "\"http://***@host\""},
        {"http://me:hu@sh/hu:sh@host", "\"http://me:***@host\""},
        {"redis:/me:hush@host", "\"***@host\""},
        {"me:hush@host", "\"***@host\""},
    };

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        setenv("REDIS_URL", urls[i][0], 1);
        assert_int_equal(settings_from_env(&desk->s, FOR_ALL, &desk->why),
                         -EINVAL);
        assert_memory_equal(desk->why.text, urls[i][1], strlen(urls[i][1]));
        assert_null(strstr(desk->why.text, "hu"));
    }
}

/* ---- flags ------------------------------------------------------------- */

static void flags_are_taken_out_and_the_rest_stays_in_order(void **state)
{
    struct desk *desk = *state;
    struct line line;

    parse(desk, FOR_CLI, &line,
          "capibox run --redis redis://h:1/0 file --json --timeout 3 "
          "--prefix=x");
    assert_int_equal(line.rc, 0);
    assert_string_equal(line.left, "capibox run file --timeout 3");
    assert_null(line.argv[line.argc]);
    assert_string_equal(desk->s.redis_url, "redis://h:1/0");
    assert_string_equal(desk->s.prefix, "x");
    assert_true(desk->s.json);
}

static void everything_behind_two_dashes_stays(void **state)
{
    struct desk *desk = *state;
    struct line line;

    parse(desk, FOR_CLI, &line, "capibox run - --json -- --help --prefix x");
    assert_string_equal(line.left, "capibox run - -- --help --prefix x");
    assert_false(desk->s.help);
    assert_string_equal(desk->s.prefix, "{capibox}");
}

static void arguments_win_over_the_environment(void **state)
{
    struct desk *desk = *state;
    struct line line;

    setenv("CAPIBOX_CONCURRENCY", "3", 1);
    setenv("CAPIBOX_SUPERVISE", "1", 1);
    assert_int_equal(settings_from_env(&desk->s, FOR_WORKER, &desk->why), 0);
    parse(desk, FOR_WORKER, &line, "worker --concurrency 5 --supervise=0");
    assert_int_equal(line.rc, 0);
    assert_int_equal(desk->s.concurrency, 5);
    assert_false(desk->s.supervise);
}

static void wrong_flags_say_which(void **state)
{
    struct desk *desk = *state;

    assert_args_refused(desk, "w --lease-ms 3000 --lease-ms=3000", "--lease-ms",
                        "is given twice; give it once");
    assert_args_refused(desk, "w --json --json", "--json",
                        "is given twice; give it once");
    assert_args_refused(desk, "w --prefix", "--prefix",
                        "has no value; give --prefix TEXT");
    assert_args_refused(desk, "w --prefix --json", "--prefix",
                        "has no value; give --prefix TEXT");
    assert_args_refused(desk, "w --prefix=", "--prefix",
                        "must not be empty; give TEXT");
    assert_args_refused(desk, "w --lease-ms 1999", "--lease-ms",
                        "\"1999\" is out of range; give 2000 to 600000");
    assert_args_refused(desk, "w --json=maybe", "--json",
                        "\"maybe\" is unknown; give 0 or 1");
}

static void only_whole_flags_are_ours(void **state)
{
    struct desk *desk = *state;
    struct line line;

    parse(desk, FOR_ALL, &line, "w --pref x --redis-ur y --jsonx -json json");
    assert_int_equal(line.rc, 0);
    assert_string_equal(line.left,
                        "w --pref x --redis-ur y --jsonx -json json");
}

static void no_arguments_at_all_is_fine(void **state)
{
    struct desk *desk = *state;
    char *argv[] = {NULL};
    int argc = 0;

    assert_int_equal(
        settings_from_args(&desk->s, FOR_ALL, &argc, argv, &desk->why), 0);
    assert_int_equal(argc, 0);
}

static void losing_memory_keeps_the_value_before(void **state)
{
    struct desk *desk = *state;
    struct line line;

    strdups_left = 0;
    parse(desk, FOR_ALL, &line, "w --prefix other");
    assert_int_equal(line.rc, -ENOMEM);
    assert_string_equal(desk->s.prefix, "{capibox}");
}

/* ---- queues ------------------------------------------------------------ */

static void queue_lists_keep_their_order(void **state)
{
    struct desk *desk = *state;

    assert_int_equal(
        settings_parse_queues(&desk->s, " b , a_1.x-Y ,c", &desk->why), 0);
    assert_int_equal(desk->s.nqueues, 3);
    assert_string_equal(desk->s.queues[0].name, "b");
    assert_string_equal(desk->s.queues[1].name, "a_1.x-Y");
    assert_string_equal(desk->s.queues[2].name, "c");
}

static void weights_are_one_to_a_hundred_for_all_or_none(void **state)
{
    struct desk *desk = *state;

    assert_int_equal(settings_parse_queues(&desk->s, "a*1,b*100", &desk->why),
                     0);
    assert_true(desk->s.queues_weighted);
    assert_int_equal(desk->s.queues[1].weight, 100);
    assert_int_equal(settings_parse_queues(&desk->s, "a", &desk->why), 0);
    assert_false(desk->s.queues_weighted);
}

static void bad_queue_lists_change_nothing(void **state)
{
    static const char *const bad[][2] = {
        {"", "\"\" is no queue name; give 1 to 64 of A-Za-z0-9._-"},
        {"a,", "\"\" is no queue name; give 1 to 64 of A-Za-z0-9._-"},
        {"a b", "\"a b\" is no queue name; give 1 to 64 of A-Za-z0-9._-"},
        {"a:b", "\"a:b\" is no queue name; give 1 to 64 of A-Za-z0-9._-"},
        {"a,b,a", "a is named twice; name it once"},
        {"a*2,b", "some queues have a weight and b differs; give all of them "
                  "one (name*3) or none"},
        {"a*0", "\"0\" is no weight of a; give 1 to 100"},
        {"a*101", "\"101\" is no weight of a; give 1 to 100"},
        {"a*99999999999", "\"99999999999\" is no weight of a; give 1 to 100"},
        {"a*", "\"\" is no weight of a; give 1 to 100"},
        {"a*x", "\"x\" is no weight of a; give 1 to 100"},
        {"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
         "too many queues; give at most 16"},
    };
    struct desk *desk = *state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(settings_parse_queues(&desk->s, bad[i][0], &desk->why),
                         -EINVAL);
        assert_string_equal(desk->why.text, bad[i][1]);
        assert_int_equal(desk->s.nqueues, 3);
        assert_string_equal(desk->s.queues[0].name, "high");
    }
    assert_env_refused(desk, "CAPIBOX_QUEUES", "a*x",
                       "\"x\" is no weight of a; give 1 to 100");
}

/* ---- together ---------------------------------------------------------- */

static int check(struct desk *desk, const char *words)
{
    struct line line;

    settings_fini(&desk->s);
    MUST0(settings_init(&desk->s));
    parse(desk, FOR_ALL, &line, words);
    assert_int_equal(line.rc, 0);
    return settings_check(&desk->s, FOR_WORKER, &desk->why);
}

static void certificates_go_together_and_need_tls(void **state)
{
    struct desk *desk = *state;

    assert_int_equal(check(desk, "w"), 0);
    assert_int_equal(
        check(desk, "w --redis rediss://h --redis-cert /etc/passwd"), -EINVAL);
    assert_string_equal(desk->why.field, "CAPIBOX_REDIS_KEY");
    assert_int_equal(
        check(desk, "w --redis rediss://h --redis-key /etc/passwd"), -EINVAL);
    assert_string_equal(desk->why.field, "CAPIBOX_REDIS_CERT");
    assert_int_equal(check(desk, "w --redis redis://h --redis-ca /etc/passwd"),
                     -EINVAL);
    assert_string_equal(desk->why.field, "CAPIBOX_REDIS_CA");
    assert_int_equal(check(desk, "w --redis rediss://h --redis-ca /no/file"),
                     -EINVAL);
    assert_string_equal(
        desk->why.text,
        "the file cannot be read: No such file or directory; give a PEM file");
    assert_int_equal(check(desk, "w --redis rediss://h --redis-ca /etc/passwd"),
                     0);
}

static void a_templates_folder_that_is_none_is_refused(void **state)
{
    struct desk *desk = *state;
    char *dir = NULL;

    assert_int_equal(check(desk, "w --templates /etc/passwd"), -EINVAL);
    assert_string_equal(desk->why.field, "CAPIBOX_TEMPLATES");
    assert_int_equal(settings_find_templates(&desk->s, &dir), -ENOENT);
    assert_int_equal(check(desk, "w --templates /tmp"), 0);
    assert_int_equal(settings_find_templates(&desk->s, &dir), 0);
    assert_string_equal(dir, "/tmp");
    free(dir);
}

static void templates_are_found_beside_the_program(void **state)
{
    struct desk *desk = *state;
    char root[] = "/tmp/capibox-set-XXXXXX", path[7][100];
    static const char *const parts[] = {"bin", "share", "share/capibox",
                                        "share/capibox/templates", "templates"};
    char *dir = NULL;

    MUST(mkdtemp(root));
    snprintf(path[6], sizeof path[6], "%s/bin/capibox-worker", root);
    program = path[6];
    for (int i = 0; i < 5; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", root, parts[i]);
        assert_int_equal(settings_find_templates(&desk->s, &dir),
                         i < 4 ? -ENOENT : 0);
        MUST0(mkdir(path[i], 0700));
    }
    assert_string_equal(dir, path[3]);
    free(dir);
    assert_int_equal(settings_find_templates(&desk->s, &dir), 0);
    assert_string_equal(dir, path[4]);
    free(dir);
    rmdir(path[4]);
    for (int i = 3; i >= 0; i--)
        rmdir(path[i]);
    rmdir(root);
}

static void concurrency_is_the_setting_or_fits_the_backend(void **state)
{
    struct desk *desk = *state;
    cpu_set_t all, one;

    check(desk, "w --concurrency 7 --backend e2b");
    assert_int_equal(settings_concurrency(&desk->s), 7);
    check(desk, "w --backend e2b");
    assert_int_equal(settings_concurrency(&desk->s), 64);
    check(desk, "w");
    MUST0(sched_getaffinity(0, sizeof all, &all));
    assert_int_equal(settings_concurrency(&desk->s), 2 * CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    MUST0(sched_setaffinity(0, sizeof one, &one));
    int alone = settings_concurrency(&desk->s);
    MUST0(sched_setaffinity(0, sizeof all, &all));
    assert_int_equal(alone, 2);
}

/* ---- what E2B needs ------------------------------------------------------ */

static void e2b_is(struct desk *desk, const char *key, const char *domain,
                   const char *api, const char *sandboxes)
{
    MUST0(setenv("CAPIBOX_BACKEND", "e2b", 1));
    MUST0(setenv("E2B_API_KEY", key, 1));
    MUST0(setenv("E2B_DOMAIN", domain, 1));
    MUST0(setenv("E2B_API_URL", api, 1));
    MUST0(setenv("E2B_SANDBOX_URL", sandboxes, 1));
    settings_fini(&desk->s);
    MUST0(settings_init(&desk->s));
    assert_int_equal(settings_from_env(&desk->s, FOR_WORKER, &desk->why), 0);
}

static void what_e2b_needs_is_checked_for_that_backend(void **state)
{
    static const struct {
        const char *key, *domain, *api, *sandboxes;
        const char *field; /* complained of; NULL: it is fine */
    } rows[] = {
        {"e2b_0af9", "", "", "", NULL},
        {"e2b_0af9", "e2b.localhost:8443", "", "", NULL},
        {"e2b_0af9", "", "https://h", "https://h:1/x", NULL},
        {"e2b_0af9", "", "http://localhost:3000", "http://127.0.0.1", NULL},
        {"e2b_0af9", "", "http://[::1]:3000", "", NULL},
        {"", "", "", "", "E2B_API_KEY"},
        {"e2b_", "", "", "", "E2B_API_KEY"},
        {"e2b_0AF9", "", "", "", "E2B_API_KEY"},
        {"e2b_0af9 ", "", "", "", "E2B_API_KEY"},
        {"sk_e2b_0af9", "", "", "", "E2B_API_KEY"},
        {"e2b_0af9", "https://e2b.app", "", "", "E2B_DOMAIN"},
        {"e2b_0af9", "e2b.app/x", "", "", "E2B_DOMAIN"},
        {"e2b_0af9", "e2b.app:12x", "", "", "E2B_DOMAIN"},
        {"e2b_0af9", "e2b.app:", "", "", "E2B_DOMAIN"},
        {"e2b_0af9", ":443", "", "", "E2B_DOMAIN"},
        {"e2b_0af9", "a@b", "", "", "E2B_DOMAIN"},
        /* The key would go over the line for all to read. */
        {"e2b_0af9", "", "http://api.e2b.app", "", "E2B_API_URL"},
        {"e2b_0af9", "", "http://localhost.evil.example", "", "E2B_API_URL"},
        {"e2b_0af9", "", "http://127.0.0.1@evil.example", "", "E2B_API_URL"},
        {"e2b_0af9", "", "https://", "", "E2B_API_URL"},
        {"e2b_0af9", "", "https:///x", "", "E2B_API_URL"},
        {"e2b_0af9", "", "ftp://h", "", "E2B_API_URL"},
        {"e2b_0af9", "", "https://h?x", "", "E2B_API_URL"},
        {"e2b_0af9", "", "", "http://sandbox.e2b.app", "E2B_SANDBOX_URL"},
    };
    struct desk *desk = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        e2b_is(desk, rows[i].key, rows[i].domain, rows[i].api,
               rows[i].sandboxes);
        int rc = settings_check(&desk->s, FOR_WORKER, &desk->why);

        if (rc != (rows[i].field ? -EINVAL : 0) ||
            (rows[i].field && strcmp(desk->why.field, rows[i].field) != 0))
            fail_msg("row %zu: %d %s %s", i, rc, desk->why.field,
                     desk->why.text);
        /* The key never stands in a complaint. */
        if (rc < 0)
            assert_null(strstr(desk->why.text, "0af9"));
    }
    e2b_is(desk, "nonsense", "", "", "");
    assert_int_equal(settings_check(&desk->s, FOR_CLI, &desk->why), 0);
    MUST0(setenv("CAPIBOX_BACKEND", "local", 1));
    assert_int_equal(settings_from_env(&desk->s, FOR_WORKER, &desk->why), 0);
    assert_int_equal(settings_check(&desk->s, FOR_WORKER, &desk->why), 0);
}

/* ---- --help ------------------------------------------------------------ */

static char *help_for(enum settings_for who)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    MUST(out);
    settings_print(out, who);
    fclose(out);
    return text;
}

static void help_shows_flag_environment_range_and_default(void **state)
{
    AUTO_FREE char *worker = help_for(FOR_WORKER);
    AUTO_FREE char *cli = help_for(FOR_CLI);
    (void)state;

    assert_non_null(
        strstr(worker, "  --result-ttl S          seconds a job's hash is kept "
                       "after its end\n                          "
                       "CAPIBOX_RESULT_TTL; 1 to 31536000; default 86400\n"));
    assert_non_null(
        strstr(worker, "CAPIBOX_REDIS_URL; default redis://127.0.0.1:6379/0\n"
                       "                          else REDIS_URL\n"));
    assert_non_null(strstr(worker, "text|json; default text"));
    assert_non_null(strstr(worker, "--probe"));
    assert_non_null(strstr(worker, "--attack"));
    assert_null(strstr(cli, "--attack"));
    assert_null(strstr(worker, "--api-keys"));
    assert_non_null(strstr(cli, "--json"));
    assert_null(strstr(cli, "--concurrency"));
}

static void help_fits_eighty_columns(void **state)
{
    AUTO_FREE char *text = help_for(FOR_ALL);
    (void)state;

    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strlen(line) > 80)
            fail_msg("too long: %s", line);
}

#define WITH_DEFAULTS(test) \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DEFAULTS(defaults_are_the_contract_s),
        WITH_DEFAULTS(without_memory_nothing_is_left_behind),
        WITH_DEFAULTS(every_kind_is_read_from_the_environment),
        WITH_DEFAULTS(empty_variables_count_as_unset),
        WITH_DEFAULTS(our_redis_variable_wins_over_the_common_one),
        WITH_DEFAULTS(rows_of_other_programs_are_left_alone),
        WITH_DEFAULTS(a_misspelt_variable_is_named_without_its_value),
        WITH_DEFAULTS(numbers_out_of_place_say_what_would_be_right),
        WITH_DEFAULTS(unknown_choices_list_the_known),
        WITH_DEFAULTS(texts_are_bounded_and_plain),
        WITH_DEFAULTS(passwords_never_show_in_complaints),
        WITH_DEFAULTS(flags_are_taken_out_and_the_rest_stays_in_order),
        WITH_DEFAULTS(everything_behind_two_dashes_stays),
        WITH_DEFAULTS(arguments_win_over_the_environment),
        WITH_DEFAULTS(wrong_flags_say_which),
        WITH_DEFAULTS(only_whole_flags_are_ours),
        WITH_DEFAULTS(no_arguments_at_all_is_fine),
        WITH_DEFAULTS(losing_memory_keeps_the_value_before),
        WITH_DEFAULTS(queue_lists_keep_their_order),
        WITH_DEFAULTS(weights_are_one_to_a_hundred_for_all_or_none),
        WITH_DEFAULTS(bad_queue_lists_change_nothing),
        WITH_DEFAULTS(certificates_go_together_and_need_tls),
        WITH_DEFAULTS(a_templates_folder_that_is_none_is_refused),
        WITH_DEFAULTS(templates_are_found_beside_the_program),
        WITH_DEFAULTS(concurrency_is_the_setting_or_fits_the_backend),
        WITH_DEFAULTS(what_e2b_needs_is_checked_for_that_backend),
        WITH_DEFAULTS(help_shows_flag_environment_range_and_default),
        WITH_DEFAULTS(help_fits_eighty_columns),
    };

    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
