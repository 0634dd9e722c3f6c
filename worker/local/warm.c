#include "worker/local/warm.h"

#include <errno.h>
#include <string.h>

#include "worker/local/wire.h"

/* Read once, when Python, libc or a package starts. */
static const char *const start_prefixes[] = {
    "LD_", "PYTHON", "LC_", "LANG", "GLIBC_", "MALLOC_", "MPL", "NUMBA_",
};

/* Of packages that a bare zygote has not imported yet. */
static const char *const package_prefixes[] = {
    "OMP_", "GOMP_", "KMP_",     "OPENBLAS_", "GOTO_",
    "MKL_", "BLIS_", "NUMEXPR_", "NPY_",      "PANDAS_",
};
static const char *const thread_suffix = "_NUM_THREADS";

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends(const char *text, const char *suffix)
{
    size_t len = strlen(text), tail = strlen(suffix);

    return len >= tail && strcmp(text + len - tail, suffix) == 0;
}

#define BEGINS(name, prefixes) \
    begins_any(name, prefixes, sizeof(prefixes) / sizeof(*(prefixes)))

static bool begins_any(const char *name, const char *const *prefixes,
                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (begins(name, prefixes[i]))
            return true;
    return false;
}

static bool is_read_at_start(const char *name, bool bare)
{
    return BEGINS(name, start_prefixes) ||
           (!bare &&
            (BEGINS(name, package_prefixes) || ends(name, thread_suffix)));
}

char *const *warm_modules(const struct spec *spec)
{
    return spec->tpl ? spec->tpl->preload : NULL;
}

bool warm_suits(const struct job *job, const struct spec *spec)
{
    bool bare = warm_modules(spec) == NULL;

    if (spec->language != LANGUAGE_PYTHON || (spec->tpl && spec->tpl->cold))
        return false;
    /* The zygote's numeric libraries have set themselves up for one thread. */
    if (!bare && spec->limits.cpu_percent > 100)
        return false;
    for (size_t i = 0; i < job->nenv; i++)
        if (is_read_at_start(job->env[i].name, bare))
            return false;
    return true;
}

int warm_message(const char *interpreter, bool warm, char *const *modules,
                 int floor, struct strbuf *out)
{
    struct wire_warm m = {.kind = WIRE_WARM, .warm = warm, .floor = floor};
    AUTO_STRBUF struct strbuf strings = STRBUF_INIT;

    strbuf_add(&strings, interpreter, strlen(interpreter) + 1);
    for (; warm && modules && *modules; modules++, m.preloads++)
        strbuf_add(&strings, *modules, strlen(*modules) + 1);
    if (strings.failed)
        return -ENOMEM;
    m.strings_bytes = (uint32_t)strings.len;
    strbuf_add(out, &m, sizeof(m));
    strbuf_add(out, strings.text, strings.len);
    return out->failed ? -ENOMEM : 0;
}
