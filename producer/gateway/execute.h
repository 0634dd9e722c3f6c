/* producer/gateway/execute.h -- POST execute and dynamic: a job, and its result
 * or where to find it.
 *
 * The answer is 200 with the result, once the job has ended; 202 with the id at
 * once for "async": true or `Prefer: respond-async`, and after N seconds for
 * `Prefer: wait=N`. A client that goes away (one that closes its sending side
 * is taken for it) frees its place and is hung up on; with
 * "cancel_on_disconnect": true the job is cancelled, if it was this request
 * that brought it. An id that was used before
 * is answered with that job, "duplicate": true, and, where its code was kept
 * and is not what was sent now, "code_differs": true.
 */
#ifndef PRODUCER_GATEWAY_EXECUTE_H
#define PRODUCER_GATEWAY_EXECUTE_H

#include "producer/gateway/request.h"

#define EXECUTE_WAIT_S 7200 /* then 202, as if it had been asked for */

void execute_job(struct request *r);
void execute_dynamic(struct request *r);

/* 202 (or another status) with {"job_id","status","status_url"}; more is
 * further JSON members behind a comma, or "". */
void execute_answer_id(struct request *r, unsigned status, const char *id,
                       const char *job_status, const char *more);

/* What `Prefer` (all its lines as one list; may be NULL) says: seconds to wait,
 * 0 for respond-async alone, -1 for nothing of the kind. */
double execute_prefer(const char *header);

#endif
