/* producer/verbs.h -- the verbs of the command line: one table, one function
 * each.
 *
 * A verb gets frozen settings and its own options, prints what it has to say
 * (answers on stdout, the rest on stderr) and returns the exit code.
 */
#ifndef PRODUCER_VERBS_H
#define PRODUCER_VERBS_H

#include <stdio.h>

#include "common/settings.h"
#include "producer/options.h"

struct verb {
    const char *name;
    unsigned bit;      /* enum options_verb */
    const char *words; /* what follows, for people: "FILE|-" */
    int words_min, words_max;
    const char *summary;
    const char *examples[6]; /* without the program's name: "run x.py" */
    int (*act)(const struct settings *s, const struct options *o);
};

const struct verb *verbs_find(const char *name);
/* The nearest verb's name, or NULL. */
const char *verbs_nearest(const char *name);

/* program: how it was called, so that examples can be pasted. */
void verbs_print_all(FILE *out, const char *program);
void verbs_print_one(FILE *out, const char *program, const struct verb *verb);

int verb_run(const struct settings *s, const struct options *o);
int verb_submit(const struct settings *s, const struct options *o);
int verb_batch(const struct settings *s, const struct options *o);
int verb_wait(const struct settings *s, const struct options *o);
int verb_result(const struct settings *s, const struct options *o);
int verb_status(const struct settings *s, const struct options *o);
int verb_events(const struct settings *s, const struct options *o);
int verb_cancel(const struct settings *s, const struct options *o);
int verb_dead(const struct settings *s, const struct options *o);
int verb_templates(const struct settings *s, const struct options *o);
int verb_stats(const struct settings *s, const struct options *o);
int verb_queues(const struct settings *s, const struct options *o);
int verb_workers(const struct settings *s, const struct options *o);
int verb_doctor(const struct settings *s, const struct options *o);

#endif
