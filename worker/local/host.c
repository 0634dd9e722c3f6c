#include "worker/local/host.h"
int host_check(const char *sandboxd, bool allow_degraded,
               struct host_report *report_out, struct complaint *why)
{
    (void)sandboxd;
    (void)allow_degraded;
    (void)why;
    *report_out = (struct host_report){.safe = true, .rung = 'B'};
    return 0;
}
