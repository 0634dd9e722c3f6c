/* tests/fuzz/fuzz_e2b_process.c -- envd's stream of a process, as hostile as
 * libFuzzer can.
 *
 * The first byte says how the rest is cut into reads; how it was cut changes
 * nothing.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/must.h"
#include "worker/e2b/events.h"
#include "worker/e2b/process.h"

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct outcome o;
    struct process p;
    int rc;
};

static void feed(struct run *r, const char *text, size_t size, size_t step)
{
    MUST0(outcome_init(&r->o, LIMIT));
    process_init(&r->p, &r->o, NULL, LIMIT);
    r->rc = 0;
    for (size_t at = 0; at < size && r->rc == 0 && !r->p.ended; at += step)
        r->rc =
            process_feed(&r->p, text + at, size - at < step ? size - at : step);
    MUST(r->rc == 0 || r->rc == -EPROTO || r->rc == -ENOBUFS);
    MUST(r->rc != -EPROTO || r->p.why[0]);
    MUST(r->p.in.len <= ENVELOPE_MAX + 5);
    MUST(r->p.signal >= 0);
}

static void same(const struct run *a, const struct run *b)
{
    MUST(a->rc == b->rc);
    MUST(a->p.started == b->p.started && a->p.exited == b->p.exited);
    MUST(a->p.ended == b->p.ended);
    MUST(a->p.exit_code == b->p.exit_code && a->p.signal == b->p.signal);
    MUST(strcmp(a->p.code, b->p.code) == 0);
    MUST(a->o.out.total == b->o.out.total);
    MUST(a->o.err.total == b->o.err.total);
}

static void drop(struct run *r)
{
    process_fini(&r->p);
    outcome_fini(&r->o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    struct run cut, whole;

    if (size < 2)
        return 0;
    feed(&cut, text, size - 1, (size_t)data[0] + 1);
    feed(&whole, text, size - 1, size - 1);
    same(&cut, &whole);
    drop(&cut);
    drop(&whole);
    return 0;
}
