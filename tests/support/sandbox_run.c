#include "tests/support/sandbox_run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "common/settings.h"
#include "common/strbuf.h"
#include "tests/support/proc.h"

#define BEGIN_MS 20000

struct backend *sandbox_run_backend;
static struct settings settings;

static const char *const interpreters[LANGUAGE_COUNT] = {
    [LANGUAGE_PYTHON] = "/usr/bin/python3",
    [LANGUAGE_JAVASCRIPT] = "/usr/bin/node",
    [LANGUAGE_BASH] = "/bin/bash",
};

int sandbox_run_open(void **state)
{
    struct complaint why = {0};

    (void)state;
    setenv("CAPIBOX_SANDBOXD", proc_program("capibox-sandboxd"), 1);
    if (settings_init(&settings) < 0)
        return -1;
    settings.allow_degraded = true;
    if (backend_local.open(&settings, &sandbox_run_backend, &why) == 0)
        return 0;
    fprintf(stderr, "%s: %s\n", why.field, why.text);
    return -1;
}

int sandbox_run_close(void **state)
{
    (void)state;
    backend_local.close(sandbox_run_backend);
    settings_fini(&settings);
    return 0;
}

void sandbox_run_prepare(struct sandbox_run *r, enum language language,
                         const char *code)
{
    memset(r, 0, sizeof(*r));
    r->job.code = (char *)code;
    r->job.code_bytes = strlen(code);
    r->job.language = language;
    r->spec.tpl = &r->tpl;
    r->spec.language = language;
    r->spec.interpreter = interpreters[language];
    r->spec.limits = (struct template_limits){
        .timeout_ms = 20000,
        .memory_bytes = 256ll << 20,
        .cpu_percent = 200,
        .disk_bytes = 32ll << 20,
        .disk_inodes = 1024,
        .pids = 32,
        .output_bytes = 64 << 10,
    };
}

static char *text_of(struct capture *c)
{
    struct strbuf text = STRBUF_INIT;

    capture_to_json(c, &text);
    return strbuf_take(&text);
}

void sandbox_run_go(struct sandbox_run *r)
{
    struct sandbox *sandbox = NULL;

    MUST0(outcome_init(&r->o, (size_t)r->spec.limits.output_bytes));
    r->rc = backend_local.create(sandbox_run_backend, &r->job, &r->spec,
                                 &sandbox, &r->o);
    if (r->rc == 0)
        r->rc = backend_local.run(sandbox, r->sink, &r->o);
    if (r->rc == 0)
        r->rc = backend_local.collect(sandbox, &r->o);
    backend_local.destroy(sandbox, &r->o);
    r->out = text_of(&r->o.out);
    r->err = text_of(&r->o.err);
    MUST(r->out && r->err);
}

static void note_output(void *ctx, bool is_stderr, const char *data,
                        size_t size)
{
    (void)is_stderr, (void)data, (void)size;
    atomic_store((atomic_bool *)ctx, true);
}

static bool is_set(void *ctx)
{
    return atomic_load((atomic_bool *)ctx);
}

static void *go_thread(void *run)
{
    sandbox_run_go(run);
    return NULL;
}

void sandbox_run_begin(struct sandbox_run *r, pthread_t *thread_out)
{
    static atomic_bool heard;
    static const struct run_sink sink = {note_output, &heard};

    atomic_store(&heard, false);
    r->sink = &sink;
    MUST0(pthread_create(thread_out, NULL, go_thread, r));
    MUST(wait_until(is_set, &heard, BEGIN_MS));
}

void sandbox_run_done(struct sandbox_run *r)
{
    outcome_fini(&r->o);
    free(r->out);
    free(r->err);
}

void sandbox_run_explain(const struct sandbox_run *r)
{
    fprintf(stderr,
            "rc %d verdict %s exit %d signal %d error %s\n"
            "cpu %.3f peak %.1f MB, %d processes; create %.3f run %.3f "
            "collect %.3f destroy %.3f\nout %.4000s\nerr %.4000s\n",
            r->rc, verdict_name(r->o.verdict), r->o.exit_code, r->o.signal,
            r->o.error ? r->o.error : "-", r->o.usage.cpu_seconds,
            r->o.usage.peak_memory_mb, r->o.usage.peak_processes,
            r->o.timings.create, r->o.timings.run, r->o.timings.collect,
            r->o.timings.destroy, r->out, r->err);
    for (size_t i = 0; i < r->o.nwarnings; i++)
        fprintf(stderr, "warning %s\n", r->o.warnings[i]);
    if (r->o.files.len > 0)
        fprintf(stderr, "files %.2000s\n", r->o.files.text);
}
