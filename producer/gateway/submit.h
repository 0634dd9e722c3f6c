/* producer/gateway/submit.h -- one job on its way into a queue.
 *
 * Memory:   a submission is its owner's, and stays where it is from
 *           submit_send() to done().
 * Threads:  the loop's.
 * Errors:   done() gets 0 and the answer, or a negated errno (after -ENOTCONN
 *           and the like the job may have been accepted: its id tells).
 */
#ifndef PRODUCER_GATEWAY_SUBMIT_H
#define PRODUCER_GATEWAY_SUBMIT_H

#include "common/protocol.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/gateway.h"

struct submission {
    struct gateway *gateway;
    const struct apijob *job;
    const char *tenant; /* NULL: the job's, if any */
    bool counted;       /* in its batch's total, by who creates the batch */
    void (*done)(struct submission *s, int rc, enum enqueue_answer answer);
    void *ctx;
    char nonce[JOB_ID_MAX + 1];
    bool by_text; /* Redis did not know the script */
};

/* The first six fields are set. Negative: done() will not be called. */
int submit_send(struct submission *s);

#endif
