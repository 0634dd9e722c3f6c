#include "worker/attack.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/must.h"
#include "common/scope.h"
#include "worker/attack_host.h"
#include "worker/attack_list.h"

#define EXIT_HELD     0
#define EXIT_NOT_HELD 1
#define EXIT_USAGE    2
#define EXIT_FAULT    4

#define THREADS_MAX  4
#define LEFT_MS      1000 /* after the last verdict: then nothing may be left */
#define LEFT_POLL_US 20000
#define NAME_WIDTH   56

/* What this program has of processes and cgroups. */
struct traces {
    int processes, cgroups;
};

struct runner {
    struct traces traces; /* before there was a backend */
    const struct settings *settings;
    const struct backend_ops *ops;
    const struct template_set *templates;
    struct backend *backend;
    struct attack_set set;
    bool chosen[ATTACK_NUMBERS_MAX];
    size_t total;
    pthread_mutex_t lock;
    /* Guarded by lock, which is also held while a line is printed. */
    size_t next, done, ends[ATTACK_NOT_APPLICABLE + 1];
};

/* ---- one job ---------------------------------------------------------- */

/* What came of a job's text. */
struct ran {
    struct outcome o;
    char *out;                /* with a NUL at its end */
    char why[ATTACK_WHY_MAX]; /* "": it came to a verdict and left nothing */
};

__attribute__((format(printf, 2, 3))) static void say_why(struct ran *r,
                                                          const char *fmt, ...)
{
    va_list args;

    if (r->why[0])
        return; /* the first reason is the cause */
    va_start(args, fmt);
    vsnprintf(r->why, sizeof(r->why), fmt, args);
    va_end(args);
}

static void use_sandbox(struct runner *r, const struct job *job,
                        const struct spec *spec, struct ran *ran)
{
    struct sandbox *sandbox = NULL;
    struct outcome *o = &ran->o;
    int rc = r->ops->create(r->backend, job, spec, &sandbox, o);

    if (rc == 0)
        rc = r->ops->run(sandbox, NULL, o);
    if (rc == 0)
        rc = r->ops->collect(sandbox, o);
    r->ops->destroy(sandbox, o);
    if (rc < 0)
        say_why(ran, "capibox failed: %s", o->error ? o->error : strerror(-rc));
    else if (sandbox && !o->sandbox_destroyed)
        say_why(ran, "the end of its sandbox was not seen");
    for (size_t i = 0; i < o->nwarnings; i++)
        if (strstr(o->warnings[i], "could not be removed"))
            say_why(ran, "%s", o->warnings[i]);
}

/* As a text: with an end, and with none before it. */
static char *text_of(struct strbuf *printed)
{
    strbuf_adds(printed, "");
    for (size_t i = 0; i < printed->len; i++)
        if (!printed->text[i])
            printed->text[i] = '?';
    return printed->text ? printed->text : (char *)"";
}

static void run_job(struct runner *r, const char *text, size_t size,
                    struct ran *ran)
{
    char id[JOB_ID_MAX + 1], complaint[700];
    struct complaint why = {.field = ""};
    struct job *job = NULL;
    struct spec spec;
    int rc = job_parse(text, size, &job, id, &why);

    *ran = (struct ran){.out = NULL};
    if (rc == 0)
        rc = spec_resolve(r->templates, r->settings, job, &spec, &why);
    if (rc == 0)
        rc = outcome_init(&ran->o, (size_t)spec.limits.output_bytes);
    if (rc == 0)
        use_sandbox(r, job, &spec, ran);
    if (rc == -EINVAL) {
        complaint_print(&why, complaint, sizeof(complaint));
        say_why(ran, "the job was refused: %.300s", complaint);
    } else if (rc < 0) {
        say_why(ran, "%s", strerror(-rc));
    }
    ran->out = text_of(&ran->o.out.head);
    job_destroy(job);
}

/* ---- one attack ------------------------------------------------------- */

struct trial {
    const struct attack *attack;
    enum attack_end end;
    enum verdict verdict;
    double seconds;
    char why[ATTACK_WHY_MAX];
};

static void check_next_job(struct runner *r, struct trial *t)
{
    static const char *const jobs[LANGUAGE_COUNT] = {
        [LANGUAGE_PYTHON] = "{\"code\":\"print(6*7)\",\"requirements\":"
                            "{\"memory_limit_mb\":64}}",
        [LANGUAGE_JAVASCRIPT] =
            "{\"code\":\"console.log(6*7)\",\"language\":\"javascript\"}",
        [LANGUAGE_BASH] = "{\"code\":\"echo $((6*7))\",\"language\":\"bash\","
                          "\"template\":\"quick_script\"}",
    };
    const char *job = jobs[t->attack->language];
    struct ran ran;

    run_job(r, job, strlen(job), &ran);
    if (ran.why[0] || ran.o.verdict != VERDICT_OK ||
        strcmp(ran.out, "42\n") != 0) {
        t->end = ATTACK_BROKE;
        snprintf(t->why, sizeof(t->why), "the next job was not fine: %s %.200s",
                 verdict_name(ran.o.verdict), ran.why);
    }
    outcome_fini(&ran.o);
}

static struct attack_seen seen_of(const struct ran *ran)
{
    return (struct attack_seen){
        .verdict = ran->o.verdict,
        .exit_code = ran->o.exit_code,
        .signal = ran->o.signal,
        .run_s = ran->o.timings.run,
        .out = ran->out,
        .capped = strncmp(ran->o.enforced.memory, "cgroup", 6) == 0,
    };
}

static void judge(struct trial *t, const struct attack *as_run,
                  const struct ran *ran)
{
    struct attack_seen seen = seen_of(ran);

    t->verdict = ran->o.verdict;
    t->end = attack_judge(as_run, &seen, t->why);
    if (t->end != ATTACK_BROKE && ran->why[0]) {
        t->end = ATTACK_BROKE;
        memcpy(t->why, ran->why, sizeof(t->why));
    }
}

/* With the time that it needs on this host. */
static int run_attack(struct runner *r, struct trial *t, struct ran *ran)
{
    struct attack a = *t->attack;

    for (;; a.limits[0] *= 2) {
        AUTO_STRBUF struct strbuf job = STRBUF_INIT;

        attack_job(&r->set, &a, "attack", &job);
        if (job.failed)
            return -ENOMEM;
        run_job(r, job.text, job.len, ran);
        struct attack_seen seen = seen_of(ran);
        if (ran->why[0] || !attack_had_no_time(&a, &seen))
            break;
        outcome_fini(&ran->o);
    }
    judge(t, &a, ran);
    return 0;
}

/* The runs of one attack must have no line in common. */
static void compare_runs(struct trial *t, char *const *outs, int count)
{
    char line[ATTACK_WHY_MAX];

    for (int i = 0; i < count && t->end == ATTACK_HELD; i++)
        for (int k = 0; k < i && t->end == ATTACK_HELD; k++)
            if (attack_same_line(outs[i], outs[k], line)) {
                t->end = ATTACK_BROKE;
                snprintf(t->why, sizeof(t->why), "two runs printed \"%.200s\"",
                         line);
            }
}

static void no_memory(struct trial *t)
{
    t->end = ATTACK_BROKE;
    snprintf(t->why, sizeof(t->why), "no memory to try it");
}

static void try_attack(struct runner *r, struct trial *t)
{
    char *outs[ATTACK_TIMES_MAX] = {NULL};
    int64_t start = clock_ms();

    for (int i = 0; i < t->attack->times && t->end == ATTACK_HELD; i++) {
        struct ran ran;

        if (run_attack(r, t, &ran) < 0) {
            no_memory(t);
            break;
        }
        outs[i] = strdup(ran.out);
        outcome_fini(&ran.o);
        if (!outs[i]) {
            no_memory(t);
            break;
        }
        if (t->attack->differ)
            compare_runs(t, outs, i + 1);
    }
    for (int i = 0; i < ATTACK_TIMES_MAX; i++)
        free(outs[i]);
    if (t->end != ATTACK_BROKE)
        check_next_job(r, t);
    t->seconds = (double)(clock_ms() - start) / 1000;
}

/* ---- what is printed -------------------------------------------------- */

static const char *const end_names[] = {"held", "BROKE", "not applicable"};

static void print_json(const struct trial *t)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT;
    static const char *const ends[] = {"held", "broke", "not_applicable"};

    strbuf_addf(&line, "{\"number\":%d,\"name\":", t->attack->number);
    json_add_text(&line, t->attack->name);
    json_add_lit(&line, ",\"file\":");
    json_add_text(&line, t->attack->file);
    strbuf_addf(&line,
                ",\"end\":\"%s\",\"verdict\":\"%s\",\"why\":", ends[t->end],
                verdict_name(t->verdict));
    strbuf_add_json(&line, t->why, strlen(t->why));
    strbuf_addf(&line, ",\"seconds\":%.3f}", t->seconds);
    if (!line.failed)
        puts(line.text);
}

/* What hostile code printed must not reach a terminal as it is. */
static void print_safe(const char *text)
{
    for (; *text; text++)
        putchar(*text >= ' ' && *text < 0x7f ? *text : '?');
}

static void print_text(const struct runner *r, const struct trial *t)
{
    printf("%3zu/%zu  %03d  %-*s %s", r->done, r->total, t->attack->number,
           NAME_WIDTH, t->attack->name, end_names[t->end]);
    if (t->end == ATTACK_HELD) {
        printf(" (%s, %.1f s)", verdict_name(t->verdict), t->seconds);
    } else {
        fputs(": ", stdout);
        print_safe(t->why);
    }
    putchar('\n');
}

static void print_trial(struct runner *r, const struct trial *t)
{
    MUST0(pthread_mutex_lock(&r->lock));
    r->done++;
    r->ends[t->end]++;
    if (r->settings->json)
        print_json(t);
    else
        print_text(r, t);
    fflush(stdout);
    MUST0(pthread_mutex_unlock(&r->lock));
}

/* ---- all of them ------------------------------------------------------ */

static const struct attack *take_next(struct runner *r)
{
    const struct attack *a = NULL;

    MUST0(pthread_mutex_lock(&r->lock));
    while (!a && r->next < r->set.count) {
        a = &r->set.items[r->next++];
        if (!r->chosen[a->number])
            a = NULL;
    }
    MUST0(pthread_mutex_unlock(&r->lock));
    return a;
}

static void *run_some(void *arg)
{
    struct runner *r = arg;

    for (const struct attack *a; (a = take_next(r));) {
        struct trial t = {.attack = a};

        try_attack(r, &t);
        print_trial(r, &t);
    }
    return NULL;
}

static void run_threads(struct runner *r)
{
    pthread_t threads[THREADS_MAX];
    int want = settings_concurrency(r->settings), count = 0;

    if (want > THREADS_MAX)
        want = THREADS_MAX;
    while (count < want &&
           pthread_create(&threads[count], NULL, run_some, r) == 0)
        count++;
    if (count == 0)
        run_some(r);
    while (count > 0)
        MUST0(pthread_join(threads[--count], NULL));
}

static struct traces find_traces(void)
{
    return (struct traces){attack_host_processes(getpid()),
                           attack_host_cgroups(getpid())};
}

static bool is_clean(const struct traces *before, char why[ATTACK_WHY_MAX])
{
    int64_t deadline = clock_ms() + LEFT_MS;
    struct traces now = find_traces();

    while (
        (now.processes > before->processes || now.cgroups > before->cgroups) &&
        clock_ms() < deadline) {
        usleep(LEFT_POLL_US);
        now = find_traces();
    }
    if (now.processes <= before->processes && now.cgroups <= before->cgroups)
        return true;
    snprintf(why, ATTACK_WHY_MAX, "%d processes and %d cgroups are left",
             now.processes - before->processes, now.cgroups - before->cgroups);
    return false;
}

static int print_summary(const struct runner *r, const char *host_why)
{
    bool held = r->ends[ATTACK_BROKE] == 0 && !host_why[0];
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    strbuf_addf(&json,
                "{\"held\":%zu,\"broke\":%zu,\"not_applicable\":%zu,"
                "\"host_unchanged\":%s,\"why\":",
                r->ends[ATTACK_HELD], r->ends[ATTACK_BROKE],
                r->ends[ATTACK_NOT_APPLICABLE], host_why[0] ? "false" : "true");
    json_add_text(&json, host_why);
    json_add_lit(&json, "}");
    if (r->settings->json) {
        puts(json.failed ? "{}" : json.text);
        return held ? EXIT_HELD : EXIT_NOT_HELD;
    }
    if (host_why[0])
        printf("BROKE: after the attacks %s\n", host_why);
    printf("\n%zu held, %zu did not, %zu not applicable here.\n",
           r->ends[ATTACK_HELD], r->ends[ATTACK_BROKE],
           r->ends[ATTACK_NOT_APPLICABLE]);
    puts(held && r->ends[ATTACK_NOT_APPLICABLE] > 0
             ? "Hostile code is confined on this host, with weaker limits "
               "where it says so."
         : held ? "Hostile code is confined on this host."
                : "Hostile code is NOT confined on this host.");
    return held ? EXIT_HELD : EXIT_NOT_HELD;
}

static int run_all(struct runner *r)
{
    struct attack_host before;
    char why[ATTACK_WHY_MAX] = "";
    struct trial warm_up = {.attack = &r->set.items[0]};

    check_next_job(r, &warm_up);
    if (warm_up.end == ATTACK_BROKE) {
        fprintf(stderr, "capibox-worker: no job runs here: %s\n", warm_up.why);
        return EXIT_FAULT;
    }
    attack_host_look(&before);
    run_threads(r);
    /* With it goes what waits for jobs; then nothing may be left at all. */
    r->ops->close(r->backend);
    r->backend = NULL;
    if (is_clean(&r->traces, why))
        attack_host_same(&before, why);
    return print_summary(r, why);
}

static int choose(struct runner *r, char *const *words)
{
    for (size_t i = 0; i < ATTACK_NUMBERS_MAX; i++)
        r->chosen[i] = !words || !words[0];
    for (; words && *words; words++) {
        char *end;
        long number = strtol(*words, &end, 10);

        if (*end || number < 1 || number >= ATTACK_NUMBERS_MAX) {
            fprintf(stderr,
                    "capibox-worker: --attack: \"%.40s\" is no number of an "
                    "attack\n",
                    *words);
            return EXIT_USAGE;
        }
        r->chosen[number] = true;
    }
    for (size_t i = 0; i < r->set.count; i++)
        r->total += r->chosen[r->set.items[i].number];
    if (r->total > 0)
        return EXIT_HELD;
    fprintf(stderr, "capibox-worker: --attack: no attack has such a number\n");
    return EXIT_USAGE;
}

static int load(struct runner *r)
{
    char dir[PATH_MAX], text[700];
    struct complaint why = {.field = ""};
    ssize_t len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
    int rc = -errno;

    if (len > 0) {
        dir[len] = '\0';
        *strrchr(dir, '/') = '\0';
        rc = attacks_load(dir, &r->set, &why);
    }
    r->traces = find_traces();
    if (rc == 0)
        rc = r->ops->open(r->settings, &r->backend, &why);
    if (rc == 0 && r->ops->prepare)
        r->ops->prepare(r->backend, r->templates);
    if (rc == 0)
        return EXIT_HELD;
    complaint_print(&why, text, sizeof(text));
    fprintf(stderr, "capibox-worker: %s\n", why.text[0] ? text : strerror(-rc));
    return EXIT_FAULT;
}

int attack_main(const struct settings *settings, const struct backend_ops *ops,
                const struct template_set *templates, char *const *words)
{
    struct runner r = {
        .settings = settings, .ops = ops, .templates = templates};
    int code = load(&r);

    MUST0(pthread_mutex_init(&r.lock, NULL));
    if (code == EXIT_HELD)
        code = choose(&r, words);
    if (code == EXIT_HELD)
        code = run_all(&r);
    ops->close(r.backend);
    attacks_unload(&r.set);
    pthread_mutex_destroy(&r.lock);
    return code;
}
