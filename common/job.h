/* common/job.h -- a job as contract section 3 defines it, and its JSON.
 *
 * Memory:   job_parse() makes everything, job_destroy() frees it. Pointers that
 *           may be absent are NULL, and say so.
 * Threads:  a parsed job is const.
 * Errors:   -EINVAL with a complaint naming field, fault and remedy; -ENOMEM.
 */
#ifndef COMMON_JOB_H
#define COMMON_JOB_H

#include <stdbool.h>
#include <stddef.h>

#include "common/complaint.h"
#include "common/json.h"
#include "common/limits.h"

enum language {
    LANGUAGE_NONE, /* not given: the template's first */
    LANGUAGE_PYTHON,
    LANGUAGE_JAVASCRIPT,
    LANGUAGE_BASH,
    LANGUAGE_COUNT,
};

/* "python", "javascript", "bash"; "" for LANGUAGE_NONE. */
const char *language_name(enum language language);
/* LANGUAGE_NONE if the name is none of the three. */
enum language language_from_name(const char *name);

struct job_file {
    char *path; /* relative, normalised: no "", ".", "..", "//", no leading / */
    unsigned char *data;
    size_t size;
};

struct job_pair {
    char *name, *value;
};

/* `requirements` and the shorthand `timeout`. A number is 0 when not given
 * (0 itself is refused), network is -1. */
struct job_wants {
    double timeout_s, memory_mb, cpu_percent, disk_mb, pids, output_kb;
    int network;
    char **packages;     /* NULL-terminated, or NULL */
    char *template_name; /* E2B's template id, or NULL */
};

/* The numbers among them; a template's `limits` are the same ones. */
struct job_limit {
    const char *name; /* "timeout", "memory_limit_mb" … */
    struct json_range range;
    size_t at; /* offset of its double in struct job_wants */
};

#define JOB_LIMITS 6
extern const struct job_limit job_limits[JOB_LIMITS];

/* Reads a member of `requirements` or `limits` that is one of job_limits or
 * `network`; field is its whole path. 1: it is none of those. */
int job_wants_limit(const cJSON *item, const char *field,
                    struct job_wants *wants, struct complaint *why);

struct job {
    char id[JOB_ID_MAX + 1]; /* "" if the job brought none */
    char *code;
    size_t code_bytes;
    enum language language;
    char *template_id; /* NULL: not given */
    char *task_type;   /* NULL: not given */
    struct job_wants wants;
    struct job_file *files;
    size_t nfiles;
    char **output_files; /* NULL-terminated, or NULL; "/home/user/x" is stored
                            as "x" */
    struct job_pair *env;
    size_t nenv;
    char **args;      /* NULL-terminated, or NULL */
    char *stdin_text; /* NULL: empty standard input */
    size_t stdin_bytes;
    char *metadata; /* JSON object as text on one line, or NULL for {} */
    int max_attempts;
    double delay_s, run_at; /* 0: now. Both given: refused */
    double expires_in_s;    /* 0: never */
    char *batch_id;         /* NULL: none */
    bool cache, stream, network_given;
    char *callback_url, *tenant;      /* NULL: none */
    char *warnings[JOB_WARNINGS_MAX]; /* unknown fields, by name; the last may
                                         say "…and N more" */
    size_t nwarnings;
};

/* Reads and checks one job. Checked here: size, UTF-8, NULs (also the JSON
 * escape of one: cJSON would cut the text short there), nesting, types, ranges
 * that need no template, paths, ids, base64. Unknown fields become warnings; a
 * field that is null counts as not given; one given twice is refused.
 *
 * env: any name that the system can hold is passed on literally, except those
 * that would act on capibox's own driver before the code starts: LD_*,
 * GLIBC_TUNABLES, BASH_ENV, BASH_FUNC_*, SHELLOPTS, BASHOPTS, NODE_OPTIONS, and
 * PYTHON* but for PYTHONUNBUFFERED, PYTHONHASHSEED and PYTHONDONTWRITEBYTECODE.
 *
 * When it fails, id_out (JOB_ID_MAX + 1 bytes) still gets the job's id if the
 * text is JSON and the id is usable, else "". */
int job_parse(const char *text, size_t size, struct job **job_out, char *id_out,
              struct complaint *why);

/* Nothing was added to what was pushed bare: is it within JOB_BYTES_MAX? Else
 * -EINVAL. job_parse() takes JOB_TEXT_BYTES_MAX. */
int job_check_bare(size_t size, struct complaint *why);

void job_destroy(struct job *job);

/* One more of its warnings; dropped if it has JOB_WARNINGS_MAX already. */
__attribute__((format(printf, 2, 3))) void job_warn(struct job *job,
                                                    const char *fmt, ...);

/* What can be told of any text, also one that is refused: its id and its batch
 * ("" if there is no usable one), whether it asks for live output. */
void job_glean(const char *text, size_t size, char id_out[JOB_ID_MAX + 1],
               char batch_out[JOB_NAME_MAX + 1], bool *stream_out);

/* Is this usable as a job id: 1..64 of A-Za-z0-9._:- */
bool job_id_valid(const char *id);

/* A queue, template, batch or tenant name: 1..64 of A-Za-z0-9._- (batch ids and
 * tenants also take ':'). */
bool job_name_valid(const char *name, bool colon);

/* Whether the relative path is safe to create below a folder (as job_file.path
 * says), after taking a leading "/home/user/" off. Normalises into out
 * (JOB_PATH_MAX + 1 bytes). */
int job_path_normalise(const char *path, char *out, struct complaint *why,
                       const char *field);

#endif
