#include "worker/attack_list.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/json.h"
#include "worker/beside.h"

#define HELPER         "attack.py"
#define ALL_VERDICTS   (~0u)
#define WITHIN_SPARE_S 5 /* of a busy machine, past the timeout */
#define LINE_BYTES_MIN 4 /* what is shorter may come twice by chance */
#define LINE_MAX_BYTES 256

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Small, so that what fills them is done soon. */
static const double default_limits[JOB_LIMITS] = {10, 128, 100, 16, 32, 64};

/* ---- the head of a file ----------------------------------------------- */

struct head {
    struct attack *attack;
    int line;
    struct complaint *why;
};

__attribute__((format(printf, 2, 3))) static int wrong(struct head *h,
                                                       const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return complain(h->why, h->attack->file, "line %d: %s", h->line, text);
}

static int read_number(struct head *h, const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return end != text && *end == '\0'
               ? 0
               : wrong(h, "\"%.40s\" is no number", text);
}

static int read_int(struct head *h, const char *text, int *out)
{
    double number;
    int rc = read_number(h, text, &number);

    if (rc == 0)
        *out = (int)number;
    return rc;
}

static int add_text(struct head *h, struct attack_texts *texts,
                    const char *text)
{
    if (texts->count == ATTACK_TEXTS_MAX)
        return wrong(h, "more than %d lines of one kind", ATTACK_TEXTS_MAX);
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    texts->items[texts->count++] = copy;
    return 0;
}

static int read_limit(struct head *h, const char *word)
{
    for (size_t i = 0; i < JOB_LIMITS; i++) {
        size_t len = strlen(job_limits[i].name);

        if (strncmp(word, job_limits[i].name, len) == 0 && word[len] == '=')
            return read_number(h, word + len + 1, &h->attack->limits[i]);
    }
    return wrong(h, "\"%.60s\" is no limit", word);
}

static int read_verdict(struct head *h, const char *word, uint32_t *set)
{
    enum verdict verdict = verdict_from_name(word);

    if (strcmp(word, "any") == 0)
        *set = ALL_VERDICTS;
    else if (verdict == VERDICT_NONE)
        return wrong(h, "\"%.40s\" is no verdict", word);
    else
        *set |= 1u << verdict;
    return 0;
}

/* Words with a space between them, each to take(). */
static int read_words(struct head *h, char *text, uint32_t *set)
{
    int rc = 0;

    for (char *save, *word = strtok_r(text, " ", &save); word && rc == 0;
         word = strtok_r(NULL, " ", &save))
        rc = set ? read_verdict(h, word, set) : read_limit(h, word);
    return rc;
}

static int read_uncapped(struct head *h, char *text)
{
    h->attack->uncapped_applies = strcmp(text, "none") != 0;
    return h->attack->uncapped_applies
               ? read_words(h, text, &h->attack->verdicts_uncapped)
               : 0;
}

static int set_template(struct head *h, const char *text)
{
    free(h->attack->template_id);
    h->attack->template_id = strdup(text);
    return h->attack->template_id ? 0 : -ENOMEM;
}

/* Those that are one number. */
static int read_count(struct head *h, const char *key, const char *value)
{
    struct attack *a = h->attack;
    const struct {
        const char *key;
        int *at;
    } rows[] = {{"signal", &a->signal},
                {"exit", &a->exit_code},
                {"tries", &a->tries},
                {"times", &a->times}};

    for (size_t i = 0; i < COUNT(rows); i++)
        if (strcmp(key, rows[i].key) == 0)
            return read_int(h, value, rows[i].at);
    return wrong(h, "\"%.40s\" means nothing here", key);
}

static int read_pair(struct head *h, const char *key, char *value)
{
    struct attack *a = h->attack;

    if (strcmp(key, "limits") == 0)
        return read_words(h, value, NULL);
    if (strcmp(key, "verdict") == 0)
        return read_words(h, value, &a->verdicts);
    if (strcmp(key, "without-cgroup") == 0)
        return read_uncapped(h, value);
    if (strcmp(key, "template") == 0)
        return set_template(h, value);
    if (strcmp(key, "within") == 0)
        return read_number(h, value, &a->within_s);
    if (strcmp(key, "env") == 0)
        return add_text(h, &a->env, value);
    if (strcmp(key, "output") == 0)
        return add_text(h, &a->output, value);
    if (strcmp(key, "stdout") == 0)
        return add_text(h, &a->stdout_parts, value);
    return read_count(h, key, value);
}

/* "016 a list that grows" */
static int read_title(struct head *h, char *text)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (number != h->attack->number || *end != ' ')
        return wrong(h, "must begin with the file's number %03d",
                     h->attack->number);
    h->attack->name = strdup(end + 1);
    return h->attack->name ? 0 : -ENOMEM;
}

static int read_line(struct head *h, char *line)
{
    char *colon = strstr(line, ": ");

    if (h->line == 1)
        return read_title(h, line);
    if (strcmp(line, "differ") == 0) {
        h->attack->differ = true;
        return 0;
    }
    if (!colon)
        return wrong(h, "neither KEY: VALUE nor `differ`");
    *colon = '\0';
    return read_pair(h, line, colon + 2);
}

static int check_head(struct head *h)
{
    struct attack *a = h->attack;

    if (!a->name || !a->verdicts)
        return wrong(h, "the head says no name or no verdict");
    if (a->times < 1 || a->times > ATTACK_TIMES_MAX)
        return wrong(h, "times: 1 to %d", ATTACK_TIMES_MAX);
    if (a->uncapped_applies && !a->verdicts_uncapped)
        a->verdicts_uncapped = a->verdicts;
    return 0;
}

/* Up to the first line that is no comment. */
static int read_head(struct attack *a, struct complaint *why)
{
    const char *mark = a->language == LANGUAGE_JAVASCRIPT ? "// " : "# ";
    struct head h = {.attack = a, .why = why};
    int rc = 0;

    for (const char *at = a->code; rc == 0 && *at;) {
        size_t len = strcspn(at, "\n"), skip = strlen(mark);
        char line[LINE_MAX_BYTES];

        if (strncmp(at, mark, skip) != 0)
            break;
        h.line++;
        if (len - skip >= sizeof(line))
            return wrong(&h, "too long");
        snprintf(line, sizeof(line), "%.*s", (int)(len - skip), at + skip);
        rc = read_line(&h, line);
        at += len + (at[len] == '\n');
    }
    return rc < 0 ? rc : check_head(&h);
}

/* ---- the folder ------------------------------------------------------- */

static void free_texts(struct attack_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        free(texts->items[i]);
}

static void free_attack(struct attack *a)
{
    free(a->name);
    free(a->code);
    free(a->template_id);
    free_texts(&a->env);
    free_texts(&a->output);
    free_texts(&a->stdout_parts);
}

void attacks_unload(struct attack_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free_attack(&set->items[i]);
    free(set->items);
    free(set->helper);
    *set = (struct attack_set){0};
}

/* By the file's ending; LANGUAGE_NONE: no attack. */
static enum language language_of(const char *file)
{
    const char *dot = strrchr(file, '.');

    if (!dot || !isdigit((unsigned char)file[0]))
        return LANGUAGE_NONE;
    if (strcmp(dot, ".py") == 0)
        return LANGUAGE_PYTHON;
    if (strcmp(dot, ".js") == 0)
        return LANGUAGE_JAVASCRIPT;
    return strcmp(dot, ".sh") == 0 ? LANGUAGE_BASH : LANGUAGE_NONE;
}

static int load_attack(DIR *dir, const char *file, struct attack_set *set,
                       struct complaint *why)
{
    enum language language = language_of(file);
    struct attack *a = &set->items[set->count];

    if (language == LANGUAGE_NONE)
        return 0;
    if (set->count == ATTACKS_MAX || strlen(file) >= sizeof(a->file))
        return complain(why, file, "too many attacks, or too long a name");
    *a = (struct attack){.number = atoi(file),
                         .language = language,
                         .uncapped_applies = true,
                         .signal = -1,
                         .exit_code = -1,
                         .times = 1};
    set->count++;
    memcpy(a->file, file, strlen(file) + 1);
    memcpy(a->limits, default_limits, sizeof(default_limits));
    int rc = io_read_file_at(dirfd(dir), file, ATTACK_BYTES_MAX, &a->code,
                             &a->code_bytes);
    if (rc < 0) {
        complain(why, file, "cannot be read: %s", strerror(-rc));
        return rc;
    }
    return read_head(a, why);
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct attack *)a)->file,
                  ((const struct attack *)b)->file);
}

static int load_folder(DIR *dir, struct attack_set *set, struct complaint *why)
{
    int rc = 0;

    set->items = calloc(ATTACKS_MAX, sizeof(*set->items));
    if (!set->items)
        return -ENOMEM;
    for (const struct dirent *e; rc == 0 && (e = readdir(dir));)
        rc = load_attack(dir, e->d_name, set, why);
    if (rc < 0)
        return rc;
    qsort(set->items, set->count, sizeof(*set->items), compare_files);
    rc = io_read_file_at(dirfd(dir), HELPER, ATTACK_BYTES_MAX, &set->helper,
                         &set->helper_bytes);
    if (rc < 0)
        complain(why, HELPER, "cannot be read: %s", strerror(-rc));
    return rc;
}

int attacks_load(const char *program_dir, struct attack_set *set_out,
                 struct complaint *why)
{
    char path[PATH_MAX];
    DIR *dir;
    int rc = beside_open(program_dir, "attacks", &dir, path, why);

    *set_out = (struct attack_set){0};
    if (rc < 0)
        return rc;
    rc = load_folder(dir, set_out, why);
    closedir(dir);
    if (rc < 0)
        attacks_unload(set_out);
    return rc;
}

/* ---- as a job --------------------------------------------------------- */

static void add_texts(struct strbuf *out, const struct attack_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (i > 0)
            strbuf_addc(out, ',');
        json_add_text(out, texts->items[i]);
    }
}

static void add_env(struct strbuf *out, const struct attack_texts *env)
{
    for (size_t i = 0; i < env->count; i++) {
        size_t name = strcspn(env->items[i], "=");

        if (i > 0)
            strbuf_addc(out, ',');
        strbuf_add_json(out, env->items[i], name);
        strbuf_addc(out, ':');
        json_add_text(out, env->items[i] + name + (env->items[i][name] != 0));
    }
}

static void add_limits(struct strbuf *out, const struct attack *a)
{
    for (size_t i = 0; i < JOB_LIMITS; i++)
        strbuf_addf(out, "%s\"%s\":%g", i ? "," : "", job_limits[i].name,
                    a->limits[i]);
}

void attack_job(const struct attack_set *set, const struct attack *a,
                const char *job_id, struct strbuf *out)
{
    const char *template_id = a->template_id                 ? a->template_id
                              : a->language == LANGUAGE_BASH ? "quick_script"
                                                             : "default";

    strbuf_addf(out, "{\"id\":\"%s\",\"language\":\"%s\",\"template\":\"%s\"",
                job_id, language_name(a->language), template_id);
    json_add_lit(out, ",\"max_attempts\":1,\"requirements\":{");
    add_limits(out, a);
    json_add_lit(out, "},\"env\":{");
    add_env(out, &a->env);
    json_add_lit(out, "},\"output_files\":[");
    add_texts(out, &a->output);
    json_add_lit(out, "],\"files\":[");
    if (a->language == LANGUAGE_PYTHON) {
        json_add_lit(out, "{\"path\":\"" HELPER "\",\"content\":");
        strbuf_add_json(out, set->helper, set->helper_bytes);
        strbuf_addc(out, '}');
    }
    json_add_lit(out, "],\"code\":");
    strbuf_add_json(out, a->code, a->code_bytes);
    strbuf_addc(out, '}');
}

/* ---- judging ---------------------------------------------------------- */

/* The n-th line that begins with this word, or NULL. */
static const char *find_line(const char *text, const char *word, size_t n)
{
    size_t len = strlen(word);

    for (const char *at = text; *at; at += *at == '\n') {
        if (strncmp(at, word, len) == 0 &&
            (at[len] == ' ' || at[len] == '\n' || at[len] == '\0') && n-- == 0)
            return at;
        at += strcspn(at, "\n");
    }
    return NULL;
}

static enum attack_end broke(char why[ATTACK_WHY_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static enum attack_end broke(char why[ATTACK_WHY_MAX], const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, ATTACK_WHY_MAX, fmt, args);
    va_end(args);
    return ATTACK_BROKE;
}

static enum attack_end say_line(char why[ATTACK_WHY_MAX], const char *line,
                                size_t skip, enum attack_end end)
{
    size_t len = strcspn(line, "\n");

    if (skip > len)
        skip = len;
    snprintf(why, ATTACK_WHY_MAX, "%.*s", (int)(len - skip), line + skip);
    return end;
}

/* The verdicts that would have been right. */
static void list_verdicts(uint32_t set, char out[200])
{
    out[0] = '\0';
    for (int v = VERDICT_OK; v < VERDICT_COUNT; v++)
        if (set & (1u << v)) {
            size_t len = strlen(out);
            snprintf(out + len, 200 - len, "%s%s", len ? " or " : "",
                     verdict_name((enum verdict)v));
        }
}

static enum attack_end judge_output(const struct attack *a,
                                    const struct attack_seen *seen,
                                    char why[ATTACK_WHY_MAX])
{
    for (size_t i = 0; i < a->stdout_parts.count; i++)
        if (!strstr(seen->out, a->stdout_parts.items[i]))
            return broke(why, "its output lacks \"%s\"",
                         a->stdout_parts.items[i]);
    if (a->tries > 0 && !find_line(seen->out, "HELD", (size_t)a->tries - 1))
        return broke(why, "fewer than %d tries were made", a->tries);
    return ATTACK_HELD;
}

/* How it ended, whatever it printed. */
static enum attack_end judge_end(const struct attack *a,
                                 const struct attack_seen *seen,
                                 char why[ATTACK_WHY_MAX])
{
    uint32_t right = seen->capped ? a->verdicts : a->verdicts_uncapped;
    double within = a->within_s > 0 ? a->within_s : a->limits[0];
    char names[200];

    if (!(right & (1u << seen->verdict))) {
        list_verdicts(right, names);
        return broke(why, "ended as %s, not %s", verdict_name(seen->verdict),
                     names);
    }
    if (a->signal >= 0 && seen->signal != a->signal)
        return broke(why, "signal %d, not %d", seen->signal, a->signal);
    if (a->exit_code >= 0 && seen->exit_code != a->exit_code)
        return broke(why, "exit code %d, not %d", seen->exit_code,
                     a->exit_code);
    if (seen->run_s > within + WITHIN_SPARE_S)
        return broke(why, "ran %.1f s instead of %g", seen->run_s, within);
    return ATTACK_HELD;
}

enum attack_end attack_judge(const struct attack *a,
                             const struct attack_seen *seen,
                             char why[ATTACK_WHY_MAX])
{
    const char *line = find_line(seen->out, "BROKE", 0);

    why[0] = '\0';
    if (line)
        return say_line(why, line, 6, ATTACK_BROKE);
    line = find_line(seen->out, "N/A", 0);
    if (line)
        return say_line(why, line, 4, ATTACK_NOT_APPLICABLE);
    if (!seen->capped && !a->uncapped_applies) {
        snprintf(why, ATTACK_WHY_MAX, "memory is limited per process here");
        return ATTACK_NOT_APPLICABLE;
    }
    enum attack_end end = judge_end(a, seen, why);
    return end == ATTACK_HELD ? judge_output(a, seen, why) : end;
}

bool attack_had_no_time(const struct attack *a, const struct attack_seen *seen)
{
    return (a->stdout_parts.count > 0 || a->tries > 0) && a->limits[0] > 0 &&
           a->limits[0] < ATTACK_SLOW_S && !*seen->out &&
           seen->verdict == VERDICT_TIMEOUT;
}

bool attack_same_line(const char *one, const char *other,
                      char line_out[ATTACK_WHY_MAX])
{
    for (const char *at = one; *at; at += *at == '\n') {
        size_t len = strcspn(at, "\n");

        snprintf(line_out, ATTACK_WHY_MAX, "%.*s", (int)len, at);
        for (const char *in = other; len >= LINE_BYTES_MIN && *in;
             in += *in == '\n') {
            size_t other_len = strcspn(in, "\n");

            if (other_len == len && memcmp(in, at, len) == 0)
                return true;
            in += other_len;
        }
        at += len;
    }
    line_out[0] = '\0';
    return false;
}
