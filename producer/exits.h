/* producer/exits.h -- the exit codes of capibox, and which verdict gives which.
 *
 * The contract's section 1; scripts rely on the numbers.
 */
#ifndef PRODUCER_EXITS_H
#define PRODUCER_EXITS_H

#include "common/outcome.h"

enum exits {
    EXITS_OK = 0,
    EXITS_CODE_FAILED = 1, /* the job's own code */
    EXITS_USAGE = 2,
    EXITS_STOPPED = 3, /* by a limit, or cancelled */
    EXITS_CAPIBOX = 4, /* capibox, Redis or a backend failed */
    EXITS_NO_JOB = 5,
    EXITS_INTERRUPTED = 130,
};

/* EXITS_CAPIBOX for VERDICT_NONE: a job that ended without a verdict we know
 * is nobody's success. */
enum exits exits_of_verdict(enum verdict verdict);

/* The same from a result's "verdict"; NULL is allowed. */
enum exits exits_of_name(const char *verdict);

/* What to exit with after several jobs: the worst of both. */
enum exits exits_worst(enum exits a, enum exits b);

#endif
