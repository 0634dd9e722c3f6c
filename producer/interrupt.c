#include "producer/interrupt.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "producer/exits.h"
#include "producer/text.h"

/* Written only while SIGINT is blocked. */
static char line[INTERRUPT_TEXT_MAX + 16];
static size_t line_len;

static void on_interrupt(int number)
{
    ssize_t ignored = write(STDERR_FILENO, line, line_len);

    (void)ignored;
    (void)number;
    _exit(EXITS_INTERRUPTED);
}

void interrupt_says(const char *fmt, ...)
{
    AUTO_STRBUF struct strbuf raw = STRBUF_INIT;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigset_t set, before;
    va_list args;
    int len;

    va_start(args, fmt);
    strbuf_vaddf(&raw, fmt, args);
    va_end(args);
    text_escape(&text, raw.text ? raw.text : "", raw.len);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, &before);
    len = snprintf(line, sizeof(line), "\ncapibox: %.*s\n", INTERRUPT_TEXT_MAX,
                   text.text ? text.text : "interrupted");
    line_len = len < (int)sizeof(line) ? (size_t)len : sizeof(line) - 1;
    sigaction(SIGINT, &action, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}
