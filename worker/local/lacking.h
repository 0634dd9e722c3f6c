/* worker/local/lacking.h -- packages that a job may expect and does not get.
 *
 * What the code does not import is a warning; for the rest the sandbox gets a
 * note, packages.json, that the Python driver adds to the error of an import:
 * {"missing_hint": {"module": "text"}}.
 *
 * Memory:   none of its own.
 * Errors:   those of the input (input.h).
 */
#ifndef WORKER_LOCAL_LACKING_H
#define WORKER_LOCAL_LACKING_H

#include "common/job.h"
#include "common/outcome.h"
#include "common/template.h"
#include "worker/local/input.h"

/* Past this many there is one more that counts the rest. */
#define LACKING_WARNINGS_MAX 16

void lacking_add(const struct job *job, const struct spec *spec,
                 struct input *in, struct outcome *o);

#endif
