#include "worker/sandboxd/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"

#define OPEN_FILES       1024
#define STACK_BYTES      (8l << 20)
#define STACK_BYTES_HARD (64l << 20)
#define SIGNALS_PENDING  256
#define CPU_SPARE_S      2
#define PIDS_SPARE       8 /* so that the cgroup, which counts, refuses first */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void confine_namespaces(void)
{
    io_write_file("/proc/sys/user/max_user_namespaces", "0");
}

struct limit {
    int resource;
    const char *name;
    rlim_t soft, hard;
};

static int set_limit(const struct limit *l, struct step *why)
{
    struct rlimit both, now;

    if (getrlimit((__rlimit_resource_t)l->resource, &now) < 0)
        return step_failed(why, errno, "read the limit %s", l->name);
    /* Only lowers: an operator's own stricter limit stands. */
    both.rlim_max = l->hard < now.rlim_max ? l->hard : now.rlim_max;
    both.rlim_cur = l->soft < both.rlim_max ? l->soft : both.rlim_max;
    if (setrlimit((__rlimit_resource_t)l->resource, &both) < 0)
        return step_failed(why, errno, "set the limit %s", l->name);
    return 0;
}

static rlim_t cpu_seconds(const struct wire_create *want)
{
    int64_t cores = (want->cpu_percent + 99) / 100;

    return (rlim_t)((want->timeout_ms + 999) / 1000 * cores + CPU_SPARE_S);
}

static int set_limits(const struct limit *limits, size_t count,
                      struct step *why)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = set_limit(&limits[i], why);
    return rc;
}

int confine_resources(bool cores_are_piped, struct step *why)
{
    /* A core of size 0 still starts a program that cores are piped to; 1 is the
     * one value that does not (see core(5)). */
    rlim_t core = cores_are_piped ? 1 : 0;
    const struct limit limits[] = {
        {RLIMIT_CORE, "core", core, core},
        {RLIMIT_MEMLOCK, "locked memory", 0, 0},
        {RLIMIT_MSGQUEUE, "message queues", 0, 0},
        {RLIMIT_NICE, "nice", 0, 0},
        {RLIMIT_RTPRIO, "real time", 0, 0},
        {RLIMIT_NOFILE, "open files", OPEN_FILES, OPEN_FILES},
        {RLIMIT_SIGPENDING, "signals", SIGNALS_PENDING, SIGNALS_PENDING},
        {RLIMIT_STACK, "stack", STACK_BYTES, STACK_BYTES_HARD},
    };

    return set_limits(limits, COUNT(limits), why);
}

int confine_job(const struct wire_create *want, bool memory_in_cgroup,
                bool pids_in_cgroup, struct step *why)
{
    rlim_t memory =
        memory_in_cgroup ? RLIM_INFINITY : (rlim_t)want->memory_bytes;
    rlim_t file = memory_in_cgroup ? RLIM_INFINITY : (rlim_t)want->disk_bytes;
    rlim_t pids = (rlim_t)want->pids + 1 + (pids_in_cgroup ? PIDS_SPARE : 0);
    rlim_t cpu = cpu_seconds(want);
    const struct limit limits[] = {
        /* SIGXCPU tells a timeout from other kills; SIGKILL for who ignores
         * it. */
        {RLIMIT_CPU, "cpu", cpu, cpu + CPU_SPARE_S},
        {RLIMIT_DATA, "data", memory, memory},
        {RLIMIT_FSIZE, "file size", file, file},
        {RLIMIT_NPROC, "processes", pids, pids},
    };

    return set_limits(limits, COUNT(limits), why);
}

static int drop_bounding_set(struct step *why)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return step_failed(why, errno, "drop capability %d", cap);
    return 0;
}

int confine_privileges(bool will_exec, struct step *why)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    unsigned long locked =
        SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
        SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
        SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    int rc;

    /* Asked for, not relied on: a CPU may have nothing to switch. */
    prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
    prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_DISABLE, 0,
          0);
    if (prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) < 0)
        return step_failed(why, errno, "lock the secure bits");
    rc = will_exec ? drop_bounding_set(why) : 0;
    if (rc < 0)
        return rc;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, none) < 0)
        return step_failed(why, errno, "drop all capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return step_failed(why, errno, "refuse new privileges");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return step_failed(why, errno, "become undumpable");
    return 0;
}
