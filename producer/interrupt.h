/* producer/interrupt.h -- Ctrl-C: say what goes on without us, exit 130. */
#ifndef PRODUCER_INTERRUPT_H
#define PRODUCER_INTERRUPT_H

/* From now on SIGINT writes this line to stderr and ends the program with
 * EXITS_INTERRUPTED. The text is escaped and cut to INTERRUPT_TEXT_MAX. */
#define INTERRUPT_TEXT_MAX 400
__attribute__((format(printf, 1, 2))) void interrupt_says(const char *fmt, ...);

#endif
