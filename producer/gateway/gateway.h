/* producer/gateway/gateway.h -- all that the handlers share.
 *
 * Threads:  the loop's, but for what the modules in it say.
 */
#ifndef PRODUCER_GATEWAY_GATEWAY_H
#define PRODUCER_GATEWAY_GATEWAY_H

#include <stdbool.h>

#include "common/protocol.h"
#include "common/settings.h"
#include "common/template.h"
#include "producer/gateway/errands.h"
#include "producer/gateway/keys.h"
#include "producer/gateway/link.h"
#include "producer/gateway/loop.h"
#include "producer/gateway/peers.h"
#include "producer/gateway/recent.h"
#include "producer/gateway/request.h"
#include "producer/gateway/snapshot.h"
#include "producer/gateway/waiters.h"

struct http;
struct health;

#define GATEWAY_REFUSALS_MAX 16

struct gateway {
    const struct settings *settings;
    struct protocol protocol;
    struct redis_target target;
    struct loop loop;
    struct link link; /* for commands */
    struct link news; /* P:done */
    char channel[KEY_MAX];
    struct errands errands;
    struct waiters waiters;
    struct keys keys;
    bool keyed; /* a key is needed */
    struct peers peers;
    struct template_set *templates;
    struct snapshot snapshot;
    struct http *http;
    struct health *health;
    bool draining;
    /* The kinds of refusals (their first words) that the log has since Redis
     * was last connected: main.c */
    char refusals[GATEWAY_REFUSALS_MAX][32];
    int nrefusals;
    char nonce_base[JOB_ID_MAX + 1]; /* submit.c */
    uint64_t nonces;
    struct recent recent;
    struct stream *stream_list;
    int streams; /* open event streams */

    /* Of this process, for /metrics. */
    int64_t requests[6]; /* by the first digit of the status; 0: unused */
    int64_t asleep;      /* requests that wait */
};

#endif
