#include "producer/exits.h"

static const enum exits of_verdict[VERDICT_COUNT] = {
    [VERDICT_NONE] = EXITS_CAPIBOX,
    [VERDICT_OK] = EXITS_OK,
    [VERDICT_USER_ERROR] = EXITS_CODE_FAILED,
    [VERDICT_SIGNAL] = EXITS_CODE_FAILED,
    [VERDICT_DENIED_SYSCALL] = EXITS_CODE_FAILED,
    [VERDICT_TIMEOUT] = EXITS_STOPPED,
    [VERDICT_OOM] = EXITS_STOPPED,
    [VERDICT_PIDS_LIMIT] = EXITS_STOPPED,
    [VERDICT_DISK_LIMIT] = EXITS_STOPPED,
    [VERDICT_OUTPUT_LIMIT] = EXITS_STOPPED,
    [VERDICT_CANCELLED] = EXITS_STOPPED,
    [VERDICT_EXPIRED] = EXITS_STOPPED,
    [VERDICT_REJECTED] = EXITS_USAGE,
    [VERDICT_SETUP_FAILED] = EXITS_CAPIBOX,
    [VERDICT_BACKEND_ERROR] = EXITS_CAPIBOX,
    [VERDICT_LOST] = EXITS_CAPIBOX,
};

enum exits exits_of_verdict(enum verdict verdict)
{
    if ((int)verdict < 0 || verdict >= VERDICT_COUNT)
        return EXITS_CAPIBOX;
    return of_verdict[verdict];
}

enum exits exits_of_name(const char *verdict)
{
    return exits_of_verdict(verdict ? verdict_from_name(verdict)
                                    : VERDICT_NONE);
}

enum exits exits_worst(enum exits a, enum exits b)
{
    return a > b ? a : b;
}
