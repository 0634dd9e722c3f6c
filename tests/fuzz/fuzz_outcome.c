/* tests/fuzz/fuzz_outcome.c -- what a sandbox printed, on its way to JSON.
 *
 * The first two bytes say how much is kept and how the rest is cut into reads.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/must.h"
#include "common/outcome.h"
#include "common/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Kept, dropped and seen must add up before the gap is trimmed. */
static void fill(struct capture *c, const char *data, size_t size, size_t step)
{
    for (size_t at = 0; at < size; at += step)
        capture_add(c, data + at, size - at < step ? size - at : step);
    MUST(c->total == size);
    MUST(c->head.len + c->ring_len + c->dropped == size);
    MUST(c->head.len + c->ring_len <= c->limit);
    MUST(c->dropped == 0 || size > c->limit);
}

/* All of it, if nothing was dropped, is what one string of it would be. */
static void check_text(struct capture *c, const char *data, size_t size)
{
    struct strbuf all = STRBUF_INIT, one = STRBUF_INIT;

    capture_to_json(c, &all);
    strbuf_addc(&one, '[');
    if (size > 0)
        strbuf_add_json(&one, data, size);
    strbuf_addc(&one, ']');
    if (c->dropped == 0) {
        MUST(all.len == one.len);
        MUST(memcmp(all.text, one.text, all.len) == 0);
    }
    strbuf_fini(&all);
    strbuf_fini(&one);
}

/* Printed NULs stand in it as \u0000, which is JSON, though none we would take
 * from others. */
static void check_result(struct outcome *o, bool has_nul)
{
    const struct result_context ctx = {.job_id = "j", .finished_at = 1};
    struct strbuf json = STRBUF_INIT;
    struct complaint why;
    const cJSON *logs;
    cJSON *root;

    MUST0(result_encode(&ctx, NULL, NULL, o, &json));
    int rc = json_check(json.text, json.len, NULL, 0, &why, NULL);

    MUST(rc == 0 || (rc == -EINVAL && has_nul));
    MUST(!memchr(json.text, '\n', json.len));
    root = cJSON_ParseWithLength(json.text, json.len);
    MUST(root);
    logs = cJSON_GetObjectItemCaseSensitive(root, "logs");
    MUST(cJSON_GetArraySize(cJSON_GetObjectItem(logs, "stdout")) <= 2);
    MUST(cJSON_GetArraySize(cJSON_GetObjectItem(logs, "stderr")) <= 2);
    cJSON_Delete(root);
    strbuf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 2;
    struct capture whole;
    struct outcome o;
    size_t step;

    if (size < 2)
        return 0;
    step = (size_t)data[1] + 1;
    size -= 2;
    MUST0(outcome_init(&o, (size_t)data[0] * 8));
    fill(&o.out, text, size, step);
    fill(&o.err, text, size, size + 1);
    MUST0(capture_init(&whole, size * 2 + 8));
    fill(&whole, text, size, step);
    check_text(&whole, text, size);
    capture_fini(&whole);
    /* What a driver says of an error is text without NULs, and may be long. */
    outcome_error(&o, "%.*s", (int)size, text);
    outcome_warn(&o, "it said %.*s", (int)size, text);
    MUST(o.error && strlen(o.error) <= ERROR_TEXT_MAX);
    check_result(&o, memchr(text, 0, size));
    outcome_fini(&o);
    return 0;
}
