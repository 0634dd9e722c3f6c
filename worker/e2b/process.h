/* worker/e2b/process.h -- the stream envd answers process.Process/Start with.
 *
 * Connect's envelopes: a flag byte, four bytes of length, one JSON message
 * (protocol section 4.2; process.proto). Output goes to the outcome as it
 * comes.
 *
 * Memory:   one envelope at a time, ENVELOPE_MAX at most.
 * Threads:  one at a time.
 * Errors:   as for events.h.
 */
#ifndef WORKER_E2B_PROCESS_H
#define WORKER_E2B_PROCESS_H

#include "common/outcome.h"
#include "common/strbuf.h"
#include "worker/backend.h"

#define ENVELOPE_MAX (1u << 20)

struct process {
    struct outcome *o; /* NULL: its stdout goes to `text` alone */
    const struct run_sink *sink;
    int64_t output_limit;
    const char *secrets[2]; /* no message of envd shows them; or NULL */
    struct strbuf text;     /* stdout, when there is no outcome; bounded */
    struct strbuf in;       /* the envelope so far */
    bool started;
    bool exited;   /* its end came */
    int exit_code; /* -1: none */
    int signal;    /* 0: none */
    bool ended;    /* the stream's end came */
    char code[32]; /* Connect's error code of the end, or "" */
    char why[160]; /* of -EPROTO, or the error's message */
};

void process_init(struct process *p, struct outcome *o,
                  const struct run_sink *sink, int64_t output_limit);
void process_fini(struct process *p);

/* The next bytes; fit for struct http_call's data(). */
int process_feed(void *process, const char *data, size_t size);

/* Puts an envelope around a message. */
void envelope_wrap(const char *message, size_t size, struct strbuf *out);

#endif
