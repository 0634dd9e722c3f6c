/* producer/verb_doctor.c -- doctor. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/packages.h"
#include "common/scope.h"
#include "common/spawn.h"
#include "common/template.h"
#include "producer/client.h"
#include "producer/exits.h"
#include "producer/fleet.h"
#include "producer/render.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define NAME_WIDTH        17
#define PROBE_MS          30000
#define PROBE_BYTES_MAX   (1u << 20)
#define REDIS_MAJOR_LEAST 7

enum state { STATE_OK, STATE_NOTE, STATE_BAD };

static const char *const state_names[] = {"ok", "note", "bad"};

struct doctor {
    const struct settings *settings;
    cJSON *checks;
    int bad;
};

static void show(const struct doctor *d, enum state state, const char *name,
                 const char *text, const char *fix)
{
    if (d->settings->json)
        return;
    printf("%-5s ", state == STATE_BAD ? "BAD" : state_names[state]);
    text_put(stdout, name, -1);
    for (size_t pad = strlen(name); *text && pad < NAME_WIDTH + 2; pad++)
        putchar(' ');
    text_put(stdout, text, -1);
    putchar('\n');
    if (*fix && state != STATE_OK) {
        printf("%*sfix: ", NAME_WIDTH + 8, "");
        text_put(stdout, fix, -1);
        putchar('\n');
    }
}

/* fix: what to do, "" if there is nothing. */
__attribute__((format(printf, 5, 6))) static void
check(struct doctor *d, enum state state, const char *name, const char *fix,
      const char *fmt, ...)
{
    cJSON *json = cJSON_CreateObject();
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    d->bad += state == STATE_BAD;
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "state", state_names[state]);
    cJSON_AddStringToObject(json, "detail", text);
    cJSON_AddStringToObject(json, "fix", state == STATE_OK ? "" : fix);
    cJSON_AddItemToArray(d->checks, json);
    show(d, state, name, text, fix);
}

/* ---- the sandbox: what sandboxd says of this host ----------------------- */

/* Its "checks": {ok, needed, what, detail, fix}. Those that are fine are only
 * shown (the JSON has them under "sandbox"), the others are ours, too. */
static void take_probe(struct doctor *d, const cJSON *probe)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(probe, "checks"))
    {
        const char *what = render_text(item, "what");
        const char *detail = render_text(item, "detail");
        bool needed =
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "needed"));

        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "ok")))
            show(d, STATE_OK, what, detail, "");
        else
            check(d, needed ? STATE_BAD : STATE_NOTE, what,
                  render_text(item, "fix"), "%s",
                  *detail ? detail : "not there");
    }
}

static bool beside_us(const char *name, char out[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len < 0)
        return false;
    self[len] = '\0';
    return snprintf(out, PATH_MAX, "%s/%s", dirname(self), name) < PATH_MAX &&
           access(out, X_OK) == 0;
}

/* The worker reads the settings it is asked about from its environment: the key
 * is in ours already, and nowhere else. */
static void pass_e2b_on(const struct settings *s)
{
    setenv("CAPIBOX_BACKEND", "e2b", 1);
    setenv("E2B_DOMAIN", s->e2b_domain, 1);
    setenv("E2B_API_URL", s->e2b_api_url, 1);
    setenv("E2B_SANDBOX_URL", s->e2b_sandbox_url, 1);
    setenv("CAPIBOX_E2B_CA", s->e2b_ca, 1);
    if (s->templates[0])
        setenv("CAPIBOX_TEMPLATES", s->templates, 1);
}

/* program: capibox-sandboxd for this host, capibox-worker for E2B. */
static cJSON *check_sandbox(struct doctor *d, const char *program)
{
    char path[PATH_MAX];
    const char *argv[] = {path, "--probe", "--json", NULL};
    AUTO_FREE char *text = NULL;
    cJSON *probe = NULL;
    int code = 0, rc;

    if (!beside_us(program, path)) {
        check(d, STATE_BAD, "sandbox", "build or install capibox whole: make",
              "%s is not beside this program", program);
        return NULL;
    }
    rc = spawn_read(argv, NULL, false, PROBE_BYTES_MAX, clock_ms() + PROBE_MS,
                    &text, &code);
    if (rc == 0)
        probe = cJSON_Parse(text);
    if (!probe) {
        check(d, STATE_BAD, "sandbox", "run it by hand: it says more",
              "%s --probe --json: %s", path,
              rc < 0 ? strerror(-rc) : "no JSON came out");
        return NULL;
    }
    check(d, code == 0 ? STATE_OK : STATE_BAD, "sandbox",
          strcmp(program, "capibox-sandboxd")
              ? "mend what is BAD below"
              : "mend what is BAD below, or accept weaker limits: "
                "capibox-worker --allow-degraded, CAPIBOX_ALLOW_DEGRADED=1",
          "%s (rung %s)", render_text(probe, "meaning"),
          render_text(probe, "rung"));
    take_probe(d, probe);
    return probe;
}

/* ---- Redis -------------------------------------------------------------- */

/* A line of INFO: "name:value\r\n". */
static void info_field(const char *info, const char *name, char *out,
                       size_t size)
{
    size_t len = strlen(name);

    *out = '\0';
    for (const char *at = info; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            at += len + 1;
            snprintf(out, size, "%.*s", (int)strcspn(at, "\r\n"), at);
            return;
        }
    }
}

static void check_version(struct doctor *d, const char *info)
{
    char version[64];

    info_field(info, "redis_version", version, sizeof(version));
    if (atoi(version) >= REDIS_MAJOR_LEAST)
        check(d, STATE_OK, "redis", "", "version %s", version);
    else
        check(d, STATE_BAD, "redis", "install Redis 7.0 or later",
              "version %s is too old", *version ? version : "unknown");
}

/* Where CONFIG is forbidden, what INFO says must do. */
static bool saves_snapshots(struct client *c)
{
    const char *argv[] = {"CONFIG", "GET", "save"};
    redisReply *reply = NULL;
    bool saves = false;

    if (client_ask(c, &reply, 3, argv) < 0)
        return false;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[1]->type == REDIS_REPLY_STRING)
        saves = reply->element[1]->len > 0;
    freeReplyObject(reply);
    return saves;
}

static void check_persistence(struct doctor *d, struct client *c,
                              const char *info)
{
    char aof[16];

    info_field(info, "aof_enabled", aof, sizeof(aof));
    if (!strcmp(aof, "1"))
        check(d, STATE_OK, "persistence", "", "append-only file is on");
    else if (saves_snapshots(c))
        check(d, STATE_NOTE, "persistence",
              "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
              "snapshots only: a crash of Redis loses the jobs since the last "
              "one");
    else
        check(d, STATE_NOTE, "persistence",
              "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
              "NONE: a restart of Redis loses every job and result");
}

static void check_eviction(struct doctor *d, const char *info)
{
    static const char fix[] =
        "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf)";
    char policy[64], limit[32];

    info_field(info, "maxmemory_policy", policy, sizeof(policy));
    info_field(info, "maxmemory", limit, sizeof(limit));
    if (!*policy)
        check(d, STATE_NOTE, "eviction", fix,
              "maxmemory-policy is not known: INFO does not say");
    else if (!strcmp(policy, "noeviction"))
        check(d, STATE_OK, "eviction", "", "noeviction");
    else if (!strcmp(limit, "0"))
        check(d, STATE_NOTE, "eviction", fix,
              "%s, without a maxmemory: harmless until one is set", policy);
    else
        check(d, STATE_BAD, "eviction", fix,
              "%s: Redis may THROW AWAY jobs and results when it is full",
              policy);
}

static void check_protocol(struct doctor *d, struct client *c)
{
    char key[KEY_MAX];
    const char *argv[] = {"HGET", protocol_key(&c->protocol, key, "conf", NULL),
                          "version"};
    redisReply *reply = NULL;

    if (client_ask(c, &reply, 3, argv) < 0)
        return;
    if (reply->type == REDIS_REPLY_STRING &&
        atoi(reply->str) != PROTOCOL_VERSION && client_workers(c) > 0)
        check(d, STATE_BAD, "protocol", "stop the other workers, or use theirs",
              "workers there use protocol %s, this capibox uses %d", reply->str,
              PROTOCOL_VERSION);
    freeReplyObject(reply);
}

static void check_workers(struct doctor *d, struct client *c)
{
    int64_t count = client_workers(c);

    if (count > 0)
        check(d, STATE_OK, "workers", "", "%lld alive (capibox workers)",
              (long long)count);
    else
        check(d, STATE_NOTE, "workers", "start one: capibox-worker",
              "none is alive; jobs wait in their queues");
}

/* Workers whose backend is in trouble. */
static void check_backends(struct doctor *d, struct client *c)
{
    struct fleet *f = calloc(1, sizeof(*f));
    char trouble[FLEET_TROUBLE_MAX];

    if (f && fleet_load_workers(f, c) == 0)
        for (int i = 0; i < f->nworkers; i++)
            if (*fleet_trouble(&f->workers[i], trouble))
                check(d, STATE_NOTE, "backend",
                      "it goes on by itself once E2B answers again", "%s: %s",
                      f->workers[i].id, trouble);
    if (f)
        fleet_fini(f);
    free(f);
}

static void check_redis(struct doctor *d)
{
    const char *argv[] = {"INFO"};
    redisReply *reply = NULL;
    struct client c;

    if (client_open(&c, d->settings) < 0) {
        check(d, STATE_BAD, "redis",
              "start Redis, or say where it is: --redis URL", "%s", c.why);
        client_close(&c);
        return;
    }
    if (client_ask(&c, &reply, 1, argv) < 0 ||
        reply->type != REDIS_REPLY_STRING) {
        check(d, STATE_BAD, "redis", "let this user call INFO", "%s", c.why);
    } else {
        check_version(d, reply->str);
        check_persistence(d, &c, reply->str);
        check_eviction(d, reply->str);
        check_protocol(d, &c);
        check_workers(d, &c);
        check_backends(d, &c);
    }
    if (reply)
        freeReplyObject(reply);
    client_close(&c);
}

/* ---- templates and what they need --------------------------------------- */

static void bad_template(void *ctx, const char *file, int line,
                         const struct complaint *why)
{
    char text[700], place[32] = "";

    complaint_print(why, text, sizeof(text));
    if (line > 0)
        snprintf(place, sizeof(place), ", line %d", line);
    check(ctx, STATE_BAD, "templates", "mend or remove the file", "%s%s: %s",
          file, place, text);
}

static void check_interpreter(struct doctor *d, const struct template *t,
                              const struct template_runtime *r)
{
    if (access(r->interpreter, X_OK) == 0)
        return;
    check(d, strcmp(t->id, "default") ? STATE_NOTE : STATE_BAD, "interpreter",
          r->language == LANGUAGE_JAVASCRIPT ? "apt-get install nodejs"
          : r->language == LANGUAGE_PYTHON   ? "apt-get install python3"
                                             : "apt-get install bash",
          "template %s: no %s at %s", t->id, language_name(r->language),
          r->interpreter);
}

static void silent_python(void *ctx, const char *interpreter, const char *why)
{
    if (access(interpreter, X_OK) == 0) /* else it was named already */
        check(ctx, STATE_NOTE, "packages", "run it by hand: it says more",
              "%s does not tell which packages it has: %s", interpreter, why);
}

static void note_missing(struct doctor *d, const struct packages *packages,
                         const struct template *t)
{
    const char *python = template_interpreter(t, LANGUAGE_PYTHON);
    AUTO_STRBUF struct strbuf names = STRBUF_INIT;

    for (char **name = t->packages; name && *name; name++)
        if (packages_ask(packages, python, *name) == PACKAGE_LACKING)
            strbuf_addf(&names, "%s%s", names.len ? " " : "", *name);
    if (names.len > 0)
        check(d, STATE_NOTE, "packages",
              "install them for that Python (apt-get install python3-NAME), or "
              "take them out of the template",
              "template %s: %s cannot import %s", t->id, python, names.text);
}

static void check_packages(struct doctor *d, struct template_set *set)
{
    if (packages_probe(set, silent_python, d) < 0)
        return;
    for (size_t i = 0; i < set->count; i++)
        note_missing(d, set->packages, set->items[i]);
}

/* What this host has to run the templates' languages with. */
static void check_runtimes(struct doctor *d, struct template_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        for (size_t k = 0; k < set->items[i]->nruntimes; k++)
            check_interpreter(d, set->items[i], &set->items[i]->runtimes[k]);
    check_packages(d, set);
}

static void check_templates(struct doctor *d)
{
    struct template_set *set = NULL;
    char *dir = NULL;
    int rc = settings_find_templates(d->settings, &dir);

    if (rc == 0)
        rc = template_set_load(dir, bad_template, d, &set);
    if (rc < 0) {
        check(d, STATE_BAD, "templates",
              "name the folder in CAPIBOX_TEMPLATES; it needs default.json",
              "%s: %s", dir ? dir : "no folder found", strerror(-rc));
    } else {
        check(d, STATE_OK, "templates", "", "%zu in %s", set->count, dir);
        if (!strcmp(d->settings->backend, "local"))
            check_runtimes(d, set);
    }
    template_set_unref(set);
    free(dir);
}

static void verdict(struct doctor *d, cJSON *probe)
{
    AUTO_FREE char *text = NULL;
    cJSON *all;

    if (!d->settings->json) {
        puts(d->bad ? "\nA worker would NOT run jobs safely here."
                    : "\nA worker would run jobs safely here.");
        cJSON_Delete(probe);
        cJSON_Delete(d->checks);
        return;
    }
    all = cJSON_CreateObject();
    cJSON_AddBoolToObject(all, "safe", d->bad == 0);
    cJSON_AddItemToObject(all, "checks", d->checks);
    if (probe)
        cJSON_AddItemToObject(all, "sandbox", probe);
    text = cJSON_PrintUnformatted(all);
    puts(text ? text : "{}");
    cJSON_Delete(all);
}

/* The worker's to do: it has the sandboxes. Its output and its exit code are
 * ours from here on. */
static int attack(const struct settings *s)
{
    char path[PATH_MAX];
    const char *argv[6] = {path, "--attack"};
    int n = 2;

    if (s->json)
        argv[n++] = "--json";
    if (s->templates[0]) {
        argv[n++] = "--templates";
        argv[n++] = s->templates;
    }
    if (!beside_us("capibox-worker", path)) {
        text_say("capibox-worker is not beside this program: build or install "
                 "capibox whole");
        return EXITS_CAPIBOX;
    }
    fflush(stdout);
    execv(path, (char *const *)argv);
    text_say("%s: %s", path, strerror(errno));
    return EXITS_CAPIBOX;
}

int verb_doctor(const struct settings *s, const struct options *o)
{
    struct doctor d = {.settings = s, .checks = cJSON_CreateArray()};
    cJSON *probe = NULL;

    if (o->attack) {
        cJSON_Delete(d.checks);
        return attack(s);
    }
    if (!strcmp(s->backend, "e2b"))
        pass_e2b_on(s);
    probe = check_sandbox(&d, !strcmp(s->backend, "e2b") ? "capibox-worker"
                                                         : "capibox-sandboxd");
    check_redis(&d);
    check_templates(&d);
    verdict(&d, probe);
    return d.bad ? EXITS_CAPIBOX : EXITS_OK;
}
