#include "worker/sandboxd/probe.h"
int probe_main(bool json)
{
    (void)json;
    return 0;
}
