/* worker/attack_list.h -- hostile programs as data, and what must come of each.
 *
 * worker/attacks/NNN-words.py, .js or .sh: code as a job brings it. NNN is the
 * stable number of an attack; several files may share one. The comment lines at
 * its head say what it is and what must come of it:
 *
 *   # 016 a list that grows              number and name, the first line
 *   # limits: timeout=5 memory_limit_mb=64    requirements (see below)
 *   # template: visualization            default: `default`, or `quick_script`
 *   # env: LANG=xx                       may repeat
 *   # output: **                         a glob of files to hand back; may
 *                                        repeat
 *   # verdict: oom                       one or more that are right, or `any`
 *   # without-cgroup: user_error         the same where memory is counted per
 *                                        process; `none`: does not apply there
 *   # signal: 6 / exit: 3                what it must have ended with
 *   # stdout: text                       must be in its output; may repeat
 *   # tries: 4                           at least so many lines "HELD ..."
 *   # within: 3                          seconds of its run at most
 *   # times: 3                           runs, one after the other
 *   # differ                             no line of output comes in two of them
 *
 * A probe tries the hostile thing itself and prints "HELD what" or "BROKE what:
 * why" for each try; a line "BROKE" is never right. "N/A why" says that the
 * host lacks what the attack needs. Python attacks find attack.py beside them.
 *
 * Memory:   attacks_load() makes, attacks_unload() frees.
 * Threads:  const once loaded.
 * Errors:   negated errno, with a complaint that names file and line.
 */
#ifndef WORKER_ATTACK_LIST_H
#define WORKER_ATTACK_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/complaint.h"
#include "common/job.h"
#include "common/outcome.h"
#include "common/strbuf.h"

#define ATTACKS_MAX        256
#define ATTACK_BYTES_MAX   (64u << 10)
#define ATTACK_TEXTS_MAX   8 /* lines of one key */
#define ATTACK_TIMES_MAX   16
#define ATTACK_NUMBERS_MAX 1000

struct attack_texts {
    char *items[ATTACK_TEXTS_MAX];
    size_t count;
};

struct attack {
    int number;
    char file[96]; /* "016-list-growth.py" */
    char *name;
    char *code;
    size_t code_bytes;
    enum language language;
    char *template_id; /* NULL: by language */
    double limits[JOB_LIMITS];
    struct attack_texts env, output, stdout_parts;
    uint32_t verdicts, verdicts_uncapped; /* bits 1 << enum verdict */
    bool uncapped_applies;
    int signal, exit_code; /* -1: any */
    int tries, times;
    double within_s; /* 0: the timeout and a little */
    bool differ;
};

struct attack_set {
    struct attack *items; /* by file name, so by number */
    size_t count;
    char *helper; /* attack.py */
    size_t helper_bytes;
};

/* From the folder beside the program in program_dir: a checkout's
 * worker/attacks, or share/capibox/attacks when installed. */
int attacks_load(const char *program_dir, struct attack_set *set_out,
                 struct complaint *why);
void attacks_unload(struct attack_set *set);

/* The job as a producer would push it. */
void attack_job(const struct attack_set *set, const struct attack *a,
                const char *job_id, struct strbuf *out);

/* What one run came to. */
struct attack_seen {
    enum verdict verdict;
    int exit_code, signal; /* as in struct outcome */
    double run_s;
    const char *out; /* what it printed, or the first part */
    bool capped;     /* memory was limited by a cgroup */
};

enum attack_end { ATTACK_HELD, ATTACK_BROKE, ATTACK_NOT_APPLICABLE };

#define ATTACK_WHY_MAX 400

/* why_out: "" if it held. */
enum attack_end attack_judge(const struct attack *a,
                             const struct attack_seen *seen,
                             char why_out[ATTACK_WHY_MAX]);

/* Its time was over before it printed anything of what it must: it is to be
 * tried again with twice the time (limits[0]). Never true of ATTACK_SLOW_S or
 * more: so much is enough on any host. */
#define ATTACK_SLOW_S 8
bool attack_had_no_time(const struct attack *a, const struct attack_seen *seen);

/* A line of at least a few characters that both texts have, for `differ`;
 * copied into line_out. */
bool attack_same_line(const char *one, const char *other,
                      char line_out[ATTACK_WHY_MAX]);

#endif
