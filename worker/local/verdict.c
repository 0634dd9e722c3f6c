#include "worker/local/verdict.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

static bool succeeded(const struct wire_ended *e)
{
    return e->reason == WIRE_NOT_KILLED && e->exit_code == 0;
}

static enum verdict by_status(const struct wire_ended *e)
{
    if (e->signal == SIGSYS)
        return VERDICT_DENIED_SYSCALL;
    if (e->signal == SIGXCPU) /* the backstop behind the wall clock */
        return VERDICT_TIMEOUT;
    if (e->signal)
        return VERDICT_SIGNAL;
    return e->exit_code == 0 ? VERDICT_OK : VERDICT_USER_ERROR;
}

/* A limit that was met, or VERDICT_NONE. */
static enum verdict by_limits(const struct wire_ended *e)
{
    if (e->oom_kills > 0 || e->reason == WIRE_OOM)
        return VERDICT_OOM;
    if (e->reason == WIRE_OUTPUT)
        return VERDICT_OUTPUT_LIMIT;
    if (!succeeded(e) && (e->disk_full || e->signal == SIGXFSZ))
        return VERDICT_DISK_LIMIT;
    if (!succeeded(e) && e->pids_refused > 0)
        return VERDICT_PIDS_LIMIT;
    return VERDICT_NONE;
}

enum verdict verdict_decide(const struct wire_ended *e)
{
    enum verdict limit = by_limits(e);

    if (e->reason == WIRE_ABANDON)
        return VERDICT_NONE;
    if (e->exec_error)
        return VERDICT_SETUP_FAILED;
    if (e->reason == WIRE_LOST)
        return VERDICT_BACKEND_ERROR;
    if (limit != VERDICT_NONE)
        return limit;
    if (e->reason == WIRE_TIMEOUT)
        return VERDICT_TIMEOUT;
    if (e->reason == WIRE_CANCEL)
        return VERDICT_CANCELLED;
    return by_status(e);
}

void verdict_warn(const struct wire_ended *e,
                  const struct template_limits *limits, struct outcome *o)
{
    if (e->pids_refused > 0 && o->verdict != VERDICT_PIDS_LIMIT)
        outcome_warn(o,
                     "it asked for more than its limit of %d processes and "
                     "threads, and was refused %" PRId64 " times",
                     limits->pids, e->pids_refused);
    if (e->disk_full && o->verdict != VERDICT_DISK_LIMIT)
        outcome_warn(o, "its disk of %" PRId64 " MB was full at the end",
                     limits->disk_bytes >> 20);
}
