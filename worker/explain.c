#include "worker/explain.h"

#include <inttypes.h>
#include <string.h>

static void explain_user_error(struct outcome *o)
{
    if (o->error_name && o->error_value && o->error_value[0])
        outcome_error(o, "%s: %s", o->error_name, o->error_value);
    else if (o->error_name)
        outcome_error(o, "%s", o->error_name);
    else
        outcome_error(o, "the code ended with exit code %d", o->exit_code);
}

void explain(const struct template_limits *limits, struct outcome *o)
{
    switch (o->verdict) {
    case VERDICT_USER_ERROR:
        explain_user_error(o);
        break;
    case VERDICT_TIMEOUT:
        outcome_error(o, "stopped after its timeout of %g s",
                      (double)limits->timeout_ms / 1000);
        break;
    case VERDICT_OOM:
        outcome_error(o, "stopped at its memory limit of %" PRId64 " MB",
                      limits->memory_bytes >> 20);
        break;
    case VERDICT_PIDS_LIMIT:
        outcome_error(o, "failed at its limit of %d processes and threads",
                      limits->pids);
        break;
    case VERDICT_DISK_LIMIT:
        outcome_error(o, "failed with its disk of %" PRId64 " MB full",
                      limits->disk_bytes >> 20);
        break;
    case VERDICT_OUTPUT_LIMIT:
        outcome_error(o,
                      "stopped: it printed far more than its output limit of "
                      "%" PRId64 " KB",
                      limits->output_bytes >> 10);
        break;
    case VERDICT_SIGNAL:
        outcome_error(o, "ended by signal %d (%s)", o->signal,
                      strsignal(o->signal));
        break;
    case VERDICT_DENIED_SYSCALL:
        outcome_error(o, "ended for a system call that no sandbox allows");
        break;
    case VERDICT_CANCELLED:
        outcome_error(o, "cancelled while it ran");
        break;
    default:
        break;
    }
}
