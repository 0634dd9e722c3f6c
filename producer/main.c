/* producer/main.c -- capibox: reads its arguments, calls one verb. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/redis.h"
#include "common/settings.h"
#include "producer/exits.h"
#include "producer/text.h"
#include "producer/verbs.h"

static int wrong(const struct complaint *why)
{
    char text[700];

    complaint_print(why, text, sizeof(text));
    text_say("%s", text);
    return EXITS_USAGE;
}

/* A verb would find that only when it connects. */
static int check_url(const struct settings *s, struct complaint *why)
{
    struct redis_target target;
    int rc = redis_target_parse(s->redis_url, s, &target, why);

    if (rc == 0)
        redis_target_fini(&target);
    return rc;
}

/* Settings, then help and version, which must come out whatever else is wrong.
 * -1: go on. */
static int prepare(struct settings *s, int *argc, char **argv)
{
    struct complaint env_why = {0}, why = {0};
    int env_rc, rc;

    if (settings_init(s) < 0) {
        text_say("out of memory");
        return EXITS_CAPIBOX;
    }
    env_rc = settings_from_env(s, FOR_CLI, &env_why);
    rc = settings_from_args(s, FOR_CLI, argc, argv, &why);
    if (s->version) {
        printf("capibox %s\n", CAPIBOX_VERSION);
        return EXITS_OK;
    }
    if (s->help)
        return -1;
    if (rc < 0)
        return wrong(&why);
    if (env_rc < 0)
        return wrong(&env_why);
    rc = settings_check(s, FOR_CLI, &why);
    if (rc == 0)
        rc = check_url(s, &why);
    if (rc == -EINVAL)
        return wrong(&why);
    return -1;
}

static int unknown_verb(const char *name)
{
    const char *best = verbs_nearest(name);

    if (best)
        text_say("%.60s: unknown verb; did you mean %s?", name, best);
    else
        text_say("%.60s: unknown verb; --help lists those there are", name);
    return EXITS_USAGE;
}

static int count_words(const struct verb *verb, const struct options *o)
{
    if (o->nwords >= verb->words_min && o->nwords <= verb->words_max)
        return 0;
    if (o->nwords > verb->words_max)
        text_say("%s: what is \"%.60s\"? usage: capibox %s %s", verb->name,
                 o->words[verb->words_max], verb->name, verb->words);
    else
        text_say("%s: usage: capibox %s %s", verb->name, verb->name,
                 verb->words);
    return EXITS_USAGE;
}

static int act(const struct settings *s, const struct verb *verb, int argc,
               char **argv)
{
    struct options o;
    struct complaint why = {0};
    int rc = options_parse(&o, verb->bit, argc, (const char **)argv, &why);

    if (rc < 0)
        rc = wrong(&why);
    else
        rc = count_words(verb, &o);
    if (rc == 0)
        rc = verb->act(s, &o);
    options_fini(&o);
    return rc;
}

/* Also when other arguments are wrong: then argv is as it was given. */
static int help(int argc, char **argv)
{
    const struct verb *verb = argc > 1 ? verbs_find(argv[1]) : NULL;

    if (argc > 1 && !verb && argv[1][0] != '-')
        return unknown_verb(argv[1]);
    if (verb)
        verbs_print_one(stdout, argv[0], verb);
    else
        verbs_print_all(stdout, argv[0]);
    return EXITS_OK;
}

static int dispatch(const struct settings *s, int argc, char **argv)
{
    const struct verb *verb;

    if (s->help)
        return help(argc, argv);
    if (argc < 2) {
        text_say("say what to do: %s --help lists the verbs", argv[0]);
        return EXITS_USAGE;
    }
    if (!strcmp(argv[1], "help")) {
        argv[1] = argv[0];
        return help(argc - 1, argv + 1);
    }
    verb = verbs_find(argv[1]);
    if (verb)
        return act(s, verb, argc - 2, argv + 2);
    if (argv[1][0] == '-') {
        text_say("%.60s: flags of a verb go behind it: %s VERB ... [FLAGS]",
                 argv[1], argv[0]);
        return EXITS_USAGE;
    }
    return unknown_verb(argv[1]);
}

static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

/* An answer that did not arrive is no success, e.g. on a full disk. A reader
 * that left (head) knows why. */
static int finish_output(int rc)
{
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);

    /* What failed before the last bytes has left no errno. */
    if (lost && errno != EPIPE && !reader_left())
        text_say("cannot write the answer%s%s", errno ? ": " : "",
                 errno ? strerror(errno) : "");
    return lost && rc == EXITS_OK ? EXITS_CAPIBOX : rc;
}

int main(int argc, char **argv)
{
    struct settings s;
    int rc;

    io_hold_stdio();
    /* A reader that left, or a Redis that did, is an error to report. */
    signal(SIGPIPE, SIG_IGN);
    rc = prepare(&s, &argc, argv);
    if (rc < 0)
        rc = dispatch(&s, argc, argv);
    rc = finish_output(rc);
    settings_fini(&s);
    return rc;
}
