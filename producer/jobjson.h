/* producer/jobjson.h -- the job JSON of `run` and `submit`, from their flags.
 *
 * Reads the code, --file and --stdin; checks the whole with job_parse(), so
 * that what a worker would reject for its form is said here, before Redis is
 * touched. What needs templates is the worker's to judge.
 *
 * Errors:   -EINVAL with a complaint, -ENOMEM.
 */
#ifndef PRODUCER_JOBJSON_H
#define PRODUCER_JOBJSON_H

#include "common/job.h"
#include "common/strbuf.h"
#include "producer/options.h"

struct jobjson {
    char id[JOB_ID_MAX + 1]; /* given or made */
    struct strbuf text;
    enum language language; /* LANGUAGE_NONE: the template's first */
    bool stream;            /* it asks for live output */
};

/* code_file "-" is standard input. */
int jobjson_build(struct jobjson *j, const struct options *o,
                  const char *code_file, bool stream, struct complaint *why);
void jobjson_fini(struct jobjson *j);

/* By the ending: .py .js .mjs .cjs .sh .bash; LANGUAGE_NONE for others. */
enum language jobjson_language_of(const char *file);

#endif
