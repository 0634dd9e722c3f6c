/* worker/local/local.c -- the backend that runs jobs in sandboxes of this host.
 *
 * The executor's side of wire.h: capibox-sandboxd makes, limits and kills; this
 * packs the job, carries its input and output, and names what came of it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cond.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/backend.h"
#include "worker/explain.h"
#include "worker/local/collect.h"
#include "worker/local/command.h"
#include "worker/local/host.h"
#include "worker/local/input.h"
#include "worker/local/lacking.h"
#include "worker/local/link.h"
#include "worker/local/pump.h"
#include "worker/local/verdict.h"
#include "worker/local/warm.h"
#include "worker/local/wire.h"

#define CREATE_MS_MAX  30000
#define DESTROY_MS_MAX 10000
#define WITHDRAW_MS    50 /* then a cancelled create waits no longer */
#define PING_MS_MAX    2000
#define CREATED_FDS    5 /* the four pipes and the home folder */

enum interruption { NOT_INTERRUPTED, CANCELLED, ABANDONED };

struct backend {
    struct link link;
    int64_t memory_budget;
    bool may_warm, warm_at_start;
    int waiting; /* most of a kind */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed when a sandbox leaves. */
    struct sandbox *sandboxes;
    bool closed;       /* kill_all() until resume() */
    char trouble[160]; /* of a zygote, as last said in the log */
};

struct sandbox {
    struct backend *backend;
    const struct job *job; /* borrowed */
    struct template_limits limits;
    char interpreter[256]; /* for messages */
    int pipes[PUMP_PIPES];
    int job_fd, home_fd, event_fd;
    atomic_int interrupted; /* enum interruption; only ever grows */
    bool listed;
    struct sandbox *next; /* guarded by the backend's lock */
};

/* ---- the list of sandboxes with processes ----------------------------- */

static int enlist(struct backend *be, struct sandbox *sb)
{
    int rc = 0;

    MUST0(pthread_mutex_lock(&be->lock));
    if (be->closed) {
        rc = -ECANCELED;
    } else {
        sb->next = be->sandboxes;
        be->sandboxes = sb;
        sb->listed = true;
    }
    MUST0(pthread_mutex_unlock(&be->lock));
    return rc;
}

/* Its processes are gone: kill_all() need not wait for it any more. */
static void delist(struct sandbox *sb)
{
    struct backend *be = sb->backend;

    MUST0(pthread_mutex_lock(&be->lock));
    for (struct sandbox **at = &be->sandboxes; *at; at = &(*at)->next) {
        if (*at == sb) {
            *at = sb->next;
            break;
        }
    }
    sb->listed = false;
    MUST0(pthread_cond_broadcast(&be->changed));
    MUST0(pthread_mutex_unlock(&be->lock));
}

static void interrupt_with(struct sandbox *sb, int why)
{
    int now = atomic_load(&sb->interrupted);

    while (now < why &&
           !atomic_compare_exchange_weak(&sb->interrupted, &now, why))
        ;
    io_wake(sb->event_fd);
}

static bool is_interrupted(const void *sandbox)
{
    const struct sandbox *sb = sandbox;

    return atomic_load(&sb->interrupted) != NOT_INTERRUPTED;
}

/* ---- open and close --------------------------------------------------- */

/* A reader of a sandbox's stdin may go away at any time. */
static void ignore_sigpipe(void)
{
    struct sigaction old;

    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

/* Each sandbox needs some; and where the sandboxes run as this very user, fds
 * that a job has on their way count against this limit, too. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static int64_t choose_budget(const struct settings *settings,
                             const struct host_report *host)
{
    return settings->memory_budget_mb > 0 ? settings->memory_budget_mb << 20
                                          : host->memory_budget;
}

static void init_lock(struct backend *be)
{
    MUST0(pthread_mutex_init(&be->lock, NULL));
    cond_init(&be->changed);
}

static int local_open(const struct settings *settings,
                      struct backend **backend_out, struct complaint *why)
{
    struct backend *be = calloc(1, sizeof(*be));
    struct host_report host;
    int rc;

    if (!be)
        return -ENOMEM;
    ignore_sigpipe();
    raise_file_limit();
    rc = link_find(&be->link, why);
    if (rc < 0)
        goto undo_alloc;
    rc = host_check(be->link.program, settings->allow_degraded, &host, why);
    if (rc < 0)
        goto undo_alloc;
    rc = link_open(&be->link, why);
    if (rc < 0)
        goto undo_alloc;
    be->memory_budget = choose_budget(settings, &host);
    be->may_warm = strcmp(settings->warm, "never") != 0;
    be->waiting = (int)settings->waiting;
    be->warm_at_start = strcmp(settings->warm, "start") == 0;
    init_lock(be);
    *backend_out = be;
    return 0;

undo_alloc:
    free(be);
    return rc;
}

static void local_close(struct backend *be)
{
    if (!be)
        return;
    link_close(&be->link);
    pthread_cond_destroy(&be->changed);
    pthread_mutex_destroy(&be->lock);
    free(be);
}

/* One sandbox of each kind that the templates know is held ready. */
static void greet_template(const struct template *tpl, struct strbuf *greeting)
{
    for (size_t i = 0; i < tpl->nlanguages; i++) {
        const char *interpreter = template_interpreter(tpl, tpl->languages[i]);
        bool warm = tpl->languages[i] == LANGUAGE_PYTHON && !tpl->cold;
        AUTO_STRBUF struct strbuf m = STRBUF_INIT;

        if (!interpreter ||
            warm_message(interpreter, warm, tpl->preload, 1, &m) < 0)
            continue;
        uint32_t size = (uint32_t)m.len;
        strbuf_add(greeting, &size, sizeof(size));
        strbuf_add(greeting, m.text, m.len);
    }
}

static void local_prepare(struct backend *be, const struct template_set *set)
{
    AUTO_STRBUF struct strbuf greeting = STRBUF_INIT;

    struct wire_word pool = {.kind = WIRE_POOL, .reason = be->waiting};
    uint32_t size = sizeof(pool);

    strbuf_add(&greeting, &size, sizeof(size));
    strbuf_add(&greeting, &pool, sizeof(pool));
    for (size_t i = 0; be->warm_at_start && i < set->count; i++)
        greet_template(set->items[i], &greeting);
    if (!greeting.failed)
        link_greet(&be->link, &greeting);
}

/* Jobs run all the same, so it is said once for each new trouble. */
static void note_trouble(struct backend *be, const struct wire_created *m)
{
    char text[sizeof(be->trouble)];
    bool is_new;

    snprintf(text, sizeof(text), "%.*s", (int)sizeof(m->zygote_trouble) - 1,
             m->zygote_trouble);
    if (!text[0])
        return;
    MUST0(pthread_mutex_lock(&be->lock));
    is_new = strcmp(be->trouble, text) != 0;
    memcpy(be->trouble, text, sizeof(text));
    MUST0(pthread_mutex_unlock(&be->lock));
    if (is_new)
        log_warn("no warmed interpreter, jobs start cold",
                 LOG_S("reason", text), LOG_END);
}

/* ---- create ----------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static struct sandbox *alloc_sandbox(struct backend *be, const struct job *job,
                                     const struct spec *spec)
{
    struct sandbox *sb = calloc(1, sizeof(*sb));

    if (!sb)
        return NULL;
    sb->backend = be;
    sb->job = job;
    sb->limits = spec->limits;
    snprintf(sb->interpreter, sizeof(sb->interpreter), "%s",
             spec->interpreter ? spec->interpreter : "");
    sb->job_fd = sb->home_fd = -1;
    for (int i = 0; i < PUMP_PIPES; i++)
        sb->pipes[i] = -1;
    sb->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sb->event_fd < 0) {
        free(sb);
        return NULL;
    }
    return sb;
}

static void free_sandbox(struct sandbox *sb)
{
    if (sb->listed)
        delist(sb);
    for (int i = 0; i < PUMP_PIPES; i++)
        close_fd(&sb->pipes[i]);
    close_fd(&sb->home_fd);
    close_fd(&sb->job_fd);
    close_fd(&sb->event_fd);
    free(sb);
}

/* The job's files and code, as one sealed memfd. */
static int pack(const struct job *job, const struct spec *spec,
                struct outcome *o)
{
    struct input in;

    input_init(&in);
    input_add(&in, "job", command_code_name(spec->language), job->code,
              job->code_bytes);
    lacking_add(job, spec, &in, o);
    for (size_t i = 0; i < job->nfiles; i++)
        input_add(&in, "home", job->files[i].path, job->files[i].data,
                  job->files[i].size);
    int fd = input_seal(&in);
    input_fini(&in);
    return fd;
}

static int send_create(struct sandbox *sb, const struct job *job,
                       const struct spec *spec, struct outcome *o)
{
    AUTO_STRBUF struct strbuf message = STRBUF_INIT;
    int rc = command_build(job, spec, sb->backend->may_warm, &message);

    if (rc < 0)
        return rc;
    int input_fd = pack(job, spec, o);
    if (input_fd < 0)
        return input_fd;
    rc = link_job(&sb->backend->link, is_interrupted, sb);
    if (rc >= 0) {
        sb->job_fd = rc;
        rc = io_send_fds(sb->job_fd, message.text, message.len, &input_fd, 1);
    }
    close(input_fd);
    return rc;
}

/* Waits for word from sandboxd, or until this create is interrupted (NULL: it
 * cannot be). */
static int await_word(const struct sandbox *created, int fd,
                      int64_t deadline_ms)
{
    struct pollfd fds[] = {
        {.fd = fd, .events = POLLIN},
        {.fd = created ? created->event_fd : -1, .events = POLLIN}};

    for (;;) {
        int got = poll(fds, 2, clock_left_ms(deadline_ms));

        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            return -ETIMEDOUT;
        if (got > 0 && fds[0].revents)
            return 0;
        if (created && is_interrupted(created))
            return -ECANCELED;
    }
}

union answer {
    uint32_t kind;
    struct wire_created created;
    struct wire_failed failed;
};

static const char *start_name(int32_t start)
{
    switch (start) {
    case WIRE_WAITING_WARMED:
        return "waiting, warm";
    case WIRE_WAITING:
        return "waiting, cold";
    case WIRE_WARMED:
        return "warm";
    default:
        return "cold";
    }
}

static int take_created(struct sandbox *sb, const struct wire_created *m,
                        const int fds[CREATED_FDS], struct outcome *o)
{
    for (int i = 0; i < PUMP_PIPES; i++)
        sb->pipes[i] = fds[i];
    sb->home_fd = fds[PUMP_PIPES];
    for (int i = 0; i < CREATED_FDS; i++)
        if (fds[i] < 0)
            return -EPROTO;
    snprintf(o->sandbox_id, sizeof(o->sandbox_id), "%s", m->sandbox_id);
    _Static_assert(sizeof(o->enforced) == sizeof(m->enforced),
                   "both name the same limits");
    memcpy(&o->enforced, &m->enforced, sizeof(o->enforced));
    snprintf(o->start, sizeof(o->start), "%s", start_name(m->start));
    o->usage.shared_memory_mb = (double)m->shared_memory_bytes / (1 << 20);
    note_trouble(sb->backend, m);
    o->created_at = clock_unix_s();
    o->sandbox_created = true;
    return 0;
}

static int take_failed(struct wire_failed *m, struct outcome *o)
{
    m->step[sizeof(m->step) - 1] = '\0';
    outcome_error(o, "no sandbox: %s: %s", m->step, strerror(m->error));
    return m->error > 0 ? -m->error : -EIO;
}

static int await_created(struct sandbox *sb, struct outcome *o)
{
    union answer m;
    int fds[CREATED_FDS];
    int rc = await_word(sb, sb->job_fd, clock_ms() + CREATE_MS_MAX);

    if (rc < 0)
        return rc;
    ssize_t got = io_recv_fds(sb->job_fd, &m, sizeof(m), fds, CREATED_FDS);
    if (got <= 0)
        return -EPIPE;
    if (got == sizeof(m.created) && m.kind == WIRE_CREATED)
        return take_created(sb, &m.created, fds, o);
    for (int i = 0; i < CREATED_FDS; i++)
        close_fd(&fds[i]);
    if (got == sizeof(m.failed) && m.kind == WIRE_FAILED)
        return take_failed(&m.failed, o);
    return -EPROTO;
}

/* No answer can mean a sandbox whose processes will not die, or a sandboxd that
 * hangs: one that does not even refuse an empty request is replaced. Who only
 * creates need not wait to see it. */
static void replace_if_hung(struct backend *be, const struct sandbox *created)
{
    struct wire_word empty = {0};
    int fd = link_job(&be->link, created ? is_interrupted : NULL, created);

    if (fd < 0)
        return;
    if (io_send_fds(fd, &empty, sizeof(empty), NULL, 0) == 0 &&
        await_word(created, fd, clock_ms() + PING_MS_MAX) == -ETIMEDOUT)
        link_kill(&be->link);
    close(fd);
}

static const char *explain_failure(int error)
{
    switch (error) {
    case -EPIPE:
        return "capibox-sandboxd died or has no room for one more";
    case -ETIMEDOUT:
        return "capibox-sandboxd does not answer";
    case -EPROTO:
        return "capibox-sandboxd answered nonsense";
    default:
        return strerror(-error);
    }
}

/* Asks for its end, and waits to be told of it. Other messages (a late CREATED
 * or ENDED) may come before. */
static int end_sandbox(struct sandbox *sb, int64_t deadline_ms,
                       struct wire_gone *gone_out)
{
    struct wire_word word = {.kind = WIRE_DESTROY};
    int rc = io_send_fds(sb->job_fd, &word, sizeof(word), NULL, 0);
    char message[sizeof(struct wire_ended) + sizeof(union answer)];

    while (rc == 0 && (rc = await_word(NULL, sb->job_fd, deadline_ms)) == 0) {
        ssize_t got =
            io_recv_fds(sb->job_fd, message, sizeof(message), NULL, 0);
        if (got == -EMSGSIZE)
            continue; /* it had fds with it, which nobody needs any more */
        if (got <= 0)
            return -EPIPE;
        memcpy(&gone_out->kind, message, sizeof(gone_out->kind));
        if (got == sizeof(*gone_out) && gone_out->kind == WIRE_GONE) {
            memcpy(gone_out, message, sizeof(*gone_out));
            return 0;
        }
    }
    return rc;
}

/* RUN was not sent, so nothing of the job runs, nor will. What was made for it
 * is seen gone; or sandboxd has no time now, and cleans up when it has. */
static void withdraw(struct sandbox *sb)
{
    struct wire_gone gone;

    if (sb->job_fd >= 0)
        end_sandbox(sb, clock_ms() + WITHDRAW_MS, &gone);
}

/* Our failure, not the program's; or nobody's, when the run was given up. */
static int fail(struct outcome *o, enum verdict verdict, int rc)
{
    o->verdict = rc == -ECANCELED ? VERDICT_NONE : verdict;
    if (!o->error && rc != -ECANCELED)
        outcome_error(o, "the local sandbox failed: %s", explain_failure(rc));
    return rc;
}

static int reject_network(struct outcome *o)
{
    o->verdict = VERDICT_REJECTED;
    outcome_error(o, "requirements.network: the local backend gives sandboxes "
                     "no network; use backend e2b or leave it out");
    return 0;
}

/* A sandboxd that died a moment ago may still take a job socket; the second
 * time its end is known and there is a new one. */
static int make(struct sandbox *sb, const struct job *job,
                const struct spec *spec, struct outcome *o)
{
    int rc = -EPIPE;

    for (int i = 0; i < 2 && rc == -EPIPE; i++) {
        close_fd(&sb->job_fd);
        rc = send_create(sb, job, spec, o);
        if (rc == 0)
            rc = await_created(sb, o);
    }
    return rc;
}

static int local_create(struct backend *be, const struct job *job,
                        const struct spec *spec, struct sandbox **sandbox_out,
                        struct outcome *o)
{
    int64_t start = clock_us();

    *sandbox_out = NULL;
    if (spec->limits.network)
        return reject_network(o);
    struct sandbox *sb = alloc_sandbox(be, job, spec);
    if (!sb)
        return fail(o, VERDICT_SETUP_FAILED, -ENOMEM);
    int rc = enlist(be, sb);
    if (rc == 0)
        rc = make(sb, job, spec, o);
    o->timings.create = (double)(clock_us() - start) / 1e6;
    if (rc < 0) {
        if (rc == -ECANCELED && atomic_load(&sb->interrupted) == CANCELLED)
            withdraw(sb);
        close_fd(&sb->job_fd); /* makes sandboxd clean up */
        if (rc == -ETIMEDOUT)
            replace_if_hung(be, sb);
        free_sandbox(sb);
        return fail(o, VERDICT_SETUP_FAILED, rc);
    }
    *sandbox_out = sb;
    return 0;
}

/* ---- run -------------------------------------------------------------- */

static int wire_reason(void *ctx)
{
    const struct sandbox *sb = ctx;

    return atomic_load(&sb->interrupted) == ABANDONED ? WIRE_ABANDON
                                                      : WIRE_CANCEL;
}

static void take_usage(const struct wire_ended *e, struct outcome *o)
{
    o->exit_code = e->exit_code;
    o->signal = e->signal;
    o->usage.cpu_seconds = (double)e->cpu_us / 1e6;
    o->usage.peak_memory_mb = (double)e->peak_memory_bytes / (1 << 20);
    o->usage.peak_processes = e->peak_processes;
    o->usage.context_switches = e->switches;
    o->timings.run = (double)e->run_us / 1e6;
}

static int conclude(struct sandbox *sb, const struct wire_ended *e,
                    struct outcome *o)
{
    take_usage(e, o);
    o->verdict = verdict_decide(e);
    if (atomic_load(&sb->interrupted) == ABANDONED ||
        o->verdict == VERDICT_NONE)
        return fail(o, VERDICT_NONE, -ECANCELED);
    if (o->verdict == VERDICT_SETUP_FAILED) {
        o->code_started = false;
        outcome_error(o, "cannot start %s in a sandbox: %s", sb->interpreter,
                      strerror(e->exec_error));
        return -e->exec_error;
    }
    if (o->verdict == VERDICT_BACKEND_ERROR) {
        outcome_error(o, "the sandbox was killed from outside");
        return -ECHILD;
    }
    explain(&sb->limits, o);
    verdict_warn(e, &sb->limits, o);
    return 0;
}

static int local_run(struct sandbox *sb, const struct run_sink *sink,
                     struct outcome *o)
{
    struct wire_ended ended;

    if (!sb)
        return 0;
    int interrupted = atomic_load(&sb->interrupted);
    if (interrupted == ABANDONED)
        return fail(o, VERDICT_NONE, -ECANCELED);
    if (interrupted == CANCELLED) {
        o->verdict = VERDICT_CANCELLED;
        o->code_started = false;
        outcome_error(o, "cancelled before it started");
        return 0;
    }
    struct pump pump = {
        .pipes = sb->pipes,
        .job_fd = sb->job_fd,
        .event_fd = sb->event_fd,
        .job = sb->job,
        .output_limit = sb->limits.output_bytes,
        .timeout_ms = sb->limits.timeout_ms,
        .sink = sink,
        .reason = wire_reason,
        .reason_ctx = sb,
    };
    o->code_started = true;
    int rc = pump_run(&pump, o, &ended);
    if (rc == -ETIMEDOUT)
        replace_if_hung(sb->backend, NULL);
    if (rc < 0 && atomic_load(&sb->interrupted) == ABANDONED)
        rc = -ECANCELED;
    if (rc < 0)
        return fail(o, VERDICT_BACKEND_ERROR, rc);
    delist(sb);
    return conclude(sb, &ended, o);
}

static int local_collect(struct sandbox *sb, struct outcome *o)
{
    int64_t start = clock_us();

    if (!sb || !sb->job->output_files)
        return 0;
    int rc = collect_files(sb->home_fd, sb->job->output_files, o);
    o->timings.collect = (double)(clock_us() - start) / 1e6;
    return rc < 0 ? fail(o, VERDICT_BACKEND_ERROR, rc) : 0;
}

/* ---- destroy ---------------------------------------------------------- */

static void local_destroy(struct sandbox *sb, struct outcome *o)
{
    struct wire_gone gone;
    int64_t start = clock_us();

    if (!sb)
        return;
    /* Its file system lives as long as this is open. */
    close_fd(&sb->home_fd);
    for (int i = 0; i < PUMP_PIPES; i++)
        close_fd(&sb->pipes[i]);
    int rc = end_sandbox(sb, clock_ms() + DESTROY_MS_MAX, &gone);
    if (rc < 0)
        outcome_warn(o, "the sandbox's end was not seen: %s",
                     explain_failure(rc));
    else if (gone.leftovers > 0)
        outcome_warn(o, "%d cgroups of the sandbox could not be removed",
                     gone.leftovers);
    o->sandbox_destroyed = rc == 0;
    o->timings.destroy = (double)(clock_us() - start) / 1e6;
    free_sandbox(sb);
}

/* ---- from any thread -------------------------------------------------- */

static void local_interrupt(struct sandbox *sb, enum verdict why)
{
    if (sb)
        interrupt_with(sb, why == VERDICT_NONE ? ABANDONED : CANCELLED);
}

static void local_interrupt_create(struct backend *be, const struct job *job)
{
    MUST0(pthread_mutex_lock(&be->lock));
    for (struct sandbox *sb = be->sandboxes; sb; sb = sb->next)
        if (sb->job == job)
            interrupt_with(sb, CANCELLED);
    MUST0(pthread_mutex_unlock(&be->lock));
}

/* Waits until none is left. False if some are at deadline_ms. */
static bool wait_none_locked(struct backend *be, int64_t deadline_ms)
{
    while (be->sandboxes)
        if (cond_wait_until(&be->changed, &be->lock, deadline_ms) != 0)
            break;
    return be->sandboxes == NULL;
}

static int local_kill_all(struct backend *be, int64_t deadline_ms)
{
    int64_t now = clock_ms();
    bool none;

    MUST0(pthread_mutex_lock(&be->lock));
    be->closed = true;
    for (struct sandbox *sb = be->sandboxes; sb; sb = sb->next)
        interrupt_with(sb, ABANDONED);
    /* Half of the time for a sandboxd that works, the rest without it. */
    none = wait_none_locked(be, now + (deadline_ms - now) / 2);
    MUST0(pthread_mutex_unlock(&be->lock));
    if (none)
        return 0;
    link_kill(&be->link);
    MUST0(pthread_mutex_lock(&be->lock));
    none = wait_none_locked(be, deadline_ms);
    MUST0(pthread_mutex_unlock(&be->lock));
    return none ? 0 : -ETIMEDOUT;
}

static void local_resume(struct backend *be)
{
    MUST0(pthread_mutex_lock(&be->lock));
    be->closed = false;
    MUST0(pthread_mutex_unlock(&be->lock));
}

static int64_t local_memory_budget(struct backend *be)
{
    return be->memory_budget;
}

const struct backend_ops backend_local = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .prepare = local_prepare,
    .create = local_create,
    .run = local_run,
    .collect = local_collect,
    .destroy = local_destroy,
    .interrupt = local_interrupt,
    .interrupt_create = local_interrupt_create,
    .kill_all = local_kill_all,
    .resume = local_resume,
    .memory_budget = local_memory_budget,
};
