/* producer/gateway/dead.h -- the dead list over HTTP.
 *
 * GET dead?from=N&limit=N lists, newest first; GET dead/{id} shows one with its
 * text; POST dead/{id}/retry puts it back into its queue; DELETE dead/{id}
 * drops it. A key sees and touches only its own tenant's jobs, and those that
 * came without a key.
 */
#ifndef PRODUCER_GATEWAY_DEAD_H
#define PRODUCER_GATEWAY_DEAD_H

#include "producer/gateway/request.h"

#define DEAD_PAGE 50 /* listed, if no limit is given */

void dead_list(struct request *r);
void dead_show(struct request *r);
void dead_retry(struct request *r);
void dead_drop(struct request *r);

#endif
