/* worker/main.c -- parses, wires, waits; decides nothing else. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "common/packages.h"
#include "common/scope.h"
#include "worker/attack.h"
#include "worker/e2b/probe.h"
#include "worker/service.h"
#include "worker/supervisor.h"

#define EXIT_USAGE 2
#define EXIT_FAULT 4
static int usage(const struct complaint *why)
{
    char text[sizeof(*why) + 4];

    complaint_print(why, text, sizeof(text));
    fprintf(stderr, "capibox-worker: %s\n", text);
    return EXIT_USAGE;
}

static void print_help(void)
{
    printf("Usage: capibox-worker [options]\n\n"
           "Takes jobs from Redis lists, runs each in a fresh sandbox, writes "
           "the result back.\n\n"
           "Options (flag, environment, default):\n");
    settings_print(stdout, FOR_WORKER);
    printf("\nSignals: SIGTERM drains (a second one stops at once), SIGHUP "
           "reloads the templates.\n"
           "Examples:\n"
           "  capibox-worker --redis unix:///run/redis/redis.sock "
           "--concurrency 4\n"
           "  capibox-worker --probe --json\n"
           "  capibox-worker --attack\n"
           "  capibox-worker --attack 16 29    only these numbers\n");
}

/* What this host can enforce, said by the program that enforces it. */
static int run_probe(bool json)
{
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 32);
    char *slash;

    path[size > 0 ? size : 0] = '\0';
    slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, "capibox-sandboxd");
    execl(path, path, "--probe", json ? "--json" : NULL, NULL);
    fprintf(stderr, "capibox-worker: %s: %s\n", path, strerror(errno));
    return EXIT_FAULT;
}

static void say_bad_template(void *ctx, const char *file, int line,
                             const struct complaint *why)
{
    char text[sizeof(*why) + 4];

    (void)ctx;
    complaint_print(why, text, sizeof(text));
    log_error("template left out", LOG_S("file", file), LOG_I("line", line),
              LOG_S("error", text), LOG_END);
}

static void say_silent_python(void *ctx, const char *interpreter,
                              const char *why)
{
    (void)ctx;
    log_warn("no answer on its packages: jobs get no word on missing ones",
             LOG_S("interpreter", interpreter), LOG_S("reason", why), LOG_END);
}

static int load_templates(const struct settings *settings,
                          struct template_set **set_out)
{
    AUTO_FREE char *dir = NULL;
    int rc = settings_find_templates(settings, &dir);

    if (rc == 0)
        rc = template_set_load(dir, say_bad_template, NULL, set_out);
    /* What this host's Pythons have says nothing of E2B's. */
    if (rc == 0 && strcmp(settings->backend, "local") == 0 &&
        packages_probe(*set_out, say_silent_python, NULL) < 0)
        log_warn("no memory to ask for packages", LOG_END);
    if (rc < 0)
        log_error("no usable templates",
                  LOG_S("folder", dir ? dir : settings->templates),
                  LOG_S("reason", strerror(-rc)), LOG_END);
    return rc;
}

static int run_e2b_probe(const struct settings *settings)
{
    struct template_set *templates = NULL;

    signal(SIGPIPE, SIG_IGN);
    if (load_templates(settings, &templates) < 0)
        return EXIT_USAGE;
    int code = e2b_probe(settings, templates);
    template_set_unref(templates);
    return code ? EXIT_FAULT : 0;
}

static void reload_templates(struct service *s, const struct settings *settings)
{
    struct template_set *set = NULL;
    size_t count;

    if (load_templates(settings, &set) < 0) {
        log_warn("the old templates stay", LOG_END);
        return;
    }
    count = set->count;
    service_swap_templates(s, set);
    log_info("templates reloaded", LOG_I("count", (int64_t)count), LOG_END);
}

/* ---- between start and stop ------------------------------------------- */

/* One signal, or 0 when woken or out of time (deadline 0: none). */
static int next_signal(struct service *s, int signals, int64_t deadline_ms)
{
    struct pollfd fds[2] = {{.fd = signals, .events = POLLIN},
                            {.fd = service_wake_fd(s), .events = POLLIN}};
    struct signalfd_siginfo info;
    uint64_t count;

    if (poll(fds, 2, deadline_ms ? clock_left_ms(deadline_ms) : -1) <= 0)
        return 0;
    if ((fds[1].revents & POLLIN) && read(fds[1].fd, &count, sizeof(count)) < 0)
        return 0;
    if (read(signals, &info, sizeof(info)) != sizeof(info))
        return 0;
    return (int)info.ssi_signo;
}

static void serve(struct service *s, const struct settings *settings,
                  int signals)
{
    for (;;) {
        int signal = next_signal(s, signals, 0);

        if (signal == SIGHUP)
            reload_templates(s, settings);
        else if (signal)
            return;
    }
}

/* Running jobs get the grace; a further signal ends it. */
static void drain(struct service *s, const struct settings *settings,
                  int signals)
{
    int64_t deadline = clock_ms() + settings->shutdown_grace_s * 1000;

    service_drain(s);
    log_info("draining: running jobs go on, a second signal stops them",
             LOG_I("running", service_active(s)),
             LOG_I("grace_s", settings->shutdown_grace_s), LOG_END);
    while (!service_idle(s) && clock_ms() < deadline) {
        int signal = next_signal(s, signals, deadline);

        if (signal && signal != SIGHUP)
            break;
    }
    if (service_idle(s))
        return;
    log_warn("stopping: running jobs go back to their queues",
             LOG_I("running", service_active(s)), LOG_END);
    service_kill(s);
}

static int block_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    MUST0(sigprocmask(SIG_BLOCK, &set, NULL));
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static const struct backend_ops *find_backend(const char *name)
{
    static const struct backend_ops *const all[] = {&backend_local,
                                                    &backend_e2b};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    log_error("this version has no such backend; use local or e2b",
              LOG_S("backend", name), LOG_END);
    return NULL;
}

static int run_worker(const struct settings *settings,
                      const struct redis_target *target, int announce_fd)
{
    const struct backend_ops *ops = find_backend(settings->backend);
    struct template_set *templates = NULL;
    struct service *service = NULL;
    AUTO_FD int signals = block_signals();

    if (!ops || load_templates(settings, &templates) < 0)
        return EXIT_USAGE;
    if (signals < 0 || service_start(settings, target, ops, templates,
                                     announce_fd, &service) < 0)
        return EXIT_FAULT;
    serve(service, settings, signals);
    drain(service, settings, signals);
    int held = service_stop(service);

    if (held)
        log_error("stopped with jobs unfinished; they return with the lease",
                  LOG_I("jobs", held), LOG_END);
    else
        log_info("stopped", LOG_END);
    return held ? 1 : 0;
}

/* No Redis: words are numbers of attacks. */
static int run_attacks(const struct settings *settings, char *const *words)
{
    const struct backend_ops *ops = find_backend(settings->backend);
    struct template_set *templates = NULL;

    signal(SIGPIPE, SIG_IGN);
    if (!ops || load_templates(settings, &templates) < 0)
        return EXIT_USAGE;
    int code = attack_main(settings, ops, templates, words);
    template_set_unref(templates);
    return code;
}

static void name_unknown_settings(void)
{
    struct complaint why;

    for (size_t at = 0; settings_unknown_env(&at, &why);)
        log_warn(why.text, LOG_END);
}

/* ---- main -------------------------------------------------------------- */

static int configure(struct settings *settings, struct redis_target *target,
                     int argc, char **argv)
{
    struct complaint why = {.field = ""};

    if (settings_from_env(settings, FOR_WORKER, &why) < 0 ||
        settings_from_args(settings, FOR_WORKER, &argc, argv, &why) < 0)
        return usage(&why);
    if (settings->help) {
        print_help();
        return 0;
    }
    if (settings->version) {
        printf("capibox-worker %s\n", CAPIBOX_VERSION);
        return 0;
    }
    if (settings->attack)
        return run_attacks(settings, argv + 1);
    if (argc > 1) {
        complain(&why, NULL, "unknown argument \"%.60s\"; see --help", argv[1]);
        return usage(&why);
    }
    if (settings->probe)
        return strcmp(settings->backend, "e2b") == 0
                   ? run_e2b_probe(settings)
                   : run_probe(settings->json);
    if (settings_check(settings, FOR_WORKER, &why) < 0 ||
        redis_target_parse(settings->redis_url, settings, target, &why) < 0)
        return usage(&why);
    return -1;
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct redis_target target = {.db = 0};
    int announce_fd = -1, code;

    io_hold_stdio();
    if (settings_init(&settings) < 0)
        return EXIT_FAULT;
    code = configure(&settings, &target, argc, argv);
    if (code >= 0) {
        settings_fini(&settings);
        return code;
    }
    log_setup(settings.log_json, (enum log_level)settings.log_level);
    log_never_block();
    name_unknown_settings();
#ifndef __SANITIZE_ADDRESS__
    prctl(PR_SET_DUMPABLE, 0); /* secrets: no core, no ptrace by others */
#endif
    if (settings.supervise)
        code = supervisor_run(&settings, &target, &announce_fd);
    if (code < 0)
        code = run_worker(&settings, &target, announce_fd);
    redis_target_fini(&target);
    settings_fini(&settings);
    return code;
}
