#include "worker/sandboxd/host.h"

#include <stdlib.h>

#include "common/io.h"
#include "common/scope.h"

#define CORE_PATTERN_MAX 4096

bool host_pipes_cores(void)
{
    AUTO_FREE char *text = NULL;

    /* Unreadable: assume the worse. */
    return io_read_file("/proc/sys/kernel/core_pattern", CORE_PATTERN_MAX,
                        &text, NULL) < 0 ||
           text[0] == '|';
}

int host_open(struct host *host, struct step *why)
{
    *host = (struct host){.ids.lock_fd = -1};
    int rc = idmap_open(&host->ids, why);
    if (rc < 0)
        return rc;
    cgroup_host_open(&host->cgroups);
    return 0;
}

int host_close(struct host *host)
{
    int left = cgroup_host_close(&host->cgroups);

    idmap_close(&host->ids);
    return left;
}
