/* tests/fuzz/fuzz_frames.c -- the result pipe, as hostile as libFuzzer can.
 *
 * The first byte says how the rest is cut into reads. Whatever comes in, the
 * results that come out are JSON within the bounds, each with all its keys.
 */
#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"
#include "common/must.h"
#include "worker/frames.h"

#define FORMS 14

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_results(const struct outcome *o)
{
    struct strbuf json = STRBUF_INIT;
    struct complaint why;
    const cJSON *item;
    cJSON *items;

    strbuf_adds(&json, "{\"results\":[");
    strbuf_add(&json, o->results.text, o->results.len);
    strbuf_adds(&json, "]}");
    MUST0(json_check(json.text, json.len, NULL, 0, &why, NULL));
    items = cJSON_ParseWithLength(json.text, json.len);
    MUST(items != NULL);
    MUST((size_t)cJSON_GetArraySize(items->child) == o->nresults);
    cJSON_ArrayForEach(item, items->child)
        MUST(cJSON_GetArraySize(item) == FORMS);
    cJSON_Delete(items);
    strbuf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome o;
    struct frames f;
    size_t step;

    if (size == 0)
        return 0;
    step = data[0] == 0 ? size : data[0];
    MUST0(outcome_init(&o, 4096));
    MUST0(frames_init(&f, &o));
    for (size_t at = 1; at < size; at += step)
        MUST0(frames_feed(&f, (const char *)data + at,
                          size - at < step ? size - at : step));
    frames_end(&f);
    MUST(o.nresults <= RESULT_ITEMS_MAX);
    MUST(o.results.len <= RESULT_BYTES_MAX);
    MUST(o.nwarnings <= FRAMES_WARNINGS_MAX);
    check_results(&o);
    frames_fini(&f);
    outcome_fini(&o);
    return 0;
}
