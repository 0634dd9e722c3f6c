#include "worker/local/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "worker/local/warm.h"
#include "worker/local/wire.h"

#define JOB_DIR    "/run/capibox/"
#define DRIVERS    "/run/capibox-runtime/"
#define WORDS_ARGV 3

struct launch {
    const char *code_name;
    const char *words[WORDS_ARGV + 1]; /* behind the interpreter */
};

/* -I: no environment, no user site, no current folder on the path. The flag:
 * Debian 12's node 18 refuses import() in any code but the main file without.
 */
static const struct launch launches[LANGUAGE_COUNT] = {
    [LANGUAGE_PYTHON] = {"main.py", {"-I", DRIVERS "python_driver.py"}},
    [LANGUAGE_JAVASCRIPT] = {"main.js",
                             {"--experimental-vm-modules",
                              DRIVERS "node_driver.js"}},
    [LANGUAGE_BASH] = {"main.sh", {JOB_DIR "main.sh"}},
};

const char *command_code_name(enum language language)
{
    return launches[language].code_name;
}

/* Counts NUL-terminated strings as they are appended. */
struct list {
    struct strbuf *text;
    uint32_t count;
};

static void add(struct list *l, const char *word)
{
    strbuf_add(l->text, word, strlen(word) + 1);
    l->count++;
}

static void add_pair(struct list *l, const char *name, const char *value)
{
    strbuf_adds(l->text, name);
    strbuf_addc(l->text, '=');
    add(l, value);
}

static void add_argv(struct list *l, const struct job *job,
                     const struct spec *spec)
{
    add(l, spec->interpreter);
    for (int i = 0; launches[spec->language].words[i]; i++)
        add(l, launches[spec->language].words[i]);
    for (char **arg = job->args; arg && *arg; arg++)
        add(l, *arg);
}

static bool job_sets(const struct job *job, const char *name)
{
    for (size_t i = 0; i < job->nenv; i++)
        if (strcmp(job->env[i].name, name) == 0)
            return true;
    return false;
}

static void add_default(struct list *l, const struct job *job, const char *name,
                        const char *value)
{
    if (!job_sets(job, name))
        add_pair(l, name, value);
}

static void add_env(struct list *l, const struct job *job,
                    const struct spec *spec)
{
    char threads[16];

    /* More would only take turns on the cores this job may use. */
    snprintf(threads, sizeof(threads), "%d",
             (spec->limits.cpu_percent + 99) / 100);
    add_default(l, job, "HOME", "/home/user");
    add_default(l, job, "USER", "user");
    add_default(l, job, "LOGNAME", "user");
    add_default(l, job, "PATH", "/usr/local/bin:/usr/bin:/bin");
    add_default(l, job, "LANG", "C.UTF-8");
    add_default(l, job, "TMPDIR", "/tmp");
    add_default(l, job, "MPLBACKEND", "Agg");
    add_default(l, job, "MPLCONFIGDIR", WIRE_CACHES);
    add_default(l, job, "OPENBLAS_NUM_THREADS", threads);
    add_default(l, job, "OMP_NUM_THREADS", threads);
    add_default(l, job, "MKL_NUM_THREADS", threads);
    add_default(l, job, "NUMEXPR_NUM_THREADS", threads);
    for (size_t i = 0; i < job->nenv; i++)
        if (strcmp(job->env[i].name, "CAPIBOX_RESULT_FD") != 0)
            add_pair(l, job->env[i].name, job->env[i].value);
    if (spec->language != LANGUAGE_BASH)
        add_pair(l, "CAPIBOX_RESULT_FD", COMMAND_RESULT_FD);
}

static void fill_limits(struct wire_create *m, const struct spec *spec)
{
    const struct template_limits *limits = &spec->limits;

    m->timeout_ms = limits->timeout_ms;
    m->memory_bytes = limits->memory_bytes;
    m->disk_bytes = limits->disk_bytes;
    m->disk_inodes = limits->disk_inodes;
    m->cpu_percent = limits->cpu_percent;
    m->pids = limits->pids;
}

int command_build(const struct job *job, const struct spec *spec, bool may_warm,
                  struct strbuf *message)
{
    AUTO_STRBUF struct strbuf strings = STRBUF_INIT;
    struct wire_create m = {.kind = WIRE_CREATE};
    struct list argv = {&strings, 0}, env = {&strings, 0};
    struct list preload = {&strings, 0};

    if (spec->language <= LANGUAGE_NONE || spec->language >= LANGUAGE_COUNT ||
        !spec->interpreter)
        return -EINVAL;
    add_argv(&argv, job, spec);
    add_env(&env, job, spec);
    m.warm = may_warm && warm_suits(job, spec);
    for (char *const *name = warm_modules(spec); m.warm && name && *name;
         name++)
        add(&preload, *name);
    if (strings.failed)
        return -ENOMEM;
    if (strings.len > WIRE_STRINGS_MAX || argv.count > WIRE_ARGV_MAX)
        return -E2BIG;
    fill_limits(&m, spec);
    m.argc = argv.count;
    m.envc = env.count;
    m.preloads = preload.count;
    m.strings_bytes = (uint32_t)strings.len;
    strbuf_add(message, &m, sizeof(m));
    strbuf_add(message, strings.text, strings.len);
    return message->failed ? -ENOMEM : 0;
}
