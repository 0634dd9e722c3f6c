#include "worker/sandboxd/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/scope.h"

#define PROGRAM_BYTES_MAX (4096 * sizeof(struct sock_filter))
#define LOW_32            0xffffffffull
#define NEW_NAMESPACES                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* By name: libseccomp knows which of them this machine has. Not among them,
 * since no namespace holds them: inotify (tells of files below /usr that other
 * sandboxes open, and its instances count for root), io_setup (one number of
 * requests for the host), System V IPC (without a cgroup nothing bounds it). */
static const char *const allowed[] = {
    /* files */
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "open",
    "openat",
    "openat2",
    "creat",
    "close",
    "close_range",
    "lseek",
    "dup",
    "dup2",
    "dup3",
    "pipe",
    "pipe2",
    "access",
    "faccessat",
    "faccessat2",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "getdents",
    "getdents64",
    "getcwd",
    "chdir",
    "fchdir",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "readlink",
    "readlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "fadvise64",
    "readahead",
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "copy_file_range",
    "flock",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "umask",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "memfd_create",
    /* memory */
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "msync",
    "mincore",
    "mlock",
    "mlock2",
    "munlock",
    "mlockall",
    "munlockall",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "membarrier",
    "mbind",
    "set_mempolicy",
    "get_mempolicy",
    "remap_file_pages",
    /* processes and threads */
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "kill",
    "tkill",
    "tgkill",
    "getpid",
    "getppid",
    "gettid",
    "getpgid",
    "getpgrp",
    "setpgid",
    "getsid",
    "setsid",
    "set_tid_address",
    "set_robust_list",
    "get_robust_list",
    "futex",
    "futex_waitv",
    "rseq",
    "arch_prctl",
    "getrlimit",
    "getrusage",
    "times",
    "sysinfo",
    "uname",
    "getcpu",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_getparam",
    "sched_setparam",
    "sched_getscheduler",
    "sched_setscheduler",
    "sched_getattr",
    "sched_setattr",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_rr_get_interval",
    "getpriority",
    "setpriority",
    "ioprio_get",
    "ioprio_set",
    "pidfd_open",
    "pidfd_send_signal",
    "restart_syscall",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    /* who am I */
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "capget",
    "capset",
    /* signals and time */
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "sigaltstack",
    "pause",
    "alarm",
    "getitimer",
    "setitimer",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "timer_create",
    "timer_settime",
    "timer_gettime",
    "timer_getoverrun",
    "timer_delete",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd",
    "signalfd4",
    /* waiting */
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd",
    "eventfd2",
    /* sockets (socket itself: by family, below) */
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "getrandom",
};

static const char *const refused[] = {
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "unshare",
    "setns",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "pidfd_getfd",
    "kcmp",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "open_by_handle_at",
    "name_to_handle_at",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "syslog",
    "sethostname",
    "setdomainname",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "settimeofday",
    "stime",
    "ioperm",
    "iopl",
    "modify_ldt",
    "fanotify_init",
    "fanotify_mark",
    "lookup_dcookie",
    "nfsservctl",
    "vhangup",
    "move_pages",
    "migrate_pages",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "vm86",
    "vm86old",
    "get_kernel_syms",
    "query_module",
};

/* Answered with success and not done: they would flush the host's disks, and
 * all a sandbox can write is in memory. */
static const char *const idle[] = {"sync", "syncfs"};

/* A call allowed or refused by one argument: value after masking. */
struct argument_rule {
    int call; /* SCMP_SYS number */
    uint32_t action;
    unsigned arg;
    enum scmp_compare how;
    uint64_t a, b; /* MASKED_EQ: mask, value; else: value */
};

#define PERM   SCMP_ACT_ERRNO(EPERM)
#define FAMILY SCMP_ACT_ERRNO(EAFNOSUPPORT)
#define OK     SCMP_ACT_ALLOW
/* The kernel reads these arguments as 32 bits, so only those are compared: a
 * set bit 33 must not slip past. */
#define IS32(call, action, arg, value)                                 \
    {                                                                  \
        SCMP_SYS(call), action, arg, SCMP_CMP_MASKED_EQ, LOW_32, value \
    }
#define BITS(call, action, arg, mask, value)                         \
    {                                                                \
        SCMP_SYS(call), action, arg, SCMP_CMP_MASKED_EQ, mask, value \
    }
#define ABOVE(call, action, arg, value)                    \
    {                                                      \
        SCMP_SYS(call), action, arg, SCMP_CMP_GT, value, 0 \
    }
#define BELOW(call, action, arg, value)                    \
    {                                                      \
        SCMP_SYS(call), action, arg, SCMP_CMP_LT, value, 0 \
    }
#define NOT(call, action, arg, value)                      \
    {                                                      \
        SCMP_SYS(call), action, arg, SCMP_CMP_NE, value, 0 \
    }

static const struct argument_rule argument_rules[] = {
    /* New namespaces; clone3 hides its flags from us and answers ENOSYS, on
     * which libc falls back to clone. */
    BITS(clone, OK, 0, NEW_NAMESPACES, 0),
    BITS(clone, PERM, 0, CLONE_NEWNS, CLONE_NEWNS),
    BITS(clone, PERM, 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP),
    BITS(clone, PERM, 0, CLONE_NEWUTS, CLONE_NEWUTS),
    BITS(clone, PERM, 0, CLONE_NEWIPC, CLONE_NEWIPC),
    BITS(clone, PERM, 0, CLONE_NEWUSER, CLONE_NEWUSER),
    BITS(clone, PERM, 0, CLONE_NEWPID, CLONE_NEWPID),
    BITS(clone, PERM, 0, CLONE_NEWNET, CLONE_NEWNET),

    IS32(socket, OK, 0, AF_UNIX), IS32(socket, OK, 0, AF_INET),
    IS32(socket, OK, 0, AF_INET6), IS32(socket, FAMILY, 0, AF_UNSPEC),
    BITS(socket, FAMILY, 0, LOW_32 & ~3ull & ~8ull, 4), /* 4..7 and 12..15 */
    IS32(socket, FAMILY, 0, 3), IS32(socket, FAMILY, 0, 8),
    IS32(socket, FAMILY, 0, 9), IS32(socket, FAMILY, 0, 11),
    ABOVE(socket, FAMILY, 0, 15), IS32(socketpair, OK, 0, AF_UNIX),

    IS32(ioctl, OK, 1, TCGETS), IS32(ioctl, OK, 1, TCSETS),
    IS32(ioctl, OK, 1, TCSETSW), IS32(ioctl, OK, 1, TCSETSF),
    IS32(ioctl, OK, 1, TIOCGWINSZ), IS32(ioctl, OK, 1, TIOCGPGRP),
    IS32(ioctl, OK, 1, TIOCSPGRP), IS32(ioctl, OK, 1, FIONREAD),
    IS32(ioctl, OK, 1, FIONBIO), IS32(ioctl, OK, 1, FIOASYNC),
    IS32(ioctl, OK, 1, FIOCLEX), IS32(ioctl, OK, 1, FIONCLEX),
    IS32(ioctl, PERM, 1, TIOCSTI), IS32(ioctl, PERM, 1, 0x541C /* TIOCLINUX */),
    IS32(ioctl, PERM, 1, TIOCSETD), IS32(ioctl, PERM, 1, TIOCSCTTY),

    /* F_SETLEASE (1024) and F_NOTIFY (1026) are the ones left out. */
    BELOW(fcntl, OK, 1, 1024), IS32(fcntl, PERM, 1, 1024),
    IS32(fcntl, PERM, 1, 1026),
    BITS(fcntl, OK, 1, LOW_32 & ~1ull, 1030), /* dupfd_cloexec, setpipe_sz */
    BITS(fcntl, OK, 1, LOW_32 & ~3ull, 1032), /* getpipe_sz, seals, hints */
    BITS(fcntl, OK, 1, LOW_32 & ~3ull, 1036),

    IS32(prctl, OK, 0, PR_SET_PDEATHSIG), IS32(prctl, OK, 0, PR_GET_PDEATHSIG),
    IS32(prctl, OK, 0, PR_GET_DUMPABLE), IS32(prctl, OK, 0, PR_SET_DUMPABLE),
    IS32(prctl, OK, 0, PR_SET_KEEPCAPS), IS32(prctl, OK, 0, PR_GET_KEEPCAPS),
    IS32(prctl, OK, 0, PR_SET_NAME), IS32(prctl, OK, 0, PR_GET_NAME),
    IS32(prctl, OK, 0, PR_GET_SECCOMP), IS32(prctl, OK, 0, PR_CAPBSET_READ),
    IS32(prctl, OK, 0, PR_CAPBSET_DROP), IS32(prctl, OK, 0, PR_GET_SECUREBITS),
    IS32(prctl, OK, 0, PR_SET_SECUREBITS),
    IS32(prctl, OK, 0, PR_GET_TIMERSLACK),
    IS32(prctl, OK, 0, PR_SET_TIMERSLACK),
    IS32(prctl, OK, 0, PR_SET_CHILD_SUBREAPER),
    IS32(prctl, OK, 0, PR_GET_CHILD_SUBREAPER),
    IS32(prctl, OK, 0, PR_SET_NO_NEW_PRIVS),
    IS32(prctl, OK, 0, PR_GET_NO_NEW_PRIVS),
    IS32(prctl, OK, 0, PR_GET_TID_ADDRESS),
    IS32(prctl, OK, 0, PR_SET_THP_DISABLE),
    IS32(prctl, OK, 0, PR_GET_THP_DISABLE), IS32(prctl, OK, 0, PR_CAP_AMBIENT),
    IS32(prctl, OK, 0, PR_GET_SPECULATION_CTRL),
    IS32(prctl, OK, 0, 0x53564d41 /* PR_SET_VMA: names of mappings */),
    IS32(prctl, PERM, 0, PR_SET_MM), IS32(prctl, PERM, 0, PR_SET_PTRACER),
    IS32(prctl, PERM, 0, PR_SET_SECCOMP),

    IS32(personality, OK, 0, PER_LINUX), IS32(personality, OK, 0, 0xffffffff),
    BITS(personality, PERM, 0, 0x80000000u | READ_IMPLIES_EXEC,
         READ_IMPLIES_EXEC),
    BITS(personality, PERM, 0, 0x80000000u | ADDR_NO_RANDOMIZE,
         ADDR_NO_RANDOMIZE),

    BITS(seccomp, OK, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0),
    BITS(seccomp, PERM, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER,
         SECCOMP_FILTER_FLAG_NEW_LISTENER),

    BITS(mknod, OK, 1, S_IFMT, S_IFREG), BITS(mknod, OK, 1, S_IFMT, S_IFIFO),
    BITS(mknod, OK, 1, S_IFMT, S_IFSOCK), BITS(mknod, PERM, 1, S_IFMT, S_IFCHR),
    BITS(mknod, PERM, 1, S_IFMT, S_IFBLK),
    BITS(mknodat, OK, 2, S_IFMT, S_IFREG),
    BITS(mknodat, OK, 2, S_IFMT, S_IFIFO),
    BITS(mknodat, OK, 2, S_IFMT, S_IFSOCK),
    BITS(mknodat, PERM, 2, S_IFMT, S_IFCHR),
    BITS(mknodat, PERM, 2, S_IFMT, S_IFBLK),

    NOT(prlimit64, PERM, 0, 0), /* only one's own limits */
};

static int add_names(scmp_filter_ctx ctx, uint32_t action,
                     const char *const *names, size_t count, struct step *why)
{
    for (size_t i = 0; i < count; i++) {
        int call = seccomp_syscall_resolve_name(names[i]);

        /* Unknown to this libseccomp: it stays ENOSYS. */
        if (call == __NR_SCMP_ERROR)
            continue;
        int rc = seccomp_rule_add(ctx, action, call, 0);
        if (rc < 0 && rc != -EDOM)
            return step_failed(why, -rc, "seccomp rule for %s", names[i]);
    }
    return 0;
}

static int add_argument_rules(scmp_filter_ctx ctx, struct step *why)
{
    for (size_t i = 0; i < sizeof(argument_rules) / sizeof(*argument_rules);
         i++) {
        const struct argument_rule *r = &argument_rules[i];
        struct scmp_arg_cmp cmp = {
            .arg = r->arg, .op = r->how, .datum_a = r->a, .datum_b = r->b};
        int rc = seccomp_rule_add_array(ctx, r->action, r->call, 1, &cmp);

        if (rc < 0)
            return step_failed(why, -rc, "seccomp argument rule %zu", i);
    }
    return 0;
}

/* A process may not turn its core dumps on: on hosts that pipe them to a
 * program, only the value we set keeps that program from running. Setting it
 * answers success and does nothing, since scripts routinely set 0. Only
 * one's own limits (pid 0); of the resource the kernel reads 32 bits. */
static int add_limit_rules(scmp_filter_ctx ctx, struct step *why)
{
    const struct scmp_arg_cmp own = SCMP_A0(SCMP_CMP_EQ, 0);
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < RLIM_NLIMITS; i++)
        if (i != RLIMIT_CORE)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                                  own, SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_32, i));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 3, own,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_32, RLIMIT_CORE),
                              SCMP_A2(SCMP_CMP_EQ, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(0), SCMP_SYS(prlimit64), 3,
                              own,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_32, RLIMIT_CORE),
                              SCMP_A2(SCMP_CMP_NE, 0));
    if (rc < 0)
        return step_failed(why, -rc, "seccomp rule for prlimit64");
    return 0;
}

static int add_rules(scmp_filter_ctx ctx, struct step *why)
{
    int rc = add_names(ctx, SCMP_ACT_ALLOW, allowed,
                       sizeof(allowed) / sizeof(*allowed), why);

    if (rc == 0)
        rc = add_names(ctx, SCMP_ACT_ERRNO(EPERM), refused,
                       sizeof(refused) / sizeof(*refused), why);
    if (rc == 0)
        rc = add_names(ctx, SCMP_ACT_ERRNO(0), idle,
                       sizeof(idle) / sizeof(*idle), why);
    if (rc == 0)
        rc = add_argument_rules(ctx, why);
    if (rc == 0)
        rc = add_limit_rules(ctx, why);
    return rc;
}

/* libseccomp 2.5 writes the program only to a file. */
static int export_program(scmp_filter_ctx ctx, struct sock_fprog *program_out,
                          struct step *why)
{
    AUTO_FD int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return step_failed(why, errno, "memfd for the seccomp filter");
    int rc = seccomp_export_bpf(ctx, fd);
    if (rc < 0)
        return step_failed(why, -rc, "build the seccomp filter");

    off_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || (size_t)size > PROGRAM_BYTES_MAX ||
        size % (off_t)sizeof(struct sock_filter))
        return step_failed(why, E2BIG, "build the seccomp filter");
    AUTO_FREE char *text = malloc((size_t)size);
    if (!text)
        return step_failed(why, ENOMEM, "build the seccomp filter");
    if (pread(fd, text, (size_t)size, 0) != size)
        return step_failed(why, EIO, "read the seccomp filter");
    program_out->len =
        (unsigned short)((size_t)size / sizeof(struct sock_filter));
    program_out->filter = (struct sock_filter *)TAKE(text);
    return 0;
}

typedef int rules_fn(scmp_filter_ctx ctx, struct step *why);

static int build(rules_fn *rules, struct sock_fprog *program_out,
                 struct step *why)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int rc;

    *program_out = (struct sock_fprog){0};
    if (!ctx)
        return step_failed(why, ENOMEM, "start a seccomp filter");
    seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* A binary tree by number instead of one long list. */
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    rc = rules(ctx, why);
    if (rc == 0)
        rc = export_program(ctx, program_out, why);
    seccomp_release(ctx);
    return rc;
}

int seccomp_build(struct sock_fprog *program_out, struct step *why)
{
    return build(add_rules, program_out, why);
}

static int add_init_rules(scmp_filter_ctx ctx, struct step *why)
{
    /* What init.c does once its job is prepared. */
    static const char *const calls[] = {
        "poll",       "ppoll",  "read",         "recvmsg",
        "sendmsg",    "wait4",  "exit",         "clock_gettime",
        "exit_group", "write",  "rt_sigreturn", "restart_syscall",
#ifdef __SANITIZE_THREAD__
        "mmap",       "munmap", "madvise",      "getpid",
        "gettid",     "futex",  "sched_yield",  "rt_sigprocmask",
#endif
    };

    return add_names(ctx, SCMP_ACT_ALLOW, calls, sizeof(calls) / sizeof(*calls),
                     why);
}

int seccomp_build_init(struct sock_fprog *program_out, struct step *why)
{
    return build(add_init_rules, program_out, why);
}

void seccomp_free(struct sock_fprog *program)
{
    free(program->filter);
    *program = (struct sock_fprog){0};
}
