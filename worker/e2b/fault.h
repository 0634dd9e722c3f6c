/* worker/e2b/fault.h -- what an answer of E2B, or none, asks us to do.
 *
 * The table of the protocol's section 1.4 and 2.5, in one place. Pure.
 */
#ifndef WORKER_E2B_FAULT_H
#define WORKER_E2B_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/e2b/http.h"

enum fault {
    FAULT_NONE,
    FAULT_REFUSED,   /* 400, 404 on create, 507: this request is wrong; not
                        again */
    FAULT_KEY,       /* 401: no request of ours will do until it changes */
    FAULT_FORBIDDEN, /* 403 */
    FAULT_GONE,      /* 404, 502 "not found": the sandbox does not exist */
    FAULT_SHUT,      /* 502 "port is not open": it runs, its service does not */
    FAULT_CONFLICT,  /* 409: its state is changing; ask again soon */
    FAULT_ACCOUNT,   /* 429 (a): all sandboxes of the account are in use */
    FAULT_RATE,      /* 429 (b), (c): slower; wait is said or ours to choose */
    FAULT_NO_NODE,   /* 503: none can take this template; not soon */
    FAULT_AWAY,      /* nothing was done: no name, no connection, no TLS, 503 */
    FAULT_UNSURE,    /* it may have been done: 500, 502, 504, reset, late */
    FAULT_ABORTED,   /* we gave it up */
    FAULT_LATE,      /* a run reached its deadline */
    FAULT_FLOOD,     /* more came than we take */
    FAULT_NONSENSE,  /* an answer that cannot be one */
};

/* Which plane answers: 502 and 404 mean different things. */
enum fault_plane { PLANE_CONTROL, PLANE_SANDBOX };

enum fault fault_of(const struct http_call *call, enum fault_plane plane);

/* Does it say that the endpoint itself is not well? Counts for the breaker. */
bool fault_is_outage(enum fault fault);

/* A text member of the answer, cut to out; "" if that is no JSON object or has
 * none. */
void fault_said(const struct http_call *call, const char *name, char *out,
                size_t size);

/* One line for people: "HTTP 429: you have reached…", "no connection: …". What
 * the server said is shortened, and control characters are taken out. */
void fault_text(const struct http_call *call, char *out, size_t size);

#endif
