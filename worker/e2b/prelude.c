#include "worker/e2b/prelude.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"

static const char python_source[] =
#include "e2b/prelude.inc"
    ;

bool prelude_interpreted(enum language language)
{
    return language != LANGUAGE_BASH;
}

bool prelude_code_is_file(const struct job *job, enum language language)
{
    return !prelude_interpreted(language) &&
           job->code_bytes > PRELUDE_ARGUMENT_MAX;
}

bool prelude_stdin_is_file(const struct job *job, enum language language)
{
    return !prelude_interpreted(language) && job->stdin_bytes > 0;
}

/* ---- values as data ---------------------------------------------------- */

static void add_env(const struct job *job, struct strbuf *out)
{
    strbuf_addc(out, '{');
    for (size_t i = 0; i < job->nenv; i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        strbuf_add_json(out, job->env[i].name, strlen(job->env[i].name));
        strbuf_addc(out, ':');
        strbuf_add_json(out, job->env[i].value, strlen(job->env[i].value));
    }
    strbuf_addc(out, '}');
}

static void add_args(const struct job *job, struct strbuf *out, bool comma)
{
    for (char **arg = job->args; arg && *arg; arg++) {
        if (comma || arg != job->args)
            strbuf_addc(out, ',');
        strbuf_add_json(out, *arg, strlen(*arg));
    }
}

/* ---- python ------------------------------------------------------------ */

static void add_python_job(const struct job *job,
                           const struct template_limits *limits,
                           struct strbuf *out)
{
    json_add_lit(out, "{\"env\":");
    add_env(job, out);
    json_add_lit(out, ",\"args\":[");
    add_args(job, out, false);
    json_add_lit(out, "],\"stdin\":");
    strbuf_add_json(out, job->stdin_text ? job->stdin_text : "",
                    job->stdin_bytes);
    strbuf_addf(out,
                ",\"memory\":%" PRId64 ",\"pids\":%d,\"disk\":%" PRId64 "}",
                limits->memory_bytes, limits->pids, limits->disk_bytes);
}

/* One cell: defines the runner, then awaits it with code and job. */
static void python_cell(const struct job *job,
                        const struct template_limits *limits,
                        struct strbuf *cell)
{
    AUTO_STRBUF struct strbuf data = STRBUF_INIT;

    add_python_job(job, limits, &data);
    strbuf_add(cell, python_source, sizeof(python_source) - 1);
    strbuf_adds(cell, "import base64 as _capibox_b, json as _capibox_j\n"
                      "await capibox_run(_capibox_b.b64decode(\"");
    strbuf_add_base64(cell, job->code, job->code_bytes);
    strbuf_adds(cell, "\").decode(), _capibox_j.loads(_capibox_b.b64decode(\"");
    strbuf_add_base64(cell, data.text, data.len);
    strbuf_adds(cell, "\")))\n");
    cell->failed = cell->failed || data.failed;
}

/* ---- javascript -------------------------------------------------------- */

/* The interpreter outlives a cell: its end would be told as a death, without
 * the code. */
#define JS_EXIT                                                       \
    "process.exit=c=>{const e=new Error(String(c??process.exitCode??" \
    "0));e.name=\"" PRELUDE_EXIT "\";throw e};"

/* Behind white space and comments. */
static const char *first_word(const char *at)
{
    for (;;) {
        const char *end;

        at += strspn(at, " \t\r\n");
        if (strncmp(at, "//", 2) == 0)
            end = strchr(at, '\n');
        else if (strncmp(at, "/*", 2) == 0)
            end = strstr(at + 2, "*/");
        else
            return at;
        if (!end)
            return "";
        at = end + (*end == '*' ? 2 : 1);
    }
}

/* Is all of the code strict, and can eval() run it (which takes no await)? */
static bool is_strict(const char *code)
{
    static const char directive[] = "use strict";
    const char *at = first_word(code);

    return (*at == '"' || *at == '\'') &&
           strncmp(at + 1, directive, strlen(directive)) == 0 &&
           at[1 + strlen(directive)] == *at && !strstr(code, "await");
}

/* A directive is none behind our words, and the lines that E2B's server puts
 * before them; but of a text of its own it is. */
static void add_strict(const struct job *job, struct strbuf *cell)
{
    AUTO_STRBUF struct strbuf code = STRBUF_INIT;

    strbuf_add(&code, job->code, job->code_bytes);
    strbuf_adds(&code, "\n//# sourceURL=main.js");
    strbuf_adds(cell, "(0,eval)(Buffer.from(\"");
    strbuf_add_base64(cell, code.text, code.len);
    strbuf_adds(cell, "\",\"base64\").toString())");
    cell->failed = cell->failed || code.failed;
}

/* On the line of the code's first, so that its lines keep their numbers. */
static void javascript_cell(const struct job *job, struct strbuf *cell)
{
    AUTO_STRBUF struct strbuf env = STRBUF_INIT, args = STRBUF_INIT;

    strbuf_adds(cell, JS_EXIT);
    if (job->nenv > 0) {
        add_env(job, &env);
        strbuf_adds(cell,
                    "Object.assign(process.env,JSON.parse(Buffer.from(\"");
        strbuf_add_base64(cell, env.text, env.len);
        strbuf_adds(cell, "\",\"base64\").toString()));");
    }
    if (job->args) {
        strbuf_addc(&args, '[');
        add_args(job, &args, false);
        strbuf_addc(&args, ']');
        strbuf_adds(cell, "process.argv=[process.argv[0],\"main.js\","
                          "...JSON.parse(Buffer.from(\"");
        strbuf_add_base64(cell, args.text, args.len);
        strbuf_adds(cell, "\",\"base64\").toString())];");
    }
    if (is_strict(job->code))
        add_strict(job, cell);
    else
        strbuf_add(cell, job->code, job->code_bytes);
    cell->failed = cell->failed || env.failed || args.failed;
}

void prelude_execute(const struct job *job, const struct spec *spec,
                     struct strbuf *out)
{
    AUTO_STRBUF struct strbuf cell = STRBUF_INIT;

    if (spec->language == LANGUAGE_PYTHON)
        python_cell(job, &spec->limits, &cell);
    else
        javascript_cell(job, &cell);
    json_add_lit(out, "{\"code\":");
    strbuf_add_json(out, cell.text, cell.len);
    /* Python has its context from the boot on. */
    if (spec->language != LANGUAGE_PYTHON) {
        json_add_lit(out, ",\"language\":");
        json_add_text(out, language_name(spec->language));
    }
    strbuf_addc(out, '}');
    out->failed = out->failed || cell.failed;
}

/* ---- bash -------------------------------------------------------------- */

/* $1: processes and threads, $2: bytes of a process' data, $3: of a file, all
 * in units of ulimit; $4: the code, or where it lies; the rest are the job's.
 * Threads that are there already count, too. Sets no variable: each name may be
 * one of the job's. */
#define BASH_LIMITS                                          \
    "limit() { ulimit -u $(($# - 1 + $1)); }; limit \"$1\" " \
    "/proc/[0-9]*/task/[0-9]*; ulimit -d \"$2\"; ulimit -f \"$3\"; "
#define BASH_CODE  "exec /bin/bash -c \"$4\" main.sh \"${@:5}\""
#define BASH_FILE  "exec /bin/bash \"$4\" \"${@:5}\""
#define BASH_STDIN " <" PRELUDE_STDIN_PATH

static void add_string(struct strbuf *out, const char *text, size_t size)
{
    strbuf_addc(out, ',');
    strbuf_add_json(out, text, size);
}

void prelude_start(const struct job *job, const struct spec *spec,
                   struct strbuf *out)
{
    const struct template_limits *limits = &spec->limits;
    bool file = prelude_code_is_file(job, spec->language);
    bool input = prelude_stdin_is_file(job, spec->language);
    AUTO_STRBUF struct strbuf script = STRBUF_INIT;

    strbuf_addf(&script, "%s%s%s", BASH_LIMITS, file ? BASH_FILE : BASH_CODE,
                input ? BASH_STDIN : "");
    /* -p: no function, option or pattern of the environment acts on this one
     * (bash(1)); they may on the job's own. */
    json_add_lit(out,
                 "{\"process\":{\"cmd\":\"/bin/bash\",\"args\":[\"-p\",\"-c\"");
    add_string(out, script.text, script.len);
    strbuf_addf(out, ",\"main.sh\",\"%d\",\"%" PRId64 "\",\"%" PRId64 "\"",
                limits->pids, limits->memory_bytes >> 10,
                limits->disk_bytes >> 10);
    if (file)
        add_string(out, PRELUDE_CODE_PATH, strlen(PRELUDE_CODE_PATH));
    else
        add_string(out, job->code, job->code_bytes);
    add_args(job, out, true);
    json_add_lit(out, "],\"envs\":");
    add_env(job, out);
    json_add_lit(out, ",\"cwd\":\"/home/user\"},\"stdin\":false}");
    out->failed = out->failed || script.failed;
}

/* ---- what it comes to -------------------------------------------------- */

void prelude_enforced(const struct spec *spec,
                      const struct template_variant *variant, int ttl_s,
                      struct enforced *e)
{
    const struct template_limits *limits = &spec->limits;
    bool inside = spec->language != LANGUAGE_JAVASCRIPT;
    int64_t vm_mb = variant->memory_bytes >> 20;

    snprintf(e->timeout, sizeof(e->timeout),
             "the worker's clock, then DELETE; E2B's own after %d s", ttl_s);
    if (vm_mb == 0) {
        snprintf(e->memory, sizeof(e->memory), "%s",
                 inside ? "RLIMIT_DATA per process; the microVM's is not known"
                        : "no: the microVM's size is not known");
        snprintf(e->cpu, sizeof(e->cpu), "no: the microVM's size is not known");
    } else {
        snprintf(e->memory, sizeof(e->memory), "microVM of %" PRId64 " MB%s",
                 vm_mb, inside ? "; RLIMIT_DATA per process" : "");
        snprintf(e->cpu, sizeof(e->cpu),
                 "microVM of %d vCPU; no finer (asked for %d %%)",
                 variant->vcpu, limits->cpu_percent);
    }
    snprintf(e->pids, sizeof(e->pids), "%s",
             inside ? "RLIMIT_NPROC, unless the template runs code as root"
                    : "no: E2B has no limit, Node sets none");
    snprintf(e->disk, sizeof(e->disk), "%s",
             inside ? "RLIMIT_FSIZE for each file; the microVM's disk in all"
                    : "no: the microVM's disk is as large as E2B makes it");
    snprintf(e->network, sizeof(e->network), "%s",
             limits->network ? "allowed: the internet, through E2B"
                             : "E2B's firewall: allow_internet_access false");
}
