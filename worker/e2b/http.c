#include "worker/e2b/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"

#define EVENTS_MAX 64

/* A connection of ours. */
struct line {
    int fd;
    int port; /* our end's; 0: not known yet */
};

struct http {
    pthread_t thread;
    CURLM *multi;
    CURLSH *share;
    int epoll_fd, wake_fd;
    char *ca;
    /* All CAs come from one file: read once, not for each connection (which
     * libcurl does when there is a folder as well). */
    bool ca_is_file;
    int64_t timer_at_ms;      /* libcurl's; -1: none. Network thread only */
    int64_t linger_at_ms;     /* of calls that are over; -1: none. The same */
    int64_t trim_at_ms;       /* -1: nothing to give back. The same */
    struct http_call *active; /* network thread only */
    CURL *spare[HTTP_SPARE_HANDLES];
    int nspare;
    struct line *lines; /* network thread only, until it is joined */
    int nlines, lines_cap;
    atomic_bool quit, aborts;
    atomic_llong calls, connects;
    pthread_mutex_t lock;
    struct http_call *posted, **posted_last; /* guarded by lock */
};

/* ---- the answer -------------------------------------------------------- */

static void linger(struct http_call *call)
{
    struct http *h = call->http;

    if (call->over_ms)
        return;
    call->over_ms = clock_ms() + HTTP_LINGER_MS;
    if (h->linger_at_ms < 0)
        h->linger_at_ms = call->over_ms; /* those to come are later */
}

static size_t take_body(char *data, size_t one, size_t count, void *ctx)
{
    struct http_call *call = ctx;
    size_t size = one * count;
    long status = 0;

    curl_easy_getinfo(call->handle, CURLINFO_RESPONSE_CODE, &status);
    if (call->data && status >= 200 && status < 300) {
        int rc = call->data(call->ctx, data, size);

        if (rc == HTTP_OVER)
            linger(call);
        call->rc = rc < 0 ? rc : 0;
        return rc < 0 ? CURL_WRITEFUNC_ERROR : size;
    }
    if (size > HTTP_BODY_MAX - call->answer.len) {
        call->rc = -EMSGSIZE;
        return CURL_WRITEFUNC_ERROR;
    }
    strbuf_add(&call->answer, data, size);
    if (call->answer.failed)
        call->rc = -ENOMEM;
    return call->answer.failed ? CURL_WRITEFUNC_ERROR : size;
}

/* The value behind "Name:", cut into out; false if the line is another. */
static bool header_value(const char *line, size_t size, const char *name,
                         char *out, size_t out_size)
{
    size_t at = strlen(name);

    if (size <= at || line[at] != ':' || strncasecmp(line, name, at) != 0)
        return false;
    for (at++; at < size && (line[at] == ' ' || line[at] == '\t'); at++)
        ;
    while (size > at && strchr(" \t\r\n", line[size - 1]))
        size--;
    size = size - at < out_size ? size - at : out_size - 1;
    memcpy(out, line + at, size);
    out[size] = '\0';
    return true;
}

/* A connection that waits holds no record buffers: SSL_MODE_RELEASE_BUFFERS
 * does not see to the one that TLS 1.3's tickets, which come with the answer,
 * left for writing (SSL_free_buffers(3ssl)). Not while something is unread,
 * which some OpenSSL would free (CVE-2024-4741). */
static void free_tls_buffers(CURL *handle)
{
    struct curl_tlssessioninfo *tls = NULL;

    if (curl_easy_getinfo(handle, CURLINFO_TLS_SSL_PTR, &tls) == CURLE_OK &&
        tls && tls->backend == CURLSSLBACKEND_OPENSSL && tls->internals &&
        !SSL_has_pending(tls->internals))
        SSL_free_buffers(tls->internals);
}

static int bounded_wait(int64_t wait_s)
{
    if (wait_s < 0)
        return 0;
    return wait_s < HTTP_RETRY_AFTER_MAX_S ? (int)wait_s
                                           : HTTP_RETRY_AFTER_MAX_S;
}

/* Seconds or a date. CURLINFO_RETRY_AFTER tells 0 and none not apart, and takes
 * our clock for that of who wrote the date. */
static void take_retry_after(struct http_call *call, const char *value)
{
    time_t date;

    if (value[0] && value[strspn(value, "0123456789")] == '\0') {
        call->retry_after_s = bounded_wait(strtoll(value, NULL, 10));
        return;
    }
    date = curl_getdate(value, NULL);
    call->retry_at_s = date > 0 ? (int64_t)date : 0;
}

static size_t take_header(char *line, size_t one, size_t count, void *ctx)
{
    struct http_call *call = ctx;
    size_t size = one * count;
    char value[256];

    if (size == strlen("\r\n")) {
        free_tls_buffers(call->handle);
        if (call->http->trim_at_ms < 0)
            call->http->trim_at_ms = clock_ms() + HTTP_TRIM_MS;
    }
    if (header_value(line, size, "Retry-After", value, sizeof(value))) {
        take_retry_after(call, value);
    } else if (header_value(line, size, "Date", value, sizeof(value))) {
        time_t date = curl_getdate(value, NULL);

        call->date_s = date > 0 ? (int64_t)date : 0;
    } else {
        header_value(line, size, "X-Next-Token", call->next_token,
                     sizeof(call->next_token));
    }
    return size;
}

/* ---- connections --------------------------------------------------------- */

static curl_socket_t open_line(void *ctx, curlsocktype purpose,
                               struct curl_sockaddr *address)
{
    struct http *h = ctx;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);

    (void)purpose;
    if (fd >= 0 && h->nlines == h->lines_cap) {
        int cap = h->lines_cap * 2 + 16;
        struct line *more = realloc(h->lines, (size_t)cap * sizeof(*more));

        if (!more) {
            close(fd);
            return CURL_SOCKET_BAD;
        }
        h->lines = more;
        h->lines_cap = cap;
    }
    if (fd >= 0)
        h->lines[h->nlines++] = (struct line){fd, 0};
    return fd;
}

static int close_line(void *ctx, curl_socket_t fd)
{
    struct http *h = ctx;

    for (int i = 0; i < h->nlines; i++) {
        if (h->lines[i].fd == fd) {
            h->lines[i] = h->lines[--h->nlines];
            break;
        }
    }
    return close(fd);
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } own = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof(own);

    if (getsockname(fd, &own.any, &size) < 0)
        return 0;
    return ntohs(own.any.sa_family == AF_INET6 ? own.v6.sin6_port
                                               : own.v4.sin_port);
}

/* Between two requests a server has nothing to say but that it leaves; under
 * TLS that is data, which libcurl takes for a sign of life. */
static bool is_dead(struct http *h, int own_port)
{
    char byte;

    for (int i = 0; i < h->nlines; i++) {
        struct line *line = &h->lines[i];

        if (line->port == 0)
            line->port = port_of(line->fd);
        if (line->port != own_port)
            continue;
        return recv(line->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
               errno != EAGAIN;
    }
    return false;
}

/* libcurl sends a request again by itself when a kept connection turns out to
 * be dead. It may have arrived all the same, so that is the caller's to
 * decide. */
static int before_sending(void *ctx, char *peer, char *own, int peer_port,
                          int own_port)
{
    struct http_call *call = ctx;
    long connects = 0;

    (void)peer, (void)own, (void)peer_port;
    if (call->method == HTTP_POST) {
        if (call->sends > 0)
            return CURL_PREREQFUNC_ABORT;
        curl_easy_getinfo(call->handle, CURLINFO_NUM_CONNECTS, &connects);
        call->stale = connects == 0 && is_dead(call->http, own_port);
        if (call->stale)
            return CURL_PREREQFUNC_ABORT;
    }
    call->sends++;
    return CURL_PREREQFUNC_OK;
}

static enum http_trouble trouble_of(CURLcode code, const struct http_call *call)
{
    switch (code) {
    case CURLE_OK:
        return HTTP_FINE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return HTTP_NO_NAME;
    case CURLE_COULDNT_CONNECT:
        return HTTP_NO_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
        return HTTP_NO_TLS;
    case CURLE_WRITE_ERROR:
        return HTTP_REFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        if (clock_ms() + 1 >= call->deadline_ms)
            return HTTP_LATE;
        return call->sends > 0 ? HTTP_STALLED : HTTP_NO_CONNECT;
    default:
        return HTTP_BROKEN;
    }
}

static const int trouble_rc[] = {
    [HTTP_FINE] = 0,
    [HTTP_NO_NAME] = -EHOSTUNREACH,
    [HTTP_NO_CONNECT] = -ECONNREFUSED,
    [HTTP_NO_TLS] = -EPROTO,
    [HTTP_BROKEN] = -ECONNRESET,
    [HTTP_STALLED] = -ETIMEDOUT,
    [HTTP_LATE] = -ETIMEDOUT,
    [HTTP_ABORTED] = -ECANCELED,
    [HTTP_REFUSED] = -EMSGSIZE,
};

/* ---- one call on the network thread ------------------------------------ */

static CURLcode slim_tls(CURL *handle, void *context, void *ctx)
{
    (void)handle, (void)ctx;
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return CURLE_OK;
}

static void set_common(struct http *h, CURL *e, struct http_call *call)
{
    int64_t left = call->deadline_ms - clock_ms();

    curl_easy_setopt(e, CURLOPT_URL, call->url);
    /* Whatever the environment says: through a proxy, only a tunnel. */
    if (strncasecmp(call->url, "https:", strlen("https:")) != 0)
        curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    curl_easy_setopt(e, CURLOPT_SHARE, h->share);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    /* The end of a call whose name is still asked for would wait for that
     * thread, and all other calls with it. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    /* And what comes encoded all the same is decoded. */
    curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "identity");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "capibox/" CAPIBOX_VERSION);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)HTTP_RECEIVE_BYTES);
    curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)HTTP_SEND_BYTES);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, left > 0 ? (long)left : 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)HTTP_IDLE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, call->last ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, slim_tls);
    if (h->ca[0])
        curl_easy_setopt(e, CURLOPT_CAINFO, h->ca);
    if (h->ca_is_file)
        curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    if (call->stall_s > 0) {
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)call->stall_s);
    }
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_line);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, h);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, close_line);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, h);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, call->fresh ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, before_sending);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, call);
}

struct part_reader {
    const char *data;
    size_t size, at;
};

static size_t read_part(char *out, size_t one, size_t count, void *ctx)
{
    struct part_reader *r = ctx;
    size_t want = one * count;

    if (want > r->size - r->at)
        want = r->size - r->at;
    memcpy(out, r->data + r->at, want);
    r->at += want;
    return want;
}

static int seek_part(void *ctx, curl_off_t offset, int origin)
{
    struct part_reader *r = ctx;

    if (origin != SEEK_SET || offset < 0 || (size_t)offset > r->size)
        return CURL_SEEKFUNC_FAIL;
    r->at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Read where they lie; only a small reader is made for each. */
static int add_parts(CURL *e, struct http_call *call)
{
    curl_mime *form = curl_mime_init(e);

    call->form = form;
    for (size_t i = 0; form && i < call->nparts; i++) {
        const struct http_part *p = &call->parts[i];
        curl_mimepart *part = curl_mime_addpart(form);
        struct part_reader *r = calloc(1, sizeof(*r));

        if (!part || !r) {
            free(r);
            return -ENOMEM;
        }
        *r = (struct part_reader){p->data, p->size, 0};
        curl_mime_name(part, "file");
        curl_mime_filename(part, p->filename);
        curl_mime_type(part, "application/octet-stream");
        curl_mime_data_cb(part, (curl_off_t)p->size, read_part, seek_part, free,
                          r);
    }
    if (form)
        curl_easy_setopt(e, CURLOPT_MIMEPOST, form);
    return form ? 0 : -ENOMEM;
}

static int set_method(CURL *e, struct http_call *call)
{
    if (call->method == HTTP_DELETE)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE");
    if (call->method != HTTP_POST)
        return 0;
    if (call->parts)
        return add_parts(e, call);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)call->body_size);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->body ? call->body : "");
    return 0;
}

static int set_headers(CURL *e, struct http_call *call)
{
    /* No "Expect: 100-continue": it costs a round trip. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    for (int i = 0; list && i < HTTP_HEADERS_MAX && call->headers[i]; i++) {
        struct curl_slist *longer = curl_slist_append(list, call->headers[i]);

        if (!longer) {
            curl_slist_free_all(list);
            return -ENOMEM;
        }
        list = longer;
    }
    call->list = list;
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, list);
    return list ? 0 : -ENOMEM;
}

static void give_handle_back(struct http *h, CURL *e)
{
    if (h->nspare < HTTP_SPARE_HANDLES) {
        curl_easy_reset(e);
        h->spare[h->nspare++] = e;
    } else {
        curl_easy_cleanup(e);
    }
}

/* Frees what the call has of libcurl. */
static void let_go(struct http *h, struct http_call *call)
{
    if (call->handle)
        give_handle_back(h, call->handle);
    curl_mime_free(call->form);
    curl_slist_free_all(call->list);
    call->handle = call->form = call->list = NULL;
}

/* And wakes its caller. */
static void finish(struct http *h, struct http_call *call)
{
    let_go(h, call);
    sem_post(&call->done); /* the caller may be gone with it now */
}

static void take_end(struct http *h, struct http_call *call, CURLcode code)
{
    CURL *e = call->handle;
    long status = 0, connects = 0, request = 0;

    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(e, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(e, CURLINFO_REQUEST_SIZE, &request);
    atomic_fetch_add(&h->connects, connects);
    call->status = (int)status;
    call->sent = request > 0 || call->sends > 0;
    if (call->retry_at_s > 0)
        call->retry_after_s = bounded_wait(
            call->retry_at_s - (call->date_s ? call->date_s : time(NULL)));
    call->trouble = trouble_of(code, call);
    if (call->trouble != HTTP_FINE) {
        if (call->rc >= 0)
            call->rc = trouble_rc[call->trouble];
        /* The only callback that aborts is before_sending(), and what is left
         * of its reasons here is a second sending. */
        snprintf(call->error, sizeof(call->error), "%s",
                 code == CURLE_ABORTED_BY_CALLBACK ? HTTP_CLOSED_BY_SERVER
                                                   : curl_easy_strerror(code));
    }
}

static void remove_active(struct http *h, struct http_call *call)
{
    for (struct http_call **at = &h->active; *at; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            return;
        }
    }
}

static void begin(struct http *h, struct http_call *call)
{
    CURL *e = h->nspare > 0 ? h->spare[--h->nspare] : curl_easy_init();
    int rc = e ? 0 : -ENOMEM;

    call->handle = e;
    if (rc == 0) {
        set_common(h, e, call);
        rc = set_headers(e, call);
    }
    if (rc == 0)
        rc = set_method(e, call);
    if (rc == 0 && curl_multi_add_handle(h->multi, e) != CURLM_OK)
        rc = -ENOMEM;
    if (rc < 0) {
        call->rc = rc;
        call->trouble = HTTP_BROKEN;
        snprintf(call->error, sizeof(call->error), "%s", strerror(-rc));
        finish(h, call);
        return;
    }
    call->next = h->active;
    h->active = call;
}

/* ---- the network thread ------------------------------------------------ */

static int watch_socket(CURL *e, curl_socket_t fd, int what, void *ctx,
                        void *known)
{
    struct http *h = ctx;
    struct epoll_event event = {.data.fd = fd};

    (void)e;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        curl_multi_assign(h->multi, fd, NULL);
        return 0;
    }
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    /* Not -1: libcurl would give up all calls, and not even end them. That of
     * an unwatched socket goes on with its timers, and ends by its deadline. */
    if (epoll_ctl(h->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
                  &event) == 0 ||
        epoll_ctl(h->epoll_fd, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd,
                  &event) == 0)
        curl_multi_assign(h->multi, fd, h);
    return 0;
}

static int set_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct http *h = ctx;

    (void)multi;
    h->timer_at_ms = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
    return 0;
}

static void take_posted(struct http *h)
{
    struct http_call *call, *next;

    MUST0(pthread_mutex_lock(&h->lock));
    call = h->posted;
    h->posted = NULL;
    h->posted_last = &h->posted;
    MUST0(pthread_mutex_unlock(&h->lock));
    for (; call; call = next) {
        next = call->next;
        /* Given up before it was here: that flag may have been seen, and taken
         * back, when it stood in no list. */
        if (atomic_load(&call->aborted))
            atomic_store(&h->aborts, true);
        begin(h, call);
    }
}

static void take_aborts(struct http *h)
{
    struct http_call *next;

    if (!atomic_exchange(&h->aborts, false))
        return;
    for (struct http_call *call = h->active; call; call = next) {
        next = call->next;
        if (!atomic_load(&call->aborted))
            continue;
        remove_active(h, call);
        take_end(h, call, CURLE_OK);
        curl_multi_remove_handle(h->multi, call->handle); /* closes it */
        call->trouble = HTTP_ABORTED;
        call->rc = -ECANCELED;
        snprintf(call->error, sizeof(call->error), "given up");
        finish(h, call);
    }
}

/* What did not end properly in its time is closed; its answer is whole. */
static void take_over(struct http *h)
{
    int64_t now = clock_ms();
    struct http_call *next;

    if (h->linger_at_ms < 0 || now < h->linger_at_ms)
        return;
    h->linger_at_ms = -1;
    for (struct http_call *call = h->active; call; call = next) {
        next = call->next;
        if (call->over_ms > now &&
            (h->linger_at_ms < 0 || call->over_ms < h->linger_at_ms))
            h->linger_at_ms = call->over_ms;
        if (call->over_ms == 0 || call->over_ms > now)
            continue;
        remove_active(h, call);
        take_end(h, call, CURLE_OK);
        curl_multi_remove_handle(h->multi, call->handle); /* closes it */
        finish(h, call);
    }
}

/* The buffers of handshakes are as large as all that a stream keeps, and lay
 * between what stays: only so do their pages go back to the system. */
static void trim(struct http *h)
{
    if (h->trim_at_ms < 0 || clock_ms() < h->trim_at_ms)
        return;
    h->trim_at_ms = -1;
    malloc_trim(0);
}

static int64_t sooner(int64_t a_ms, int64_t b_ms)
{
    return b_ms >= 0 && (a_ms < 0 || b_ms < a_ms) ? b_ms : a_ms;
}

/* How long nothing is due. */
static int wait_ms(const struct http *h)
{
    int64_t at = sooner(sooner(h->timer_at_ms, h->linger_at_ms), h->trim_at_ms);

    return at < 0 ? -1 : clock_left_ms(at);
}

/* On a connection of its own, as nothing was sent on the dead one. */
static void again(struct http *h, struct http_call *call)
{
    let_go(h, call);
    call->rc = 0;
    call->trouble = HTTP_FINE;
    call->error[0] = '\0';
    call->stale = false;
    call->fresh = true;
    begin(h, call);
}

static void take_ended(struct http *h)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(h->multi, &left))) {
        CURLcode code = message->data.result;
        CURL *e = message->easy_handle;
        struct http_call *call = NULL;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(e, CURLINFO_PRIVATE, &call);
        remove_active(h, call);
        take_end(h, call, code);
        curl_multi_remove_handle(h->multi, e);
        if (call->stale && call->sends == 0 && code != CURLE_OK) {
            again(h, call);
            continue;
        }
        finish(h, call);
    }
}

static void act(struct http *h, const struct epoll_event *event)
{
    int running, what = 0;

    if (event->data.fd == h->wake_fd) {
        uint64_t count;

        (void)!read(h->wake_fd, &count, sizeof(count));
        return;
    }
    if (event->events & EPOLLIN)
        what |= CURL_CSELECT_IN;
    if (event->events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
    if (event->events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(h->multi, event->data.fd, what, &running);
}

static void *network_main(void *arg)
{
    struct http *h = arg;
    struct epoll_event events[EVENTS_MAX];
    int running;

    while (!atomic_load(&h->quit)) {
        int got = epoll_wait(h->epoll_fd, events, EVENTS_MAX, wait_ms(h));

        for (int i = 0; i < got; i++)
            act(h, &events[i]);
        take_posted(h);
        if (h->timer_at_ms >= 0 && clock_ms() >= h->timer_at_ms) {
            h->timer_at_ms = -1;
            curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0,
                                     &running);
        }
        take_ended(h);
        take_over(h);
        take_aborts(h);
        trim(h);
    }
    return NULL;
}

/* ---- open and close ---------------------------------------------------- */

static void close_parts(struct http *h)
{
    for (int i = 0; i < h->nspare; i++)
        curl_easy_cleanup(h->spare[i]);
    if (h->multi)
        curl_multi_cleanup(h->multi);
    if (h->share)
        curl_share_cleanup(h->share);
    free(h->lines);
    if (h->epoll_fd >= 0)
        close(h->epoll_fd);
    if (h->wake_fd >= 0)
        close(h->wake_fd);
    pthread_mutex_destroy(&h->lock);
    free(h->ca);
    free(h);
}

static int set_up(struct http *h, int connections)
{
    struct epoll_event wake = {.events = EPOLLIN, .data.fd = h->wake_fd};

    if (h->epoll_fd < 0 || h->wake_fd < 0)
        return -errno;
    if (!h->multi || !h->share || !h->ca)
        return -ENOMEM;
    if (epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->wake_fd, &wake) < 0)
        return -errno;
    /* Used by the network thread alone: no locks. */
    curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                      (long)connections);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    return 0;
}

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* libcurl was built for a system that keeps all its CAs in one file. */
static bool has_system_file(void)
{
    const char *file = curl_version_info(CURLVERSION_NOW)->cainfo;

    return file && access(file, R_OK) == 0;
}

int http_open(const char *ca, int connections, struct http **http_out)
{
    struct http *h = calloc(1, sizeof(*h));
    int rc;

    if (!h)
        return -ENOMEM;
    pthread_once(&curl_once, start_curl);
    MUST0(pthread_mutex_init(&h->lock, NULL));
    h->posted_last = &h->posted;
    h->timer_at_ms = h->linger_at_ms = h->trim_at_ms = -1;
    h->multi = curl_multi_init();
    h->share = curl_share_init();
    h->ca = strdup(ca);
    h->ca_is_file = ca[0] || has_system_file();
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = set_up(h, connections);
    if (rc == 0)
        rc = -pthread_create(&h->thread, NULL, network_main, h);
    if (rc < 0) {
        close_parts(h);
        return rc;
    }
    *http_out = h;
    return 0;
}

void http_close(struct http *h)
{
    if (!h)
        return;
    atomic_store(&h->quit, true);
    io_wake(h->wake_fd);
    MUST0(pthread_join(h->thread, NULL));
    close_parts(h);
}

/* ---- from any thread --------------------------------------------------- */

void http_start(struct http *h, struct http_call *call)
{
    call->rc = 0;
    call->trouble = HTTP_FINE;
    call->status = call->sends = 0;
    call->sent = call->stale = call->fresh = false;
    call->http = h;
    call->retry_after_s = -1;
    call->date_s = call->retry_at_s = call->over_ms = 0;
    call->error[0] = call->next_token[0] = '\0';
    strbuf_clear(&call->answer);
    MUST0(sem_init(&call->done, 0, 0));
    atomic_fetch_add(&h->calls, 1);
    MUST0(pthread_mutex_lock(&h->lock));
    call->next = NULL;
    *h->posted_last = call;
    h->posted_last = &call->next;
    MUST0(pthread_mutex_unlock(&h->lock));
    io_wake(h->wake_fd);
}

int http_await(struct http_call *call)
{
    while (sem_wait(&call->done) < 0 && errno == EINTR)
        ;
    sem_destroy(&call->done);
    return call->rc;
}

int http_do(struct http *h, struct http_call *call)
{
    http_start(h, call);
    return http_await(call);
}

void http_abort(struct http *h, struct http_call *call)
{
    atomic_store(&call->aborted, true);
    atomic_store(&h->aborts, true);
    io_wake(h->wake_fd);
}

void http_call_fini(struct http_call *call)
{
    strbuf_fini(&call->answer);
}

struct http_counts http_counts(struct http *h)
{
    return (struct http_counts){atomic_load(&h->calls),
                                atomic_load(&h->connects)};
}

void http_encode(struct strbuf *out, const char *text, int times)
{
    char *encoded = curl_easy_escape(NULL, text, 0);

    if (encoded && times > 1)
        http_encode(out, encoded, times - 1);
    else if (encoded)
        strbuf_adds(out, encoded);
    else
        out->failed = true;
    curl_free(encoded);
}
