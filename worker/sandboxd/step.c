#include "worker/sandboxd/step.h"

#include <stdarg.h>
#include <stdio.h>

int step_failed(struct step *step, int error, const char *fmt, ...)
{
    va_list args;

    step->error = error;
    va_start(args, fmt);
    vsnprintf(step->what, sizeof(step->what), fmt, args);
    va_end(args);
    return -error;
}
