#include "tests/support/double.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"

#define WORDS_MAX  24
#define START_MS   20000
#define ANSWER_MAX (4u << 20)
#define LINE_MAX_  4096
#define POLL_US    20000

/* ---- start ------------------------------------------------------------- */

static void run_it(struct e2b_double *d, int in, int out,
                   const char *const *words)
{
    const char *argv[WORDS_MAX] = {"/usr/bin/python3", "tests/e2b/double.py",
                                   "--dir", d->dir};
    int n = 4;

    for (int i = 0; words && words[i] && n < WORDS_MAX - 1; i++)
        argv[n++] = words[i];
    argv[n] = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static void read_line(int fd, char *line, size_t size)
{
    size_t at = 0;

    while (at < size - 1) {
        ssize_t got = read(fd, line + at, 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || line[at] == '\n')
            break;
        at++;
    }
    line[at] = '\0';
}

static void copy(const cJSON *ready, const char *name, char *out, size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(ready, name);

    snprintf(out, size, "%s", cJSON_IsString(item) ? item->valuestring : "");
}

static void connect_control(struct e2b_double *d, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    d->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(d->control_fd >= 0);
    MUST0(connect(d->control_fd, (struct sockaddr *)&address, sizeof(address)));
}

static void fill_env(struct e2b_double *d)
{
    const char *const names[] = {"CAPIBOX_BACKEND", "E2B_API_KEY", "E2B_DOMAIN",
                                 "CAPIBOX_E2B_CA"};
    const char *const values[] = {"e2b", d->key, d->domain, d->ca};

    for (int i = 0; i < DOUBLE_ENV - 1; i++) {
        snprintf(d->env_text[i], sizeof(d->env_text[i]), "%s=%s", names[i],
                 values[i]);
        d->env[i] = d->env_text[i];
    }
    d->env[DOUBLE_ENV - 1] = NULL;
}

static void use_ready_line(struct e2b_double *d, const char *line)
{
    cJSON *ready = cJSON_Parse(line);
    char control[sizeof(((struct sockaddr_un *)0)->sun_path)];

    if (!ready) {
        fprintf(stderr, "double.py did not start: %s\n", line);
        abort();
    }
    copy(ready, "api_key", d->key, sizeof(d->key));
    copy(ready, "domain", d->domain, sizeof(d->domain));
    copy(ready, "ca", d->ca, sizeof(d->ca));
    copy(ready, "plain_domain", d->plain, sizeof(d->plain));
    copy(ready, "control", control, sizeof(control));
    cJSON_Delete(ready);
    connect_control(d, control);
    fill_env(d);
}

void double_open(struct e2b_double *d, const char *const *words)
{
    int in[2], out[2];
    char line[LINE_MAX_];

    *d = (struct e2b_double){.control_fd = -1};
    snprintf(d->dir, sizeof(d->dir), "/tmp/capibox-double-XXXXXX");
    MUST(mkdtemp(d->dir));
    MUST0(pipe2(in, O_CLOEXEC));
    MUST0(pipe2(out, O_CLOEXEC));
    d->pid = fork();
    MUST(d->pid >= 0);
    if (d->pid == 0)
        run_it(d, in[0], out[1], words);
    close(in[0]);
    close(out[1]);
    d->stdin_fd = in[1];
    read_line(out[0], line, sizeof(line));
    close(out[0]);
    use_ready_line(d, line);
}

/* ---- end --------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st, (void)type, (void)at;
    remove(path);
    return 0;
}

void double_end(struct e2b_double *d)
{
    int64_t deadline = clock_ms() + START_MS;

    if (d->pid <= 0)
        return;
    close(d->control_fd);
    close(d->stdin_fd);
    while (waitpid(d->pid, NULL, WNOHANG) == 0) {
        if (clock_ms() > deadline)
            kill(d->pid, SIGKILL);
        usleep(POLL_US);
    }
    d->pid = 0;
    nftw(d->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void double_close(struct e2b_double *d)
{
    cJSON *report;
    const cJSON *violations;
    bool settled = double_settled(d, 10000);

    report = double_ask(d, "{\"cmd\":\"report\"}");
    violations = cJSON_GetObjectItemCaseSensitive(report, "violations");
    if (cJSON_GetArraySize(violations) > 0 || !settled) {
        AUTO_FREE char *text = cJSON_Print(report);

        fail_msg("the double of E2B says:\n%s", text);
    }
    cJSON_Delete(report);
    double_end(d);
}

/* ---- commands ---------------------------------------------------------- */

static char *read_answer(int fd)
{
    char *text = malloc(ANSWER_MAX);
    size_t at = 0;

    MUST(text);
    while (at < ANSWER_MAX - 1) {
        ssize_t got = read(fd, text + at, ANSWER_MAX - 1 - at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        at += (size_t)got;
        if (text[at - 1] == '\n')
            break;
    }
    text[at] = '\0';
    return text;
}

cJSON *double_ask(struct e2b_double *d, const char *json)
{
    AUTO_FREE char *answer = NULL;
    cJSON *parsed;

    assert_true(io_write_full(d->control_fd, json, strlen(json)) >= 0);
    assert_true(io_write_full(d->control_fd, "\n", 1) >= 0);
    answer = read_answer(d->control_fd);
    parsed = cJSON_Parse(answer);
    if (!parsed || cJSON_GetObjectItemCaseSensitive(parsed, "error"))
        fail_msg("the double refuses %s: %s", json, answer);
    return parsed;
}

void double_fault(struct e2b_double *d, const char *json)
{
    char command[LINE_MAX_];

    snprintf(command, sizeof(command), "{\"cmd\":\"fault\",%s}", json);
    cJSON_Delete(double_ask(d, command));
}

void double_clear(struct e2b_double *d)
{
    cJSON_Delete(double_ask(d, "{\"cmd\":\"clear\"}"));
}

double double_number(struct e2b_double *d, const char *path)
{
    cJSON *report = double_ask(d, "{\"cmd\":\"report\"}");
    const cJSON *at = report;
    char part[64];
    double number = 0;

    while (at && *path) {
        size_t len = strcspn(path, ".");

        snprintf(part, sizeof(part), "%.*s", (int)len, path);
        at = cJSON_GetObjectItemCaseSensitive(at, part);
        path += len + (path[len] == '.');
    }
    if (cJSON_IsNumber(at))
        number = at->valuedouble;
    else if (cJSON_IsArray(at))
        number = cJSON_GetArraySize(at);
    cJSON_Delete(report);
    return number;
}

int double_alive(struct e2b_double *d)
{
    return (int)double_number(d, "alive");
}

bool double_wait_alive(struct e2b_double *d, int count, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;

    while (double_alive(d) != count) {
        if (clock_ms() > deadline)
            return false;
        usleep(POLL_US);
    }
    return true;
}

bool double_settled(struct e2b_double *d, int timeout_ms)
{
    return double_wait_alive(d, 0, timeout_ms);
}

void double_settings(const struct e2b_double *d, struct settings *s)
{
    char **texts[] = {&s->backend, &s->e2b_key, &s->e2b_domain, &s->e2b_ca};
    const char *const values[] = {"e2b", d->key, d->domain, d->ca};

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        free(*texts[i]);
        *texts[i] = strdup(values[i]);
        MUST(*texts[i]);
    }
}
