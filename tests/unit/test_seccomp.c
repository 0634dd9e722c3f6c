/* The filter, loaded in a forked child for each call tried. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/sandboxd/seccomp.h"

#define ANSWERED_OK 200 /* the child's exit codes: an errno, or these */
#define NOT_LOADED  201
#define KILLED      (-SIGSYS)

static struct sock_fprog program;

static int build(void **state)
{
    struct step why = {0};

    (void)state;
    return seccomp_build(&program, &why);
}

static int release(void **state)
{
    (void)state;
    seccomp_free(&program);
    return 0;
}

static _Noreturn void child(long call, const long *a)
{
    struct step why = {0};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (seccomp_enter(&program, &why) < 0)
        _exit(NOT_LOADED);
    long rc = syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (call == SYS_clone && rc == 0)
        _exit(0);
    _exit(rc < 0 ? errno : ANSWERED_OK);
}

/* What the call answers: ANSWERED_OK, an errno, or KILLED. */
static int answer(long call, long a, long b, long c)
{
    const long args[6] = {a, b, c, 0, 0, 0};
    int status;
    pid_t pid = fork();

    MUST(pid >= 0);
    if (pid == 0)
        child(call, args);
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void ordinary_calls_pass(void **state)
{
    (void)state;
    assert_int_equal(answer(SYS_getpid, 0, 0, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_dup, 0, 0, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_memfd_create, (long)"x", 0, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_close_range, 90, 91, 0), ANSWERED_OK);
    /* Passed on: the kernel's own answer. */
    assert_int_equal(answer(SYS_openat, -1, (long)"x", 0), EBADF);
}

static void the_unknown_does_not_exist(void **state)
{
    static const long calls[] = {SYS_clone3, SYS_io_uring_setup, 447, 480, 999};

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        assert_int_equal(answer(calls[i], 0, 0, 0), ENOSYS);
}

static void the_dangerous_is_refused(void **state)
{
    static const long calls[] = {
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_fsopen,
        SYS_move_mount,
        SYS_open_tree,
        SYS_unshare,
        SYS_setns,
        SYS_ptrace,
        SYS_bpf,
        SYS_reboot,
        SYS_chroot,
        SYS_keyctl,
        SYS_kexec_load,
        SYS_kcmp,
        SYS_userfaultfd,
        SYS_pidfd_getfd,
        SYS_init_module,
        SYS_swapon,
        SYS_syslog,
        SYS_acct,
        SYS_sethostname,
        SYS_clock_settime,
        SYS_perf_event_open,
        SYS_process_vm_readv,
        SYS_open_by_handle_at,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        assert_int_equal(answer(calls[i], 0, 0, 0), EPERM);
}

static void no_new_namespace_by_clone(void **state)
{
    static const long flags[] = {CLONE_NEWUSER,  CLONE_NEWNS,  CLONE_NEWPID,
                                 CLONE_NEWNET,   CLONE_NEWIPC, CLONE_NEWUTS,
                                 CLONE_NEWCGROUP};

    (void)state;
    assert_int_equal(answer(SYS_clone, SIGCHLD, 0, 0), ANSWERED_OK);
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
        assert_int_equal(answer(SYS_clone, flags[i] | SIGCHLD, 0, 0), EPERM);
    assert_int_equal(answer(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS, 0, 0),
                     EPERM);
}

static void only_plain_socket_families(void **state)
{
    (void)state;
    assert_int_equal(answer(SYS_socket, AF_UNIX, SOCK_STREAM, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_socket, AF_INET, SOCK_STREAM, 0), ANSWERED_OK);
    for (int family = 0; family < 50; family++)
        if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
            assert_int_equal(answer(SYS_socket, family, SOCK_RAW, 0),
                             EAFNOSUPPORT);
}

/* Not what loads a module or takes another way into the kernel. */
static void of_the_internet_only_tcp_and_udp(void **state)
{
    static const int others[] = {33 /* DCCP */, 115, 132 /* SCTP */,
                                 136 /* UDP-Lite */, 262 /* Multipath TCP */};

    (void)state;
    for (int family = AF_INET; family <= AF_INET6; family += 8) {
        for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
            for (int type = SOCK_STREAM; type <= SOCK_PACKET; type++)
                assert_int_equal(answer(SYS_socket, family, type, others[i]),
                                 EPROTONOSUPPORT);
        assert_int_equal(answer(SYS_socket, family, SOCK_PACKET, 0),
                         EPROTONOSUPPORT);
        assert_int_equal(answer(SYS_socket, family, SOCK_SEQPACKET, 0),
                         EPROTONOSUPPORT);
        assert_int_equal(
            answer(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP),
            ANSWERED_OK);
        assert_int_equal(answer(SYS_socket, family, SOCK_STREAM | SOCK_NONBLOCK,
                                IPPROTO_TCP),
                         ANSWERED_OK);
    }
}

static void terminals_cannot_be_typed_into(void **state)
{
    int fds[2];

    (void)state;
    MUST0(pipe(fds));
    assert_int_equal(answer(SYS_ioctl, fds[0], 0x541B, (long)&fds[1]),
                     ANSWERED_OK);                            /* FIONREAD */
    assert_int_equal(answer(SYS_ioctl, 0, 0x5412, 0), EPERM); /* TIOCSTI */
    assert_int_equal(answer(SYS_ioctl, 0, 0x541C, 0), EPERM); /* TIOCLINUX */
    /* The kernel looks at 32 bits only, and so must the filter. */
    assert_int_equal(answer(SYS_ioctl, 0, 0x100005412, 0), EPERM);
    close(fds[0]);
    close(fds[1]);
}

static void arguments_decide_for_the_rest(void **state)
{
    struct rlimit limit = {0, 0};

    (void)state;
    assert_int_equal(answer(SYS_fcntl, 0, F_GETFD, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_fcntl, 0, F_DUPFD_CLOEXEC, 9), ANSWERED_OK);
    assert_int_equal(answer(SYS_fcntl, 0, F_SETLEASE, 0), EPERM);
    assert_int_equal(answer(SYS_fcntl, 0, F_NOTIFY, 0), EPERM);
    assert_int_equal(answer(SYS_personality, 0xffffffff, 0, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_personality, 0x0040000, 0, 0), EPERM);
    assert_int_equal(answer(SYS_personality, 0x0400000, 0, 0), EPERM);
    assert_int_equal(answer(SYS_mknod, (long)"/tmp/x", S_IFCHR, 0), EPERM);
    assert_int_equal(answer(SYS_mknod, (long)"/tmp/x", S_IFBLK, 0), EPERM);
    assert_int_equal(answer(SYS_prctl, PR_SET_NAME, (long)"x", 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_prctl, PR_SET_MM, 1, 0), EPERM);
    assert_int_equal(answer(SYS_prctl, PR_SET_PTRACER, 1, 0), EPERM);
    assert_int_equal(answer(SYS_seccomp, 1, 8, 0), EPERM);
    assert_int_equal(answer(SYS_prlimit64, 1, RLIMIT_CPU, (long)&limit), EPERM);
    assert_int_equal(answer(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&limit),
                     ANSWERED_OK);
}

/* The kernel reads the resource as 32 bits. */
static int set_core_limit(bool high_bits)
{
    const struct rlimit none = {0, 0};
    long resource = RLIMIT_CORE | (high_bits ? 1L << 32 : 0);

    return (int)syscall(SYS_prlimit64, 0, resource, &none, NULL);
}

static int core_limit_after_setting_it(bool high_bits)
{
    struct rlimit limit;
    struct step why = {0};

    setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1});
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (seccomp_enter(&program, &why) < 0)
        return NOT_LOADED;
    set_core_limit(high_bits);
    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        return NOT_LOADED;
    return (int)limit.rlim_cur;
}

static void the_core_limit_stays(void **state)
{
    struct rlimit now;
    int status;

    (void)state;
    MUST0(getrlimit(RLIMIT_CORE, &now));
    if (now.rlim_max < 1 && geteuid() != 0)
        skip();
    for (int high_bits = 0; high_bits < 2; high_bits++) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0)
            _exit(core_limit_after_setting_it(high_bits));
        MUST(waitpid(pid, &status, 0) == pid);
        assert_int_equal(WEXITSTATUS(status), 1);
    }
}

/* What reaches the whole host, past all namespaces: watching files that other
 * sandboxes read, the shared number of aio requests, the host's disks. */
static void what_the_whole_host_would_feel_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(answer(SYS_inotify_init, 0, 0, 0), ENOSYS);
    assert_int_equal(answer(SYS_inotify_init1, 0, 0, 0), ENOSYS);
    assert_int_equal(answer(SYS_inotify_add_watch, 0, 0, 0), ENOSYS);
    assert_int_equal(answer(SYS_io_setup, 1, 0, 0), ENOSYS);
    assert_int_equal(answer(SYS_shmget, 0, 4096, 0), ENOSYS);
    assert_int_equal(answer(SYS_semget, 0, 1, 0), ENOSYS);
    /* All it can write is in memory: nothing to do. */
    assert_int_equal(answer(SYS_sync, 0, 0, 0), ANSWERED_OK);
    assert_int_equal(answer(SYS_syncfs, -1, 0, 0), ANSWERED_OK);
}

static void another_call_table_kills(void **state)
{
    (void)state;
#ifdef __x86_64__
    assert_int_equal(answer(0x40000000 + SYS_getpid, 0, 0, 0), KILLED);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_calls_pass),
        cmocka_unit_test(the_unknown_does_not_exist),
        cmocka_unit_test(the_dangerous_is_refused),
        cmocka_unit_test(no_new_namespace_by_clone),
        cmocka_unit_test(only_plain_socket_families),
        cmocka_unit_test(of_the_internet_only_tcp_and_udp),
        cmocka_unit_test(terminals_cannot_be_typed_into),
        cmocka_unit_test(arguments_decide_for_the_rest),
        cmocka_unit_test(the_core_limit_stays),
        cmocka_unit_test(what_the_whole_host_would_feel_is_not_there),
        cmocka_unit_test(another_call_table_kills),
    };

    return cmocka_run_group_tests(tests, build, release);
}
