#include "producer/gateway/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/job.h"
#include "common/protocol_call.h"
#include "producer/client.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/http.h"

struct stream {
    struct stream *next, *prev;
    struct request *request; /* NULL: it is over, but an answer is to come */
    struct gateway *gateway;
    struct waiter waiter;
    struct strbuf out;
    size_t sent; /* of it */
    char id[JOB_ID_MAX + 1];
    char last[EVENT_ID_MAX + 1];
    char verdict[24];
    bool listed, asking, job_ended, ended;
    int64_t read_ms, wrote_ms;
};

/* ---- life --------------------------------------------------------------- */

static void enlist(struct stream *s)
{
    struct gateway *g = s->gateway;

    s->next = g->stream_list;
    if (s->next)
        s->next->prev = s;
    g->stream_list = s;
    g->streams++;
    s->listed = true;
}

static void delist(struct stream *s)
{
    if (!s->listed)
        return;
    if (s->next)
        s->next->prev = s->prev;
    if (s->prev)
        s->prev->next = s->next;
    else
        s->gateway->stream_list = s->next;
    s->gateway->streams--;
    s->listed = false;
}

static void destroy(struct stream *s)
{
    strbuf_fini(&s->out);
    free(s);
}

static void free_stream(void *state)
{
    struct stream *s = state;

    delist(s);
    waiters_remove(&s->waiter);
    s->request = NULL;
    if (!s->asking)
        destroy(s);
}

static void wake(struct stream *s)
{
    if (s->request && (s->ended || s->out.len > s->sent))
        http_wake(s->request);
}

static void on_abandon(struct request *r, enum abandon why)
{
    struct stream *s = r->state;

    (void)why;
    s->ended = true;
    wake(s);
}

/* ---- writing ------------------------------------------------------------ */

/* Called by the daemon for more. */
static ssize_t more(void *ctx, uint64_t at, char *out, size_t max)
{
    struct stream *s = ctx;
    size_t left = s->out.len - s->sent;

    (void)at;
    if (s->request->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (left > 0) {
        size_t n = left < max ? left : max;

        memcpy(out, s->out.text + s->sent, n);
        s->sent += n;
        /* A reader that never quite catches up must not keep what it has. */
        if (s->sent >= STREAM_BYTES_MAX && s->sent < s->out.len) {
            s->out.len -= s->sent;
            memmove(s->out.text, s->out.text + s->sent, s->out.len + 1);
            s->sent = 0;
        }
        if (s->sent == s->out.len) {
            strbuf_fini(&s->out);
            s->sent = 0;
        }
        return (ssize_t)n;
    }
    if (s->ended || s->out.failed || !http_sleep(s->request))
        return MHD_CONTENT_READER_END_OF_STREAM;
    request_watch(s->request);
    return 0;
}

static void add_event(struct stream *s, const char *type, const char *data,
                      size_t size, const char *offset)
{
    bool output = !strcmp(type, "stdout") || !strcmp(type, "stderr");
    bool end = !strcmp(type, "end");

    if (!output && !end && strcmp(type, "state") != 0)
        return;
    if (*s->last)
        strbuf_addf(&s->out, "id: %s\n", s->last);
    strbuf_addf(&s->out, "event: %s\ndata: {\"%s\":", type,
                output ? "data"
                : end  ? "verdict"
                       : "status");
    strbuf_add_json(&s->out, data, size);
    if (output)
        strbuf_addf(&s->out, ",\"offset\":%llu", strtoull(offset, NULL, 10));
    strbuf_adds(&s->out, "}\n\n");
    s->ended = s->ended || end;
    s->wrote_ms = clock_ms();
}

static void take_entry(struct stream *s, const redisReply *entry)
{
    const redisReply *fields;
    const char *type = "", *offset = "0", *data = "";
    size_t size = 0;

    if (!reply_is_array(entry, 2) ||
        entry->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    fields = entry->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const char *name = fields->element[i]->str;
        const redisReply *value = fields->element[i + 1];

        if (!strcmp(name, "type"))
            type = value->str;
        else if (!strcmp(name, "offset"))
            offset = value->str;
        else if (!strcmp(name, "data") || !strcmp(name, "verdict")) {
            data = value->str;
            size = (size_t)value->len;
        }
    }
    snprintf(s->last, sizeof(s->last), "%s", entry->element[0]->str);
    add_event(s, type, data, size, offset);
}

/* ---- reading ------------------------------------------------------------ */

static void read_on(struct stream *s);

static void on_entries(void *ctx, int rc, redisReply **reply)
{
    struct stream *s = ctx;
    size_t count = 0;

    s->asking = false;
    if (!s->request) {
        destroy(s);
        return;
    }
    if (rc == 0 && (*reply)->type == REDIS_REPLY_ARRAY) {
        count = (*reply)->elements;
        for (size_t i = 0; i < count && !s->ended; i++)
            take_entry(s, (*reply)->element[i]);
    }
    if (rc == 0 && count == 0 && s->job_ended && !s->ended) {
        s->last[0] = '\0';
        add_event(s, "end", s->verdict, strlen(s->verdict), "");
    }
    if (count > 0 && !s->ended)
        s->read_ms = 0; /* there may be more */
    wake(s);
}

static void read_on(struct stream *s)
{
    char key[KEY_MAX], from[EVENT_ID_MAX + 8], count[16];
    const char *argv[] = {
        "XRANGE", protocol_key(&s->gateway->protocol, key, "events", s->id),
        from,     "+",
        "COUNT",  count};

    snprintf(from, sizeof(from), "%s%s", *s->last ? "(" : "-", s->last);
    snprintf(count, sizeof(count), "%d", STREAM_ENTRIES);
    s->read_ms = clock_ms();
    s->asking = link_ask(&s->gateway->link, on_entries, s, 6, argv) == 0;
}

static void turn(struct stream *s, int64_t now)
{
    bool quiet = now - s->wrote_ms >= STREAM_QUIET_MS;

    if (s->ended)
        return;
    if (!s->asking &&
        now - s->read_ms >= (quiet ? STREAM_QUIET_MS / 4 : STREAM_POLL_MS) &&
        s->out.len - s->sent < STREAM_BYTES_MAX)
        read_on(s);
    if (now - s->wrote_ms >= STREAM_PING_MS) {
        strbuf_adds(&s->out, ": still here\n\n");
        s->wrote_ms = now;
        wake(s);
    }
}

void streams_turn(struct gateway *g)
{
    int64_t now = g->stream_list ? clock_ms() : 0;
    struct stream *s = g->stream_list, *next;

    for (; s; s = next) {
        next = s->next;
        turn(s, now);
    }
}

/* ---- opening ------------------------------------------------------------ */

static void on_end(struct waiter *w, int rc, const redisReply *fields)
{
    struct stream *s = w->ctx;

    s->job_ended = true;
    if (rc == 0 && fields->element[WAITERS_VERDICT]->type == REDIS_REPLY_STRING)
        snprintf(s->verdict, sizeof(s->verdict), "%s",
                 fields->element[WAITERS_VERDICT]->str);
    s->read_ms = 0;
}

static void begin(struct stream *s)
{
    struct request *r = s->request;
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 4096, more, s, NULL);

    s->waiter = (struct waiter){.done = on_end, .ctx = s, .patient = true};
    if (!response || waiters_add(&s->gateway->waiters, s->id, &s->waiter) < 0) {
        if (response)
            MHD_destroy_response(response);
        request_answer_redis(r, -ENOMEM);
        return;
    }
    waiters_there(&s->waiter);
    waiters_look(&s->waiter);
    s->wrote_ms = clock_ms();
    enlist(s);
    r->abandon = on_abandon;
    MHD_add_response_header(response, "Content-Type", "text/event-stream");
    MHD_add_response_header(response, "X-Accel-Buffering", "no");
    request_answer(r, 200, response, NULL);
    peer_enter(r->peer, PEER_WAITING);
}

static void on_job(void *ctx, int rc, redisReply **reply)
{
    struct stream *s = ctx;
    struct request *r = s->request;

    s->asking = false;
    if (rc == 0)
        rc = reply_failure(*reply);
    if (rc < 0 || !reply_is_array(*reply, 2))
        request_answer_redis(r, rc < 0 ? rc : -EPROTO);
    else if ((*reply)->element[0]->type != REDIS_REPLY_STRING ||
             !request_may_see(r, (*reply)->element[1]))
        request_answer_error(r, 404, "no_such_job", NULL, "no job %s", s->id);
    else if (request_is_gone(r)) /* the head of an answer is one, too */
        request_drop(r);
    else
        begin(s);
}

/* False: answered. */
static bool fits(struct request *r, const char *last)
{
    if (!job_id_valid(r->match.id))
        request_answer_error(r, 404, "no_such_job", NULL, "no such job");
    else if (last && *last && !protocol_event_id_valid(last))
        request_answer_error(r, 400, "invalid_event_id", "Last-Event-ID",
                             "is no id of an event");
    else if (r->gateway->streams >= STREAMS_MAX) {
        r->retry_after_s = REQUEST_RETRY_S;
        request_answer_error(r, 503, "too_many_streams", NULL,
                             "%d event streams are open", STREAMS_MAX);
    }
    return !r->answered;
}

void stream_open(struct request *r)
{
    const char *last = request_header(r, "Last-Event-ID");
    struct gateway *g = r->gateway;
    char key[KEY_MAX];
    const char *argv[] = {"HMGET",
                          protocol_key(&g->protocol, key, "job", r->match.id),
                          "status", "tenant"};
    struct stream *s;
    int rc;

    if (!fits(r, last))
        return;
    s = calloc(1, sizeof(*s));
    if (!s) {
        request_answer_redis(r, -ENOMEM);
        return;
    }
    s->request = r;
    s->gateway = g;
    strcpy(s->id, r->match.id);
    snprintf(s->last, sizeof(s->last), "%s", last ? last : "");
    r->state = s;
    r->free_state = free_stream;
    rc = link_ask(&g->link, on_job, s, 4, argv);
    s->asking = rc == 0;
    if (rc < 0)
        request_answer_redis(r, rc);
}
