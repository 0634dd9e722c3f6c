/* worker/frames.h -- what a sandbox displays: bytes nobody vouches for.
 *
 * The driver inside the sandbox writes frames (wire.h); the user's code can
 * write to the same pipe. So nothing in here believes a byte: what passes is
 * bounded, valid UTF-8 and of the right shape, the rest becomes a warning.
 * Frames never decide a verdict.
 *
 *   'R'  a JSON object of forms is checked and appended to o->results with
 *        every key of contract section 4 in its order, null where absent;
 *        unknown keys are dropped
 *   'E'  sets o->error_name, error_value, error_traceback; the first one wins
 *   'W'  a line for o->warnings
 *
 * A payload of the wrong shape is left out with a warning and reading goes on;
 * a frame that cannot be one (unknown type, absurd length, cut short) ends the
 * reading: what follows could be anything.
 *
 * Memory:   one payload at a time is held (RESULT_BYTES_MAX at most), and only
 *           as much as really arrived; checked forms are copied as they stand.
 * Threads:  one thread at a time.
 * Errors:   -ENOMEM. After it, only frames_end() and frames_fini().
 */
#ifndef WORKER_FRAMES_H
#define WORKER_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/outcome.h"
#include "common/strbuf.h"

#define FRAMES_HEAD_BYTES 5
/* A job's own warnings must not crowd out ours. */
#define FRAMES_WARNINGS_MAX      12
#define FRAMES_WARNING_BYTES_MAX 480
/* Room for every byte of an error escaped. */
#define FRAMES_ERROR_BYTES_MAX (6 * (TRACEBACK_BYTES_MAX + 2 * ERROR_TEXT_MAX))

struct frames {
    struct outcome *o; /* borrowed */
    unsigned char head[FRAMES_HEAD_BYTES];
    size_t head_len;
    uint32_t left;         /* bytes of this payload still to come */
    struct strbuf payload; /* what of it has come */
    size_t result_bytes;   /* in o->results from here */
    size_t warnings;       /* added from here */
    bool ended;            /* unreadable: the rest is let go */
    bool skip;             /* this payload has no room */
    bool has_main, has_error;
    bool warned_unknown, warned_full;
    const char *known; /* a key of results that is no form and worth no word; or
                          NULL */
};

/* Appends to *o, which must outlive f. -ENOMEM. */
int frames_init(struct frames *f, struct outcome *o);

/* The next bytes of the pipe, cut anywhere. Also takes (and lets go) what comes
 * after reading ended, so a caller need not stop draining the pipe. */
int frames_feed(struct frames *f, const char *data, size_t size);

/* One whole payload that came some other way than through the pipe: 'R' or 'E',
 * bounded and checked like a frame's. */
int frames_take(struct frames *f, char kind, const char *payload, size_t size);

/* End of the pipe: warns if a frame was cut short. Harmless when repeated. */
void frames_end(struct frames *f);

/* Harmless on a zeroed f. */
void frames_fini(struct frames *f);

#endif
