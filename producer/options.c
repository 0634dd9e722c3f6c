#include "producer/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/suggest.h"

enum kind { KIND_TEXT, KIND_NUMBER, KIND_LIST, KIND_CLAIM };

struct row {
    const char *flag, *value;
    unsigned verbs;
    enum kind kind;
    size_t at;
    double least, most; /* KIND_NUMBER */
    const char *help;
};

#define NEW_JOB (VERB_RUN | VERB_SUBMIT)
#define WAITING (VERB_WAIT | VERB_RESULT | VERB_BATCH)
#define AT(f)   offsetof(struct options, f)

static const struct row rows[] = {
    {"--template", "ID", NEW_JOB, KIND_TEXT, AT(template_id), 0, 0,
     "template, or auto: chosen by the imports (see: capibox templates)"},
    {"--task-type", "T", NEW_JOB, KIND_TEXT, AT(task_type), 0, 0,
     "dynamic sandbox for this kind of task, e.g. data_analysis"},
    {"--require", "K=V", NEW_JOB, KIND_LIST, AT(require), 0, 0,
     "requirement, e.g. disk_limit_mb=64 or packages=numpy,pandas; repeatable"},
    {"--language", "L", NEW_JOB, KIND_TEXT, AT(language), 0, 0,
     "python, javascript or bash (default: by the file's ending)"},
    {"--timeout", "S", NEW_JOB, KIND_NUMBER, AT(timeout_s), 0.1, 86400,
     "seconds the code may run"},
    {"--memory", "MB", NEW_JOB, KIND_NUMBER, AT(memory_mb), 16, 1048576,
     "memory limit"},
    {"--cpu", "PERCENT", NEW_JOB, KIND_NUMBER, AT(cpu_percent), 1, 12800,
     "CPU limit, per cent of one core"},
    {"--file", "PATH[=NAME]", NEW_JOB, KIND_LIST, AT(files), 0, 0,
     "put this file into the sandbox's work folder; repeatable"},
    {"--output", "GLOB", NEW_JOB, KIND_LIST, AT(outputs), 0, 0,
     "hand back the files that match; repeatable"},
    {"--env", "K=V", NEW_JOB, KIND_LIST, AT(env), 0, 0,
     "environment variable of the code; repeatable"},
    {"--stdin", "FILE", NEW_JOB, KIND_TEXT, AT(stdin_file), 0, 0,
     "what the code reads on standard input"},
    {"--queue", "Q", NEW_JOB | VERB_BATCH, KIND_TEXT, AT(queue), 0, 0,
     "queue to put it in (default: default)"},
    {"--id", "ID", NEW_JOB, KIND_TEXT, AT(id), 0, 0,
     "the job's id; the same id is not run twice"},
    {"--metadata", "JSON", NEW_JOB, KIND_TEXT, AT(metadata), 0, 0,
     "object that the result brings back untouched"},
    {"--save", "DIR", VERB_RUN | VERB_WAIT | VERB_RESULT, KIND_TEXT, AT(save),
     0, 0, "write returned files and pictures into DIR"},
    {"--timeout", "S", WAITING, KIND_NUMBER, AT(wait_s), 0.001, 31536000,
     "give up waiting after S seconds (exit 4; the job goes on)"},
    {"--timeout", "S", VERB_CANCEL | VERB_EVENTS, KIND_NUMBER, AT(wait_s),
     0.001, 31536000, "give up waiting for the end after S seconds (exit 4)"},
    {"--no-wait", NULL, VERB_BATCH, KIND_CLAIM, AT(no_wait), 0, 0,
     "print the batch id and leave"},
    {"--no-wait", NULL, VERB_CANCEL, KIND_CLAIM, AT(no_wait), 0, 0,
     "ask for the end of a running job, and do not wait to see it"},
    {"--stream", NULL, VERB_SUBMIT, KIND_CLAIM, AT(stream), 0, 0,
     "its output can be read as it comes (capibox events ID --follow)"},
    {"--follow", NULL, VERB_EVENTS, KIND_CLAIM, AT(follow), 0, 0,
     "go on until the job has ended; a queued job is waited for"},
    {"--from", "EVENT", VERB_EVENTS, KIND_TEXT, AT(from), 0, 0,
     "only what comes after the event with this id (--json shows the ids)"},
    {"--all", NULL, VERB_DEAD, KIND_CLAIM, AT(all), 0, 0,
     "retry or drop all there are"},
    {"--watch", NULL, VERB_STATS, KIND_CLAIM, AT(watch), 0, 0,
     "print again every second until Ctrl-C"},
    {"--audit", NULL, VERB_STATS, KIND_CLAIM, AT(audit), 0, 0,
     "check the books: exit 0 if every job is accounted for, else 4"},
    {"--attack", NULL, VERB_DOCTOR, KIND_CLAIM, AT(attack), 0, 0,
     "run hostile programs in sandboxes of this host (no Redis), say which "
     "were held; exit 1 if one was not"},
    {"-v", NULL, VERB_RUN | VERB_WAIT | VERB_RESULT, KIND_CLAIM, AT(verbose), 0,
     0, "also say which limits were enforced and how"},
};
#define NROWS (sizeof(rows) / sizeof(rows[0]))

static const struct row *find(const char *flag, size_t len, unsigned verb)
{
    for (size_t i = 0; i < NROWS; i++)
        if ((rows[i].verbs & verb) && strlen(rows[i].flag) == len &&
            !memcmp(rows[i].flag, flag, len))
            return &rows[i];
    return NULL;
}

/* Flags of settings.h that a slip of the fingers may have meant. */
static const char *const general[] = {"--redis",   "--json",      "--help",
                                      "--version", "--templates", "--prefix"};

static int unknown(const char *flag, size_t len, unsigned verb,
                   struct complaint *why)
{
    char word[SUGGEST_WORD_MAX + 1];
    const char *best = NULL;
    size_t shown = len < SUGGEST_WORD_MAX ? len : SUGGEST_WORD_MAX;

    memcpy(word, flag, shown);
    word[shown] = '\0';
    for (size_t i = 0; i < NROWS; i++)
        if (rows[i].verbs & verb)
            suggest_offer(word, rows[i].flag, &best);
    for (size_t i = 0; i < sizeof(general) / sizeof(general[0]); i++)
        suggest_offer(word, general[i], &best);
    if (best)
        return complain(why, word, "unknown flag; did you mean %s?", best);
    return complain(why, word, "unknown flag; --help lists those there are");
}

static int set_number(const struct row *row, double *field, const char *value,
                      struct complaint *why)
{
    char *end;
    double number = strtod(value, &end);

    if (end == value || *end || !isfinite(number) || number < row->least ||
        number > row->most)
        return complain(why, row->flag,
                        "\"%.40s\" will not do; give %.10g to %.10g", value,
                        row->least, row->most);
    *field = number;
    return 0;
}

static int set_list(const struct row *row, struct options_list *list,
                    const char *value, struct complaint *why)
{
    if (list->count == OPTIONS_LIST_MAX)
        return complain(why, row->flag, "given more than %d times",
                        OPTIONS_LIST_MAX);
    list->items[list->count++] = value;
    return 0;
}

static int set(struct options *o, const struct row *row, const char *value,
               struct complaint *why)
{
    char *field = (char *)o + row->at;

    if (row->kind == KIND_NUMBER)
        return set_number(row, (double *)(void *)field, value, why);
    if (row->kind == KIND_LIST)
        return set_list(row, (struct options_list *)(void *)field, value, why);
    if (row->kind == KIND_CLAIM)
        *(bool *)field = true;
    else
        *(const char **)(void *)field = value;
    return 0;
}

/* Takes the flag at argv[*i], and its value from the same word or the next. */
static int take(struct options *o, unsigned verb, int argc, const char **argv,
                int *i, bool *seen, struct complaint *why)
{
    const char *flag = argv[*i];
    const char *equals = flag[1] == '-' ? strchr(flag, '=') : NULL;
    size_t len = equals ? (size_t)(equals - flag) : strlen(flag);
    const struct row *row = find(flag, len, verb);
    const char *value = equals ? equals + 1 : NULL;

    if (!row)
        return unknown(flag, len, verb, why);
    if (seen[row - rows] && row->kind != KIND_LIST)
        return complain(why, row->flag, "given twice; give it once");
    seen[row - rows] = true;
    if (row->kind == KIND_CLAIM && value)
        return complain(why, row->flag, "takes no value");
    if (row->kind != KIND_CLAIM && !value) {
        if (*i + 1 >= argc)
            return complain(why, row->flag, "needs a value: %s %s", row->flag,
                            row->value);
        value = argv[++*i];
    }
    return set(o, row, value, why);
}

int options_parse(struct options *o, unsigned verb, int argc, const char **argv,
                  struct complaint *why)
{
    bool seen[NROWS] = {false};
    int rc;

    *o = (struct options){0};
    o->words = calloc((size_t)argc + 1, sizeof(char *));
    if (!o->words)
        return -ENOMEM;
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--")) {
            o->rest = argv + i + 1;
            o->nrest = argc - i - 1;
            break;
        }
        if (argv[i][0] != '-' || !argv[i][1]) {
            o->words[o->nwords++] = argv[i];
            continue;
        }
        rc = take(o, verb, argc, argv, &i, seen, why);
        if (rc < 0)
            return rc;
    }
    if (o->nwords > OPTIONS_WORDS_MAX)
        return complain(why, NULL, "more than %d words", OPTIONS_WORDS_MAX);
    if (o->nrest && !(verb & NEW_JOB))
        return complain(why, "--", "this verb passes no arguments on");
    return 0;
}

const char *options_queue(const struct options *o)
{
    return o->queue ? o->queue : "default";
}

void options_fini(struct options *o)
{
    free(o->words);
    *o = (struct options){0};
}

void options_print(FILE *out, unsigned verb)
{
    for (size_t i = 0; i < NROWS; i++) {
        char left[40];

        if (!(rows[i].verbs & verb))
            continue;
        snprintf(left, sizeof(left), "%s%s%s", rows[i].flag,
                 rows[i].value ? " " : "", rows[i].value ? rows[i].value : "");
        fprintf(out, "  %-22s %s\n", left, rows[i].help);
    }
}
