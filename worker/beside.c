#include "worker/beside.h"

#include <errno.h>
#include <stdio.h>

/* Below the folder of the programs; the last is for sanitizer builds. */
static const char *const places[] = {
    "../worker",
    "../share/capibox",
    "../../../worker",
};

int beside_open(const char *program_dir, const char *name, DIR **dir_out,
                char *path_out, struct complaint *why)
{
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        snprintf(path_out, PATH_MAX, "%s/%s/%s", program_dir, places[i], name);
        *dir_out = opendir(path_out);
        if (*dir_out)
            return 0;
    }
    complain(why, NULL,
             "a folder of capibox is missing: neither %.120s/../worker/%.40s "
             "nor %.120s/../share/capibox/%.40s is there",
             program_dir, name, program_dir, name);
    return -ENOENT;
}
