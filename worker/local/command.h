/* worker/local/command.h -- what a sandbox starts: arguments and environment.
 *
 * Nothing is inherited: both are explicit lists, and the job's values are
 * passed as they are, never through a shell.
 */
#ifndef WORKER_LOCAL_COMMAND_H
#define WORKER_LOCAL_COMMAND_H

#include "common/job.h"
#include "common/strbuf.h"
#include "common/template.h"

#define COMMAND_RESULT_FD "3"

/* The name of the file that holds the job's code: "main.py"… */
const char *command_code_name(enum language language);

/* Appends a whole WIRE_CREATE message. may_warm: a fork of a zygote will do.
 * -E2BIG if arguments and environment pass
 * the wire's bounds, -EINVAL for a language without a way to start it. */
int command_build(const struct job *job, const struct spec *spec, bool may_warm,
                  struct strbuf *message);

#endif
