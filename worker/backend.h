/* worker/backend.h -- what runs a job: local sandboxes or E2B's microVMs.
 *
 * One sandbox a job, in the order create, run, collect, destroy. destroy comes
 * on every path once create has stored a sandbox, also when a step failed; it
 * is the only one that may not fail (it reports what it could not clean in the
 * outcome's warnings and in the backend's own health).
 *
 * Memory:   a sandbox belongs to the executor that created it.
 * Threads:  create/run/collect/destroy of one sandbox come from one thread;
 *           interrupt, kill_all and health from any.
 * Errors:   a negative return means *we* failed (the job is retried as
 * capibox's failure): the outcome then holds verdict setup_failed or
 *           backend_error and `error`. What the program did wrong is a verdict
 *           and returns 0.
 */
#ifndef WORKER_BACKEND_H
#define WORKER_BACKEND_H

#include <stddef.h>

#include "common/job.h"
#include "common/outcome.h"
#include "common/settings.h"
#include "common/template.h"

struct backend;
struct sandbox;

/* Live output, called from inside run() as it comes; may be NULL. */
struct run_sink {
    void (*output)(void *ctx, bool is_stderr, const char *data, size_t size);
    void *ctx;
};

struct backend_ops {
    const char *name; /* "local", "e2b": the result's `backend` */
    /* For so long a job of a dead worker runs as the only one of them, so that
     * it is known by whom the next worker dies. 0: as the exchange has it. */
    int probation_ms;

    /* Starts what the backend needs. why->text says what is missing and what to
     * do (a host that cannot confine code and --allow-degraded is not given).
     */
    int (*open)(const struct settings *settings, struct backend **backend_out,
                struct complaint *why);
    void (*close)(struct backend *backend);
    /* Gets ready for jobs of these templates, without waiting: at the start,
     * and when they were loaded again. May be NULL. */
    void (*prepare)(struct backend *backend, const struct template_set *set);

    /* Makes a sandbox with the job's files in it, ready to run. -EAGAIN, here
     * and of run(): there is no place for one now, and nothing of the code ran;
     * o->put_off_ms says when to try again. */
    int (*create)(struct backend *backend, const struct job *job,
                  const struct spec *spec, struct sandbox **sandbox_out,
                  struct outcome *o);
    /* Starts the clock and the code, captures output, waits for the end or a
     * limit, decides the verdict. */
    int (*run)(struct sandbox *sandbox, const struct run_sink *sink,
               struct outcome *o);
    /* After the kill: output files. */
    int (*collect)(struct sandbox *sandbox, struct outcome *o);
    void (*destroy)(struct sandbox *sandbox, struct outcome *o);

    /* Ends a run early with this verdict (cancelled) or, with VERDICT_NONE,
     * because the worker no longer holds the job. */
    void (*interrupt)(struct sandbox *sandbox, enum verdict why);
    /* Cancels the create() of this job, if there is one now; may come again and
     * again. Unless it is done by then, create() soon returns without a
     * sandbox, or with one to destroy: what was made is gone, or whoever makes
     * it late ends it, and no code has run. NULL where a create does not wait
     * for others. */
    void (*interrupt_create)(struct backend *backend, const struct job *job);

    /* Kills every sandbox now (self-fencing, second SIGTERM): returns when no
     * user process is left or deadline_ms passed (-ETIMEDOUT). Runs end with
     * VERDICT_NONE and -ECANCELED. New creates fail until resume(). */
    int (*kill_all)(struct backend *backend, int64_t deadline_ms);
    void (*resume)(struct backend *backend);

    /* Sum of memory limits the host can carry, bytes (0: no bound here). */
    int64_t (*memory_budget)(struct backend *backend);

    /* ---- NULL where sandboxes cannot outlive the host ------------------- */

    /* Who makes sandboxes from now on: fleet names all workers of one Redis,
     * wid this incarnation. Before the first create, and for each new wid. */
    void (*identify)(struct backend *backend, const char *fleet,
                     const char *wid);
    /* Takes out workers (max at most) that were seen to have sandboxes and are
     * not this one; never waits. The caller knows which of them are dead. */
    int (*strangers)(struct backend *backend,
                     char (*wids_out)[WORKER_ID_MAX + 1], int max);
    /* This worker is dead: its sandboxes are to be killed. Does not wait. */
    void (*bury)(struct backend *backend, const char *wid);

    /* ---- NULL where only the concurrency bounds sandboxes --------------- */

    /* How many sandboxes there may be now. Who waits for more room waits until
     * *grows_at_ms_out (clock_ms(); 0: no time is known) or until wake_fd, an
     * eventfd, is written to, whichever is first. */
    int (*room)(struct backend *backend, int64_t *grows_at_ms_out);
    void (*watch_room)(struct backend *backend, int wake_fd);
    /* Appends a JSON object for people: how the backend is. */
    void (*state)(struct backend *backend, struct strbuf *out);
};

extern const struct backend_ops backend_local, backend_e2b;

#endif
