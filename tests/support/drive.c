#include "tests/support/drive.h"

#include "tests/support/cmocka_all.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "common/strbuf.h"
#include "worker/frames.h"

#define RUN_SECONDS      100
#define RESULT_FD        3
#define DRIVER_BYTES_MAX (1u << 20)

static void write_file(const char *dir, const char *name, const char *text,
                       size_t size)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    MUST(fd >= 0);
    MUST0(io_write_full(fd, text, size));
}

/* Copies, as a driver takes the code that lies beside it. */
static void write_drivers(const struct drive *run)
{
    DIR *dir = opendir("worker/runtime");
    const struct dirent *e;

    MUST(dir);
    while ((e = readdir(dir))) {
        AUTO_FREE char *text = NULL;
        size_t size;

        if (!strstr(e->d_name, ".py") && !strstr(e->d_name, ".js"))
            continue;
        MUST0(io_read_file_at(dirfd(dir), e->d_name, DRIVER_BYTES_MAX, &text,
                              &size));
        write_file(run->dir, e->d_name, text, size);
    }
    closedir(dir);
}

int drive_setup(void **state)
{
    struct drive *run = calloc(1, sizeof(*run));
    char home[96];

    MUST(run != NULL);
    MUST0(outcome_init(&run->o, 4096));
    strcpy(run->dir, "/tmp/capibox-drivers-XXXXXX");
    MUST(mkdtemp(run->dir));
    snprintf(home, sizeof(home), "%s/home", run->dir);
    MUST0(mkdir(home, 0755));
    *state = run;
    return 0;
}

int drive_teardown(void **state)
{
    struct drive *run = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", run->dir);
    MUST0(system(command));
    cJSON_Delete(run->results);
    outcome_fini(&run->o);
    free(run->out);
    free(run->err);
    free(run);
    return 0;
}

static void redirect(const char *dir, const char *name, int fd)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (file < 0 || dup2(file, fd) < 0)
        _exit(120);
    close(file);
}

/* In the child; never returns. */
static void exec_driver(const struct drive *run, enum language language,
                        int result_fd)
{
    const char *argv[16] = {"/usr/bin/python3", "-I"};
    size_t argc = 2;
    char driver[96], home[96];

    if (language == LANGUAGE_JAVASCRIPT) {
        argv[0] = "/usr/bin/node";
        argv[1] = "--experimental-vm-modules"; /* as command.c has it */
    }
    snprintf(driver, sizeof(driver), "%s/%s", run->dir,
             language == LANGUAGE_JAVASCRIPT ? "node_driver.js"
                                             : "python_driver.py");
    snprintf(home, sizeof(home), "%s/home", run->dir);
    argv[argc++] = driver;
    for (size_t i = 0; run->args && run->args[i] && argc < 15; i++)
        argv[argc++] = run->args[i];
    redirect(run->dir, "out", 1);
    redirect(run->dir, "err", 2);
    if (dup2(result_fd, RESULT_FD) < 0 || chdir(home) < 0)
        _exit(121);
    close_range(0, 0, 0);
    if (open("/dev/null", O_RDONLY) != 0)
        _exit(122);
    close_range(RESULT_FD + 1, ~0U, 0);
    setenv("CAPIBOX_RESULT_FD", "3", 1);
    setenv("HOME", home, 1);
    setenv("LC_ALL", "C", 1);
    setenv("MPLCONFIGDIR", "/tmp/capibox-drivers-mpl", 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(RUN_SECONDS);
    execvp(argv[0], (char *const *)argv);
    _exit(123);
}

static void read_frames(struct drive *run, int fd)
{
    char data[65536];
    struct frames f;
    ssize_t got;

    MUST0(frames_init(&f, &run->o));
    while ((got = read(fd, data, sizeof(data))) > 0)
        MUST0(frames_feed(&f, data, (size_t)got));
    frames_end(&f);
    frames_fini(&f);
}

static char *read_back(const struct drive *run, const char *name)
{
    char path[128], *text;

    snprintf(path, sizeof(path), "%s/%s", run->dir, name);
    MUST0(io_read_file(path, DRIVE_OUTPUT_MAX, &text, NULL));
    return text;
}

static void parse_results(struct drive *run)
{
    struct strbuf json = STRBUF_INIT;

    strbuf_addc(&json, '[');
    strbuf_add(&json, run->o.results.text, run->o.results.len);
    strbuf_addc(&json, ']');
    run->results = cJSON_Parse(json.text);
    MUST(run->results != NULL);
    strbuf_fini(&json);
}

void drive_bytes(struct drive *run, enum language language, const char *code,
                 size_t size)
{
    int pipe_fds[2], status;
    pid_t pid;

    write_drivers(run);
    write_file(run->dir, language == LANGUAGE_PYTHON ? "main.py" : "main.js",
               code, size);
    if (run->packages)
        write_file(run->dir, "packages.json", run->packages,
                   strlen(run->packages));
    MUST0(pipe2(pipe_fds, O_CLOEXEC));
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        exec_driver(run, language, pipe_fds[1]);
    close(pipe_fds[1]);
    read_frames(run, pipe_fds[0]);
    close(pipe_fds[0]);
    MUST(waitpid(pid, &status, 0) == pid);
    run->exit_code =
        WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    run->out = read_back(run, "out");
    run->err = read_back(run, "err");
    parse_results(run);
}

void drive_python(struct drive *run, const char *code)
{
    drive_bytes(run, LANGUAGE_PYTHON, code, strlen(code));
}

void drive_node(struct drive *run, const char *code)
{
    drive_bytes(run, LANGUAGE_JAVASCRIPT, code, strlen(code));
}

int drive_count(const struct drive *run)
{
    return cJSON_GetArraySize(run->results);
}

const cJSON *drive_form(const struct drive *run, int item, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(
        cJSON_GetArrayItem(run->results, item), name);
}

const char *drive_text(const struct drive *run, int item, const char *name)
{
    const char *text = cJSON_GetStringValue(drive_form(run, item, name));

    return text ? text : "(none)";
}

bool drive_is_main(const struct drive *run, int item)
{
    return cJSON_IsTrue(drive_form(run, item, "is_main_result"));
}

void drive_assert_quiet_success(const struct drive *run)
{
    assert_string_equal(run->err, "");
    assert_int_equal(run->exit_code, 0);
    assert_null(run->o.error_name);
    for (size_t i = 0; i < run->o.nwarnings; i++)
        fail_msg("warning: %s", run->o.warnings[i]);
}

void drive_assert_error(const struct drive *run, const char *name,
                        const char *value, const char *line)
{
    assert_int_equal(run->exit_code, 1);
    assert_string_equal(run->err, "");
    assert_non_null(run->o.error_name);
    assert_string_equal(run->o.error_name, name);
    assert_string_equal(run->o.error_value, value);
    if (!strstr(run->o.error_traceback, line))
        fail_msg("no %s in %s", line, run->o.error_traceback);
    if (strstr(run->o.error_traceback, "driver.") ||
        strstr(run->o.error_traceback, "python_"))
        fail_msg("shows the driver: %s", run->o.error_traceback);
}
