/* common/logsink.h -- whole lines to a pipe or socket whose reader may sleep.
 *
 * A line waits LOGSINK_WAIT_MS at most for room. If there is none it is
 * dropped, and so are those behind it, without a wait, until there is room.
 *
 * Memory:   a few words of its own; one sink a process.
 * Threads:  logsink_open() before the first; any for the rest.
 */
#ifndef COMMON_LOGSINK_H
#define COMMON_LOGSINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGSINK_WAIT_MS 200

/* fd stays open and as it is for others who have it, O_NONBLOCK too. False: it
 * is neither pipe nor socket, or may not be opened again (proc(5), fd/). */
bool logsink_open(int fd);

/* One line with its newline. How many were dropped before it; -1: so was it. */
int64_t logsink_put(const char *line, size_t len);

/* Puts may block again. */
void logsink_close(void);

#endif
