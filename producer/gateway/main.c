/* producer/gateway/main.c -- capibox-api: settings, wiring, the loop, the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "producer/exits.h"
#include "producer/gateway/admit.h"
#include "producer/gateway/batch.h"
#include "producer/gateway/cancel.h"
#include "producer/gateway/dead.h"
#include "producer/gateway/execute.h"
#include "producer/gateway/gateway.h"
#include "producer/gateway/health.h"
#include "producer/gateway/http.h"
#include "producer/gateway/lookup.h"
#include "producer/gateway/metrics.h"
#include "producer/gateway/pages.h"
#include "producer/gateway/stats.h"
#include "producer/gateway/stream.h"

#define TICK_MS       1000
#define FLUSH_MS      500 /* for what Redis was just asked to come back */
#define FLUSH_STEP_MS 20

#define ROOT "/api/v1/e2b/"

/* Read by column. */
/* clang-format off */
static const struct route routes[] = {
    {"POST",   ROOT "execute",                ROUTE_BODY, execute_job},
    {"POST",   ROOT "dynamic",                ROUTE_BODY, execute_dynamic},
    {"POST",   ROOT "batch",                  ROUTE_BODY | ROUTE_BATCH,
                                                          batch_submit},
    {"GET",    ROOT "batch/{id}",             0,          lookup_batch},
    {"GET",    ROOT "jobs",                   0,          recent_get},
    {"GET",    ROOT "jobs/{id}",              0,          lookup_job},
    {"DELETE", ROOT "jobs/{id}",              0,          cancel_job},
    {"GET",    ROOT "jobs/{id}/files/{path}", 0,          lookup_file},
    {"GET",    ROOT "jobs/{id}/events",       0,          stream_open},
    {"GET",    ROOT "dead",                   0,          dead_list},
    {"GET",    ROOT "dead/{id}",              0,          dead_show},
    {"POST",   ROOT "dead/{id}/retry",        0,          dead_retry},
    {"DELETE", ROOT "dead/{id}",              0,          dead_drop},
    {"GET",    ROOT "templates",              0,          stats_templates},
    {"GET",    ROOT "stats",                  0,          stats_get},
    {"GET",    ROOT "health",                 0,          health_get},
    {"GET",    "/health",                     ROUTE_OPEN, stats_alive},
    {"GET",    "/metrics",                    0,          metrics_get},
#define PAGE(name, path, type, file) {"GET", path, ROUTE_OPEN, pages_get},
#include "producer/gateway/pages.def"
#undef PAGE
};
/* clang-format on */
#define ROUTES (sizeof(routes) / sizeof(*routes))

struct program {
    struct settings settings;
    struct gateway gateway;
    struct http http;
    struct loop_watch signals;
    sigset_t blocked;
    int64_t stop_by_ms; /* 0: not ending */
    int64_t ticked_ms;
};

/* ---- settings ----------------------------------------------------------- */

static int wrong(const struct complaint *why)
{
    char text[700];

    complaint_print(why, text, sizeof(text));
    fprintf(stderr, "capibox-api: %s\n", text);
    return EXITS_USAGE;
}

static int help(void)
{
    puts("usage: capibox-api [flags]\n"
         "The HTTP gateway of capibox: jobs in, results, stats and metrics "
         "out.\n"
         "SIGHUP reads the keys again; SIGTERM lets waiting requests end.\n");
    settings_print(stdout, FOR_API);
    return EXITS_OK;
}

/* -1: go on. */
static int prepare(struct settings *s, int argc, char **argv)
{
    struct complaint env_why = {0}, why = {0};
    int env_rc, rc;

    if (settings_init(s) < 0)
        return EXITS_CAPIBOX;
    env_rc = settings_from_env(s, FOR_API, &env_why);
    rc = settings_from_args(s, FOR_API, &argc, argv, &why);
    if (s->version) {
        printf("capibox-api %s\n", CAPIBOX_VERSION);
        return EXITS_OK;
    }
    if (s->help)
        return help();
    if (rc < 0)
        return wrong(&why);
    if (env_rc < 0)
        return wrong(&env_why);
    if (argc > 1) {
        complain(&why, NULL,
                 "%.60s: unknown argument; --help lists those "
                 "there are",
                 argv[1]);
        return wrong(&why);
    }
    if (settings_check(s, FOR_API, &why) < 0)
        return wrong(&why);
    return -1;
}

/* ---- keys --------------------------------------------------------------- */

static int load_keys(struct gateway *g, struct complaint *why)
{
    bool open = false;
    int rc = keys_load(&g->keys, g->settings->api_keys, &open, why);

    if (rc == 0 && open)
        log_warn("others than its owner may read the file of keys", LOG_END);
    return rc;
}

static void reload_keys(struct gateway *g)
{
    struct complaint why = {0};

    if (!g->keyed)
        return;
    if (load_keys(g, &why) < 0)
        log_error("the keys stay as they were", LOG_S("why", why.text),
                  LOG_END);
    else
        log_info("keys read again", LOG_I("keys", (int64_t)g->keys.count),
                 LOG_END);
}

/* ---- Redis -------------------------------------------------------------- */

/* Without news results can still be looked for. */
static int64_t away_ms(const struct gateway *g)
{
    return g->link.up ? 0 : clock_ms() - g->link.away_since_ms + 1;
}

/* Each kind once: whoever meets it again learns nothing new. */
static void on_refused(void *ctx, const char *text)
{
    struct gateway *g = ctx;
    char kind[sizeof(g->refusals[0])];

    snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(text, " "), text);
    for (int i = 0; i < g->nrefusals; i++)
        if (!strcmp(g->refusals[i], kind))
            return;
    if (g->nrefusals == GATEWAY_REFUSALS_MAX)
        return;
    strcpy(g->refusals[g->nrefusals++], kind);
    log_warn("Redis refused", LOG_S("why", text), LOG_END);
}

static void turned(struct gateway *g, const struct link *link, bool up)
{
    const char *what = link == &g->news ? "news of ended jobs" : "commands";

    if (up) {
        log_info("connected to Redis", LOG_S("for", what), LOG_END);
        /* What was said meanwhile is in the hashes. */
        waiters_look_all(&g->waiters);
        link_hurry(&g->link);
        link_hurry(&g->news);
        snapshot_forget(&g->snapshot);
        g->nrefusals = 0;
    } else {
        log_warn("Redis is away", LOG_S("for", what), LOG_S("why", link->why),
                 LOG_END);
    }
}

static void on_link(void *ctx, bool up)
{
    struct gateway *g = ctx;

    turned(g, &g->link, up);
}

static void on_news(void *ctx, bool up)
{
    struct gateway *g = ctx;

    turned(g, &g->news, up);
}

static void on_message(void *ctx, const char *id, size_t size)
{
    struct gateway *g = ctx;

    waiters_ended(&g->waiters, id, size);
    recent_note(&g->recent, id, size);
}

/* ---- starting ----------------------------------------------------------- */

static void on_bad_template(void *ctx, const char *file, int line,
                            const struct complaint *why)
{
    char text[700];

    (void)ctx;
    complaint_print(why, text, sizeof(text));
    log_error("a template is left out", LOG_S("file", file),
              LOG_I("line", line), LOG_S("why", text), LOG_END);
}

static void load_templates(struct gateway *g)
{
    char *dir = NULL;

    if (settings_find_templates(g->settings, &dir) < 0 ||
        template_set_load(dir, on_bad_template, NULL, &g->templates) < 0)
        log_warn("no folder of templates", LOG_END);
    free(dir);
}

/* All that an operator may have got wrong, before Redis is touched. */
static int check(struct program *p, struct complaint *why)
{
    struct gateway *g = &p->gateway;
    int rc = protocol_init(&g->protocol, p->settings.prefix,
                           p->settings.result_ttl_s, p->settings.lease_ms);

    if (rc < 0)
        return complain(why, "CAPIBOX_PREFIX", "will not do: %s",
                        strerror(-rc));
    rc = redis_target_parse(p->settings.redis_url, &p->settings, &g->target,
                            why);
    g->keyed = *p->settings.api_keys != '\0';
    if (rc == 0)
        rc = admit_check_origins(p->settings.api_origins, why);
    if (rc == 0 && g->keyed)
        rc = load_keys(g, why);
    if (rc == 0)
        rc = listener_open(&p->http.listener, &p->settings, why);
    return rc;
}

static int connect_redis(struct gateway *g)
{
    const struct link_hooks hooks = {
        .turned = on_link, .refused = on_refused, .ctx = g};
    const struct link_hooks news = {
        .turned = on_news, .message = on_message, .ctx = g};
    int rc = link_init(&g->link, &g->loop, &g->target, NULL, &hooks);

    if (rc == 0)
        rc = link_init(&g->news, &g->loop, &g->target,
                       protocol_key(&g->protocol, g->channel, "done", NULL),
                       &news);
    if (rc == 0)
        rc = errands_init(&g->errands, &g->loop, &g->protocol, &g->target);
    g->errands.refused = on_refused;
    g->errands.ctx = g;
    return rc;
}

static int build(struct program *p)
{
    struct gateway *g = &p->gateway;
    int rc = loop_init(&g->loop);

    load_templates(g);
    if (rc == 0)
        rc = waiters_init(&g->waiters, &g->protocol, &g->link);
    if (rc == 0)
        rc = snapshot_init(&g->snapshot, g);
    if (rc == 0)
        rc = health_create(g, &g->health);
    return rc < 0 ? rc : connect_redis(g);
}

/* ---- running ------------------------------------------------------------ */

static void on_signal(void *ctx, uint32_t events)
{
    struct program *p = ctx;
    struct signalfd_siginfo info;

    (void)events;
    if (read(p->signals.fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGHUP) {
        reload_keys(&p->gateway);
        return;
    }
    if (p->stop_by_ms > 0) { /* the second one is not patient */
        p->stop_by_ms = clock_ms();
        return;
    }
    log_info("ending", LOG_I("waiting", p->gateway.asleep), LOG_END);
    p->gateway.draining = true;
    p->stop_by_ms = clock_ms() + p->settings.shutdown_grace_s * 1000;
    http_quiesce(&p->http);
}

static int watch_signals(struct program *p)
{
    p->signals = (struct loop_watch){.act = on_signal, .ctx = p};
    p->signals.fd = signalfd(-1, &p->blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    if (p->signals.fd < 0)
        return -errno;
    return loop_add(&p->gateway.loop, &p->signals, EPOLLIN);
}

static void each_sleeping(struct http *h, void (*act)(struct request *r))
{
    struct request *r = h->sleeping, *next;

    for (; r; r = next) {
        next = r->next;
        act(r);
    }
}

static void tick_one(struct request *r)
{
    if (r->tick)
        r->tick(r, clock_ms());
}

static void abandon(struct request *r)
{
    if (r->abandon)
        r->abandon(r, ABANDON_DRAIN);
}

static void tick(struct program *p)
{
    struct gateway *g = &p->gateway;

    if (clock_ms() - p->ticked_ms < TICK_MS)
        return;
    p->ticked_ms = clock_ms();
    link_check(&g->link);
    peers_sweep(&g->peers);
    waiters_check(&g->waiters, away_ms(g), !g->news.up);
    each_sleeping(&p->http, tick_one);
}

static int timeout_of(struct program *p)
{
    int ms = http_timeout_ms(&p->http);
    bool busy = p->gateway.peers.count > 0 || p->gateway.link.count > 0 ||
                p->gateway.waiters.count > 0 || p->stop_by_ms > 0;

    int most = p->stop_by_ms > 0        ? FLUSH_STEP_MS
               : p->gateway.streams > 0 ? STREAM_POLL_MS
                                        : TICK_MS;

    return busy && (ms < 0 || ms > most) ? most : ms;
}

static void turn(struct program *p)
{
    struct gateway *g = &p->gateway;

    loop_turn(&g->loop, timeout_of(p));
    http_turn(&p->http);
    streams_turn(g);
    recent_flush(&g->recent);
    link_turn(&g->link);
    tick(p);
}

static bool ended(struct program *p)
{
    if (p->stop_by_ms == 0)
        return false;
    return p->gateway.asleep == 0 || clock_ms() >= p->stop_by_ms;
}

/* Those who wait for long know how to end; the others are nearly done, or are
 * ended by http_stop(). */
static void wind_up(struct program *p)
{
    int64_t until = clock_ms() + FLUSH_MS;

    do {
        each_sleeping(&p->http, abandon);
        turn(p);
    } while (p->gateway.asleep > 0 && clock_ms() < until);
    http_stop(&p->http);
}

static void take_down(struct program *p)
{
    struct gateway *g = &p->gateway;

    http_stop(&p->http);
    link_fini(&g->link);
    link_fini(&g->news);
    errands_fini(&g->errands);
    http_fini(&p->http);
    health_destroy(g->health);
    if (g->waiters.buckets)
        waiters_fini(&g->waiters);
    snapshot_fini(&g->snapshot);
    keys_fini(&g->keys);
    template_set_unref(g->templates);
    redis_target_fini(&g->target);
    if (p->signals.fd > 0)
        close(p->signals.fd);
    loop_fini(&g->loop);
}

static int run(struct program *p)
{
    struct complaint why = {0};
    struct gateway *g = &p->gateway;
    int rc = check(p, &why);

    if (rc == 0)
        rc = build(p);
    if (rc == 0)
        rc = watch_signals(p);
    if (rc == 0)
        rc = http_start(&p->http, g, routes, ROUTES, &why);
    if (rc < 0) {
        if (!why.text[0])
            complain(&why, NULL, "cannot start: %s", strerror(-rc));
        return rc == -EINVAL ? wrong(&why) : (wrong(&why), EXITS_CAPIBOX);
    }
    log_info("listening", LOG_S("address", p->http.listener.address),
             LOG_S("tls", p->http.cert ? "yes" : "no"),
             LOG_S("keys", g->keyed ? "needed" : "none: loopback only"),
             LOG_S("redis", g->target.shown), LOG_END);
    while (!ended(p))
        turn(p);
    wind_up(p);
    return EXITS_OK;
}

int main(int argc, char **argv)
{
    static struct program p;
    struct complaint why;
    int rc;

    io_hold_stdio();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&p.blocked);
    sigaddset(&p.blocked, SIGTERM);
    sigaddset(&p.blocked, SIGINT);
    sigaddset(&p.blocked, SIGHUP);
    p.http.listener.fd = -1;
    rc = prepare(&p.settings, argc, argv);
    if (rc < 0) {
        log_setup(p.settings.log_json, (enum log_level)p.settings.log_level);
        log_never_block();
        for (size_t at = 0; settings_unknown_env(&at, &why);)
            log_warn(why.text, LOG_END);
        pthread_sigmask(SIG_BLOCK, &p.blocked, NULL);
        p.gateway.settings = &p.settings;
        p.gateway.http = &p.http;
        p.gateway.recent.gateway = &p.gateway;
        p.gateway.peers.per_address = p.settings.api_per_address;
        rc = run(&p);
        take_down(&p);
        if (rc == EXITS_OK)
            log_info("ended", LOG_END);
    }
    settings_fini(&p.settings);
    return rc;
}
