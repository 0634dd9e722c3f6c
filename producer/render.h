/* producer/render.h -- a result as people see it.
 *
 * Everything goes to the given stream (stderr for `run`: stdout then holds
 * exactly what the code printed).
 */
#ifndef PRODUCER_RENDER_H
#define PRODUCER_RENDER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

/* Values, pictures, error, warnings, files, then the line with verdict, time
 * and peak memory; verbose: what was enforced and how, where the time went. */
void render_result(FILE *out, const cJSON *result, bool verbose);

/* A string or number member, or "" / 0. */
const char *render_text(const cJSON *object, const char *name);
double render_number(const cJSON *object, const char *name);

#endif
