/* producer/gateway/lookup.h -- GET jobs/{id}, its files, and batch/{id}.
 *
 * A job that has ended answers its result, one that has not its state. Files
 * are those of the result; pictures and HTML that the code displayed are named
 * as `capibox --save` names them: result-1.png, result-2.html … What a file
 * holds is never live: it comes with a policy that sandboxes it.
 */
#ifndef PRODUCER_GATEWAY_LOOKUP_H
#define PRODUCER_GATEWAY_LOOKUP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "producer/gateway/request.h"

void lookup_job(struct request *r);
void lookup_file(struct request *r);
void lookup_batch(struct request *r);

/* One file of a result, taken out of it. */
struct lookup_found {
    unsigned char *data; /* the caller frees */
    size_t size;
    char type[128];
    const char *skipped; /* why it was not kept, borrowed; else NULL */
};
/* False: there is none of that name. */
bool lookup_in_result(const cJSON *result, const char *path,
                      struct lookup_found *out);

#endif
