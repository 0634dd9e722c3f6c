/* common/settings.c -- every setting of every program, one row each. */
#include "common/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/must.h"
#include "common/scope.h"
#include "common/suggest.h"

#define TEXT_BYTES_MAX       4096
#define PREFIX_BYTES_MAX     63
#define QUEUE_WEIGHT_MAX     100
#define CONCURRENCY_MAX      1024
#define CONCURRENCY_E2B      64
#define DOMAIN_BYTES_MAX     200
#define CONCURRENCY_PER_CORE 2

enum kind {
    KIND_TEXT,        /* char *, least to most bytes */
    KIND_URL,         /* the same; what is before the @ is never shown */
    KIND_NUMBER,      /* int64_t, least to most */
    KIND_QUEUES,      /* queues, nqueues, queues_weighted */
    KIND_SWITCH,      /* bool; the flag alone says 1 */
    KIND_CHOICE,      /* char *, one of choices */
    KIND_CHOICE_INT,  /* int, the index in choices */
    KIND_CHOICE_BOOL, /* bool, the same */
};

struct row {
    const char *env, *env_else; /* NULL: command line only */
    const char *flag;
    unsigned who;
    enum kind kind;
    size_t offset;
    const char *fallback; /* NULL: 0, which only the default can be */
    int64_t least, most;
    const char *choices; /* "a|b|c" */
    bool secret;
    const char *takes; /* what --help puts behind the flag */
    const char *help;
};

#define AT(field) offsetof(struct settings, field)

/* Read by column. */
/* clang-format off */
static const struct row rows[] = {
    {.env = "CAPIBOX_REDIS_URL", .env_else = "REDIS_URL", .flag = "--redis",
     .who = FOR_ALL, .kind = KIND_URL, .offset = AT(redis_url),
     .fallback = "redis://127.0.0.1:6379/0", .least = 1,
     .most = TEXT_BYTES_MAX, .takes = "URL",
     .help = "redis[s]://[user:pass@]host:port/db or unix:///path"},
    {.env = "CAPIBOX_REDIS_CA", .flag = "--redis-ca",
     .who = FOR_ALL, .kind = KIND_TEXT, .offset = AT(redis_ca),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "FILE",
     .help = "PEM file of who may sign Redis' certificate"},
    {.env = "CAPIBOX_REDIS_CERT", .flag = "--redis-cert",
     .who = FOR_ALL, .kind = KIND_TEXT, .offset = AT(redis_cert),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "FILE",
     .help = "PEM file of our certificate for Redis"},
    {.env = "CAPIBOX_REDIS_KEY", .flag = "--redis-key",
     .who = FOR_ALL, .kind = KIND_TEXT, .offset = AT(redis_key),
     .fallback = "", .most = TEXT_BYTES_MAX, .secret = true, .takes = "FILE",
     .help = "PEM file of the key to it"},
    {.env = "CAPIBOX_PREFIX", .flag = "--prefix",
     .who = FOR_ALL, .kind = KIND_TEXT, .offset = AT(prefix),
     .fallback = "{capibox}", .least = 1, .most = PREFIX_BYTES_MAX,
     .takes = "TEXT",
     .help = "first part of every key"},
    {.env = "CAPIBOX_QUEUES", .flag = "--queues",
     .who = FOR_ALL, .kind = KIND_QUEUES,
     .fallback = "high,default,low", .takes = "LIST",
     .help = "served in this order; a*3,b*1 gives weights instead"},
    {.env = "CAPIBOX_CONCURRENCY", .flag = "--concurrency",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(concurrency),
     .least = 1, .most = CONCURRENCY_MAX, .takes = "N",
     .help = "sandboxes at a time (cores x 2 for local, 64 for e2b)"},
    {.env = "CAPIBOX_BACKEND", .flag = "--backend",
     .who = FOR_ALL, .kind = KIND_CHOICE, .offset = AT(backend),
     .fallback = "local", .choices = "local|e2b", .takes = "NAME",
     .help = "where sandboxes are made"},
    {.env = "CAPIBOX_TEMPLATES", .flag = "--templates",
     .who = FOR_ALL, .kind = KIND_TEXT, .offset = AT(templates),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "DIR",
     .help = "folder of template files (else the one shipped)"},
    {.env = "CAPIBOX_RESULT_TTL", .flag = "--result-ttl",
     .who = FOR_ALL, .kind = KIND_NUMBER, .offset = AT(result_ttl_s),
     .fallback = "86400", .least = 1, .most = 31536000, .takes = "S",
     .help = "seconds a job's hash is kept after its end"},
    {.env = "CAPIBOX_SHUTDOWN_GRACE", .flag = "--shutdown-grace",
     .who = FOR_WORKER | FOR_API, .kind = KIND_NUMBER, .offset = AT(shutdown_grace_s),
     .fallback = "30", .least = 0, .most = 86400, .takes = "S",
     .help = "seconds a SIGTERM lets running jobs go on"},
    {.env = "CAPIBOX_LOG", .flag = "--log",
     .who = FOR_ALL, .kind = KIND_CHOICE_BOOL, .offset = AT(log_json),
     .fallback = "text", .choices = "text|json", .takes = "FORM",
     .help = "form of the lines on stderr"},
    {.env = "CAPIBOX_LOG_LEVEL", .flag = "--log-level",
     .who = FOR_ALL, .kind = KIND_CHOICE_INT, .offset = AT(log_level),
     .fallback = "info", .choices = "debug|info|warn|error", .takes = "LEVEL",
     .help = "least important line to write"},
    {.env = "E2B_API_KEY",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_TEXT, .offset = AT(e2b_key),
     .fallback = "", .most = TEXT_BYTES_MAX, .secret = true,
     .help = "key of the E2B team (no flag: argv is public)"},
    {.env = "E2B_DOMAIN", .flag = "--e2b-domain",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_TEXT, .offset = AT(e2b_domain),
     .fallback = "e2b.app", .least = 1, .most = DOMAIN_BYTES_MAX,
     .takes = "NAME",
     .help = "domain of E2B or of a cluster of one's own"},
    {.env = "E2B_API_URL", .flag = "--e2b-api-url",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_TEXT, .offset = AT(e2b_api_url),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "URL",
     .help = "E2B's API, if it is not https://api.DOMAIN"},
    {.env = "E2B_SANDBOX_URL", .flag = "--e2b-sandbox-url",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_TEXT,
     .offset = AT(e2b_sandbox_url),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "URL",
     .help = "one address for all sandboxes, if they have no names"},
    {.env = "CAPIBOX_E2B_CA", .flag = "--e2b-ca",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_TEXT, .offset = AT(e2b_ca),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "FILE",
     .help = "PEM file of who may sign E2B's certificates"},
    {.env = "CAPIBOX_E2B_SHARED", .flag = "--e2b-shared",
     .who = FOR_WORKER | FOR_CLI, .kind = KIND_CHOICE,
     .offset = AT(e2b_shared_host),
     .fallback = "auto", .choices = "auto|always|never", .takes = "WHEN",
     .help = "reach sandboxes as sandbox.DOMAIN: keeps connections"},
    {.env = "CAPIBOX_API_LISTEN", .flag = "--api-listen",
     .who = FOR_API, .kind = KIND_TEXT, .offset = AT(api_listen),
     .fallback = "127.0.0.1:8080", .least = 1, .most = TEXT_BYTES_MAX,
     .takes = "HOST:PORT",
     .help = "the gateway's address"},
    {.env = "CAPIBOX_API_KEYS", .flag = "--api-keys",
     .who = FOR_API, .kind = KIND_TEXT, .offset = AT(api_keys),
     .fallback = "", .most = TEXT_BYTES_MAX, .secret = true, .takes = "FILE",
     .help = "file of name:key lines; without it loopback only"},
    {.env = "CAPIBOX_API_CERT", .flag = "--api-cert",
     .who = FOR_API, .kind = KIND_TEXT, .offset = AT(api_cert),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "FILE",
     .help = "PEM file of the gateway's certificate: it speaks TLS"},
    {.env = "CAPIBOX_API_CERT_KEY", .flag = "--api-cert-key",
     .who = FOR_API, .kind = KIND_TEXT, .offset = AT(api_cert_key),
     .fallback = "", .most = TEXT_BYTES_MAX, .secret = true, .takes = "FILE",
     .help = "PEM file of the key to it"},
    {.env = "CAPIBOX_API_ORIGINS", .flag = "--api-origins",
     .who = FOR_API, .kind = KIND_TEXT, .offset = AT(api_origins),
     .fallback = "", .most = TEXT_BYTES_MAX, .takes = "LIST",
     .help = "whose pages may ask, as https://a,https://b (CORS)"},
    {.env = "CAPIBOX_API_RATE", .flag = "--api-rate",
     .who = FOR_API, .kind = KIND_NUMBER, .offset = AT(api_rate),
     .fallback = "1000", .least = 0, .most = 1000000, .takes = "N",
     .help = "requests a second of one key; 0: no bound"},
    {.env = "CAPIBOX_API_JOBS_PER_KEY", .flag = "--api-jobs-per-key",
     .who = FOR_API, .kind = KIND_NUMBER, .offset = AT(api_jobs_per_key),
     .fallback = "1000", .least = 0, .most = 1000000, .takes = "N",
     .help = "jobs of one key that have not ended; 0: no bound"},
    {.env = "CAPIBOX_API_QUEUE_MAX", .flag = "--api-queue-max",
     .who = FOR_API, .kind = KIND_NUMBER, .offset = AT(api_queue_max),
     .fallback = "100000", .least = 0, .most = 100000000, .takes = "N",
     .help = "jobs a queue may hold when one is added; 0: no bound"},
    {.env = "CAPIBOX_API_PER_ADDRESS", .flag = "--api-per-address",
     .who = FOR_API, .kind = KIND_NUMBER, .offset = AT(api_per_address),
     .fallback = "256", .least = 0, .most = 20000, .takes = "N",
     .help = "connections of one address but loopback; 0: no bound"},
    {.env = "CAPIBOX_LEASE_MS", .flag = "--lease-ms",
     .who = FOR_ALL, .kind = KIND_NUMBER, .offset = AT(lease_ms),
     .fallback = "10000", .least = 2000, .most = 600000, .takes = "MS",
     .help = "silence after which a worker counts as dead"},
    {.env = "CAPIBOX_MEMORY_BUDGET_MB", .flag = "--memory-budget-mb",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(memory_budget_mb),
     .fallback = "0", .least = 0, .most = 1 << 24, .takes = "MB",
     .help = "memory all sandboxes may ask for; 0: the host's"},
    {.env = "CAPIBOX_ALLOW_DEGRADED", .flag = "--allow-degraded",
     .who = FOR_WORKER, .kind = KIND_SWITCH, .offset = AT(allow_degraded),
     .fallback = "0",
     .help = "run code even where limits cannot be enforced"},
    {.env = "CAPIBOX_WARM", .flag = "--warm",
     .who = FOR_WORKER, .kind = KIND_CHOICE, .offset = AT(warm),
     .fallback = "start", .choices = "start|demand|never", .takes = "WHEN",
     .help = "when the templates' interpreters are warmed up"},
    {.env = "CAPIBOX_WAITING", .flag = "--waiting",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(waiting),
     .fallback = "64", .least = 0, .most = 512, .takes = "N",
     .help = "most sandboxes of a kind that wait for jobs"},
    {.env = "CAPIBOX_SUPERVISE", .flag = "--supervise",
     .who = FOR_WORKER, .kind = KIND_SWITCH, .offset = AT(supervise),
     .fallback = "0",
     .help = "start again after a crash"},
    {.env = "CAPIBOX_MAX_TIMEOUT", .flag = "--max-timeout",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_timeout_s),
     .fallback = "3600", .least = 1, .most = 86400, .takes = "S",
     .help = "ceiling of what a job may ask for: seconds"},
    {.env = "CAPIBOX_MAX_MEMORY_MB", .flag = "--max-memory-mb",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_memory_mb),
     .fallback = "8192", .least = 16, .most = 1 << 20, .takes = "MB",
     .help = "the same for memory"},
    {.env = "CAPIBOX_MAX_CPU_PERCENT", .flag = "--max-cpu-percent",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_cpu_percent),
     .fallback = "400", .least = 1, .most = 12800, .takes = "N",
     .help = "the same for CPU, in per cent of one core"},
    {.env = "CAPIBOX_MAX_DISK_MB", .flag = "--max-disk-mb",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_disk_mb),
     .fallback = "2048", .least = 1, .most = 1 << 20, .takes = "MB",
     .help = "the same for disk"},
    {.env = "CAPIBOX_MAX_PIDS", .flag = "--max-pids",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_pids),
     .fallback = "1024", .least = 1, .most = 65536, .takes = "N",
     .help = "the same for processes"},
    {.env = "CAPIBOX_MAX_OUTPUT_KB", .flag = "--max-output-kb",
     .who = FOR_WORKER, .kind = KIND_NUMBER, .offset = AT(max_output_kb),
     .fallback = "16384", .least = 1, .most = 65536, .takes = "KB",
     .help = "the same for output"},
    {.flag = "--json",
     .who = FOR_CLI | FOR_WORKER, .kind = KIND_SWITCH, .offset = AT(json),
     .fallback = "0",
     .help = "print JSON for programs"},
    {.flag = "--probe",
     .who = FOR_WORKER, .kind = KIND_SWITCH, .offset = AT(probe),
     .fallback = "0",
     .help = "print what can be enforced, or how E2B is, and exit"},
    {.flag = "--attack",
     .who = FOR_WORKER, .kind = KIND_SWITCH, .offset = AT(attack),
     .fallback = "0",
     .help = "run hostile programs in sandboxes here and exit"},
    {.flag = "--help",
     .who = FOR_ALL, .kind = KIND_SWITCH, .offset = AT(help),
     .fallback = "0",
     .help = "print this and exit; the same as -h"},
    {.flag = "--version",
     .who = FOR_ALL, .kind = KIND_SWITCH, .offset = AT(version),
     .fallback = "0",
     .help = "print the version and exit"},
};
/* clang-format on */
#define ROWS (sizeof rows / sizeof *rows)

/* One bit each says "given". */
_Static_assert(ROWS <= 64, "too many rows for one word");

static bool owns_text(const struct row *row)
{
    return row->kind == KIND_TEXT || row->kind == KIND_URL ||
           row->kind == KIND_CHOICE;
}

/* ---- what may be shown ------------------------------------------------- */

/* A password may itself hold '@', '/' or ':' where it should not: all from the
 * first ':' to the last '@' goes. A name without a password may be one (as in
 * redis-cli), and without "://" nothing says where the secret starts. */
static void mask_url(const char *url, char *out, size_t size)
{
    const char *scheme_end = strstr(url, "://");
    const char *start = scheme_end ? scheme_end + 3 : url;
    const char *at = strrchr(start, '@');
    const char *colon;
    int keep = 0;

    if (!at) {
        snprintf(out, size, "%s", url);
        return;
    }
    colon = memchr(start, ':', (size_t)(at - start));
    if (scheme_end)
        keep = (int)((colon ? colon + 1 : start) - url);
    snprintf(out, size, "%.*s***%s", keep, url, at);
}

#define SHOWN_BYTES 160

static const char *shown(const struct row *row, const char *value,
                         char out[SHOWN_BYTES])
{
    if (row->secret)
        snprintf(out, SHOWN_BYTES, "***");
    else if (row->kind == KIND_URL)
        mask_url(value, out, SHOWN_BYTES);
    else
        snprintf(out, SHOWN_BYTES, "%s", value);
    return out;
}

/* ---- one value --------------------------------------------------------- */

struct given {
    const char *field; /* CAPIBOX_… or --flag, for complaints */
    const char *value;
};

static int refuse(const struct row *row, const struct given *given,
                  const char *fault, struct complaint *why)
{
    char buf[SHOWN_BYTES];
    const char *value = shown(row, given->value, buf);

    if (row->kind == KIND_NUMBER)
        return complain(why, given->field,
                        "\"%s\" %s; give %" PRId64 " to %" PRId64, value, fault,
                        row->least, row->most);
    return complain(why, given->field, "\"%s\" %s; give %s", value, fault,
                    row->kind == KIND_SWITCH ? "0 or 1" : row->choices);
}

static int set_text(const struct row *row, struct settings *s,
                    const struct given *given, struct complaint *why)
{
    char **text = (char **)(void *)((char *)s + row->offset);
    char *copy = strdup(given->value);

    if (!copy) {
        complain(why, given->field, "no memory to keep it");
        return -ENOMEM;
    }
    free(*text);
    *text = copy;
    return 0;
}

static int check_text(const struct row *row, const struct given *given,
                      struct complaint *why)
{
    size_t len = strlen(given->value);

    if ((int64_t)len < row->least)
        return complain(why, given->field, "must not be empty; give %s",
                        row->takes);
    if ((int64_t)len > row->most)
        return complain(why, given->field,
                        "%zu bytes are too many; give at most %" PRId64, len,
                        row->most);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)given->value[i] < 0x20 || given->value[i] == 0x7f)
            return complain(why, given->field,
                            "holds a control character; give plain text");
    }
    return 0;
}

/* The rest of a URL is redis_target_parse()'s to check. */
static int check_url(const struct row *row, const struct given *given,
                     struct complaint *why)
{
    static const char *const schemes[] = {"redis://", "rediss://", "unix://"};
    char buf[SHOWN_BYTES];

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncmp(given->value, schemes[i], strlen(schemes[i])) == 0)
            return 0;
    return complain(why, given->field,
                    "\"%s\" is no Redis URL; give redis://host:port/db, "
                    "rediss://host:port/db or unix:///path?db=0",
                    shown(row, given->value, buf));
}

static int set_number(const struct row *row, struct settings *s,
                      const struct given *given, struct complaint *why)
{
    const char *digits = given->value + (given->value[0] == '-');
    long long number;

    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return refuse(row, given, "is not a whole number", why);
    /* Out of long long's range it answers the nearest: out of ours as well. */
    number = strtoll(given->value, NULL, 10);
    if (number < row->least || number > row->most)
        return refuse(row, given, "is out of range", why);
    *(int64_t *)(void *)((char *)s + row->offset) = number;
    return 0;
}

/* Index of word in "a|b|c", or -1. */
static int find_choice(const char *choices, const char *word)
{
    size_t len = strlen(word);

    for (int i = 0;; i++) {
        size_t one = strcspn(choices, "|");

        if (one == len && memcmp(choices, word, len) == 0)
            return i;
        if (choices[one] == '\0')
            return -1;
        choices += one + 1;
    }
}

static int set_choice(const struct row *row, struct settings *s,
                      const struct given *given, struct complaint *why)
{
    bool is_switch = row->kind == KIND_SWITCH;
    int choice = find_choice(is_switch ? "0|1" : row->choices, given->value);
    char *field = (char *)s + row->offset;

    if (choice < 0)
        return refuse(row, given, "is unknown", why);
    if (row->kind == KIND_CHOICE)
        return set_text(row, s, given, why);
    if (row->kind == KIND_CHOICE_INT)
        *(int *)(void *)field = choice;
    else
        *(bool *)field = choice == 1;
    return 0;
}

static int parse_queues(struct settings *s, const struct given *given,
                        struct complaint *why);

static int set_value(const struct row *row, struct settings *s,
                     const struct given *given, struct complaint *why)
{
    int rc;

    switch (row->kind) {
    case KIND_NUMBER:
        return set_number(row, s, given, why);
    case KIND_QUEUES:
        return parse_queues(s, given, why);
    case KIND_TEXT:
    case KIND_URL:
        rc = check_text(row, given, why);
        if (rc == 0 && row->kind == KIND_URL)
            rc = check_url(row, given, why);
        return rc < 0 ? rc : set_text(row, s, given, why);
    default:
        return set_choice(row, s, given, why);
    }
}

/* ---- queues ------------------------------------------------------------ */

#define NAME_CHARS \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

static int read_weight(const char *text, size_t len, struct queue_share *share,
                       const char *field, struct complaint *why)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || share->weight > QUEUE_WEIGHT_MAX)
            goto refuse_it;
        share->weight = share->weight * 10 + (text[i] - '0');
    }
    if (share->weight >= 1 && share->weight <= QUEUE_WEIGHT_MAX)
        return 0;
refuse_it:
    return complain(why, field, "\"%.*s\" is no weight of %s; give 1 to %d",
                    (int)(len < 40 ? len : 40), text, share->name,
                    QUEUE_WEIGHT_MAX);
}

/* One "name" or "name*3", not terminated. */
static int read_share(const char *text, size_t len, struct queue_share *share,
                      const char *field, struct complaint *why)
{
    const char *star = memchr(text, '*', len);
    size_t name = star ? (size_t)(star - text) : len;

    memset(share, 0, sizeof *share);
    if (name == 0 || name > JOB_NAME_MAX || strspn(text, NAME_CHARS) < name)
        return complain(why, field,
                        "\"%.*s\" is no queue name; give 1 to %d of "
                        "A-Za-z0-9._-",
                        (int)(name < 80 ? name : 80), text, JOB_NAME_MAX);
    memcpy(share->name, text, name);
    if (!star)
        return 0;
    return read_weight(star + 1, len - name - 1, share, field, why);
}

/* How the newest of `count` shares fits those before it. */
static int check_share(const struct queue_share *shares, int count,
                       const char *field, struct complaint *why)
{
    const struct queue_share *newest = &shares[count - 1];

    for (int i = 0; i < count - 1; i++) {
        if (strcmp(shares[i].name, newest->name) == 0)
            return complain(why, field, "%s is named twice; name it once",
                            newest->name);
        if ((shares[i].weight == 0) != (newest->weight == 0))
            return complain(why, field,
                            "some queues have a weight and %s differs; give "
                            "all of them one (name*3) or none",
                            newest->name);
    }
    return 0;
}

static int parse_queues(struct settings *s, const struct given *given,
                        struct complaint *why)
{
    struct queue_share shares[QUEUE_NAMES_MAX];
    const char *at = given->value;
    int count = 0, rc;

    for (;; at++) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ","), whole = len;
        while (len > 0 && at[len - 1] == ' ')
            len--;
        if (count == QUEUE_NAMES_MAX)
            return complain(why, given->field,
                            "too many queues; give at most %d",
                            QUEUE_NAMES_MAX);
        rc = read_share(at, len, &shares[count++], given->field, why);
        if (rc == 0)
            rc = check_share(shares, count, given->field, why);
        if (rc < 0)
            return rc;
        at += whole;
        if (*at == '\0')
            break;
    }
    memcpy(s->queues, shares, (size_t)count * sizeof *shares);
    s->nqueues = count;
    s->queues_weighted = shares[0].weight > 0;
    return 0;
}

int settings_parse_queues(struct settings *s, const char *text,
                          struct complaint *why)
{
    return parse_queues(s, &(struct given){"queues", text}, why);
}

/* ---- sources ----------------------------------------------------------- */

int settings_init(struct settings *s)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < ROWS; i++) {
        struct given given = {rows[i].flag, rows[i].fallback};
        int rc = given.value ? set_value(&rows[i], s, &given, NULL) : 0;

        MUST(rc != -EINVAL); /* the table disagrees with itself */
        if (rc < 0) {
            settings_fini(s);
            return rc;
        }
    }
    return 0;
}

void settings_fini(struct settings *s)
{
    for (size_t i = 0; i < ROWS; i++)
        if (owns_text(&rows[i]))
            free(*(char **)(void *)((char *)s + rows[i].offset));
    memset(s, 0, sizeof *s);
}

/* An empty variable is how people unset one in a shell or a unit file. */
static bool from_environment(const char *name, struct given *given)
{
    const char *value = name ? getenv(name) : NULL;

    if (!value || value[0] == '\0')
        return false;
    *given = (struct given){name, value};
    return true;
}

int settings_from_env(struct settings *s, enum settings_for who,
                      struct complaint *why)
{
    struct given given;
    int rc;

    for (size_t i = 0; i < ROWS; i++) {
        if (!(rows[i].who & who) ||
            (!from_environment(rows[i].env, &given) &&
             !from_environment(rows[i].env_else, &given)))
            continue;
        rc = set_value(&rows[i], s, &given, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Read elsewhere. */
static const char *const other_variables[] = {
    "CAPIBOX_SANDBOXD",  /* worker/local/link.c */
    "CAPIBOX_RESULT_FD", /* a sandbox's; another worker may run in one */
};

/* Kubernetes and Docker links tell every container of a service's address:
 * CAPIBOX_API_SERVICE_HOST, CAPIBOX_REDIS_PORT_6379_TCP_ADDR, … */
static bool is_of_a_service(const char *name, size_t len)
{
    const char *port = memmem(name, len, "_PORT", 5);

    if (memmem(name, len, "_SERVICE_HOST", 13) ||
        memmem(name, len, "_SERVICE_PORT", 13))
        return true;
    return port && (port + 5 == name + len ||
                    (port[5] == '_' && port[6] >= '0' && port[6] <= '9'));
}

static bool is_variable(const char *known, const char *name, size_t len)
{
    return known && strlen(known) == len && memcmp(known, name, len) == 0;
}

static bool is_known_variable(const char *name, size_t len)
{
    for (size_t i = 0; i < ROWS; i++)
        if (is_variable(rows[i].env, name, len))
            return true;
    for (size_t i = 0; i < sizeof other_variables / sizeof *other_variables;
         i++)
        if (is_variable(other_variables[i], name, len))
            return true;
    return is_of_a_service(name, len);
}

bool settings_unknown_env(size_t *at_io, struct complaint *why)
{
    static const char ours[] = "CAPIBOX_";

    for (; environ && environ[*at_io]; ++*at_io) {
        const char *name = environ[*at_io], *best = NULL;
        size_t len = strcspn(name, "=");
        char word[SUGGEST_WORD_MAX + 1];

        if (strncmp(name, ours, strlen(ours)) != 0 ||
            is_known_variable(name, len))
            continue;
        ++*at_io;
        snprintf(word, sizeof word, "%.*s", (int)len, name);
        for (size_t i = 0; i < ROWS; i++)
            if (rows[i].env)
                suggest_offer(word, rows[i].env, &best);
        if (best)
            complain(why, NULL, "unknown setting %.*s; did you mean %s?",
                     (int)len, name, best);
        else
            complain(why, NULL,
                     "unknown setting %.*s; --help lists those "
                     "there are",
                     (int)len, name);
        return true;
    }
    return false;
}

/* The row whose flag is the word up to '=', or NULL. */
static const struct row *find_flag(const char *word, enum settings_for who)
{
    size_t len;

    if (strcmp(word, "-h") == 0)
        word = "--help";
    len = strcspn(word, "=");
    for (size_t i = 0; i < ROWS; i++)
        if ((rows[i].who & who) && rows[i].flag &&
            strlen(rows[i].flag) == len && memcmp(rows[i].flag, word, len) == 0)
            return &rows[i];
    return NULL;
}

/* Applies argv[at], a flag of row. Returns how many words it took. */
static int take_flag(const struct row *row, struct settings *s, char **words,
                     int nwords, struct complaint *why)
{
    const char *equals = strchr(words[0], '=');
    struct given given = {row->flag, equals ? equals + 1 : "1"};
    int taken = 1, rc;

    if (!equals && row->kind != KIND_SWITCH) {
        if (nwords < 2 || strncmp(words[1], "--", 2) == 0)
            return complain(why, row->flag, "has no value; give %s %s",
                            row->flag, row->takes);
        given.value = words[1];
        taken = 2;
    }
    rc = set_value(row, s, &given, why);
    return rc < 0 ? rc : taken;
}

int settings_from_args(struct settings *s, enum settings_for who, int *argc_io,
                       char **argv, struct complaint *why)
{
    int argc = *argc_io, kept = argc > 0 ? 1 : 0, at = kept;
    uint64_t seen = 0;

    while (at < argc && strcmp(argv[at], "--") != 0) {
        const struct row *row = find_flag(argv[at], who);

        if (!row) {
            argv[kept++] = argv[at++];
            continue;
        }
        uint64_t bit = (uint64_t)1 << (row - rows);
        if (seen & bit)
            return complain(why, row->flag, "is given twice; give it once");
        seen |= bit;
        int taken = take_flag(row, s, argv + at, argc - at, why);
        if (taken < 0)
            return taken;
        at += taken;
    }
    while (at < argc)
        argv[kept++] = argv[at++];
    argv[kept] = NULL; /* as main() got it */
    *argc_io = kept;
    return 0;
}

/* ---- together ---------------------------------------------------------- */

static int check_readable(const char *env, const char *path,
                          struct complaint *why)
{
    if (path[0] == '\0' || access(path, R_OK) == 0)
        return 0;
    return complain(why, env, "the file cannot be read: %s; give a PEM file",
                    strerror(errno));
}

static int check_tls(const struct settings *s, struct complaint *why)
{
    bool tls = strncmp(s->redis_url, "rediss://", 9) == 0;
    int rc;

    if ((s->redis_cert[0] == '\0') != (s->redis_key[0] == '\0'))
        return complain(
            why, s->redis_key[0] ? "CAPIBOX_REDIS_CERT" : "CAPIBOX_REDIS_KEY",
            "is missing; give certificate and key, or neither");
    /* Who names certificates believes the line is encrypted. */
    if (!tls && (s->redis_ca[0] || s->redis_cert[0]))
        return complain(
            why, s->redis_ca[0] ? "CAPIBOX_REDIS_CA" : "CAPIBOX_REDIS_CERT",
            "is of no use without TLS; give a rediss:// URL or "
            "leave it out");
    rc = check_readable("CAPIBOX_REDIS_CA", s->redis_ca, why);
    if (rc == 0)
        rc = check_readable("CAPIBOX_REDIS_CERT", s->redis_cert, why);
    if (rc == 0)
        rc = check_readable("CAPIBOX_REDIS_KEY", s->redis_key, why);
    return rc;
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* To another host, http would show the key to everyone on the way. */
static int check_address(const char *env, const char *url,
                         struct complaint *why)
{
    static const char *const here[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t len;

    if (url[0] == '\0')
        return 0;
    if (strpbrk(url, "@?# \"\\"))
        return complain(why, env,
                        "holds one of @ ? # or a blank; give https://host or "
                        "https://host:port");
    if (strncmp(url, "https://", 8) == 0 && url[8] && url[8] != '/')
        return 0;
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        len = strlen(here[i]);
        if (strncmp(url, "http://", 7) == 0 &&
            strncmp(url + 7, here[i], len) == 0 && strchr(":/", url[7 + len]))
            return 0;
    }
    return complain(why, env,
                    "\"%.100s\" does not begin with https://; http:// is taken "
                    "for localhost only, as it would show the key",
                    url);
}

static int check_domain(const char *domain, struct complaint *why)
{
    size_t len = strspn(domain, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789-.");

    if (len > 0 && domain[len] == ':' && domain[len + 1])
        len += 1 + strspn(domain + len + 1, "0123456789");
    if (len > 0 && domain[len] == '\0')
        return 0;
    return complain(why, "E2B_DOMAIN",
                    "\"%.100s\" is no domain; give one such as e2b.app, "
                    "without https://",
                    domain);
}

int settings_check_e2b(const struct settings *s, struct complaint *why)
{
    const char *key = s->e2b_key;
    int rc;

    if (key[0] == '\0')
        return complain(why, "E2B_API_KEY",
                        "is missing; backend e2b needs the key of an E2B team "
                        "(e2b_ and hex digits)");
    if (strncmp(key, "e2b_", 4) != 0 || key[4] == '\0' ||
        key[4 + strspn(key + 4, "0123456789abcdef")] != '\0')
        return complain(why, "E2B_API_KEY",
                        "is no E2B key; give one that is e2b_ and hex digits "
                        "in lower case");
    rc = check_domain(s->e2b_domain, why);
    if (rc == 0)
        rc = check_address("E2B_API_URL", s->e2b_api_url, why);
    if (rc == 0)
        rc = check_address("E2B_SANDBOX_URL", s->e2b_sandbox_url, why);
    if (rc == 0)
        rc = check_readable("CAPIBOX_E2B_CA", s->e2b_ca, why);
    return rc;
}

int settings_check(const struct settings *s, enum settings_for who,
                   struct complaint *why)
{
    int rc;

    if ((who & FOR_API) && !s->api_cert[0] != !s->api_cert_key[0])
        return complain(why, "CAPIBOX_API_CERT",
                        "and CAPIBOX_API_CERT_KEY go together; give both");
    if ((who & (FOR_WORKER | FOR_API)) && s->templates[0] &&
        !is_folder(s->templates))
        return complain(why, "CAPIBOX_TEMPLATES",
                        "\"%.150s\" is no folder; give one of template files",
                        s->templates);
    rc = check_tls(s, why);
    if (rc == 0 && (who & FOR_WORKER) && strcmp(s->backend, "e2b") == 0)
        rc = settings_check_e2b(s, why);
    return rc;
}

int settings_concurrency(const struct settings *s)
{
    cpu_set_t set;
    long cores;

    if (s->concurrency > 0)
        return (int)s->concurrency;
    if (strcmp(s->backend, "e2b") == 0)
        return CONCURRENCY_E2B;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
    else /* more cores than the set holds */
        cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        cores = 1;
    if (cores > CONCURRENCY_MAX / CONCURRENCY_PER_CORE)
        return CONCURRENCY_MAX;
    return (int)cores * CONCURRENCY_PER_CORE;
}

int settings_find_templates(const struct settings *s, char **dir_out)
{
    static const char *const beside[] = {"../templates",
                                         "../share/capibox/templates"};
    char program[PATH_MAX], path[PATH_MAX + 64];
    ssize_t len;
    char *dir;

    if (s->templates[0]) {
        if (!is_folder(s->templates))
            return -ENOENT;
        *dir_out = strdup(s->templates);
        return *dir_out ? 0 : -ENOMEM;
    }
    len = readlink("/proc/self/exe", program, sizeof program - 1);
    if (len <= 0)
        return -ENOENT;
    program[len] = '\0';
    *(strrchr(program, '/') + 1) = '\0';
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        snprintf(path, sizeof path, "%s%s", program, beside[i]);
        if (!is_folder(path))
            continue;
        dir = realpath(path, NULL);
        if (!dir)
            return errno == ENOMEM ? -ENOMEM : -ENOENT;
        *dir_out = dir;
        return 0;
    }
    return -ENOENT;
}

/* ---- --help ------------------------------------------------------------ */

static void print_source(FILE *out, const struct row *row)
{
    if (!row->env)
        return;
    fprintf(out, "%26s%s", "", row->env);
    if (row->kind == KIND_NUMBER)
        fprintf(out, "; %" PRId64 " to %" PRId64, row->least, row->most);
    if (row->choices)
        fprintf(out, "; %s", row->choices);
    if (row->kind == KIND_SWITCH)
        fprintf(out, "; 0|1");
    if (row->fallback && row->fallback[0])
        fprintf(out, "; default %s", row->fallback);
    fputc('\n', out);
    if (row->env_else)
        fprintf(out, "%26selse %s\n", "", row->env_else);
}

void settings_print(FILE *out, enum settings_for who)
{
    char left[64];

    for (size_t i = 0; i < ROWS; i++) {
        if (!(rows[i].who & who))
            continue;
        snprintf(left, sizeof left, "%s%s%s",
                 rows[i].flag ? rows[i].flag : "(environment only)",
                 rows[i].takes ? " " : "", rows[i].takes ? rows[i].takes : "");
        fprintf(out, "  %-23s %s\n", left, rows[i].help);
        print_source(out, &rows[i]);
    }
}
