#include "worker/sandboxd/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/strbuf.h"
#include "worker/sandboxd/host.h"
#include "worker/sandboxd/rehearsal.h"
#include "worker/sandboxd/seccomp.h"

#define PROC_TEXT_MAX (1u << 20)
#define RESERVE_BYTES (256ll << 20)
#define STAGE         "/tmp"
#define CHECKS_MAX    24

/* What kind of thing fails when a check does. */
enum weight {
    WEIGHT_INFO,   /* good to have */
    WEIGHT_LIMITS, /* no cgroup limits: rung D */
    WEIGHT_BOX,    /* no sandbox at all: rung E or F */
};

struct check {
    const char *what;
    enum weight weight;
    bool ok;
    char detail[256], fix[256];
};

struct probe {
    struct check checks[CHECKS_MAX];
    size_t count;
    struct host host;
    struct sock_fprog filter;
    struct step host_step; /* why it could not be opened */
    bool seccomp_works, box_works, limits_work;
    int version; /* of the memory controller */
};

static struct check *add_check(struct probe *p, const char *what,
                               enum weight weight)
{
    struct check *c =
        &p->checks[p->count < CHECKS_MAX - 1 ? p->count++ : CHECKS_MAX - 1];

    *c = (struct check){.what = what, .weight = weight};
    return c;
}

__attribute__((format(printf, 2, 3))) static void detail(struct check *c,
                                                         const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(c->detail, sizeof(c->detail), fmt, args);
    va_end(args);
}

static void fix(struct check *c, const char *text)
{
    snprintf(c->fix, sizeof(c->fix), "%s", text);
}

/* ---- doing things in a child ------------------------------------------ */

typedef int child_fn(const struct probe *p); /* 0 or an errno */

/* Runs fn in new namespaces. 0, the errno of fn, or that of the clone. */
static int try_in_child(const struct probe *p, uint64_t flags, child_fn *fn)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    int status;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(fn ? fn(p) : 0);
    if (waitpid(pid, &status, 0) < 0)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int mount_proc(const struct probe *p)
{
    (void)p;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", STAGE, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "subset=pid,hidepid=2") < 0)
        return errno;
    return 0;
}

static int bind_read_only(const struct probe *p)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

    (void)p;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("/usr", STAGE, NULL, MS_BIND | MS_REC, NULL) < 0 ||
        syscall(SYS_mount_setattr, AT_FDCWD, STAGE, AT_RECURSIVE, &attr,
                sizeof(attr)) < 0)
        return errno;
    return 0;
}

static int load_filter(const struct probe *p)
{
    struct step why = {0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return errno;
    if (seccomp_enter(&p->filter, &why) < 0)
        return why.error;
    return syscall(SYS_unshare, CLONE_NEWUSER) < 0 && errno == EPERM ? 0 : EIO;
}

/* ---- the checks ------------------------------------------------------- */

static int64_t read_sysctl(const char *path)
{
    char *text;

    if (io_read_file(path, PROC_TEXT_MAX, &text, NULL) < 0)
        return -1;
    int64_t value = strtoll(text, NULL, 10);
    free(text);
    return value;
}

static void check_kernel(struct probe *p)
{
    struct check *c = add_check(p, "kernel", WEIGHT_BOX);
    struct utsname name;
    int major = 0, minor = 0;

    uname(&name);
    sscanf(name.release, "%d.%d", &major, &minor);
    c->ok = major > 5 || (major == 5 && minor >= 14);
    detail(c, "Linux %.60s", name.release);
    if (!c->ok)
        fix(c, "use Linux 5.14 or newer");
}

static const char *user_namespace_fix(void)
{
    if (read_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") ==
        1)
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an "
               "AppArmor profile that allows userns for capibox-sandboxd";
    if (read_sysctl("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        return "sysctl kernel.unprivileged_userns_clone=1";
    if (read_sysctl("/proc/sys/user/max_user_namespaces") == 0)
        return "sysctl user.max_user_namespaces=10000";
    return "in a container: allow clone with new namespaces (Docker: "
           "--security-opt seccomp=unconfined, or --privileged)";
}

static void check_namespaces(struct probe *p)
{
    static const struct {
        const char *what;
        uint64_t flags;
    } rows[] = {
        {"user namespace", 0},
        {"pid namespace", CLONE_NEWPID},
        {"mount namespace", CLONE_NEWNS},
        {"network namespace", CLONE_NEWNET},
        {"ipc namespace", CLONE_NEWIPC},
        {"uts namespace", CLONE_NEWUTS},
        {"cgroup namespace", CLONE_NEWCGROUP},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct check *c = add_check(p, rows[i].what, WEIGHT_BOX);
        int error = try_in_child(p, CLONE_NEWUSER | rows[i].flags, NULL);

        c->ok = error == 0;
        if (error) {
            detail(c, "%s", strerror(error));
            fix(c, user_namespace_fix());
        }
    }
}

static void check_mounts(struct probe *p)
{
    struct check *c = add_check(p, "read-only binds", WEIGHT_BOX);
    int error = try_in_child(p, CLONE_NEWUSER | CLONE_NEWNS, bind_read_only);

    c->ok = error == 0;
    if (error) {
        detail(c, "%s", strerror(error));
        fix(c, "allow mounts in user namespaces (AppArmor, container)");
    }
    c = add_check(p, "own /proc", WEIGHT_INFO);
    error =
        try_in_child(p, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID, mount_proc);
    c->ok = error == 0;
    if (error) {
        detail(c, "%s: sandboxes will have no /proc", strerror(error));
        fix(c, "in a container: unmask its /proc (Docker: --security-opt "
               "systempaths=unconfined)");
    }
}

static void check_seccomp(struct probe *p)
{
    struct check *c = add_check(p, "seccomp", WEIGHT_BOX);
    int error = p->filter.len ? try_in_child(p, 0, load_filter) : ENOSYS;

    c->ok = p->seccomp_works = error == 0;
    if (error) {
        detail(c, "%s", strerror(error));
        fix(c, "use a kernel with CONFIG_SECCOMP_FILTER");
    } else {
        detail(c, "%d instructions", p->filter.len);
    }
}

static const char *cgroup_fix(void)
{
    return geteuid() == 0
               ? "mount the cgroup file system writable (a container: give it "
                 "its own cgroup namespace and a writable /sys/fs/cgroup)"
               : "start the worker in a delegated unit: systemd-run --user "
                 "--scope -p Delegate=yes capibox-worker, or as a service "
                 "with Delegate=yes";
}

static void check_controllers(struct probe *p)
{
    static const char *const whats[] = {"memory limit", "process limit",
                                        "cpu limit"};
    const struct cgroup_host *cgroups = &p->host.cgroups;

    p->limits_work = true;
    p->version = cgroups->places[CONTROLLER_MEMORY].version;
    for (int i = CONTROLLER_MEMORY; i <= CONTROLLER_CPU; i++) {
        struct check *c = add_check(p, whats[i], WEIGHT_LIMITS);

        c->ok = cgroups->places[i].version != 0;
        if (c->ok) {
            cgroup_describe(cgroups, (enum controller)i, c->detail,
                            sizeof(c->detail));
        } else {
            detail(c, "%s", cgroups->why_not[i]);
            fix(c, cgroup_fix());
        }
        p->limits_work = p->limits_work && c->ok;
    }
    struct check *c = add_check(p, "swap limit", WEIGHT_INFO);
    c->ok = cgroups->memory_swap;
    if (!c->ok)
        detail(c, "without it a sandbox may use swap beyond its memory");
}

static void check_landlock(struct probe *p)
{
    struct check *c = add_check(p, "landlock", WEIGHT_INFO);
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
                       LANDLOCK_CREATE_RULESET_VERSION);

    c->ok = abi >= 2;
    if (c->ok)
        detail(c, "ABI %ld%s", abi,
               abi < 2 ? ": not used, from 2 on it is" : "");
    else
        detail(c, "a second opinion only: mounts do the same");
}

static void check_whole(struct probe *p)
{
    struct check *c = add_check(p, "a whole sandbox", WEIGHT_BOX);
    struct step why = p->host_step;

    c->ok = why.error == 0 && rehearse(&p->host, &why) == 0;
    p->box_works = c->ok;
    if (c->ok)
        detail(c, "made, limits read back, ran a program, removed");
    else
        detail(c, "%s: %s", why.what, strerror(why.error));
}

/* ---- memory ----------------------------------------------------------- */

static int64_t memory_available(void)
{
    char *text;
    int64_t bytes = -1;

    if (io_read_file("/proc/meminfo", PROC_TEXT_MAX, &text, NULL) < 0)
        return -1;
    const char *at = strstr(text, "MemAvailable:");
    if (at)
        bytes = strtoll(at + strlen("MemAvailable:"), NULL, 10) * 1024;
    free(text);
    return bytes;
}

static int64_t memory_budget(const struct probe *p)
{
    int64_t bytes = memory_available();
    int64_t limit = cgroup_memory_limit(&p->host.cgroups);

    if (bytes < 0 || (limit > 0 && limit < bytes))
        bytes = limit;
    if (bytes <= 0)
        return 0;
    int64_t reserve = bytes / 10 > RESERVE_BYTES ? bytes / 10 : RESERVE_BYTES;
    return bytes > 2 * reserve ? bytes - reserve : bytes / 2;
}

/* ---- printing --------------------------------------------------------- */

static char rung(const struct probe *p)
{
    if (p->box_works && p->limits_work)
        return p->version == 2 ? 'A' : 'B';
    if (p->box_works)
        return 'D';
    return p->seccomp_works ? 'E' : 'F';
}

static const char *rung_meaning(char letter)
{
    switch (letter) {
    case 'A':
        return "full isolation, cgroup v2 limits: safe";
    case 'B':
        return "full isolation, cgroup v1 limits: safe";
    case 'D':
        return "full isolation, but memory only per process and no CPU limit: "
               "degraded, needs --allow-degraded";
    default:
        return "no sandbox can be made here: jobs are refused";
    }
}

static void print_text(const struct probe *p, char letter)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct check *c = &p->checks[i];

        printf("%-3s %-18s %s%s%s\n", c->ok ? "ok" : "no", c->what, c->detail,
               c->fix[0] ? "; to fix: " : "", c->fix);
    }
    printf("rung %c: %s\n", letter, rung_meaning(letter));
}

static void add_text(struct strbuf *sb, const char *name, const char *text)
{
    strbuf_addf(sb, ",\"%s\":", name);
    strbuf_add_json(sb, text, strlen(text));
}

static void print_json(const struct probe *p, char letter)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    strbuf_addf(&sb, "{\"safe\":%s,\"rung\":\"%c\"",
                letter <= 'B' ? "true" : "false", letter);
    add_text(&sb, "meaning", rung_meaning(letter));
    strbuf_addf(&sb, ",\"memory_budget_bytes\":%" PRId64 ",\"checks\":[",
                memory_budget(p));
    for (size_t i = 0; i < p->count; i++) {
        const struct check *c = &p->checks[i];

        strbuf_addf(&sb, "%s{\"ok\":%s,\"needed\":%s", i ? "," : "",
                    c->ok ? "true" : "false",
                    c->weight == WEIGHT_INFO ? "false" : "true");
        add_text(&sb, "what", c->what);
        add_text(&sb, "detail", c->detail);
        add_text(&sb, "fix", c->fix);
        strbuf_addc(&sb, '}');
    }
    strbuf_adds(&sb, "]}\n");
    if (!sb.failed)
        fwrite(sb.text, 1, sb.len, stdout);
}

int probe_main(bool json)
{
    static struct probe probe;
    struct probe *p = &probe;

    struct step why;

    host_open(&p->host, &p->host_step);
    seccomp_build(&p->filter, &why);
    check_kernel(p);
    check_namespaces(p);
    check_mounts(p);
    check_seccomp(p);
    check_controllers(p);
    check_landlock(p);
    check_whole(p);
    char letter = rung(p);
    if (json)
        print_json(p, letter);
    else
        print_text(p, letter);
    seccomp_free(&p->filter);
    host_close(&p->host);
    return letter <= 'B' ? 0 : 1;
}
