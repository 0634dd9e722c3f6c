#include "tests/support/scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"

#define WALK_FDS 16

void scratch_make(char path_out[SCRATCH_PATH_MAX])
{
    strcpy(path_out, "/dev/shm/capibox-XXXXXX");
    if (mkdtemp(path_out))
        return;
    strcpy(path_out, "/tmp/capibox-XXXXXX");
    MUST(mkdtemp(path_out));
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void scratch_remove(const char *path)
{
    MUST0(nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS));
}
