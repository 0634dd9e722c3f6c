#include "worker/sandboxd/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_BYTES_MIN (1 << 20)
#define DISK_BYTES_MIN   (64 << 10)
#define INODES_MIN       16
#define CPU_PERCENT_MAX  100000
#define PIDS_MAX         (1 << 20)
#define TIMEOUT_MS_MAX   (7ll * 86400 * 1000)

/* Points count entries of out at NUL-terminated strings from *at on. */
static int split(char **at, const char *end, char **out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char *nul = memchr(*at, 0, (size_t)(end - *at));

        if (!nul)
            return -EINVAL;
        out[i] = *at;
        *at = nul + 1;
    }
    out[count] = NULL;
    return 0;
}

static const char *wrong_limit(const struct wire_create *want)
{
    if (want->timeout_ms < 1 || want->timeout_ms > TIMEOUT_MS_MAX)
        return "timeout";
    if (want->memory_bytes < MEMORY_BYTES_MIN)
        return "memory";
    if (want->disk_bytes < DISK_BYTES_MIN || want->disk_inodes < INODES_MIN)
        return "disk";
    if (want->cpu_percent < 1 || want->cpu_percent > CPU_PERCENT_MAX)
        return "cpu";
    if (want->pids < 1 || want->pids > PIDS_MAX)
        return "pids";
    return NULL;
}

static int check(const struct wire_create *want, size_t size, struct step *why)
{
    const char *limit = wrong_limit(want);

    if (want->kind != WIRE_CREATE)
        return step_failed(why, EINVAL, "read the sandbox's spec: not one");
    if (want->strings_bytes > WIRE_STRINGS_MAX ||
        size != sizeof(*want) + want->strings_bytes)
        return step_failed(why, EINVAL, "read the sandbox's spec: its size");
    if (want->argc < 1 || want->argc > WIRE_ARGV_MAX)
        return step_failed(why, EINVAL, "read the sandbox's spec: arguments");
    if (want->envc > BOX_ENV_MAX)
        return step_failed(why, EINVAL, "read the sandbox's spec: environment");
    if (want->preloads > WIRE_PRELOAD_MAX)
        return step_failed(why, EINVAL, "read the sandbox's spec: its modules");
    if (limit)
        return step_failed(why, EINVAL, "read the sandbox's spec: its %s limit",
                           limit);
    return 0;
}

int box_spec_read(const void *message, size_t size, struct box_spec *spec_out,
                  struct step *why)
{
    struct box_spec *s = spec_out;
    int rc;

    *s = (struct box_spec){0};
    if (size < sizeof(s->want))
        return step_failed(why, EINVAL, "read the sandbox's spec: too short");
    memcpy(&s->want, message, sizeof(s->want));
    rc = check(&s->want, size, why);
    if (rc < 0)
        return rc;

    s->strings = malloc(s->want.strings_bytes + 1);
    if (!s->strings)
        return step_failed(why, ENOMEM, "read the sandbox's spec");
    memcpy(s->strings, (const char *)message + sizeof(s->want),
           s->want.strings_bytes);

    char *at = s->strings, *end = s->strings + s->want.strings_bytes;
    if (split(&at, end, s->argv, s->want.argc) < 0 ||
        split(&at, end, s->env, s->want.envc) < 0 ||
        split(&at, end, s->preload, s->want.preloads) < 0 || at != end ||
        s->argv[0][0] != '/') {
        box_spec_fini(s);
        return step_failed(why, EINVAL, "read the sandbox's spec: its strings");
    }
    /* The kernel rounds limits down to pages; read-back compares. */
    s->want.memory_bytes -= s->want.memory_bytes % sysconf(_SC_PAGESIZE);
    return 0;
}

void box_spec_fini(struct box_spec *spec)
{
    free(spec->strings);
    spec->strings = NULL;
}
