#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/sandboxd/daemon_impl.h"

/* Sandboxes that were made before they are asked for.
 *
 * Of each kind as many wait as were asked for in the busiest WINDOW_MS of late,
 * for a burst is what they are for: under a steady load each is used as soon as
 * it is made, and making it costs the same before as after the request.
 */
#define WINDOW_MS     250
#define FADE          0.93            /* a window: half in 2.5 s */
#define IDLE_MS       (2 * 60 * 1000) /* then only the floor is held */
#define AGE_MS_MAX    (10 * 60 * 1000)
#define MAKING_MAX    2 /* of a kind at a time, so that jobs go first */
#define ALL_MAX       WIRE_FLOOR_MAX
#define REFILL_MS     1000 /* after a failure */
#define MEMORY_MS     500
#define MEMINFO_MAX   65536
#define RESERVE_BYTES (512ll << 20) /* left to others */
#define TICK_MS       WINDOW_MS
#define QUIET_MS      4 /* after a request: the job goes first */

static bool is_pooled(const struct box *b)
{
    return !b->news && !b->leaving;
}

static bool is_stale(const struct box *b, int64_t now_ms)
{
    const struct zygote *z = b->kind->zygote;

    return now_ms - b->made_ms >= AGE_MS_MAX ||
           (z && b->state == BOX_WAITING && b->generation != z->generation);
}

struct box *pool_take(struct daemon *d, struct kind *kind)
{
    struct box *oldest = NULL;

    kind->arrivals++;
    kind->used_ms = clock_ms();
    for (struct box *b = d->boxes; b; b = b->next)
        if (b->kind == kind && is_pooled(b) && b->state == BOX_WAITING &&
            b->leash.fd >= 0 && /* else its end is on its way */
            !b->gone && !is_stale(b, kind->used_ms) &&
            (!oldest || b->made_ms < oldest->made_ms))
            oldest = b;
    return oldest;
}

/* Demand of the window that has passed. */
static void fade(struct kind *k, int64_t now_ms)
{
    if (now_ms - k->window_ms < WINDOW_MS)
        return;
    k->wanted *= FADE;
    if (k->arrivals > k->wanted)
        k->wanted = k->arrivals;
    k->arrivals = 0;
    k->window_ms = now_ms;
}

static int target(const struct daemon *d, const struct kind *k, int64_t now_ms)
{
    bool used = k->used_ms > 0 && now_ms - k->used_ms < IDLE_MS;
    int by_demand = (int)(k->wanted + 0.99);

    if (by_demand < 1)
        by_demand = 1;
    if (!used)
        by_demand = 0;
    int wants = by_demand > k->floor ? by_demand : k->floor;
    return wants < d->pool_most ? wants : d->pool_most;
}

static int64_t available_bytes(void)
{
    AUTO_FREE char *text = NULL;

    if (io_read_file("/proc/meminfo", MEMINFO_MAX, &text, NULL) < 0)
        return 0;
    const char *at = strstr(text, "MemAvailable:");
    return at ? strtoll(at + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;
}

static bool has_memory(struct daemon *d, int64_t now_ms)
{
    if (now_ms - d->memory_ms >= MEMORY_MS || d->memory_ms == 0) {
        d->memory_ms = now_ms;
        d->memory_bytes = available_bytes();
    }
    return d->memory_bytes > RESERVE_BYTES;
}

static int count_kind(struct daemon *d, struct kind *k, int64_t now_ms)
{
    k->waiting = k->making = 0;
    for (struct box *b = d->boxes; b; b = b->next) {
        /* One that failed in the making: the next would, too. */
        if (b->kind == k && b->why.error && !(b->built && b->heard))
            k->refill_ms = now_ms + REFILL_MS;
        if (b->kind != k || !is_pooled(b) || b->gone)
            continue;
        if (is_stale(b, now_ms))
            box_leave(b);
        else if (b->state == BOX_WAITING)
            k->waiting++;
        else
            k->making++;
    }
    return k->waiting + k->making;
}

/* One too many goes per turn: demand may be back. */
static void shrink(struct daemon *d, struct kind *k)
{
    for (struct box *b = d->boxes; b; b = b->next) {
        if (b->kind == k && is_pooled(b) && b->state == BOX_WAITING) {
            box_leave(b);
            return;
        }
    }
}

static bool grow(struct daemon *d, struct kind *k, int64_t now_ms)
{
    struct step why;

    if (k->making >= MAKING_MAX || now_ms < k->refill_ms ||
        now_ms < d->busy_ms + QUIET_MS ||
        (k->zygote && !zygote_is_ready(k->zygote)) || !has_memory(d, now_ms))
        return false;
    if (!daemon_box(d, k, &why)) {
        k->refill_ms = now_ms + REFILL_MS;
        return false;
    }
    k->making++;
    return true;
}

void pool_tick(struct daemon *d, int64_t now_ms)
{
    int all = 0;

    for (struct kind *k = d->nursery.kinds; k; k = k->next)
        all += count_kind(d, k, now_ms);
    for (struct kind *k = d->nursery.kinds; k; k = k->next) {
        fade(k, now_ms);
        int has = k->waiting + k->making, wants = target(d, k, now_ms);

        if (has > wants + wants / 4)
            shrink(d, k);
        for (; has < wants && all < ALL_MAX && grow(d, k, now_ms); has++)
            all++;
    }
}

int64_t pool_wake_ms(const struct daemon *d, int64_t now_ms)
{
    if (now_ms < d->busy_ms + QUIET_MS)
        return d->busy_ms + QUIET_MS;
    for (const struct kind *k = d->nursery.kinds; k; k = k->next)
        if (k->wanted >= 1 || k->arrivals > 0 || k->making > 0 ||
            k->waiting < target(d, k, now_ms))
            return now_ms + TICK_MS;
    /* Ages and zygotes that are to be replaced. */
    return now_ms + 10 * TICK_MS;
}
