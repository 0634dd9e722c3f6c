/* capibox-sandboxd: makes, watches and ends the sandboxes of one worker. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker/sandboxd/daemon.h"
#include "worker/sandboxd/host.h"
#include "worker/sandboxd/probe.h"
#include "worker/sandboxd/spawner.h"

#define EXIT_USAGE 2

static const char help[] =
    "usage: capibox-sandboxd --fd N | --probe [--json]\n"
    "\n"
    "Makes, watches and ends local sandboxes. capibox-worker starts it; there\n"
    "is no need to run it by hand, except to see what this host can enforce.\n"
    "\n"
    "  --fd N      serve the worker at the other end of this socket\n"
    "  --probe     try everything a sandbox needs; exit 0 only if code would\n"
    "              run safely\n"
    "  --json      print the probe as one JSON object\n"
    "  --help, --version\n";

struct options {
    int fd;
    bool probe, json, spawner;
};

static int usage(const char *fault, const char *word)
{
    fprintf(stderr, "capibox-sandboxd: %s%s (see --help)\n", fault, word);
    return EXIT_USAGE;
}

static int parse_fd(const char *text, int *fd_out)
{
    char *end;
    long fd = strtol(text, &end, 10);

    if (*text == '\0' || *end || fd < 3 || fd > INT_MAX)
        return usage("--fd wants a number from 3 on, not ", text);
    *fd_out = (int)fd;
    return 0;
}

/* -1: go on, else the exit code. */
static int parse(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"fd", required_argument, NULL, 'f'},
        {"probe", no_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {"spawner", no_argument, NULL, 's'},
        {0},
    };
    int row, rc;

    opterr = 0;
    while ((row = getopt_long(argc, argv, "", rows, NULL)) != -1) {
        switch (row) {
        case 'f':
            rc = parse_fd(optarg, &o->fd);
            if (rc)
                return rc;
            break;
        case 'p':
            o->probe = true;
            break;
        case 'j':
            o->json = true;
            break;
        case 's': /* sandboxd starts itself with this */
            o->spawner = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        case 'v':
            puts("capibox-sandboxd " CAPIBOX_VERSION);
            return 0;
        default:
            return usage("unknown or incomplete option ", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return usage("unexpected argument ", argv[optind]);
    if (o->spawner)
        return -1;
    if (o->probe == (o->fd >= 0))
        return usage("give either --fd N or --probe", "");
    return -1;
}

/* Whoever started us may have left 0..2 closed, other fds open, and signals
 * set: a sandbox must inherit none of that. */
static void become_clean(int keep_fd)
{
    struct rlimit files;
    int fd;

    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
    if (keep_fd > 3)
        close_range(3, (unsigned)keep_fd - 1, 0);
    close_range(keep_fd < 0 ? 3 : (unsigned)keep_fd + 1, ~0u, 0);
    if (keep_fd >= 0)
        fcntl(keep_fd, F_SETFD, FD_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* The worker decides when we end, by closing the socket: a Ctrl-C or a stop
 * that reaches the whole group must not kill running jobs. */
static void ignore_signals(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

static int serve(int fd)
{
    struct host host;
    struct step why = {0};

    ignore_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (host_open(&host, &why) == 0) {
        daemon_serve(&host, fd, &why);
        host_close(&host);
    }
    if (!why.error)
        return 0;
    fprintf(stderr, "capibox-sandboxd: %s: %s\n", why.what,
            strerror(why.error));
    return 1;
}

int main(int argc, char **argv)
{
    struct options o = {.fd = -1};
    int rc = parse(argc, argv, &o);

    if (rc >= 0)
        return rc;
    if (o.spawner)
        _exit(spawner_main());
    become_clean(o.fd);
    return o.probe ? probe_main(o.json) : serve(o.fd);
}
