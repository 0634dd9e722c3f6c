/* producer/show.h -- an ended job, as `run`, `wait` and `result` show it. */
#ifndef PRODUCER_SHOW_H
#define PRODUCER_SHOW_H

#include "common/settings.h"
#include "producer/client.h"
#include "producer/follow.h"
#include "producer/options.h"

/* With --json the result alone on stdout; else the logs that *f has not shown,
 * then the rest on stderr. save: folder for files, or NULL. f NULL: no logs.
 * Returns the exit code the verdict gives. */
int show_job(const struct settings *s, const struct options *o,
             const char *save, struct follow *f, const struct client_job *job,
             const char *id);

#endif
