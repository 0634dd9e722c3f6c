/* tests/support/schema.h -- does JSON fit a schema of an OpenAPI document?
 *
 * The words that capibox's document uses: $ref, type, enum, required,
 * properties, additionalProperties, items, anyOf. Others are an error, so that
 * none is taken for checked.
 */
#ifndef TESTS_SUPPORT_SCHEMA_H
#define TESTS_SUPPORT_SCHEMA_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* why (size bytes) says where it does not. */
bool schema_fits(const cJSON *document, const cJSON *schema, const cJSON *value,
                 char *why, size_t size);

#endif
