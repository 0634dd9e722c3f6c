#include "producer/begin.h"

#include <string.h>

#include "common/clock.h"
#include "common/job.h"
#include "producer/exits.h"
#include "producer/save.h"
#include "producer/text.h"

int begin_ids(const struct options *o, int first)
{
    for (int i = first; i < o->nwords; i++)
        if (!job_id_valid(o->words[i])) {
            text_say("\"%.70s\" is no job id: 1 to %d of A-Za-z0-9._:-",
                     o->words[i], JOB_ID_MAX);
            return EXITS_USAGE;
        }
    return EXITS_OK;
}

int begin_save(const struct options *o)
{
    int rc = o->save ? save_check(o->save) : 0;

    if (rc == 0)
        return EXITS_OK;
    text_say("--save: cannot write into %s: %s; give a folder", o->save,
             strerror(-rc));
    return EXITS_USAGE;
}

int begin_client(struct client *c, const struct settings *s)
{
    if (client_open(c, s) == 0)
        return EXITS_OK;
    text_say("%s", c->why);
    client_close(c);
    return EXITS_CAPIBOX;
}

int64_t begin_deadline(const struct options *o)
{
    return o->wait_s > 0 ? clock_ms() + (int64_t)(o->wait_s * 1000) : 0;
}
