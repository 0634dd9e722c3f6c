#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/sandboxd/cgroup.h"

/* A v1 machine with controllers mounted together, and the empty v2 tree. */
static const char v1_self[] = "12:pids:/user.slice/user-0.slice\n"
                              "4:cpu,cpuacct:/user.slice\n"
                              "3:memory:/process_api/b62\n"
                              "1:name=systemd:/x\n"
                              "0::/user.slice/session-1.scope\n";
static const char v1_mounts[] =
    "30 25 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
    "32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup "
    "rw,cpu,cpuacct\n"
    "33 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 30 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";

static void expect_place(const char *controller, int version, const char *path)
{
    struct cgroup_place place;

    assert_true(cgroup_locate(v1_self, v1_mounts, controller, &place));
    assert_int_equal(place.version, version);
    assert_string_equal(place.path, path);
}

static void controllers_are_found_where_they_are_mounted(void **state)
{
    (void)state;
    expect_place("memory", 1, "/sys/fs/cgroup/memory/process_api/b62");
    expect_place("pids", 1, "/sys/fs/cgroup/pids/user.slice/user-0.slice");
    expect_place("cpu", 1, "/sys/fs/cgroup/cpu,cpuacct/user.slice");
    expect_place("cpuacct", 1, "/sys/fs/cgroup/cpu,cpuacct/user.slice");
    expect_place("", 2, "/sys/fs/cgroup/unified/user.slice/session-1.scope");
}

static void a_controller_that_is_not_mounted_is_not_found(void **state)
{
    struct cgroup_place place;

    (void)state;
    assert_false(cgroup_locate(v1_self, v1_mounts, "cpuset", &place));
    assert_false(cgroup_locate(v1_self, "", "memory", &place));
    assert_false(cgroup_locate("", v1_mounts, "memory", &place));
    /* Only whole words match. */
    assert_false(cgroup_locate("1:memory2:/\n", v1_mounts, "memory", &place));
    assert_false(cgroup_locate("1:cp:/\n", v1_mounts, "cpu", &place));
    assert_int_equal(place.version, 0);
}

static void a_mount_may_show_only_a_part(void **state)
{
    static const char mounts[] = "40 30 0:30 /docker/abc /sys/fs/cgroup/memory "
                                 "rw - cgroup cgroup rw,memory\n";
    struct cgroup_place place;

    (void)state;
    assert_true(
        cgroup_locate("3:memory:/docker/abc/x\n", mounts, "memory", &place));
    assert_string_equal(place.path, "/sys/fs/cgroup/memory/x");
    assert_true(
        cgroup_locate("3:memory:/docker/abc\n", mounts, "memory", &place));
    assert_string_equal(place.path, "/sys/fs/cgroup/memory");
    assert_false(
        cgroup_locate("3:memory:/docker/abcd\n", mounts, "memory", &place));
    assert_false(cgroup_locate("3:memory:/other\n", mounts, "memory", &place));
}

static void a_cgroup_namespace_starts_at_its_root(void **state)
{
    struct cgroup_place place;

    (void)state;
    assert_true(cgroup_locate(
        "0::/\n", "31 30 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "",
        &place));
    assert_string_equal(place.path, "/sys/fs/cgroup");
    assert_int_equal(place.version, 2);
}

static void odd_lines_are_passed_over(void **state)
{
    struct cgroup_place place;
    char mounts[6000];

    (void)state;
    memset(mounts, 'x', sizeof(mounts));
    strcpy(mounts + 5000, "\n\n - \n1 2 - cgroup\n33 30 0:30 / /c rw - cgroup "
                          "cgroup rw,memory");
    assert_true(
        cgroup_locate("\n:\n3:memory\n3:memory:/a", mounts, "memory", &place));
    assert_string_equal(place.path, "/c/a");
}

static void counters_are_read_by_their_whole_name(void **state)
{
    static const char text[] = "oom_kill_disable 0\nunder_oom 1\noom_kill 12\n";

    (void)state;
    assert_int_equal(cgroup_counter(text, "oom_kill"), 12);
    assert_int_equal(cgroup_counter(text, "under_oom"), 1);
    assert_int_equal(cgroup_counter(text, "oom"), -1);
    assert_int_equal(cgroup_counter("", "oom"), -1);
}

static void what_cannot_be_limited_is_described_with_the_reason(void **state)
{
    struct cgroup_host host = {0};
    char text[96];

    (void)state;
    host.places[CONTROLLER_MEMORY].version = 2;
    strcpy(host.why_not[CONTROLLER_CPU], "no cgroup controller cpu here");
    cgroup_describe(&host, CONTROLLER_MEMORY, text, sizeof(text));
    assert_string_equal(text, "cgroup v2 memory.max");
    cgroup_describe(&host, CONTROLLER_CPU, text, sizeof(text));
    assert_string_equal(text, "no: no cgroup controller cpu here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controllers_are_found_where_they_are_mounted),
        cmocka_unit_test(a_controller_that_is_not_mounted_is_not_found),
        cmocka_unit_test(a_mount_may_show_only_a_part),
        cmocka_unit_test(a_cgroup_namespace_starts_at_its_root),
        cmocka_unit_test(odd_lines_are_passed_over),
        cmocka_unit_test(counters_are_read_by_their_whole_name),
        cmocka_unit_test(what_cannot_be_limited_is_described_with_the_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
