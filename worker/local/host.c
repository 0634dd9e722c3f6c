#include "worker/local/host.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/json.h"
#include "common/must.h"
#include "common/scope.h"

#define REPORT_BYTES_MAX (64u << 10)

static int spawn(const char *program, int out_fd, pid_t *pid_out)
{
    char *argv[] = {(char *)program, (char *)"--probe", (char *)"--json", NULL};
    char *env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                   (char *)"LANG=C", NULL};
    posix_spawn_file_actions_t actions;
    int rc;

    MUST0(posix_spawn_file_actions_init(&actions));
    rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    if (rc == 0)
        rc = posix_spawn(pid_out, program, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* Its standard output; caller frees. */
static int ask(const char *program, char **text_out)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    AUTO_FD int in = fds[0];
    int rc = spawn(program, fds[1], &pid);
    close(fds[1]);
    if (rc < 0)
        return rc;
    AUTO_FREE char *text = malloc(REPORT_BYTES_MAX + 1);
    ssize_t got = text ? io_read_full(in, text, REPORT_BYTES_MAX) : -ENOMEM;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return (int)got;
    text[got] = '\0';
    *text_out = TAKE(text);
    return 0;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = json_member(object, name);

    return text ? text : "";
}

/* The first needed thing that is missing: what, why, and how to get it. */
static void complain_first(const cJSON *report, struct complaint *why)
{
    const cJSON *checks = cJSON_GetObjectItemCaseSensitive(report, "checks");
    const cJSON *check;

    cJSON_ArrayForEach(check, checks)
    {
        const cJSON *ok = cJSON_GetObjectItemCaseSensitive(check, "ok");
        const cJSON *need = cJSON_GetObjectItemCaseSensitive(check, "needed");

        if (cJSON_IsTrue(ok) || !cJSON_IsTrue(need))
            continue;
        complain(why, NULL,
                 "this host cannot confine code safely: %.40s: %.150s. To fix: "
                 "%.200s",
                 text_of(check, "what"), text_of(check, "detail"),
                 text_of(check, "fix"));
        return;
    }
    complain(why, NULL, "this host cannot confine code safely: %.200s",
             text_of(report, "meaning"));
}

static int judge(const cJSON *report, bool allow_degraded,
                 struct host_report *out, struct complaint *why)
{
    const cJSON *budget =
        cJSON_GetObjectItemCaseSensitive(report, "memory_budget_bytes");

    *out = (struct host_report){
        .safe = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(report, "safe")),
        .rung = text_of(report, "rung")[0],
        .memory_budget =
            cJSON_IsNumber(budget) ? (int64_t)budget->valuedouble : 0,
    };
    if (out->safe || (allow_degraded && out->rung >= 'A' && out->rung <= 'D'))
        return 0;
    complain_first(report, why);
    if (out->rung == 'D') {
        size_t len = strlen(why->text);
        snprintf(why->text + len, sizeof(why->text) - len,
                 ". Or run with weaker limits: --allow-degraded, or "
                 "CAPIBOX_ALLOW_DEGRADED=1 in the environment");
    }
    return -ENOTSUP;
}

int host_check(const char *sandboxd, bool allow_degraded,
               struct host_report *report_out, struct complaint *why)
{
    AUTO_FREE char *text = NULL;
    int rc = ask(sandboxd, &text);

    if (rc < 0) {
        complain(why, NULL, "cannot run %.300s --probe: %s", sandboxd,
                 strerror(-rc));
        return rc;
    }
    cJSON *report = cJSON_Parse(text);
    if (!report) {
        complain(why, NULL, "%.300s --probe --json printed no JSON", sandboxd);
        return -EPROTO;
    }
    rc = judge(report, allow_degraded, report_out, why);
    cJSON_Delete(report);
    return rc;
}
