/* producer/options.h -- what follows a verb on the command line.
 *
 * Every flag is a row: name, value, range, verbs that take it, one line of
 * help. The settings' own flags (--redis, --json …) are taken out before by
 * settings_from_args().
 *
 * Memory:   strings are borrowed from argv; options_fini() frees the lists.
 * Errors:   -EINVAL with a complaint: unknown flag (with the nearest known),
 *           given twice, without its value, out of range.
 */
#ifndef PRODUCER_OPTIONS_H
#define PRODUCER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "common/complaint.h"

#define OPTIONS_LIST_MAX  128 /* of one repeatable flag */
#define OPTIONS_WORDS_MAX 4096

/* Verbs as bits, for the rows. */
enum options_verb {
    VERB_RUN = 1 << 0,
    VERB_SUBMIT = 1 << 1,
    VERB_BATCH = 1 << 2,
    VERB_WAIT = 1 << 3,
    VERB_RESULT = 1 << 4,
    VERB_STATUS = 1 << 5,
    VERB_TEMPLATES = 1 << 6,
    VERB_STATS = 1 << 7,
    VERB_QUEUES = 1 << 8,
    VERB_WORKERS = 1 << 9,
    VERB_DOCTOR = 1 << 10,
    VERB_CANCEL = 1 << 11,
    VERB_EVENTS = 1 << 12,
    VERB_DEAD = 1 << 13,
};

struct options_list {
    const char *items[OPTIONS_LIST_MAX];
    int count;
};

struct options {
    const char **words; /* what is no flag: files, ids */
    int nwords;
    const char **rest; /* what came after "--": arguments of the code */
    int nrest;

    const char *template_id, *task_type, *language, *queue, *id, *metadata;
    const char *stdin_file, *save, *from;
    double timeout_s, memory_mb, cpu_percent; /* 0: not given */
    double wait_s;                            /* 0: for ever */
    struct options_list require, files, outputs, env;
    bool no_wait, watch, audit, verbose, attack, stream, follow, all;
};

/* argv[0..argc) is what follows the verb; verb is its bit. */
int options_parse(struct options *o, unsigned verb, int argc, const char **argv,
                  struct complaint *why);
void options_fini(struct options *o);

/* Of new jobs: --queue, or "default". */
const char *options_queue(const struct options *o);

/* The rows of one verb, as its --help prints them. */
void options_print(FILE *out, unsigned verb);

#endif
