#include "producer/gateway/routes.h"

#include <stdio.h>
#include <string.h>

#define OLD_ROOT "/api/e2b/"
#define NEW_ROOT "/api/v1/e2b/"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool spoilt(char *out)
{
    out[0] = '\0';
    return false;
}

bool routes_decode(const char *text, size_t size, char *out, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i++, n++) {
        int c = (unsigned char)text[i];

        if (n >= max)
            return spoilt(out);
        if (c == '%') {
            int high = i + 2 < size ? hex(text[i + 1]) : -1;
            int low = i + 2 < size ? hex(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return spoilt(out);
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0)
            return spoilt(out);
        out[n] = (char)c;
    }
    out[n] = '\0';
    return true;
}

struct spans {
    const char *id, *rest;
    size_t id_size, rest_size;
};

static bool matches(const char *pattern, const char *path, struct spans *out)
{
    *out = (struct spans){0};
    while (*pattern) {
        if (!strncmp(pattern, "{id}", 4)) {
            out->id = path;
            out->id_size = strcspn(path, "/");
            pattern += 4;
            path += out->id_size;
            if (out->id_size == 0)
                return false;
        } else if (!strcmp(pattern, "{path}")) {
            out->rest = path;
            out->rest_size = strlen(path);
            return out->rest_size > 0;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

static void allow(struct route_match *out, const char *method)
{
    size_t len = strlen(out->allow);

    snprintf(out->allow + len, sizeof(out->allow) - len, "%s%s%s",
             len > 0 ? ", " : "", method,
             strcmp(method, "GET") ? "" : ", HEAD");
}

static void take(struct route_match *out, const struct route *route,
                 const struct spans *spans)
{
    out->route = route;
    if (spans->id &&
        !routes_decode(spans->id, spans->id_size, out->id, ROUTES_ID_MAX))
        out->malformed = true;
    if (spans->rest && !routes_decode(spans->rest, spans->rest_size, out->rest,
                                      ROUTES_REST_MAX))
        out->malformed = true;
}

/* The path below NEW_ROOT, if it is below either root. */
static const char *below_root(const char *path)
{
    if (!strncmp(path, NEW_ROOT, strlen(NEW_ROOT)))
        return path + strlen(NEW_ROOT);
    if (!strncmp(path, OLD_ROOT, strlen(OLD_ROOT)))
        return path + strlen(OLD_ROOT);
    return NULL;
}

static bool fits(const struct route *route, const char *path, const char *below,
                 struct spans *spans)
{
    const char *pattern = below_root(route->path);

    if (pattern)
        return below && matches(pattern, below, spans);
    return !below && matches(route->path, path, spans);
}

void routes_match(const struct route *table, size_t count, const char *method,
                  const char *path, struct route_match *out)
{
    const char *below = below_root(path);

    out->route = NULL;
    out->id[0] = out->rest[0] = out->allow[0] = '\0';
    out->malformed = false;
    if (!strcmp(method, "HEAD"))
        method = "GET";
    for (size_t i = 0; i < count; i++) {
        struct spans spans;

        if (!fits(&table[i], path, below, &spans))
            continue;
        allow(out, table[i].method);
        if (!out->route && !strcmp(table[i].method, method))
            take(out, &table[i], &spans);
    }
}
