/* tests/fuzz/fuzz_spec.c -- sandboxd's reading of a request for a sandbox.
 *
 * An odd first byte makes head and size agree, so that the strings are reached.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "worker/sandboxd/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend(char *message, size_t size)
{
    struct wire_create want;

    memcpy(&want, message, sizeof(want));
    want.kind = WIRE_CREATE;
    want.strings_bytes = (uint32_t)(size - sizeof(want));
    want.argc = want.argc % (WIRE_ARGV_MAX + 2);
    want.envc = want.envc % (BOX_ENV_MAX + 2);
    memcpy(message, &want, sizeof(want));
}

/* Every string lies in the copy and ends there; both lists end. */
static void check_list(const struct box_spec *s, char *const *list,
                       uint32_t count)
{
    const char *end = s->strings + s->want.strings_bytes;

    for (uint32_t i = 0; i < count; i++) {
        MUST(list[i] >= s->strings && list[i] < end);
        MUST(memchr(list[i], 0, (size_t)(end - list[i])));
    }
    MUST(list[count] == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct step why = {0};
    struct box_spec spec;
    char *message;

    if (size == 0)
        return 0;
    /* Of exactly this size, so that reading past its end is seen. */
    message = malloc(size);
    MUST(message);
    memcpy(message, data + 1, size - 1);
    if (data[0] % 2 == 1 && size - 1 >= sizeof(spec.want))
        mend(message, size - 1);
    if (box_spec_read(message, size - 1, &spec, &why) == 0) {
        check_list(&spec, spec.argv, spec.want.argc);
        check_list(&spec, spec.env, spec.want.envc);
        MUST(spec.argv[0][0] == '/');
        MUST(spec.want.timeout_ms > 0 && spec.want.memory_bytes > 0);
    } else {
        MUST(why.error > 0 && memchr(why.what, 0, sizeof(why.what)));
        MUST(!spec.strings);
    }
    box_spec_fini(&spec);
    free(message);
    return 0;
}
