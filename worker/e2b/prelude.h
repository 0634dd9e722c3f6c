/* worker/e2b/prelude.h -- how a job's code is started in an E2B sandbox.
 *
 * Values of the job (env, args, stdin, the code itself) travel as data: as
 * base64 of JSON, or as arguments of a process; none becomes source text.
 *
 * Memory:   appended to the caller's strbuf, whose error is sticky.
 */
#ifndef WORKER_E2B_PRELUDE_H
#define WORKER_E2B_PRELUDE_H

#include "common/job.h"
#include "common/outcome.h"
#include "common/strbuf.h"
#include "common/template.h"

/* The largest argument Linux passes on (MAX_ARG_STRLEN, execve(2)), with room
 * for what stands around it. */
#define PRELUDE_ARGUMENT_MAX (120u << 10)
/* Where a job's code or standard input lies when it is too large for that. */
#define PRELUDE_CODE_PATH  "/tmp/.capibox/main.sh"
#define PRELUDE_STDIN_PATH "/tmp/.capibox/stdin"

/* The name of the error that an exit becomes. JavaScript's process.exit(code):
 * its value is the code. Python's sys.exit(code), unless that is 0 or None:
 * " CODE NAME" follows, the process' exit code and the exception's own name. */
#define PRELUDE_EXIT "CapiboxExit"

/* Is this language run by the interpreter (else as a process by envd)? */
bool prelude_interpreted(enum language language);

/* Must the code, the standard input come as a file? */
bool prelude_code_is_file(const struct job *job, enum language language);
bool prelude_stdin_is_file(const struct job *job, enum language language);

/* The body of POST /execute. */
void prelude_execute(const struct job *job, const struct spec *spec,
                     struct strbuf *out);

/* The message of process.Process/Start for a bash job. */
void prelude_start(const struct job *job, const struct spec *spec,
                   struct strbuf *out);

/* What limits each thing, in words. */
void prelude_enforced(const struct spec *spec,
                      const struct template_variant *variant, int ttl_s,
                      struct enforced *out);

#endif
