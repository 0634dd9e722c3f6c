/* tests/fuzz/fuzz_e2b_events.c -- the interpreter's stream, as hostile as
 * libFuzzer can.
 *
 * The first byte says how the rest is cut into reads. Whatever comes in, what
 * comes out is bounded and JSON, and how it was cut changes nothing.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/json.h"
#include "common/must.h"
#include "common/result.h"
#include "worker/e2b/events.h"

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct outcome o;
    struct events e;
    int rc;
};

static void feed(struct run *r, const char *text, size_t size, size_t step)
{
    MUST0(outcome_init(&r->o, LIMIT));
    MUST0(events_init(&r->e, &r->o, NULL, LIMIT));
    r->rc = 0;
    for (size_t at = 0; at < size && r->rc == 0 && !r->e.ended; at += step)
        r->rc =
            events_feed(&r->e, text + at, size - at < step ? size - at : step);
    events_last(&r->e);
    MUST(r->rc == 0 || r->rc == -EPROTO || r->rc == -ENOBUFS);
    MUST(r->rc != -EPROTO || r->e.why[0]);
    MUST(r->e.line.len <= EVENT_LINE_MAX + 2);
    MUST(!r->e.lost[0] || r->e.failed);
}

static void check_result(const struct outcome *o)
{
    const struct result_context ctx = {.job_id = "j", .finished_at = 1};
    struct strbuf json = STRBUF_INIT;
    cJSON *root;

    MUST(o->nresults <= RESULT_ITEMS_MAX);
    MUST(o->results.len <= RESULT_BYTES_MAX);
    MUST0(
        result_encode(&ctx, NULL, NULL, (struct outcome *)(uintptr_t)o, &json));
    MUST0(json_check(json.text, json.len, NULL, 0, NULL, NULL));
    root = cJSON_ParseWithLength(json.text, json.len);
    MUST(root);
    MUST((size_t)cJSON_GetArraySize(cJSON_GetObjectItem(root, "results")) ==
         o->nresults);
    cJSON_Delete(root);
    strbuf_fini(&json);
}

static void same(const struct run *a, const struct run *b)
{
    MUST(a->rc == b->rc);
    MUST(a->e.ended == b->e.ended && a->e.failed == b->e.failed);
    MUST(strcmp(a->e.lost, b->e.lost) == 0);
    MUST(a->o.out.total == b->o.out.total);
    MUST(a->o.err.total == b->o.err.total);
    MUST(a->o.nresults == b->o.nresults);
}

static void drop(struct run *r)
{
    events_fini(&r->e);
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
    check_result(&cut.o);
    drop(&cut);
    drop(&whole);
    return 0;
}
