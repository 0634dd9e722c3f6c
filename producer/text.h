/* producer/text.h -- text for terminals: escaped, aligned, in human units.
 *
 * What users control (ids, names, metadata, messages) passes text_escape()
 * before it meets a terminal, so that a job cannot move the cursor or forge a
 * line. A job's own stdout and stderr pass text_tame() on their way to a
 * terminal; into a file or a pipe they go as they are.
 *
 * Memory:   a struct grid is the caller's, zeroed; grid_print() empties it.
 * Errors:   none: what does not fit in memory is left out.
 */
#ifndef PRODUCER_TEXT_H
#define PRODUCER_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "common/strbuf.h"

/* Appends text with control characters (also C1 and those that turn the
 * direction of text) and bytes that are no UTF-8 as \xNN. */
void text_escape(struct strbuf *out, const char *text, size_t len);

/* A stream of output on its way to a terminal, zeroed at first. */
#define TEXT_HELD_MAX 32
struct text_tamer {
    char held[TEXT_HELD_MAX]; /* what the next piece may complete */
    size_t nheld;
    bool coloured; /* the last colour was not a reset */
};

/* Appends the next piece, control characters (but newline, tab, carriage return
 * and colours, ESC [ ... m) and bytes that are no UTF-8 as \xNN. An unfinished
 * colour or character at its end waits for the next piece. */
void text_tame(struct text_tamer *t, struct strbuf *out, const char *data,
               size_t size);
/* Appends what waits, and takes a colour back that is left on. */
void text_tame_end(struct text_tamer *t, struct strbuf *out);

/* Prints it escaped. With indent >= 0, newlines and tabs are kept and every
 * line starts that far in; else they are escaped, too. */
void text_put(FILE *out, const char *text, int indent);

/* "capibox: ..." on stderr, one escaped line. */
__attribute__((format(printf, 1, 2))) void text_say(const char *fmt, ...);

/* text into out; what does not fit ends with "…", never inside a character. */
void text_cut(char *out, size_t size, const char *text);

/* 0.0042 -> "4.2 ms", 12.3 -> "12.3 s", 4000 -> "1 h 6 min". */
#define TEXT_SHORT 32
const char *text_seconds(char out[TEXT_SHORT], double seconds);
/* 1536 -> "1.5 KB". */
const char *text_bytes(char out[TEXT_SHORT], double bytes);

/* Columns: cells row by row; the first row is the heading. */
#define GRID_COLUMNS_MAX 12
#define GRID_CELLS_MAX   (GRID_COLUMNS_MAX * 4096)
struct grid {
    int columns;
    char **cells; /* columns at a time */
    size_t count, cap;
};
__attribute__((format(printf, 2, 3))) void grid_cell(struct grid *g,
                                                     const char *fmt, ...);
/* Two spaces between columns, the last one not padded. */
void grid_print(struct grid *g, FILE *out);
void grid_fini(struct grid *g);

#endif
