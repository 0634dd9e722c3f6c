#include "producer/verbs.h"

#include <string.h>

#include "common/suggest.h"

static const struct verb verbs[] = {
    {"run",
     VERB_RUN,
     "FILE|- [-- ARG...]",
     1,
     1,
     "run a file of code, show its output as it comes",
     {"run script.py", "run hello.sh --template quick_script",
      "run plot.py --template visualization --save pictures",
      "run sum.py --file data.csv --output '*.txt' --json", "run - -- a b"},
     verb_run},
    {"submit",
     VERB_SUBMIT,
     "FILE|- [-- ARG...]",
     1,
     1,
     "put a file of code into the queue, print the job's id",
     {"submit script.py", "submit script.py --queue low --id nightly-1"},
     verb_submit},
    {"batch",
     VERB_BATCH,
     "FILE.jsonl|-",
     1,
     1,
     "submit one job JSON a line, print one result JSON a line",
     {"batch jobs.jsonl", "batch jobs.jsonl --no-wait"},
     verb_batch},
    {"wait",
     VERB_WAIT,
     "ID...",
     1,
     OPTIONS_WORDS_MAX,
     "wait for jobs to end and say how they did",
     {"wait nightly-1", "wait nightly-1 --timeout 60 --json"},
     verb_wait},
    {"result",
     VERB_RESULT,
     "ID",
     1,
     1,
     "print a job's output and result",
     {"result nightly-1", "result nightly-1 --json",
      "result nightly-1 --save out"},
     verb_result},
    {"status",
     VERB_STATUS,
     "ID",
     1,
     1,
     "what is known about a job",
     {"status nightly-1"},
     verb_status},
    {"events",
     VERB_EVENTS,
     "ID",
     1,
     1,
     "a job's stdout, stderr and state changes",
     {"events nightly-1 --follow", "events nightly-1 --json",
      "events nightly-1 --follow --from 1700000000000-0"},
     verb_events},
    {"cancel",
     VERB_CANCEL,
     "ID...",
     1,
     OPTIONS_WORDS_MAX,
     "cancel queued and running jobs; one that has ended says how",
     {"cancel nightly-1", "cancel nightly-1 nightly-2 --no-wait"},
     verb_cancel},
    {"dead",
     VERB_DEAD,
     "ACT [ID...]",
     1,
     OPTIONS_WORDS_MAX,
     "list, show, retry, drop: jobs out of attempts, unreadable jobs",
     {"dead list", "dead show nightly-1", "dead retry nightly-1",
      "dead retry --all", "dead drop --all"},
     verb_dead},
    {"templates",
     VERB_TEMPLATES,
     "[ID]",
     0,
     1,
     "the templates a worker would use, with limits",
     {"templates", "templates data_analysis --json"},
     verb_templates},
    {"stats",
     VERB_STATS,
     "",
     0,
     0,
     "counters, in all and per template",
     {"stats", "stats --watch", "stats --audit"},
     verb_stats},
    {"queues",
     VERB_QUEUES,
     "",
     0,
     0,
     "how many jobs wait where, and for how long",
     {"queues"},
     verb_queues},
    {"workers",
     VERB_WORKERS,
     "",
     0,
     0,
     "who is alive and doing what",
     {"workers", "workers --json"},
     verb_workers},
    {"doctor",
     VERB_DOCTOR,
     "",
     0,
     0,
     "would a worker run jobs safely here? if not, how to fix it",
     {"doctor", "doctor --attack", "doctor --attack --json"},
     verb_doctor},
};
#define NVERBS (sizeof(verbs) / sizeof(verbs[0]))

const struct verb *verbs_find(const char *name)
{
    for (size_t i = 0; i < NVERBS; i++)
        if (!strcmp(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

const char *verbs_nearest(const char *name)
{
    const char *best = NULL;

    for (size_t i = 0; i < NVERBS; i++)
        suggest_offer(name, verbs[i].name, &best);
    return best;
}

void verbs_print_all(FILE *out, const char *program)
{
    fprintf(out,
            "capibox %s: runs code through a Redis queue, each job in a fresh "
            "sandbox.\n\n"
            "usage: %s VERB ... [FLAGS]\n\n",
            CAPIBOX_VERSION, program);
    for (size_t i = 0; i < NVERBS; i++) {
        char left[48];

        snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].words);
        fprintf(out, "  %-26s %s\n", left, verbs[i].summary);
    }
    fprintf(out,
            "\nexamples:\n"
            "  echo 'print(6*7)' | %s run -\n"
            "  echo 'echo hello' | %s run - --language bash --template "
            "quick_script\n"
            "  %s stats\n\n"
            "%s VERB --help says more about one verb. Settings of all verbs:\n",
            program, program, program, program);
    settings_print(out, FOR_CLI);
    fputs("\nexit codes: 0 done, 1 the job's code failed, 2 wrong usage or a "
          "rejected job,\n"
          "  3 stopped by a limit, 4 capibox, Redis or a backend failed, 5 no "
          "such job,\n"
          "  130 interrupted\n",
          out);
}

void verbs_print_one(FILE *out, const char *program, const struct verb *verb)
{
    fprintf(out, "usage: %s %s%s%s [FLAGS]\n\n%s\n\n", program, verb->name,
            *verb->words ? " " : "", verb->words, verb->summary);
    options_print(out, verb->bit);
    fputs("\nsettings of all verbs (environment or flag):\n", out);
    settings_print(out, FOR_CLI);
    fputs("\nexamples:\n", out);
    for (size_t i = 0; i < 6 && verb->examples[i]; i++)
        fprintf(out, "  %s %s\n", program, verb->examples[i]);
}
