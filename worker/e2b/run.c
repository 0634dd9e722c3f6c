#include "worker/e2b/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "worker/e2b/prelude.h"
#include "worker/explain.h"

/* Ours comes before E2B's, whose end looks like a loss: where the plan's limit
 * leaves no margin, the job has so much less. */
#define SPARE_MS    1000
#define EXIT_KILLED (128 + SIGKILL) /* as a shell tells of a child */

/* ---- files in ---------------------------------------------------------- */

/* multipart/form-data has no agreed way to write these in a name. */
static bool is_plain(const char *path)
{
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < 0x20 || strchr("\"\\%", *c))
            return false;
    return true;
}

static int upload_failed(const char *text, struct outcome *o)
{
    outcome_error(o, "cannot write the job's files on E2B: %s", text);
    return -EIO;
}

static size_t list_parts(const struct job *job, const struct spec *spec,
                         struct http_part *parts)
{
    size_t n = 0;

    for (size_t i = 0; i < job->nfiles; i++)
        if (is_plain(job->files[i].path))
            parts[n++] = (struct http_part){
                job->files[i].path, job->files[i].data, job->files[i].size};
    if (prelude_code_is_file(job, spec->language))
        parts[n++] =
            (struct http_part){PRELUDE_CODE_PATH, job->code, job->code_bytes};
    if (prelude_stdin_is_file(job, spec->language))
        parts[n++] = (struct http_part){PRELUDE_STDIN_PATH, job->stdin_text,
                                        job->stdin_bytes};
    return n;
}

int run_upload(struct guest *g, const struct job *job, const struct spec *spec,
               struct outcome *o, enum fault *fault_out, char *text)
{
    struct http_part parts[JOB_FILES_MAX + 2];
    size_t n = list_parts(job, spec, parts);

    *fault_out = n > 0 ? guest_upload(g, NULL, parts, n, text) : FAULT_NONE;
    for (size_t i = 0; i < job->nfiles && *fault_out == FAULT_NONE; i++) {
        struct http_part one = {"file", job->files[i].data, job->files[i].size};

        if (!is_plain(job->files[i].path))
            *fault_out = guest_upload(g, job->files[i].path, &one, 1, text);
    }
    return *fault_out == FAULT_NONE ? 0 : upload_failed(text, o);
}

/* ---- what came of it --------------------------------------------------- */

/* Has the guest's kernel killed something for want of memory? It was made
 * from a healthy snapshot, where this counter is 0. */
static bool had_oom(struct guest *g)
{
    static const char message[] =
        "{\"process\":{\"cmd\":\"/bin/cat\",\"args\":[\"/proc/vmstat\"]},"
        "\"stdin\":false}";
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    char text[CONTROL_TEXT_MAX];
    const char *count = NULL;
    struct process p;

    process_init(&p, NULL, NULL, 0);
    strbuf_adds(&body, message);
    if (guest_start(g, &body, OOM_QUERY_MS, &p, text) == FAULT_NONE &&
        p.text.text)
        count = strstr(p.text.text, "oom_kill ");
    bool had = count && atoll(count + strlen("oom_kill ")) > 0;

    process_fini(&p);
    return had;
}

static void clear_error(struct outcome *o)
{
    free(o->error_name);
    free(o->error_value);
    free(o->error_traceback);
    o->error_name = o->error_value = o->error_traceback = NULL;
}

/* sys.exit(code), as prelude.h has it; the error gets its own name back. */
static bool take_python_exit(struct outcome *o)
{
    static const char word[] = PRELUDE_EXIT " ";
    char *name = o->error_name, *end;
    long code;

    if (!name || strncmp(name, word, strlen(word)) != 0)
        return false;
    code = strtol(name + strlen(word), &end, 10);
    if (*end != ' ')
        return false;
    o->exit_code = (int)(code & 0xff);
    memmove(name, end + 1, strlen(end + 1) + 1);
    return true;
}

/* process.exit(code), as Node itself ends with it: without an error. */
static bool take_node_exit(const struct run_sink *sink, int64_t output_limit,
                           struct outcome *o)
{
    const char *value = o->error_value ? o->error_value : "";
    char *end = NULL;
    long code = strtol(value, &end, 10);

    if (!o->error_name || strcmp(o->error_name, PRELUDE_EXIT) != 0)
        return false;
    if (*end) {
        output_add(o, sink, output_limit, true, value, strlen(value));
        output_add(o, sink, output_limit, true, "\n", 1);
        code = 1;
    }
    o->exit_code = (int)(code & 0xff);
    clear_error(o);
    return true;
}

static bool take_exit(const struct spec *spec, const struct run_sink *sink,
                      int64_t output_limit, struct outcome *o)
{
    return spec->language == LANGUAGE_PYTHON
               ? take_python_exit(o)
               : take_node_exit(sink, output_limit, o);
}

static int our_failure(const char *text, struct outcome *o)
{
    clear_error(o);
    outcome_error(o, "the E2B sandbox was lost while the code ran: %s", text);
    return -EIO;
}

/* Ends by a limit of ours, which the stream's end shows. 1: it was none. */
static int by_fault(const struct run_end *end, struct outcome *o)
{
    switch (end->fault) {
    case FAULT_NONE:
        return 1;
    case FAULT_LATE:
        o->verdict = VERDICT_TIMEOUT;
        return 0;
    case FAULT_FLOOD:
        o->verdict = VERDICT_OUTPUT_LIMIT;
        return 0;
    case FAULT_ABORTED:
        return -ECANCELED;
    default:
        return our_failure(end->text, o);
    }
}

static int by_death(struct guest *g, struct outcome *o, struct run_end *end)
{
    clear_error(o);
    o->verdict = had_oom(g) ? VERDICT_OOM : VERDICT_USER_ERROR;
    end->died = o->verdict == VERDICT_USER_ERROR;
    return 0;
}

static int by_events(struct guest *g, const struct spec *spec,
                     const struct events *e, struct outcome *o,
                     struct run_end *end)
{
    if (!e->ended)
        return our_failure("its stream ended before end_of_execution", o);
    if (strcmp(e->lost, "ContextRestarting") == 0)
        return by_death(g, o, end);
    if (e->lost[0])
        return our_failure(e->lost, o);
    o->exit_code = 0;
    if (!take_exit(spec, e->sink, e->output_limit, o) && e->failed)
        o->exit_code = 1;
    o->verdict = o->exit_code == 0 ? VERDICT_OK : VERDICT_USER_ERROR;
    /* RLIMIT_DATA refuses memory where a cgroup kills. */
    if (o->error_name && spec->language == LANGUAGE_PYTHON &&
        strcmp(o->error_name, "MemoryError") == 0)
        o->verdict = VERDICT_OOM;
    return 0;
}

static int run_interpreted(struct guest *g, const struct job *job,
                           const struct spec *spec, int64_t run_ms,
                           const struct run_sink *sink, struct outcome *o,
                           struct run_end *end)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    int64_t deadline = clock_ms() + run_ms;
    struct events e;
    int rc;

    prelude_execute(job, spec, &body);
    rc = body.failed ? -ENOMEM
                     : events_init(&e, o, sink, spec->limits.output_bytes);
    if (rc < 0)
        return rc;
    end->fault = guest_execute(g, &body, deadline, job->output_files == NULL,
                               &e, end->text);
    /* Whole is whole: what happens to the connection after it is no matter. */
    if (e.ended && end->fault != FAULT_ABORTED)
        end->fault = FAULT_NONE;
    rc = by_fault(end, o);
    if (rc == 1)
        rc = by_events(g, spec, &e, o, end);
    if (job->stdin_bytes > 0 && spec->language == LANGUAGE_JAVASCRIPT)
        outcome_warn(o, "stdin: E2B's JavaScript gets none; put it in files");
    events_fini(&e);
    return rc;
}

static int by_process(struct guest *g, const struct process *p,
                      struct outcome *o)
{
    if (p->code[0])
        return our_failure(p->why, o);
    if (!p->ended || !p->exited)
        return our_failure("its stream ended before the process did", o);
    o->exit_code = p->exit_code;
    o->signal = p->signal;
    if ((p->signal == SIGKILL || p->exit_code == EXIT_KILLED) && had_oom(g))
        o->verdict = VERDICT_OOM;
    else if (p->signal)
        o->verdict = VERDICT_SIGNAL;
    else
        o->verdict = p->exit_code == 0 ? VERDICT_OK : VERDICT_USER_ERROR;
    return 0;
}

static int run_process(struct guest *g, const struct job *job,
                       const struct spec *spec, int64_t run_ms,
                       const struct run_sink *sink, struct outcome *o,
                       struct run_end *end)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    struct process p;
    int rc;

    prelude_start(job, spec, &message);
    if (message.failed)
        return -ENOMEM;
    process_init(&p, o, sink, spec->limits.output_bytes);
    end->fault = guest_start(g, &message, run_ms, &p, end->text);
    if (p.ended && p.exited && end->fault != FAULT_ABORTED)
        end->fault = FAULT_NONE;
    rc = by_fault(end, o);
    if (rc == 1)
        rc = by_process(g, &p, o);
    process_fini(&p);
    return rc;
}

int run_code(struct guest *g, const struct job *job, const struct spec *spec,
             int64_t dies_at_ms, const struct run_sink *sink, struct outcome *o,
             struct run_end *end_out)
{
    int64_t start = clock_us();
    int64_t run_ms = dies_at_ms - SPARE_MS - clock_ms();
    int rc;

    *end_out = (struct run_end){.fault = FAULT_NONE};
    if (run_ms > spec->limits.timeout_ms)
        run_ms = spec->limits.timeout_ms;
    if (run_ms < 1)
        run_ms = 1;
    if (prelude_interpreted(spec->language))
        rc = run_interpreted(g, job, spec, run_ms, sink, o, end_out);
    else
        rc = run_process(g, job, spec, run_ms, sink, o, end_out);
    o->timings.run = (double)(clock_us() - start) / 1e6;
    if (rc == 0)
        explain(&spec->limits, o);
    if (rc == 0 && end_out->died)
        outcome_error(o, "the interpreter died (os._exit(), a signal or a "
                         "crash); E2B does not say how");
    return rc;
}
