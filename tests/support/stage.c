#include "tests/support/stage.h"

#include <ctype.h>
#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"

#define WORDS_MAX      32
#define CLI_MS         60000
#define STAT_BYTES_MAX 4096
#define CGROUPS        "/sys/fs/cgroup"
#define WALK_FDS       16

extern char **environ;

/* ---- programs ---------------------------------------------------------- */

static void forget_own_settings(void)
{
    for (size_t i = 0; environ && environ[i];) {
        size_t len = strcspn(environ[i], "=");
        char name[128];

        if ((strncmp(environ[i], "CAPIBOX_", 8) != 0 &&
             strncmp(environ[i], "REDIS_URL=", 10) != 0) ||
            len >= sizeof(name)) {
            i++;
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", (int)len, environ[i]);
        unsetenv(name); /* the next one moves up */
    }
}

void stage_open(struct rig *rig, const char *const *redis_words)
{
    forget_own_settings();
    rig_open(rig, redis_words);
}

/* The stage's Redis first: what the test wants comes after and wins. */
static void make_env(struct rig *rig, char url[512], const char **env_out,
                     const char *const *more)
{
    size_t n = 0, i;

    snprintf(url, 512, "CAPIBOX_REDIS_URL=%s", rig->server.url);
    for (i = 0; more && more[i]; i++)
        if (strncmp(more[i], "CAPIBOX_REDIS_URL", 17) == 0)
            break;
    if (!more || !more[i])
        env_out[n++] = url;
    for (i = 0; more && more[i]; i++)
        if (strncmp(more[i], "CAPIBOX_WARM=", 13) == 0)
            break;
    /* Most tests have no use for all the templates' interpreters. */
    if (!more || !more[i])
        env_out[n++] = "CAPIBOX_WARM=demand";
    for (i = 0; more && more[i]; i++) {
        MUST(n + 1 < STAGE_ENV_MAX);
        env_out[n++] = more[i];
    }
    env_out[n] = NULL;
}

void stage_worker(struct rig *rig, struct proc *worker, const char *const *env)
{
    const char *all[STAGE_ENV_MAX];
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    char url[512];

    make_env(rig, url, all, env);
    proc_start(worker, &(struct proc_start){.argv = argv, .env = all});
    if (proc_says(worker, "worker registered", RIG_WAIT_MS))
        return;
    AUTO_FREE char *said = proc_err(worker);
    fail_msg("the worker does not start:\n%s", said);
}

int stage_end_worker(struct proc *worker)
{
    int ending;

    proc_signal(worker, SIGTERM);
    ending = proc_wait(worker, RIG_WAIT_MS);
    if (ending != 0) {
        AUTO_FREE char *said = proc_err(worker);

        print_error("worker ended with %d:\n%s", ending, said);
    }
    proc_stop(worker);
    return ending;
}

int stage_cli(struct rig *rig, const char *stdin_text, char **out, char **err,
              ...)
{
    const char *argv[WORDS_MAX] = {proc_program("capibox")};
    const char *env[STAGE_ENV_MAX];
    char url[512];
    va_list args;
    int n = 1;

    va_start(args, err);
    while (n < WORDS_MAX - 1 && (argv[n] = va_arg(args, const char *)))
        n++;
    va_end(args);
    argv[n] = NULL;
    make_env(rig, url, env, NULL);
    return proc_run(&(struct proc_start){.argv = argv,
                                         .env = env,
                                         .stdin_text = stdin_text},
                    CLI_MS, out, err);
}

/* ---- jobs -------------------------------------------------------------- */

char *stage_field(struct rig *rig, const char *id, const char *field)
{
    char key[KEY_MAX], *text = NULL;
    redisReply *reply = NULL;

    protocol_key(&rig->protocol, key, "job", id);
    if (redis_connect(rig->redis, clock_ms() + RIG_WAIT_MS) < 0 ||
        redis_callv(rig->redis, clock_ms() + RIG_WAIT_MS, &reply, "HGET", key,
                    field, NULL) < 0)
        return NULL;
    if (reply->type == REDIS_REPLY_STRING)
        MUST(text = strdup(reply->str));
    freeReplyObject(reply);
    return text;
}

struct awaited {
    struct rig *rig;
    const char *id;
    char *result;
};

static bool has_result(void *ctx)
{
    struct awaited *a = ctx;

    a->result = stage_field(a->rig, a->id, "result");
    return a->result != NULL;
}

cJSON *stage_result_within(struct rig *rig, const char *id, int timeout_ms)
{
    struct awaited a = {.rig = rig, .id = id};
    cJSON *json;

    if (!wait_until(has_result, &a, timeout_ms))
        fail_msg("job %s has no result; its status is \"%s\"", id,
                 rig_job(rig, id, "status"));
    json = cJSON_Parse(a.result);
    if (!json)
        print_error("%s\n", a.result);
    free(a.result);
    assert_non_null(json);
    return json;
}

cJSON *stage_result(struct rig *rig, const char *id)
{
    return stage_result_within(rig, id, RIG_WAIT_MS);
}

cJSON *stage_job(struct rig *rig, const char *json)
{
    char id[JOB_ID_MAX + 1];

    MUST(sscanf(json, "{\"id\":\"%64[^\"]", id) == 1);
    rig_push(rig, "default", json);
    return stage_result(rig, id);
}

/* ---- looking into JSON -------------------------------------------------- */

const cJSON *stage_at(const cJSON *json, const char *path)
{
    while (json && *path) {
        size_t len = strcspn(path, ".");
        char name[64];

        MUST(len < sizeof(name));
        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        json = cJSON_IsArray(json)
                   ? cJSON_GetArrayItem(json, atoi(name))
                   : cJSON_GetObjectItemCaseSensitive(json, name);
        path += len + (path[len] == '.');
    }
    return json;
}

const char *stage_text(const cJSON *json, const char *path)
{
    return cJSON_GetStringValue(stage_at(json, path));
}

double stage_number(const cJSON *json, const char *path)
{
    const cJSON *item = stage_at(json, path);

    return cJSON_IsNumber(item) ? item->valuedouble : -1e9;
}

static void show(const cJSON *json)
{
    AUTO_FREE char *text = cJSON_Print(json);

    print_error("%.4000s\n", text ? text : "(nothing)");
}

void stage_expect(const cJSON *json, const char *path, const char *text)
{
    const char *there = stage_text(json, path);

    if (there && strcmp(there, text) == 0)
        return;
    show(json);
    fail_msg("%s is \"%s\", not \"%s\"", path, there ? there : "(no text)",
             text);
}

void stage_expect_part(const cJSON *json, const char *path, const char *part)
{
    const char *there = stage_text(json, path);

    if (there && strstr(there, part))
        return;
    show(json);
    fail_msg("%s is \"%s\", without \"%s\"", path, there ? there : "(no text)",
             part);
}

/* ---- what a worker has on the host ------------------------------------- */

struct process {
    pid_t pid, parent;
    char state;
    unsigned long long started;
};

static bool look_at(pid_t pid, struct process *out)
{
    char path[64], *text = NULL;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (io_read_file(path, STAT_BYTES_MAX, &text, NULL) < 0)
        return false;
    /* The name, in parentheses, may hold anything. */
    const char *after = strrchr(text, ')');
    *out = (struct process){.pid = pid};
    bool read = after && sscanf(after,
                                ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                                "%*u %*u %*d %*d %*d %*d %*d %*d %llu",
                                &out->state, &out->parent, &out->started) == 3;
    free(text);
    return read;
}

static bool is_member(const struct household *h, pid_t pid)
{
    for (int i = 0; i < h->count; i++)
        if (h->members[i].pid == pid)
            return true;
    return false;
}

static void add_member(struct household *h, const struct process *p)
{
    MUST(h->count < STAGE_PIDS_MAX);
    h->members[h->count].pid = p->pid;
    h->members[h->count++].started = p->started;
}

/* Adds children of members; false when there are no more. */
static bool add_children(struct household *h)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    struct process p;
    int before = h->count;

    MUST(proc);
    while ((entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]) &&
            look_at(atoi(entry->d_name), &p) && is_member(h, p.parent) &&
            !is_member(h, p.pid))
            add_member(h, &p);
    closedir(proc);
    return h->count > before;
}

void household_list(pid_t worker, struct household *out)
{
    struct process p;

    out->count = 0;
    MUST(look_at(worker, &p));
    add_member(out, &p);
    while (add_children(out))
        ;
}

static bool is_asleep(pid_t pid)
{
    char path[64], *name = NULL;
    bool asleep;

    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    if (io_read_file(path, STAT_BYTES_MAX, &name, NULL) < 0)
        return false;
    asleep = strcmp(name, "sleep\n") == 0;
    free(name);
    return asleep;
}

int household_wake(pid_t worker)
{
    static struct household house;
    int woken = 0;

    household_list(worker, &house);
    for (int i = 0; i < house.count; i++)
        woken += is_asleep(house.members[i].pid) &&
                 kill(house.members[i].pid, SIGTERM) == 0;
    return woken;
}

static bool is_woken(void *ctx)
{
    return household_wake(*(pid_t *)ctx) > 0;
}

void household_wake_one(pid_t worker)
{
    if (!wait_until(is_woken, &worker, RIG_WAIT_MS))
        fail_msg("no job of worker %d sleeps", worker);
}

int household_alive(const struct household *h)
{
    struct process p;
    int alive = 0;

    for (int i = 0; i < h->count; i++)
        alive += look_at(h->members[i].pid, &p) &&
                 p.started == h->members[i].started && p.state != 'Z' &&
                 p.state != 'X';
    return alive;
}

/* nftw() has no context to pass. */
static const struct household *walked;
static int found;

static int count_folder(const char *path, const struct stat *st, int type,
                        struct FTW *at)
{
    int pid;

    (void)st;
    if (type == FTW_D && sscanf(path + at->base, "capibox-%d-", &pid) == 1)
        found += is_member(walked, pid);
    return 0;
}

int household_cgroups(const struct household *h)
{
    walked = h;
    found = 0;
    nftw(CGROUPS, count_folder, WALK_FDS, FTW_PHYS);
    return found;
}

static bool is_gone(void *ctx)
{
    const struct household *h = ctx;

    return household_alive(h) == 0 && household_cgroups(h) == 0;
}

void household_gone(const struct household *h, int timeout_ms)
{
    if (!wait_until(is_gone, (void *)(uintptr_t)h, timeout_ms))
        fail_msg("%d processes and %d cgroups are left of %d processes",
                 household_alive(h), household_cgroups(h), h->count);
}
