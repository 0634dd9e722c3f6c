/* producer/gateway/routes.h -- which handler answers which path and method.
 *
 * `/api/e2b/…` is the same as `/api/v1/e2b/…`. Paths are taken apart before
 * percent-encoding is undone, so that an encoded slash separates nothing.
 *
 * Threads:  the table is const.
 */
#ifndef PRODUCER_GATEWAY_ROUTES_H
#define PRODUCER_GATEWAY_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#define ROUTES_ID_MAX    128 /* bytes, decoded */
#define ROUTES_REST_MAX  1024
#define ROUTES_ALLOW_MAX 64

struct request;

enum route_flags {
    ROUTE_OPEN = 1,  /* needs no key */
    ROUTE_BODY = 2,  /* has one, of JSON */
    ROUTE_BATCH = 4, /* which may be larger */
};

struct route {
    const char *method;
    const char *path; /* "{id}" is a segment, "{path}" at the end all the rest
                       */
    unsigned flags;
    void (*handle)(struct request *r);
};

struct route_match {
    const struct route *route;  /* NULL: none */
    char id[ROUTES_ID_MAX + 1]; /* "{id}" and "{path}", decoded */
    char rest[ROUTES_REST_MAX + 1];
    char allow[ROUTES_ALLOW_MAX]; /* methods the path has; "": no such path */
    bool malformed; /* a bad percent-encoding, a NUL, or too long */
};

/* Finds the route of a raw path (without its query). HEAD goes with GET. */
void routes_match(const struct route *table, size_t count, const char *method,
                  const char *path, struct route_match *out);

/* Undoes percent-encoding. False, and "" in out (max + 1 bytes), if it is
 * malformed, holds a NUL, or is longer than max. */
bool routes_decode(const char *text, size_t size, char *out, size_t max);

#endif
