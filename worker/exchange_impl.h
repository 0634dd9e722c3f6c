/* worker/exchange_impl.h -- inside of the exchange thread; nobody else's
 * business.
 *
 *   exchange.c        the thread: connections, polling, recovery, stopping
 *   exchange_calls.c  what was sent and not answered yet; resent in order
 *   exchange_jobs.c   what is held, and what happens to it next
 *
 * Everything here belongs to the exchange thread.
 */
#ifndef WORKER_EXCHANGE_IMPL_H
#define WORKER_EXCHANGE_IMPL_H

#include "worker/delivery.h"
#include "worker/exchange.h"

#define EXCHANGE_CALLS_MAX 1024 /* unanswered at a time */
/* How far ahead of the executors to claim, as time: about what one batch takes
 * to travel. Long jobs are thereby never claimed before their turn. */
#define EXCHANGE_AHEAD_US  2000
#define EXCHANGE_AHEAD_MAX 256
#define EXCHANGE_TICK_MS   20
/* A job's length while nothing is known: claim nothing ahead. */
#define EXCHANGE_MEAN_US 1e6

enum call_kind {
    CALL_EXCHANGE,
    CALL_START,
    CALL_UNSUSPECT,
    CALL_LOOKUP,
    CALL_KEEP,

    CALL_PIECE,
    CALL_UNBLOCK,
    CALL_VOID /* its delivery is gone: only the reply is still due; or a PING */
};

struct call {
    enum call_kind kind;
    struct delivery *delivery;  /* START, UNSUSPECT, LOOKUP, KEEP */
    struct output_piece *piece; /* PIECE: owned */
    int64_t client_id;          /* UNBLOCK */
};

/* One connection that blocks on one queue. */
struct blocked {
    struct redis *redis;
    bool waiting;   /* a blocking move is under way */
    bool unblocked; /* told to end it */
    int64_t since_ms;
    int64_t retry_at_ms;
    struct backoff backoff;
};

struct delivery_list {
    struct delivery *first, **last;
};

struct exchange {
    struct worker *w;
    pthread_t thread;
    _Atomic bool quit, done;

    char wid[WORKER_ID_MAX + 1];
    uint64_t generation;
    bool live;

    struct redis *redis;
    struct backoff backoff;
    int64_t retry_at_ms;
    bool down; /* said so */
    char run_id[48];
    bool by_text; /* resend scripts as text */
    struct blocked blocked[QUEUE_NAMES_MAX];

    /* Sent, not answered: a ring, oldest first. */
    struct call calls[EXCHANGE_CALLS_MAX];
    int call_at, call_count;
    int64_t answered_ms; /* last sign of life while calls wait */

    /* The one exchange under way. */
    bool exchanging;
    struct exchange_request request;
    struct queue_share order[QUEUE_NAMES_MAX];
    struct finish finishes[FINISH_MAX];
    struct delivery *finishing[FINISH_MAX];
    int wakes_sent;
    int64_t sequence, confirmed; /* of exchanges: last made, last answered */
    struct exchange_reply reply;
    char trouble[128]; /* the last one said */

    /* Jobs. */
    struct delivery *oldest, *youngest; /* all that is held */
    int held;
    int lost;     /* of those held since it was to stop: with the lease */
    int capacity; /* sandboxes there may be; as looked at in this turn */
    int64_t capacity_grows_ms; /* when to look again; 0: when woken */
    int slots; /* held and not finished, nor a waiting suspect */
    struct delivery_list finished; /* to be sent */
    struct delivery_list checked;  /* want their start mark */
    struct delivery_list suspects; /* wait for the seat */
    int suspects_waiting;
    struct delivery *seat;
    struct output_piece *pieces, **pieces_last;

    bool progress;   /* this turn did something: look again before sleeping */
    bool maybe_more; /* the queues were not seen empty */
    int wakes;       /* blocking moves that brought something, or failed */
    int64_t look_at_ms; /* what a lost one may have brought; 0: nothing */
    double mean_us;     /* of recent jobs, create to destroy */
    int64_t tick_ms;    /* next look at the clock-driven rules; 0: none */
};

/* exchange_calls.c */
bool calls_full(const struct exchange *x);
/* Remembers and sends (if connected). */
int calls_add(struct exchange *x, struct call call);
int calls_resend_all(struct exchange *x);
/* Handles the reply to the oldest call. Negative: reconnect and resend. */
int calls_answer(struct exchange *x, redisReply *reply);
/* Forgets all: their incarnation is gone. */
void calls_forget(struct exchange *x);
/* The delivery is about to be freed: no call may mention it any more. */
void calls_disown(struct exchange *x, const struct delivery *d);

/* exchange_jobs.c */
void list_init(struct delivery_list *list);
void jobs_route(struct exchange *x, struct delivery *posted);
void jobs_claimed(struct exchange *x, const struct exchange_reply *reply);
void jobs_finished(struct exchange *x, const struct exchange_reply *reply);
void jobs_start_answer(struct exchange *x, struct delivery *d,
                       enum start_answer answer);
/* Sends start marks and output that wait. */
int jobs_send_marks(struct exchange *x);
/* Clock-driven: late start marks, stale claims, the seat's probation. */
int jobs_tick(struct exchange *x);
/* The incarnation is gone: nothing of it may be written any more. */
void jobs_abandon(struct exchange *x);
/* Once a turn: what grows after this look ends the turn's sleep. */
void jobs_look_at_capacity(struct exchange *x);
/* How many more jobs there is room for. */
int jobs_room(const struct exchange *x);
void jobs_forget(struct exchange *x, struct delivery *d);

/* exchange.c */
void exchange_fenced(struct exchange *x);
/* It is to stop. */
static inline bool exchange_draining(const struct exchange *x)
{
    return atomic_load(&x->w->stopping) != STOP_NOT;
}

#endif
