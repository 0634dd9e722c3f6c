#include "worker/service.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/must.h"
#include "worker/exchange.h"
#include "worker/executor.h"
#include "worker/keeper.h"
#include "worker/listener.h"

/* Once everything was killed or has ended: to say so to Redis. */
#define LAST_WORDS_MS 5000
#define KILL_MS       2000

struct service {
    struct worker w;
    struct exchange *exchange;
    struct keeper *keeper;
    struct listener *listener;
    struct executors *executors;
};

static int open_wakers(struct worker *w)
{
    w->keeper_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->main_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->keeper_wake_fd < 0 || w->main_wake_fd < 0 ? -errno : 0;
}

static int open_backend(struct worker *w)
{
    struct complaint why = {.field = ""};
    int rc = w->ops->open(w->settings, &w->backend, &why);

    if (rc < 0)
        log_error("can't run jobs safely here; see `capibox doctor`",
                  LOG_S("backend", w->ops->name), LOG_S("why", why.text),
                  LOG_S("reason", strerror(-rc)), LOG_END);
    return rc;
}

static int open_shared(struct worker *w)
{
    int64_t budget = w->settings->memory_budget_mb << 20;
    int rc;

    if (budget == 0)
        budget = w->ops->memory_budget(w->backend);
    MUST0(pthread_mutex_init(&w->self.lock, NULL));
    MUST0(pthread_mutex_init(&w->templates_lock, NULL));
    rc = protocol_init(&w->protocol, w->settings->prefix,
                       w->settings->result_ttl_s, w->settings->lease_ms);
    if (rc == 0)
        rc = open_wakers(w);
    if (rc == 0)
        rc = runqueue_init(&w->runqueue);
    if (rc == 0)
        rc = outbox_init(&w->outbox);
    if (rc == 0)
        rc = admission_init(&w->admission, budget);
    if (rc == 0)
        rc = cancels_init(&w->cancels, w->ops, w->backend);
    return rc;
}

static int start_threads(struct service *s)
{
    int rc = executors_start(&s->w, s->w.concurrency, &s->executors);

    if (rc == 0)
        rc = exchange_start(&s->w, &s->exchange);
    if (rc == 0)
        rc = keeper_start(&s->w, &s->keeper);
    if (rc == 0)
        rc = listener_start(&s->w, &s->listener);
    return rc;
}

static void close_all(struct service *s)
{
    struct worker *w = &s->w;

    if (w->backend)
        w->ops->close(w->backend);
    template_set_unref(w->templates);
    cancels_fini(&w->cancels);
    admission_fini(&w->admission);
    outbox_fini(&w->outbox);
    runqueue_fini(&w->runqueue);
    if (w->keeper_wake_fd >= 0)
        close(w->keeper_wake_fd);
    if (w->main_wake_fd >= 0)
        close(w->main_wake_fd);
    free(s);
}

int service_start(const struct settings *settings,
                  const struct redis_target *target,
                  const struct backend_ops *ops, struct template_set *templates,
                  int announce_fd, struct service **service_out)
{
    struct service *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        template_set_unref(templates);
        return -ENOMEM;
    }
    s->w = (struct worker){.settings = settings,
                           .target = target,
                           .ops = ops,
                           .templates = templates,
                           .started_at = clock_unix_s(),
                           .concurrency = settings_concurrency(settings),
                           .announce_fd = announce_fd,
                           .keeper_wake_fd = -1,
                           .main_wake_fd = -1};
    s->w.outbox.wake = -1;
    rc = open_backend(&s->w);
    if (rc < 0) {
        template_set_unref(templates);
        free(s);
        return rc;
    }
    rc = open_shared(&s->w);
    if (rc == 0) {
        if (ops->watch_room)
            ops->watch_room(s->w.backend, s->w.outbox.wake);
        if (ops->prepare)
            ops->prepare(s->w.backend, templates);
        rc = start_threads(s);
    }
    if (rc < 0) {
        log_error("can't start", LOG_S("reason", strerror(-rc)), LOG_END);
        if (s->executors)
            service_stop(s);
        else
            close_all(s);
        return rc;
    }
    *service_out = s;
    return 0;
}

int service_wake_fd(const struct service *s)
{
    return s->w.main_wake_fd;
}

static void set_stopping(struct service *s, enum stopping how)
{
    atomic_store(&s->w.stopping, how);
    admission_poke(&s->w.admission);
    io_wake(s->w.outbox.wake);
}

void service_drain(struct service *s)
{
    if (atomic_load(&s->w.stopping) == STOP_NOT)
        set_stopping(s, STOP_DRAIN);
}

bool service_idle(struct service *s)
{
    return exchange_done(s->exchange);
}

void service_kill(struct service *s)
{
    set_stopping(s, STOP_NOW);
    if (s->w.ops->kill_all(s->w.backend, clock_ms() + KILL_MS) < 0)
        log_error("sandboxes not seen dead in time", LOG_END);
}

static void wait_idle(struct service *s, int64_t deadline_ms)
{
    struct pollfd fd = {.fd = s->w.main_wake_fd, .events = POLLIN};

    while (!service_idle(s) && clock_ms() < deadline_ms)
        poll(&fd, 1, clock_left_ms(deadline_ms));
}

int service_stop(struct service *s)
{
    int held = 0;

    service_drain(s);
    if (s->exchange)
        wait_idle(s, clock_ms() + LAST_WORDS_MS);
    admission_close(&s->w.admission);
    runqueue_close(&s->w.runqueue);
    executors_join(s->executors);
    listener_join(s->listener);
    if (s->exchange)
        held = exchange_join(s->exchange);
    keeper_join(s->keeper);
    close_all(s);
    return held;
}

void service_swap_templates(struct service *s, struct template_set *templates)
{
    if (s->w.ops->prepare)
        s->w.ops->prepare(s->w.backend, templates);
    worker_swap_templates(&s->w, templates);
}

int service_active(struct service *s)
{
    return atomic_load(&s->w.active);
}

struct worker *service_worker(struct service *s)
{
    return &s->w;
}
