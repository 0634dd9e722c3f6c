/* tests/soak/soak_jobs.h -- the kinds of jobs a soak is mixed of.
 *
 * Each is small: the point is how many there are. A job gets its variant as its
 * one argument.
 */
#ifndef TESTS_SOAK_SOAK_JOBS_H
#define TESTS_SOAK_SOAK_JOBS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/strbuf.h"

#define SOAK_VARIANTS 3

struct soak_kind {
    const char *name, *language, *template_id, *code;
    const char *requirements; /* members to add, each after a comma; or "" */
    const char *rest;         /* the same for the job itself */
    const char *verdicts;     /* "ok"; or those it may get: "oom timeout" */
    int weight;               /* how often, among all */
    bool same;                /* its result never differs */
};

extern const struct soak_kind soak_kinds[];
extern const size_t soak_kinds_count;

/* Appends the JSON of one job. */
void soak_job(const struct soak_kind *kind, int variant, const char *id,
              struct strbuf *out);

/* Draws a kind by weight; the same seed draws the same ones. */
size_t soak_draw(unsigned *seed);

/* May a job of this kind end so? */
bool soak_verdict_fits(const struct soak_kind *kind, const char *verdict);

#endif
