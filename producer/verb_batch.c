/* producer/verb_batch.c -- batch. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/job.h"
#include "producer/batchfile.h"
#include "producer/client.h"
#include "producer/done.h"
#include "producer/exits.h"
#include "producer/interrupt.h"
#include "producer/served.h"
#include "producer/text.h"
#include "producer/verbs.h"

#define PROGRESS_MS  100
#define LONELY_MS    3000 /* without an end, before asking for workers */
#define PRINT_MAX    16   /* results read at a time: each may have many MB */
#define LOOK_MAX     4096
#define SUBMIT_MAX   128        /* jobs in one pipeline, */
#define SUBMIT_BYTES (1u << 20) /* or until they have this many bytes */
#define BAR_WIDTH    30

struct batch {
    struct client *client;
    const struct settings *settings;
    const struct options *options;
    struct batchfile file;
    char id[JOB_ID_MAX + 1];
    bool *ended; /* per line */
    size_t nended, nfailed, nprinted, nduplicates;
    /* Lines to look at next, and where the replies of a look go. */
    size_t look[LOOK_MAX];
    size_t nlook;
    int64_t sweep_at_ms, progress_at_ms, deadline_ms;
    int64_t lonely_at_ms; /* then one look for workers; 0: had it */
    bool bar;
    enum exits worst;
};

/* The batch's id is the nonce: a job of this batch that a lost reply hid is
 * known again when it is sent again. */
static struct enqueue enqueue_of(const struct batch *b,
                                 const struct batchfile_line *line,
                                 struct strbuf *body)
{
    batchfile_body(line, b->id, body);
    return (struct enqueue){
        .queue = options_queue(b->options),
        .job_id = line->id,
        .body = body->text,
        .body_len = body->len,
        .batch_id = b->id,
        .nonce = b->id,
    };
}

static int take_answer(struct batch *b, const struct batchfile_line *line,
                       enum enqueue_answer answer)
{
    if (answer == ENQUEUE_FULL) {
        snprintf(b->client->why, sizeof(b->client->why), "the queue is full");
        return -ENOSPC;
    }
    if (answer == ENQUEUE_DUPLICATE) {
        b->nduplicates++;
        text_say("line %zu: job %s is there already; it is not run again",
                 line->number, line->id);
    }
    return 0;
}

/* As many of the lines from `from` as go into one pipeline. *count_out: how
 * many those are. */
static int submit_some(struct batch *b, size_t from, int *count_out)
{
    struct strbuf bodies[SUBMIT_MAX] = {0};
    struct enqueue list[SUBMIT_MAX];
    enum enqueue_answer answers[SUBMIT_MAX];
    size_t bytes = 0;
    int n = 0, rc = 0;

    while (n < SUBMIT_MAX && from + (size_t)n < b->file.count &&
           bytes < SUBMIT_BYTES) {
        list[n] = enqueue_of(b, &b->file.lines[from + (size_t)n], &bodies[n]);
        if (bodies[n].failed)
            rc = -ENOMEM;
        bytes += bodies[n++].len;
    }
    if (rc == 0)
        rc = client_enqueue_all(b->client, list, n, answers);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = take_answer(b, &b->file.lines[from + (size_t)i], answers[i]);
    for (int i = 0; i < n; i++)
        strbuf_fini(&bodies[i]);
    *count_out = n;
    return rc;
}

static int set_total(struct batch *b)
{
    int rc = protocol_batch_create(&b->client->protocol, b->client->redis,
                                   clock_ms() + REDIS_CALL_TIMEOUT_MS, b->id,
                                   (int64_t)(b->file.count - b->nduplicates));

    if (rc < 0)
        snprintf(b->client->why, sizeof(b->client->why), "%s",
                 redis_error(b->client->redis));
    return rc;
}

static int submit(struct batch *b)
{
    int rc = set_total(b);
    size_t done = 0;

    while (rc == 0 && done < b->file.count) {
        int count = 0;

        rc = submit_some(b, done, &count);
        if (rc == 0)
            done += (size_t)count;
    }
    /* The total is of what this batch will run. */
    if (rc == 0 && b->nduplicates > 0)
        rc = set_total(b);
    if (rc < 0)
        text_say("batch %s: %zu of %zu jobs are known to be submitted: %s",
                 b->id, done, b->file.count, b->client->why);
    return rc < 0 ? EXITS_CAPIBOX : EXITS_OK;
}

static void progress(struct batch *b, bool last)
{
    size_t filled = b->nended * BAR_WIDTH / b->file.count;
    char bar[BAR_WIDTH + 1];

    if (!b->bar || (!last && clock_ms() < b->progress_at_ms))
        return;
    b->progress_at_ms = clock_ms() + PROGRESS_MS;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %zu/%zu ended, %zu failed%s", bar, b->nended,
            b->file.count, b->nfailed, last ? "\n" : "");
}

/* HMGET status verdict. A hash that is gone had its time: it ended. */
static void take_status(void *ctx, size_t i, const redisReply *reply)
{
    struct batch *b = ctx;
    size_t line = b->look[i];
    const redisReply *status = reply->element[0];
    const redisReply *verdict = reply->element[1];
    bool gone = status->type != REDIS_REPLY_STRING;

    if (b->ended[line] || (!gone && !client_ended(status->str)))
        return;
    b->ended[line] = true;
    b->nended++;
    b->nfailed += gone || strcmp(status->str, "succeeded") != 0;
    b->worst =
        exits_worst(b->worst, exits_of_name(verdict->type == REDIS_REPLY_STRING
                                                ? verdict->str
                                                : NULL));
}

static int look(struct batch *b)
{
    const char *ids[LOOK_MAX];
    int rc;

    for (size_t i = 0; i < b->nlook; i++)
        ids[i] = b->file.lines[b->look[i]].id;
    rc = client_ask_each(b->client, ids, b->nlook, "status", "verdict",
                         take_status, b);
    b->nlook = 0;
    return rc;
}

/* All that have not ended; the larger the batch, the rarer. */
static int sweep(struct batch *b)
{
    int64_t began = clock_ms(), took;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < b->file.count; i++) {
        if (!b->ended[i])
            b->look[b->nlook++] = i;
        if (b->nlook == LOOK_MAX || i + 1 == b->file.count)
            rc = look(b);
    }
    took = clock_ms() - began;
    b->sweep_at_ms =
        clock_ms() +
        (took * 10 > CLIENT_RECHECK_MS ? took * 10 : CLIENT_RECHECK_MS);
    return rc;
}

static int64_t soonest(const struct batch *b)
{
    int64_t until = b->sweep_at_ms;

    if (b->deadline_ms > 0 && b->deadline_ms < until)
        until = b->deadline_ms;
    return until;
}

/* Waits for one message, then takes what else is there. */
static int listen_once(struct batch *b, struct done *done)
{
    int64_t until = soonest(b);
    char id[JOB_ID_MAX + 1];

    while (b->nlook < LOOK_MAX && done_next(done, b->client, until, id) > 0) {
        long line = batchfile_find(&b->file, id);

        if (line < 0 || b->ended[line])
            continue;
        b->look[b->nlook++] = (size_t)line;
        until = 0;
    }
    if (b->nlook > 0)
        return look(b);
    return clock_ms() >= b->sweep_at_ms || !redis_connected(done->redis)
               ? sweep(b)
               : 0;
}

/* HMGET result status: always one line a job. */
static void print_result(void *ctx, size_t i, const redisReply *reply)
{
    struct batch *b = ctx;
    const redisReply *result = reply->element[0], *status = reply->element[1];
    const char *id = b->file.lines[b->nprinted + i].id;

    if (b->ended[b->nprinted + i] && result->type == REDIS_REPLY_STRING) {
        fwrite(result->str, 1, (size_t)result->len, stdout);
        putchar('\n');
        return;
    }
    printf("{\"job_id\":\"%s\",\"status\":", id);
    if (status->type == REDIS_REPLY_STRING &&
        job_name_valid(status->str, false))
        printf("\"%s\"}\n", status->str);
    else
        printf("null}\n");
}

/* Prints the results whose turn it is; all: also of what has not ended. */
static int print_ready(struct batch *b, bool all)
{
    for (;;) {
        const char *ids[PRINT_MAX];
        size_t n = 0;
        int rc;

        while (n < PRINT_MAX && b->nprinted + n < b->file.count &&
               (all || b->ended[b->nprinted + n])) {
            ids[n] = b->file.lines[b->nprinted + n].id;
            n++;
        }
        if (n == 0)
            return 0;
        if (b->bar && isatty(STDOUT_FILENO))
            fputs("\r\033[K", stderr);
        rc = client_ask_each(b->client, ids, n, "result", "status",
                             print_result, b);
        if (rc < 0)
            return rc;
        b->nprinted += n;
        if (fflush(stdout) != 0)
            return -EPIPE;
    }
}

/* Says once that nobody is there to run them. */
static void note_lonely(struct batch *b)
{
    char hint[SERVED_HINT_MAX];

    if (b->nended > 0 || b->lonely_at_ms == 0 || clock_ms() < b->lonely_at_ms)
        return;
    b->lonely_at_ms = 0;
    if (served_ask(b->client, options_queue(b->options), hint) == SERVED)
        return;
    if (b->bar)
        fputs("\r\033[K", stderr);
    text_say("%s; the jobs wait in the queue (press Ctrl-C to "
             "leave them there)",
             hint);
}

static int await(struct batch *b)
{
    struct done done;
    int rc = done_open(&done, b->client);

    if (rc == 0)
        rc = sweep(b);
    while (rc == 0) {
        rc = print_ready(b, false);
        progress(b, b->nended == b->file.count);
        if (rc < 0 || b->nprinted == b->file.count)
            break;
        if (b->deadline_ms > 0 && clock_ms() >= b->deadline_ms) {
            rc = -ETIMEDOUT;
            break;
        }
        note_lonely(b);
        rc = listen_once(b, &done);
    }
    done_close(&done);
    return rc;
}

/* The reader left, as head does, or the disk is full. */
static void say_unread(const struct batch *b)
{
    size_t left = b->file.count - b->nended;

    if (b->bar)
        fputs("\r\033[K", stderr);
    if (left > 0)
        text_say("batch %s: the results can no longer be written; %zu of %zu "
                 "jobs have not ended and go on",
                 b->id, left, b->file.count);
    else
        text_say("batch %s: not all results could be written; all %zu jobs "
                 "have ended",
                 b->id, b->file.count);
}

static int follow(struct batch *b)
{
    int rc;

    interrupt_says("interrupted; batch %s goes on", b->id);
    b->bar = isatty(STDERR_FILENO);
    b->lonely_at_ms = clock_ms() + LONELY_MS;
    if (b->options->wait_s > 0)
        b->deadline_ms = clock_ms() + (int64_t)(b->options->wait_s * 1000);
    rc = await(b);
    if (rc == -ETIMEDOUT) {
        text_say("batch %s: %zu of %zu jobs have not ended yet", b->id,
                 b->file.count - b->nended, b->file.count);
        print_ready(b, true);
        return EXITS_CAPIBOX;
    }
    if (rc == -EPIPE) {
        say_unread(b);
        return EXITS_CAPIBOX;
    }
    if (rc < 0) {
        text_say("batch %s: %s", b->id, b->client->why);
        return EXITS_CAPIBOX;
    }
    return (int)b->worst;
}

static void print_id(const struct batch *b)
{
    char hint[SERVED_HINT_MAX];

    if (served_ask(b->client, options_queue(b->options), hint) >= SERVED_OTHERS)
        text_say("%s; the jobs wait in the queue", hint);
    if (!b->settings->json) {
        puts(b->id);
        return;
    }
    printf("{\"batch_id\":\"%s\",\"job_ids\":[", b->id);
    for (size_t i = 0; i < b->file.count; i++)
        printf("%s\"%s\"", i ? "," : "", b->file.lines[i].id);
    puts("]}");
}

static int read_jobs(struct batch *b, const struct options *o)
{
    struct complaint why = {0};
    char text[700];

    if (o->queue && !job_name_valid(o->queue, false)) {
        text_say("--queue: \"%.70s\" will not do; give 1 to %d of "
                 "A-Za-z0-9._-",
                 o->queue, JOB_NAME_MAX);
        return EXITS_USAGE;
    }
    if (batchfile_read(&b->file, o->words[0], &why) < 0) {
        complaint_print(&why, text, sizeof(text));
        text_say("%s", *text ? text : "out of memory");
        return EXITS_USAGE;
    }
    b->ended = calloc(b->file.count, sizeof(*b->ended));
    if (!b->ended || protocol_make_job_id(b->id) < 0) {
        text_say("out of memory");
        return EXITS_CAPIBOX;
    }
    b->id[0] = 'b';
    return EXITS_OK;
}

static int batch(struct batch *b)
{
    struct client c;
    int rc;

    if (client_open(&c, b->settings) < 0) {
        text_say("%s", c.why);
        client_close(&c);
        return EXITS_CAPIBOX;
    }
    b->client = &c;
    interrupt_says("interrupted while submitting batch %s", b->id);
    rc = submit(b);
    if (rc == EXITS_OK && b->options->no_wait)
        print_id(b);
    else if (rc == EXITS_OK)
        rc = follow(b);
    client_close(&c);
    return rc;
}

int verb_batch(const struct settings *s, const struct options *o)
{
    struct batch *b = calloc(1, sizeof(*b));
    int rc;

    if (!b) {
        text_say("out of memory");
        return EXITS_CAPIBOX;
    }
    b->settings = s;
    b->options = o;
    rc = read_jobs(b, o);
    if (rc == EXITS_OK)
        rc = batch(b);
    batchfile_fini(&b->file);
    free(b->ended);
    free(b);
    return rc;
}
