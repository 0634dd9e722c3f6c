/* common/envelope.h -- the delivery prefix of a list entry.
 *
 * Entries pushed by anyone are raw job JSON, which starts with '{'. Entries
 * that capibox puts (back) into Redis may carry what is known about their
 * delivery:
 *
 *   !c1;d2;a1;t1700000000000;iJOBID;pTOKEN|{json}
 *
 *   c  times this job was the suspect of a worker's death (0 if absent)
 *   d  deliveries so far (bounded by DELIVERIES_MAX)
 *   a  attempts used up by capibox's own failures
 *   t  first enqueued, unix ms
 *   i  the job's id, when the JSON has none or the enqueuer made it
 *   p  token of the claim this entry descends from: only its heir may take over
 *      the job's hash
 *   u  due time of a delay already honoured (unix ms)
 *
 * Fields come in any order, each at most once, none empty; numbers are plain
 * digits, i is a job id, p is of A-Za-z0-9._:-@/ . Anything that does not match
 * exactly is raw text. A forged prefix can harm only its own job.
 */
#ifndef COMMON_ENVELOPE_H
#define COMMON_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/strbuf.h"

#define ENVELOPE_BYTES_MAX 512

struct envelope {
    int suspicions;             /* c */
    int deliveries;             /* d */
    int attempts;               /* a */
    int64_t enqueued_ms;        /* t; 0: unknown */
    char id[JOB_ID_MAX + 1];    /* i; "" : none */
    char parent[TOKEN_MAX + 1]; /* p; "": none */
    int64_t due_ms;             /* u; 0: none */
};

/* Splits an entry. Returns where the body (JSON) starts; *e is zeroed when
 * there is no prefix. Never fails. */
size_t envelope_parse(const char *entry, size_t size, struct envelope *e);

/* Appends "!…|" (nothing for an all-zero envelope). What could not be read back
 * (a negative number, an unusable id) is left out. */
void envelope_print(const struct envelope *e, struct strbuf *out);

#endif
