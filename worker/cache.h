/* worker/cache.h -- results of identical jobs that asked for `cache`.
 *
 * Identical: the same code, language, template, interpreter, limits, packages,
 * files, env, args, stdin and output_files. P:cache:<key> holds the result JSON
 * of a success, for the result TTL.
 *
 * Threads:  none of its own.
 * Errors:   negated errno.
 */
#ifndef WORKER_CACHE_H
#define WORKER_CACHE_H

#include "common/job.h"
#include "common/result.h"
#include "common/strbuf.h"
#include "common/template.h"

#define CACHE_KEY_MAX          64         /* SHA-256 in hex */
#define CACHE_RESULT_BYTES_MAX (1u << 20) /* larger results are not kept */

/* -EIO if the digest can't be made. */
int cache_key(const struct job *job, const struct spec *spec,
              char key_out[CACHE_KEY_MAX + 1]);

/* The kept result, retold for this job: its own id, metadata and times, and
 * "cached": true. -EINVAL if what was kept is not a result. */
int cache_retell(const char *kept, size_t size,
                 const struct result_context *context, const struct job *job,
                 struct strbuf *json_out);

#endif
