/* worker/e2b/guest.h -- inside one E2B sandbox: its interpreter and its envd.
 *
 * Source: sections 2 (how to reach a sandbox), 3 (code interpreter, port 49999)
 * and 4 (envd, port 49983) of E2B's protocol.
 *
 * Memory:   a guest is the caller's; it borrows control and route.
 * Threads:  one guest, one thread; guest_abort() from any.
 * Errors:   enum fault, with text in words (CONTROL_TEXT_MAX bytes). A proxy
 *           that asks for a moment (409, 429: it passed nothing on) gets it.
 */
#ifndef WORKER_E2B_GUEST_H
#define WORKER_E2B_GUEST_H

#include <stdatomic.h>

#include "worker/e2b/control.h"
#include "worker/e2b/events.h"
#include "worker/e2b/process.h"

#define GUEST_STALL_S    30 /* a keepalive comes each 5 s */
#define GUEST_FILE_MS    60000
#define GUEST_LIST_MS    20000
#define GUEST_PING_S     10 /* keepalives of envd's streams */
#define GUEST_HOME       "/home/user"
#define GUEST_DEPTH      16 /* folders below the home folder that are listed */
#define GUEST_HEADER_MAX 300

/* How all sandboxes of a worker are reached. */
struct guest_route {
    const char *fixed; /* one address for all (E2B_SANDBOX_URL), or "" */
    int fixed_len;     /* without the slashes at its end */
    /* sandbox.<domain> for all, told apart by headers: kept connections. Put
     * out when an answer shows that this proxy does not know how. */
    atomic_bool shared;
    bool automatic; /* on E2B's own domains alone, and with a way back */
};

void guest_route_init(struct guest_route *r, const struct settings *s);

struct guest {
    const struct control *control;
    struct guest_route *route;
    struct control_sandbox sandbox;
    struct call_slot slot;
    /* Called by the network thread when the sandbox's host first answers with a
     * 2xx; must not block. NULL: nobody wants to know. */
    void (*answered)(void *ctx);
    void *ctx;
    bool heard; /* it has; to be read between calls */
    char id_header[GUEST_HEADER_MAX], token_header[GUEST_HEADER_MAX],
        traffic_header[GUEST_HEADER_MAX];
};

void guest_init(struct guest *g, const struct control *control,
                struct guest_route *route);
void guest_fini(struct guest *g);
/* Once it is created. */
void guest_found(struct guest *g, const struct control_sandbox *sandbox);

/* POST /execute with this body. last: nothing more is asked of this host.
 * FAULT_LATE: the deadline came when it had answered, so that the code may have
 * run till then. */
enum fault guest_execute(struct guest *g, const struct strbuf *body,
                         int64_t deadline_ms, bool last, struct events *e,
                         char *text);

/* process.Process/Start: message is its JSON. timeout_ms: envd kills the
 * process then. */
enum fault guest_start(struct guest *g, const struct strbuf *message,
                       int64_t timeout_ms, struct process *p, char *text);

/* Writes files; names are relative to the home folder, or absolute. path: where
 * the only part goes, whatever its name; or NULL. */
enum fault guest_upload(struct guest *g, const char *path,
                        const struct http_part *parts, size_t nparts,
                        char *text);

/* One file, at most `most` bytes (FAULT_FLOOD: it is larger). A file that is
 * not there is FAULT_GONE with status 404, a sandbox that is not one with 502.
 */
enum fault guest_download(struct guest *g, const char *path, size_t most,
                          int64_t deadline_ms, struct strbuf *out,
                          int *status_out, char *text);

/* filesystem.Filesystem/ListDir of /home/user: the JSON answer. A home that the
 * code took away has no files: {}. */
enum fault guest_list(struct guest *g, struct strbuf *out, char *text);

/* filesystem.Filesystem/Stat of a path below the home folder: the JSON answer,
 * {} if there is none. */
enum fault guest_stat(struct guest *g, const char *path, int64_t deadline_ms,
                      struct strbuf *out, char *text);

#endif
