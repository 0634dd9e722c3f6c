#include "worker/e2b/process.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base64.h"
#include "common/json.h"
#include "common/scope.h"
#include "common/utf8.h"
#include "worker/e2b/events.h"
#include "worker/e2b/secret.h"

#define HEAD           5
#define FLAG_END       2
#define FLAG_COMPRESS  1
#define TEXT_BYTES_MAX (256u << 10)

void process_init(struct process *p, struct outcome *o,
                  const struct run_sink *sink, int64_t output_limit)
{
    *p = (struct process){
        .o = o, .sink = sink, .output_limit = output_limit, .exit_code = -1};
}

void process_fini(struct process *p)
{
    strbuf_fini(&p->text);
    strbuf_fini(&p->in);
}

void envelope_wrap(const char *message, size_t size, struct strbuf *out)
{
    unsigned char head[HEAD] = {
        0, (unsigned char)(size >> 24), (unsigned char)(size >> 16),
        (unsigned char)(size >> 8), (unsigned char)size};

    strbuf_add(out, head, HEAD);
    strbuf_add(out, message, size);
}

static int nonsense(struct process *p, const char *what)
{
    snprintf(p->why, sizeof(p->why), "%s", what);
    return -EPROTO;
}

/* ---- events ------------------------------------------------------------ */

static int take_bytes(struct process *p, bool is_stderr, const char *base64)
{
    AUTO_FREE unsigned char *data = NULL;
    size_t size, bad;
    int rc = base64_decode(base64, strlen(base64), &data, &size, &bad);

    if (rc == -EINVAL)
        return nonsense(p, "output that is not base64");
    if (rc < 0)
        return rc;
    if (p->o)
        return output_add(p->o, p->sink, p->output_limit, is_stderr,
                          (const char *)data, size);
    if (!is_stderr && size <= TEXT_BYTES_MAX - p->text.len)
        strbuf_add(&p->text, data, size);
    return 0;
}

static int take_stream(struct process *p, const cJSON *data, bool is_stderr)
{
    const cJSON *item =
        cJSON_GetObjectItemCaseSensitive(data, is_stderr ? "stderr" : "stdout");

    if (!item || cJSON_IsNull(item))
        return 0;
    if (!cJSON_IsString(item))
        return nonsense(p, "output that is no text");
    return take_bytes(p, is_stderr, item->valuestring);
}

static int take_data(struct process *p, const cJSON *data)
{
    int rc;

    if (!cJSON_IsObject(data))
        return nonsense(p, "data of the wrong shape");
    rc = take_stream(p, data, false);
    return rc == 0 ? take_stream(p, data, true) : rc;
}

/* "signal: killed" as Go writes it, also "… (core dumped)": the number, 0 if
 * it is none. */
static int signal_of(const char *status)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {
        {"hangup", SIGHUP},
        {"interrupt", SIGINT},
        {"quit", SIGQUIT},
        {"illegal instruction", SIGILL},
        {"trace/breakpoint trap", SIGTRAP},
        {"aborted", SIGABRT},
        {"bus error", SIGBUS},
        {"floating point exception", SIGFPE},
        {"killed", SIGKILL},
        {"user defined signal 1", SIGUSR1},
        {"segmentation fault", SIGSEGV},
        {"user defined signal 2", SIGUSR2},
        {"broken pipe", SIGPIPE},
        {"alarm clock", SIGALRM},
        {"terminated", SIGTERM},
        {"CPU time limit exceeded", SIGXCPU},
        {"file size limit exceeded", SIGXFSZ},
        {"bad system call", SIGSYS},
    };
    const char *name = strstr(status, "signal: ");

    if (!name)
        return 0;
    name += strlen("signal: ");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strncasecmp(name, names[i].name, strlen(names[i].name)) == 0)
            return names[i].number;
    if (strncmp(name, "signal ", 7) == 0) {
        int number = atoi(name + 7);

        return number >= 1 && number <= SIGRTMAX ? number : SIGKILL;
    }
    return SIGKILL;
}

/* proto3's JSON leaves out what is 0 or false. */
static int take_end(struct process *p, const cJSON *end)
{
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(end, "exitCode");
    const cJSON *exited = cJSON_GetObjectItemCaseSensitive(end, "exited");
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(end, "status");

    if (!cJSON_IsObject(end) || (code && !cJSON_IsNumber(code)) ||
        (exited && !cJSON_IsBool(exited)) ||
        (status && !cJSON_IsString(status)))
        return nonsense(p, "an end of the wrong shape");
    if (cJSON_IsTrue(exited))
        p->exit_code = code ? code->valueint : 0;
    else
        p->signal = signal_of(status ? status->valuestring : "");
    if (!cJSON_IsTrue(exited) && p->signal == 0)
        return nonsense(p, "an end with neither an exit nor a signal");
    p->exited = true;
    return 0;
}

static int take_event(struct process *p, const cJSON *message)
{
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(message, "event");
    const cJSON *data, *end;

    if (!cJSON_IsObject(event))
        return nonsense(p, "a message without an event");
    if (cJSON_GetObjectItemCaseSensitive(event, "start"))
        p->started = true;
    data = cJSON_GetObjectItemCaseSensitive(event, "data");
    end = cJSON_GetObjectItemCaseSensitive(event, "end");
    if (p->exited && (data || end))
        return nonsense(p, "more of a process that has ended");
    if (data)
        return take_data(p, data);
    return end ? take_end(p, end) : 0;
}

/* A message of envd's, as far as there is room. */
static void keep_message(struct process *p, char *message)
{
    size_t len;

    for (size_t i = 0; i < sizeof(p->secrets) / sizeof(*p->secrets); i++)
        if (p->secrets[i])
            hide(message, p->secrets[i]);
    len = utf8_cut(message, sizeof(p->why) - 1);
    memcpy(p->why, message, len);
    p->why[len] = '\0';
}

/* {} or {"error":{"code","message"}} */
static int take_trailer(struct process *p, const cJSON *message)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(message, "error");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(error, "message");

    p->ended = true;
    if (error && !cJSON_IsNull(error)) {
        snprintf(p->code, sizeof(p->code), "%s",
                 cJSON_IsString(code) ? code->valuestring : "unknown");
        p->why[0] = '\0';
        if (cJSON_IsString(text))
            keep_message(p, text->valuestring);
    }
    return 0;
}

/* ---- envelopes --------------------------------------------------------- */

static size_t wanted(const struct strbuf *in)
{
    const unsigned char *b = (const unsigned char *)in->text;

    if (in->len < HEAD)
        return HEAD;
    return HEAD + ((size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 |
                   (size_t)b[4]);
}

static int take_envelope(struct process *p)
{
    const char *text = p->in.text + HEAD;
    size_t size = p->in.len - HEAD;
    cJSON *message;
    int rc;

    if (p->in.text[0] & FLAG_COMPRESS)
        return nonsense(p, "a compressed message");
    if (json_check(text, size, NULL, 0, NULL, NULL) < 0)
        return nonsense(p, "a message that is not JSON");
    message = json_parse(text, size);
    if (!message)
        return -ENOMEM;
    if (p->in.text[0] & FLAG_END)
        rc = take_trailer(p, message);
    else
        rc = take_event(p, message);
    cJSON_Delete(message);
    return rc;
}

int process_feed(void *process, const char *data, size_t size)
{
    struct process *p = process;
    int rc = 0;

    if (p->ended && size > 0)
        return nonsense(p, "data after the end of the stream");
    while (size > 0 && rc == 0 && !p->ended) {
        size_t want = wanted(&p->in) - p->in.len;
        size_t part = size < want ? size : want;

        strbuf_add(&p->in, data, part);
        if (p->in.failed)
            return -ENOMEM;
        data += part;
        size -= part;
        if (wanted(&p->in) > ENVELOPE_MAX + HEAD)
            return nonsense(p, "a message larger than any may be");
        if (p->in.len < HEAD || p->in.len < wanted(&p->in))
            continue;
        rc = take_envelope(p);
        strbuf_clear(&p->in);
    }
    return rc;
}
