/* common/log.h -- lines on stderr for whoever runs the programs.
 *
 * One line an event, as text or as one JSON object (setting CAPIBOX_LOG).
 * User-controlled text is escaped (control bytes, newlines, invalid UTF-8), so
 * a job cannot forge a line. A line ends after 8 KiB with "…" (JSON lines also
 * say "cut":true). Secrets must never be passed in.
 *
 * Threads:  any thread; each line is one write(2).
 * Errors:   none: a line that cannot be written is dropped, after
 *           log_never_block() also one that nobody reads.
 *
 *   log_info("worker started", LOG_S("id", wid), LOG_I("slots", n), LOG_END);
 *   text: 2026-01-02T03:04:05.678Z info  worker started id=w-1 slots=4
 *   json: {"time":"2026-…","level":"info","message":"worker
 * started","id":"w-1","slots":4}
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum log_kind { LOG_KIND_END, LOG_KIND_TEXT, LOG_KIND_INT, LOG_KIND_REAL };

struct log_field {
    const char *name;
    enum log_kind kind;
    const char *text;
    int64_t integer;
    double real;
};

#define LOG_S(n, v) \
    ((struct log_field){.name = (n), .kind = LOG_KIND_TEXT, .text = (v)})
#define LOG_I(n, v) \
    ((struct log_field){.name = (n), .kind = LOG_KIND_INT, .integer = (v)})
#define LOG_F(n, v) \
    ((struct log_field){.name = (n), .kind = LOG_KIND_REAL, .real = (v)})
#define LOG_END ((struct log_field){.kind = LOG_KIND_END})

/* Before the first thread. Until then: text, info. */
void log_setup(bool json, enum log_level least);

/* For daemons, after log_setup(): if stderr is a pipe or a socket that is full,
 * lines are dropped (logsink.h). How many is logged once they pass again. */
void log_never_block(void);

/* Fields by value, LOG_END last. NULL text is logged as "". */
void log_line(enum log_level level, const char *message, ...);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
