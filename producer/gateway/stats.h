/* producer/gateway/stats.h -- GET stats, templates, and the state of Redis.
 *
 * Every figure is read from the hashes in Redis when it is asked for
 * (snapshot.h); averages, rates and percentiles are worked out of them.
 */
#ifndef PRODUCER_GATEWAY_STATS_H
#define PRODUCER_GATEWAY_STATS_H

#include "common/strbuf.h"
#include "producer/gateway/request.h"
#include "producer/gateway/snapshot.h"

void stats_get(struct request *r);
void stats_templates(struct request *r);
/* 200 while Redis can be reached, else 503. */
void stats_alive(struct request *r);

/* The whole document of a view appended. Counts are everybody's; of the jobs
 * that run, it names those that the request may see. */
void stats_print(struct strbuf *json, const struct request *r,
                 struct view *view);

/* Answers with what make() prints of a view, which is printed once for those of
 * a key who ask for the same view; slot is the caller's place in view->cache.
 */
typedef void stats_make_fn(struct strbuf *text, const struct request *r,
                           struct view *view);
void stats_answer_view(struct request *r, int slot, const char *type,
                       stats_make_fn *make);

/* Age in seconds of the oldest entry of a queue; negative: not known. */
double stats_oldest(const struct view *view, const struct view_queue *queue);
/* Sandboxes at work and room for them, by the cards of the living workers. */
void stats_sandboxes(const struct view *view, double *active_out,
                     double *most_out);

#endif
