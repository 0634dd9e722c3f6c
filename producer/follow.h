/* producer/follow.h -- a job's output as it comes, then what was missed.
 *
 * Prints the pieces of P:events:<id> by their offsets, so that nothing is shown
 * twice, and fills in from the result's logs what the stream did not bring (a
 * worker that does not stream, a stream cut short).
 *
 * Threads:  one.
 * Errors:   negated errno: then stop following; follow_rest() still works.
 */
#ifndef PRODUCER_FOLLOW_H
#define PRODUCER_FOLLOW_H

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>

#include "producer/client.h"
#include "producer/text.h"

struct follow {
    FILE *streams[2];  /* where stdout and stderr go */
    uint64_t seen[2];  /* bytes of each that were shown */
    bool open_line[2]; /* the last byte shown was no newline */
    bool tame[2];      /* goes to a terminal: see text_tame() */
    struct text_tamer tamers[2];
    bool resumed[2]; /* the next piece says where it goes on */
    int starts;      /* "running" seen: over 1 means it was run again */
    bool ended;
    char last[EVENT_ID_MAX + 1]; /* id of the last entry read */
};

void follow_init(struct follow *f, FILE *out, FILE *err);
/* Before the first event: earlier ones were seen elsewhere. */
void follow_resume(struct follow *f);

/* One entry of the stream. Of a piece that overlaps what was shown, the new
 * part is shown; what is missing before it is said. */
void follow_event(struct follow *f, const char *type, const char *data,
                  size_t size, uint64_t offset);

/* Reads entries for up to block_ms (0: what is there). Returns how many. */
int follow_read(struct follow *f, struct client *c, struct redis *redis,
                const char *id, int block_ms);

/* So that words of ours on stderr begin a line: what follows an unfinished one
 * would be hard to read. */
void follow_end_lines(struct follow *f);

/* Shows the part of the result's logs that the stream did not bring. */
void follow_rest(struct follow *f, const cJSON *result);

#endif
