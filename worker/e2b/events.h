/* worker/e2b/events.h -- the stream a code interpreter answers /execute with.
 *
 * One JSON object a line (protocol section 3.3), cut anywhere by the network.
 * What it says goes to the outcome: output, results, the error. Nothing in it
 * is believed beyond its shape: lines, results and all of it are bounded, and a
 * type that is not known is passed over.
 *
 * Memory:   one line at a time, EVENT_LINE_MAX at most.
 * Threads:  one at a time.
 * Errors:   -EPROTO: not the protocol (`why` says what; after `ended`: more
 * came than belongs there); -ENOBUFS: code made more than its limit, or
 *           EVENTS_BYTES_MAX in all; -ENOMEM.
 */
#ifndef WORKER_E2B_EVENTS_H
#define WORKER_E2B_EVENTS_H

#include "common/outcome.h"
#include "worker/backend.h"
#include "worker/frames.h"

#define EVENT_LINE_MAX   (8u << 20)
#define EVENTS_BYTES_MAX (512ull << 20) /* of one whole stream */
#define OUTPUT_FLOOD     4 /* times its limit, as for local sandboxes */

struct events {
    struct outcome *o;
    const struct run_sink *sink; /* or NULL */
    int64_t output_limit;
    struct frames frames;
    struct strbuf line;
    uint64_t bytes;
    bool skipping; /* the rest of a line that is too long */
    bool cut;      /* this line is the beginning of such a one */
    bool failed;   /* an error came, whether or not it fits the outcome */
    bool ended;    /* end_of_execution: the run is whole */
    char lost[32]; /* the interpreter's own word for its failure, or "" */
    char why[120]; /* of -EPROTO */
};

int events_init(struct events *e, struct outcome *o,
                const struct run_sink *sink, int64_t output_limit);
void events_fini(struct events *e);

/* The next bytes; fit for struct http_call's data(). */
int events_feed(void *events, const char *data, size_t size);

/* After the last bytes: end_of_execution needs no newline (protocol section
 * 3.6). Half a line is none. */
void events_last(struct events *e);

/* Adds to the output of o, tells the sink. -ENOBUFS as above. */
int output_add(struct outcome *o, const struct run_sink *sink,
               int64_t output_limit, bool is_stderr, const char *data,
               size_t size);

/* In place: takes the colours (ESC [ … m and the like) out. */
void strip_escapes(char *text);

#endif
