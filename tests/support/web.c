#include "tests/support/web.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/stage.h"

#define ENV_MAX     16
#define HEADERS_MAX 16
#define ASK_MS      60000

/* ---- the program -------------------------------------------------------- */

static void find_port(struct web *web)
{
    AUTO_FREE char *said = proc_err(&web->proc);
    const char *at = strstr(said, "address=");
    const char *end = at ? at + strcspn(at, " \n") : NULL;

    while (end && end > at && end[-1] != ':')
        end--;
    web->port = end ? atoi(end) : 0;
    if (web->port == 0)
        fail_msg("the gateway has no port:\n%s", said);
    snprintf(web->base, sizeof(web->base), "%s://127.0.0.1:%d",
             strstr(said, "tls=yes") ? "https" : "http", web->port);
}

void web_start(struct rig *rig, struct web *web, const char *const *env)
{
    const char *all[ENV_MAX];
    const char *argv[] = {proc_program("capibox-api"), NULL};
    char url[512];
    size_t n = 0;

    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", rig->server.url);
    /* Of two with the same name the first one counts. */
    for (size_t i = 0; env && env[i]; i++) {
        MUST(n + 4 < ENV_MAX);
        all[n++] = env[i];
    }
    all[n++] = url;
    all[n++] = "CAPIBOX_API_LISTEN=127.0.0.1:0";
    all[n++] = "CAPIBOX_TEMPLATES=templates";
    all[n] = NULL;
    proc_start(&web->proc, &(struct proc_start){.argv = argv, .env = all});
    if (!proc_says(&web->proc, "for=\"news of ended jobs\"", RIG_WAIT_MS) ||
        !proc_says(&web->proc, "for=commands", RIG_WAIT_MS)) {
        AUTO_FREE char *said = proc_err(&web->proc);

        fail_msg("the gateway does not start:\n%s", said);
    }
    find_port(web);
}

int web_stop(struct web *web)
{
    int ending;

    proc_signal(&web->proc, SIGTERM);
    ending = proc_wait(&web->proc, RIG_WAIT_MS);
    if (ending != 0) {
        AUTO_FREE char *said = proc_err(&web->proc);

        print_error("gateway ended with %d:\n%s", ending, said);
    }
    proc_stop(&web->proc);
    return ending;
}

/* ---- requests ----------------------------------------------------------- */

struct text {
    char *text;
    size_t size;
};

static size_t take(char *data, size_t size, size_t count, void *ctx)
{
    struct text *t = ctx;

    size *= count;
    t->text = realloc(t->text, t->size + size + 1);
    MUST(t->text);
    memcpy(t->text + t->size, data, size);
    t->size += size;
    t->text[t->size] = '\0';
    return size;
}

static void set_up(CURL *curl, const struct web_call *call, struct text *body,
                   struct text *headers)
{
    char url[4096];

    snprintf(url, sizeof(url), "%s%s", call->web->base, call->path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(curl, CURLOPT_NOBODY, !strcmp(call->method, "HEAD"));
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     call->timeout_ms ? call->timeout_ms : (long)ASK_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, headers);
    if (call->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)strlen(call->body));
    }
}

static void perform(struct web_call *call, const char *const *more)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *list = NULL;
    struct text body = {0}, headers = {0};
    bool typed = false;
    CURLcode rc;

    MUST(curl);
    call->answer = (struct answer){0};
    for (size_t i = 0; more && more[i]; i++) {
        typed = typed || !strncmp(more[i], "Content-Type", 12);
        list = curl_slist_append(list, more[i]);
    }
    if (call->body && !typed)
        list = curl_slist_append(list, "Content-Type: application/json");
    list = curl_slist_append(list, "Expect:");
    set_up(curl, call, &body, &headers);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    rc = curl_easy_perform(curl);
    if (rc == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &call->answer.status);
    else
        snprintf(call->answer.why, sizeof(call->answer.why), "%s",
                 curl_easy_strerror(rc));
    curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME, &call->answer.seconds);
    curl_slist_free_all(list);
    curl_easy_cleanup(curl);
    call->answer.body = body.text ? body.text : calloc(1, 1);
    call->answer.headers = headers.text ? headers.text : calloc(1, 1);
    call->answer.size = body.size;
    call->answer.json = cJSON_Parse(call->answer.body);
}

void web_ask(struct web *web, struct answer *a, const char *method,
             const char *path, const char *body, ...)
{
    struct web_call call = {
        .web = web, .method = method, .path = path, .body = body};
    const char *headers[HEADERS_MAX];
    va_list args;
    int n = 0;

    va_start(args, body);
    while (n < HEADERS_MAX - 1 && (headers[n] = va_arg(args, const char *)))
        n++;
    va_end(args);
    headers[n] = NULL;
    perform(&call, headers);
    *a = call.answer;
}

static void *perform_in_thread(void *arg)
{
    struct web_call *call = arg;
    const char *headers[] = {call->header, NULL};

    perform(call, headers);
    return NULL;
}

void web_begin(struct web_call *call)
{
    pthread_t thread;

    MUST0(pthread_create(&thread, NULL, perform_in_thread, call));
    call->thread = thread;
}

void web_wait(struct web_call *call)
{
    MUST0(pthread_join((pthread_t)call->thread, NULL));
}

void answer_free(struct answer *a)
{
    free(a->body);
    free(a->headers);
    cJSON_Delete(a->json);
    *a = (struct answer){0};
}

char *answer_header(const struct answer *a, const char *name, char out[256])
{
    size_t len = strlen(name);

    out[0] = '\0';
    for (const char *s = a->headers; s && *s; s = strchr(s, '\n')) {
        s += *s == '\n';
        if (!strncasecmp(s, name, len) && s[len] == ':') {
            s += len + 1 + strspn(s + len + 1, " ");
            snprintf(out, 256, "%.*s", (int)strcspn(s, "\r\n"), s);
        }
    }
    return out;
}

/* ---- sockets ------------------------------------------------------------ */

int web_connect(struct web *web)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)web->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

char *web_raw(struct web *web, const char *bytes, size_t size, int timeout_ms)
{
    int64_t until = clock_ms() + timeout_ms;
    struct text text = {0};
    AUTO_FD int fd = web_connect(web);
    char buf[4096];

    assert_true(fd >= 0);
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n <= 0)
            break;
        bytes += n;
        size -= (size_t)n;
    }
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, clock_left_ms(until)) <= 0)
            break;
        n = read(fd, buf, sizeof(buf));
        if (n <= 0)
            break;
        take(buf, 1, (size_t)n, &text);
    }
    return text.text ? text.text : calloc(1, 1);
}

/* ---- expecting ---------------------------------------------------------- */

void web_expect(const struct answer *a, long status)
{
    if (a->status != status)
        fail_msg("status %ld instead of %ld (%s): %.2000s", a->status, status,
                 a->why, a->body);
}

void web_expect_error(const struct answer *a, long status, const char *code,
                      const char *field)
{
    const char *have = stage_text(a->json, "error.code");
    const char *where = stage_text(a->json, "error.field");
    const char *message = stage_text(a->json, "error.message");

    web_expect(a, status);
    if (!have || strcmp(have, code) != 0 || !message || !*message ||
        (field && (!where || strcmp(where, field) != 0)))
        fail_msg("not the error %s of %s: %.2000s", code, field ? field : "any",
                 a->body);
}
