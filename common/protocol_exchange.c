/* The hot path: finishing, claiming, start marks, wake-ups, live output. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/protocol_call.h"

/* Lua's unpack() hands a job's hash to one HSET. */
#define FIELDS_MAX 200

static const struct {
    double up_to_s;
    const char *field;
} BUCKETS[] = {
    {0.005, "bucket:0.005"},  {0.01, "bucket:0.01"}, {0.025, "bucket:0.025"},
    {0.05, "bucket:0.05"},    {0.1, "bucket:0.1"},   {0.25, "bucket:0.25"},
    {0.5, "bucket:0.5"},      {1, "bucket:1"},       {2.5, "bucket:2.5"},
    {5, "bucket:5"},          {10, "bucket:10"},     {30, "bucket:30"},
    {60, "bucket:60"},        {300, "bucket:300"},   {1800, "bucket:1800"},
    {INFINITY, "bucket:inf"},
};

static const char *bucket_of(double seconds)
{
    size_t i = 0;

    while (seconds > BUCKETS[i].up_to_s)
        i++;
    return BUCKETS[i].field;
}

static bool gives_back(enum finish_kind kind)
{
    return kind == FINISH_RETRY || kind == FINISH_DELAY ||
           kind == FINISH_RELEASE;
}

/* Not started, and yet its hash may say where it is. */
static bool shows_delay(const struct finish *f)
{
    return f->kind == FINISH_DELAY && !f->started && f->parent;
}

static bool writes_hash(const struct finish *f)
{
    return f->kind == FINISH_END || (gives_back(f->kind) && f->started) ||
           shows_delay(f);
}

static bool has_events(const struct finish *f)
{
    return f->events && writes_hash(f);
}

static bool has_batch(const struct finish *f)
{
    return f->batch_id && f->kind == FINISH_END;
}

static void add_finish_keys(struct words *w, const struct protocol *p,
                            const struct finish *f)
{
    words_key(w, p, "job", f->job_id);
    if (f->template_id)
        words_key(w, p, "stats:template", f->template_id);
    if (has_batch(f))
        words_key(w, p, "batch", f->batch_id);
    if (has_events(f))
        words_key(w, p, "events", f->job_id);
    if (f->kind == FINISH_RELEASE)
        words_key(w, p, "queue", f->queue);
}

static bool has_entry(const struct finish *f)
{
    return gives_back(f->kind) || (f->kind == FINISH_END && f->dead_entry);
}

static bool is_timed(const struct finish *f)
{
    return f->execution_time > 0 && f->execution_time < 1e9;
}

/* "<kind><flags> <verdict> <bucket> <language> <template>" */
#define CLASS_MAX 256

static int print_class(char out[CLASS_MAX], const struct finish *f)
{
    static const char kinds[] = {
        [FINISH_END] = 'E',     [FINISH_RETRY] = 'R',     [FINISH_DELAY] = 'D',
        [FINISH_RELEASE] = 'L', [FINISH_DUPLICATE] = 'U',
    };
    bool end = f->kind == FINISH_END;
    const struct {
        bool set;
        char letter;
    } flags[] = {
        {f->started, 'm'},
        {f->suspect, 's'},
        {f->sandbox_created, 'c'},
        {f->sandbox_destroyed, 'd'},
        {f->code_started, 'x'},
        {f->cached, 'h'},
        {f->success, 'o'},
        {end && strcmp(verdict_status(f->verdict), "dead") == 0, 'D'},
        {f->template_id != NULL, 't'},
        {has_batch(f), 'b'},
        {has_events(f), 'e'},
        {f->kind == FINISH_RELEASE, 'q'},
        {shows_delay(f), 'w'},
        {has_entry(f), 'y'},
    };
    char letters[sizeof(flags) / sizeof(flags[0]) + 1], *at = letters;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (flags[i].set)
            *at++ = flags[i].letter;
    *at = '\0';
    return snprintf(out, CLASS_MAX, "%c%s %s %s %s %s", kinds[f->kind], letters,
                    end ? verdict_name(f->verdict) : "-",
                    end ? bucket_of(is_timed(f) ? f->execution_time : 0) : "-",
                    f->language && *f->language ? f->language : "-",
                    f->template_id ? f->template_id : "");
}

static int64_t number_of(const struct finish *f)
{
    if (f->kind != FINISH_END)
        return f->due_ms;
    return is_timed(f) ? llround(f->execution_time * 1e6) : 0;
}

/* Values above this go by themselves; the largest of them, that is: as a rule
 * it is the result. -1: none. */
#define LARGE_BYTES 128

static int large_field(const struct finish *f)
{
    int large = -1;

    if (!writes_hash(f) || shows_delay(f))
        return -1;
    for (int i = 0; i < f->nfields; i++)
        if (f->value_lens[i] > LARGE_BYTES &&
            (large < 0 || f->value_lens[i] > f->value_lens[large]))
            large = i;
    return large;
}

static void add_head(struct words *w, const char *token, const struct finish *f,
                     int large)
{
    char class[CLASS_MAX], field[JOB_NAME_MAX + 24], number[24];

    if (print_class(class, f) >= CLASS_MAX) {
        w->failed = true;
        return;
    }
    snprintf(field, sizeof(field), "%lld@%s", (long long)f->number, f->queue);
    snprintf(number, sizeof(number), "%lld", (long long)number_of(f));
    const char *parts[] = {class,     field,  token,
                           f->job_id, number, large < 0 ? "" : f->names[large]};
    size_t bytes = 0, count = large < 0 ? 5 : 6;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(parts[i]);
    words_pack_begin(w, bytes, (int)count);
    for (size_t i = 0; i < count; i++)
        words_packs(w, parts[i]);
    words_pack_end(w);
}

#define KIND_WORDS_MAX 6

/* What the kind of a finish adds to the job hash's words. */
static int kind_words(const char *token, const struct finish *f,
                      char due_at[32], const char *words[KIND_WORDS_MAX])
{
    if (f->kind == FINISH_END) {
        words[0] = "token", words[1] = token;
        return 2;
    }
    words[0] = "status", words[1] = "queued";
    if (f->kind == FINISH_RELEASE)
        return 2;
    snprintf(due_at, 32, "%lld.%03d", (long long)(f->due_ms / 1000),
             (int)(f->due_ms % 1000));
    words[1] = "delayed";
    words[2] = "due_at", words[3] = due_at;
    if (!shows_delay(f))
        return 4;
    words[4] = "token", words[5] = f->parent; /* the script wants it last */
    return 6;
}

static void add_hash(struct words *w, const char *token, const struct finish *f,
                     int large)
{
    const char *more[KIND_WORDS_MAX];
    char due_at[32];
    int nmore = kind_words(token, f, due_at, more);
    size_t bytes = 0;

    for (int i = 0; i < nmore; i++)
        bytes += strlen(more[i]);
    for (int i = 0; i < f->nfields; i++)
        if (i != large)
            bytes += strlen(f->names[i]) + f->value_lens[i];
    words_pack_begin(w, bytes, 2 * f->nfields + nmore);
    for (int i = 0; i < f->nfields; i++) {
        if (i == large)
            continue;
        words_packs(w, f->names[i]);
        words_pack(w, f->values[i], f->value_lens[i]);
    }
    for (int i = 0; i < nmore; i++)
        words_packs(w, more[i]);
    words_pack_end(w);
}

static void add_finish(struct words *w, const char *wid, const struct finish *f)
{
    char token[TOKEN_MAX + 1];

    protocol_token(token, wid, f->number);
    int large = large_field(f);
    add_head(w, token, f, large);
    if (writes_hash(f))
        add_hash(w, token, f, large);
    else
        words_adds(w, "");
    if (large >= 0)
        words_add(w, f->values[large], f->value_lens[large]);
    if (f->kind == FINISH_END && f->dead_entry)
        words_add(w, f->dead_entry, f->dead_entry_len);
    else if (gives_back(f->kind))
        words_add(w, f->entry, f->entry_len);
}

static void add_keys(struct words *w, const struct protocol *p,
                     const struct exchange_request *request)
{
    words_key(w, p, "inf", request->wid);
    words_key(w, p, "run", request->wid);
    words_key(w, p, "delayed", NULL);
    words_key(w, p, "dead", NULL);
    words_key(w, p, "stats", NULL);
    words_minute_key(w, p);
    words_key(w, p, "cx", NULL);
    for (int i = 0; i < request->nqueues; i++)
        words_private_key(w, p, request->wid, request->queues[i].name);
    for (int i = 0; i < request->nqueues; i++)
        words_key(w, p, "queue", request->queues[i].name);
    for (int i = 0; i < request->nfinishes; i++)
        add_finish_keys(w, p, &request->finishes[i]);
}

static bool finish_valid(const struct finish *f)
{
    return f->queue && f->job_id && f->nfields >= 0 &&
           f->nfields <= FIELDS_MAX && (f->entry || !gives_back(f->kind));
}

static bool request_valid(const struct exchange_request *request)
{
    bool valid = request->sequence >= 1 && request->nfinishes >= 0 &&
                 request->nfinishes <= FINISH_MAX && request->claim >= 0 &&
                 request->claim <= CLAIM_MAX && request->nqueues >= 0 &&
                 request->nqueues <= QUEUE_NAMES_MAX;

    for (int i = 0; valid && i < request->nfinishes; i++)
        valid = finish_valid(&request->finishes[i]);
    return valid;
}

int protocol_exchange_append(const struct protocol *p, struct redis *r,
                             const struct exchange_request *request,
                             bool by_text)
{
    AUTO_WORDS struct words w = {0};

    if (!request_valid(request))
        return -EINVAL;
    words_script(&w, p, SCRIPT_EXCHANGE, by_text);
    add_keys(&w, p, request);
    words_keys_end(&w);
    words_addi(&w, request->sequence);
    words_addi(&w, request->claim);
    words_addi(&w, request->nqueues);
    words_addi(&w, request->nfinishes);
    words_addi(&w, p->result_ttl_s * 1000);
    words_addi(&w, DEAD_LIST_MAX);
    words_key(&w, p, "done", NULL);
    words_addi(&w, MINUTE_TTL_S);
    for (int i = 0; i < request->nqueues; i++)
        words_adds(&w, request->queues[i].name);
    for (int i = 0; i < request->nfinishes; i++)
        add_finish(&w, request->wid, &request->finishes[i]);
    return words_append(&w, r);
}

/* The reader's own string is handed over as it is. */
static void take_entry(redisReply *item, struct claim *claim)
{
    claim->entry = item->str;
    claim->entry_len = (size_t)item->len;
    item->str = NULL;
    item->len = 0;
    item->type = REDIS_REPLY_NIL;
}

static int take_claims(redisReply *entries, int64_t queue, int64_t *number,
                       struct exchange_reply *out)
{
    for (size_t i = 0; i < entries->elements; i++) {
        redisReply *item = entries->element[i];

        ++*number;
        if (item->type == REDIS_REPLY_NIL)
            continue;
        if (item->type != REDIS_REPLY_STRING || out->nclaims == CLAIM_MAX)
            return -EPROTO;
        struct claim *claim = &out->claims[out->nclaims++];
        claim->number = *number;
        claim->queue = (int)queue;
        take_entry(item, claim);
    }
    return 0;
}

static int take_acks(const redisReply *item, int expected,
                     struct exchange_reply *out)
{
    if (item->type != REDIS_REPLY_STRING || item->len != (size_t)expected)
        return -EPROTO;
    for (int i = 0; i < expected; i++) {
        if (item->str[i] < '0' || item->str[i] > '2')
            return -EPROTO;
        out->acks[i] = (enum ack)(item->str[i] - '0');
    }
    out->nacks = expected;
    return 0;
}

static int parse_claims(redisReply *reply,
                        const struct exchange_request *request, int64_t base,
                        struct exchange_reply *out)
{
    for (size_t i = 3; i + 1 < reply->elements; i += 2) {
        int64_t queue = reply_int(reply, i);
        redisReply *entries = reply->element[i + 1];

        if (queue < 0 || queue >= request->nqueues ||
            entries->type != REDIS_REPLY_ARRAY)
            return -EPROTO;
        int rc = take_claims(entries, queue, &base, out);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int protocol_exchange_parse(redisReply *reply,
                            const struct exchange_request *request,
                            struct exchange_reply *out)
{
    int rc = reply_failure(reply);

    out->nacks = out->nclaims = 0;
    out->trouble[0] = '\0';
    if (rc < 0)
        return rc;
    if (!reply_is_array(reply, 3))
        return -EPROTO;
    int64_t base = reply_int(reply, 0);
    out->fenced = base < 0;
    strncat(out->trouble, reply_text(reply, 2), sizeof(out->trouble) - 1);
    rc = take_acks(reply->element[1], request->nfinishes, out);
    if (rc == 0 && !out->fenced)
        rc = parse_claims(reply, request, base, out);
    if (rc < 0) {
        while (out->nclaims > 0)
            free(out->claims[--out->nclaims].entry);
    }
    return rc;
}

int protocol_start_append(const struct protocol *p, struct redis *r,
                          const char *wid, const struct start *start,
                          bool by_text)
{
    AUTO_WORDS struct words w = {0};

    if (start->nfields > FIELDS_MAX)
        return -EINVAL;
    words_script(&w, p, SCRIPT_START, by_text);
    words_key(&w, p, "inf", wid);
    words_key(&w, p, "run", wid);
    words_key(&w, p, "job", start->job_id ? start->job_id : "");
    words_key(&w, p, "events", start->job_id ? start->job_id : "");
    words_key(&w, p, "cx", NULL);
    words_keys_end(&w);
    words_addf(&w, "%lld@%s", (long long)start->number, start->queue);
    words_addf(&w, "%s.%lld", wid, (long long)start->number);
    words_adds(&w, start->parent);
    words_adds(&w, start->job_id);
    words_addf(&w, "%s%s%s%s", start->suspect ? "s" : "",
               start->unsuspect ? "u" : "", start->mark_only ? "m" : "",
               start->events ? "e" : "");
    words_addi(&w, PROTOCOL_EVENTS_MAX);
    for (int i = 0; i < start->nfields; i++) {
        words_adds(&w, start->names[i]);
        words_adds(&w, start->values[i]);
    }
    return words_append(&w, r);
}

int protocol_start_parse(redisReply *reply, enum start_answer *answer_out)
{
    int rc = reply_failure(reply);

    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0 ||
        reply->integer > START_CANCELLED)
        return -EPROTO;
    *answer_out = (enum start_answer)reply->integer;
    return 0;
}

int protocol_block_append(const struct protocol *p, struct redis *r,
                          const char *wid, const char *queue)
{
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "BLMOVE");
    words_key(&w, p, "queue", queue);
    words_private_key(&w, p, wid, queue);
    words_adds(&w, "RIGHT");
    words_adds(&w, "LEFT");
    words_addi(&w, PROTOCOL_BLOCK_S);
    return words_append(&w, r);
}

int protocol_event_append(const struct protocol *p, struct redis *r,
                          const char *job_id, const char *type,
                          const char *data, size_t size, uint64_t offset)
{
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "XADD");
    words_key(&w, p, "events", job_id);
    words_adds(&w, "MAXLEN");
    words_adds(&w, "~");
    words_addi(&w, PROTOCOL_EVENTS_MAX);
    words_adds(&w, "*");
    words_adds(&w, "type");
    words_adds(&w, type);
    words_adds(&w, "data");
    words_add(&w, data, size);
    words_adds(&w, "offset");
    words_addi(&w, (int64_t)offset);
    return words_append(&w, r);
}

int protocol_cache_get_append(const struct protocol *p, struct redis *r,
                              const char *key)
{
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "GET");
    words_key(&w, p, "cache", key);
    return words_append(&w, r);
}

int protocol_cache_set_append(const struct protocol *p, struct redis *r,
                              const char *key, const char *result, size_t size)
{
    AUTO_WORDS struct words w = {0};

    words_adds(&w, "SET");
    words_key(&w, p, "cache", key);
    words_add(&w, result, size);
    words_adds(&w, "EX");
    words_addi(&w, p->result_ttl_s);
    return words_append(&w, r);
}
