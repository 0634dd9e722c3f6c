/* common/resolve.c -- getaddrinfo() in a thread that can be left behind. */
#include "common/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/cond.h"
#include "common/must.h"

struct lookup {
    char *host, *port; /* const once the thread runs */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock; broadcast changed after setting done. */
    int holders; /* the last one frees */
    bool done;
    int status; /* of getaddrinfo */
    struct addrinfo *list;
};

static int look_up(const char *host, const char *port, int flags,
                   struct addrinfo **list_out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = flags | AI_NUMERICSERV};

    return getaddrinfo(host, port, &hints, list_out);
}

static int explain(int status, const char **why_out)
{
    *why_out = gai_strerror(status);
    return status == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
}

static struct lookup *lookup_create(const char *host, const char *port)
{
    struct lookup *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->host = strdup(host);
    l->port = strdup(port);
    if (!l->host || !l->port) {
        free(l->host);
        free(l->port);
        free(l);
        return NULL;
    }
    l->holders = 1;
    MUST0(pthread_mutex_init(&l->lock, NULL));
    cond_init(&l->changed);
    return l;
}

static void lookup_let_go(struct lookup *l)
{
    int left;

    MUST0(pthread_mutex_lock(&l->lock));
    left = --l->holders;
    MUST0(pthread_mutex_unlock(&l->lock));
    if (left > 0)
        return;
    if (l->list)
        freeaddrinfo(l->list);
    MUST0(pthread_cond_destroy(&l->changed));
    MUST0(pthread_mutex_destroy(&l->lock));
    free(l->host);
    free(l->port);
    free(l);
}

static void *run_lookup(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo *list = NULL;
    int status = look_up(l->host, l->port, AI_ADDRCONFIG, &list);

    MUST0(pthread_mutex_lock(&l->lock));
    l->status = status;
    l->list = list;
    l->done = true;
    MUST0(pthread_cond_broadcast(&l->changed));
    MUST0(pthread_mutex_unlock(&l->lock));
    lookup_let_go(l);
    return NULL;
}

/* The thread takes no signals: they are the program's. */
static int lookup_start(struct lookup *l)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int rc;

    MUST0(pthread_attr_init(&attr));
    MUST0(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
    sigfillset(&all);
    l->holders = 2;
    MUST0(pthread_sigmask(SIG_SETMASK, &all, &before));
    rc = pthread_create(&thread, &attr, run_lookup, l);
    MUST0(pthread_sigmask(SIG_SETMASK, &before, NULL));
    MUST0(pthread_attr_destroy(&attr));
    if (rc != 0)
        l->holders = 1;
    return -rc;
}

static int lookup_wait(struct lookup *l, int64_t deadline_ms,
                       struct addrinfo **list_out, const char **why_out)
{
    int rc = 0;

    MUST0(pthread_mutex_lock(&l->lock));
    while (!l->done && rc == 0)
        rc = cond_wait_until(&l->changed, &l->lock, deadline_ms);
    if (l->done)
        rc = l->status ? explain(l->status, why_out) : 0;
    else
        *why_out = "the name was not resolved in time";
    if (rc == 0) {
        *list_out = l->list;
        l->list = NULL;
    }
    MUST0(pthread_mutex_unlock(&l->lock));
    return rc;
}

int resolve(const char *host, const char *port, int64_t deadline_ms,
            struct addrinfo **list_out, const char **why_out)
{
    struct lookup *l;
    int status = look_up(host, port, AI_NUMERICHOST, list_out);
    int rc;

    if (status == 0)
        return 0;
    if (status != EAI_NONAME)
        return explain(status, why_out);
    *why_out = "out of memory";
    l = lookup_create(host, port);
    if (!l)
        return -ENOMEM;
    *why_out = "no thread to resolve the name";
    rc = lookup_start(l);
    if (rc == 0)
        rc = lookup_wait(l, deadline_ms, list_out, why_out);
    lookup_let_go(l);
    return rc;
}
