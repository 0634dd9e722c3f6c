#include "producer/show.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/scope.h"
#include "producer/exits.h"
#include "producer/render.h"
#include "producer/save.h"
#include "producer/text.h"

static int show(const struct settings *s, const struct options *o,
                const char *save, struct follow *f, const char *text,
                const cJSON *result)
{
    int rc = (int)exits_of_name(render_text(result, "verdict"));
    int saved = 0;

    if (s->json) {
        fputs(text, stdout);
        fputc('\n', stdout);
    } else {
        if (f) {
            follow_rest(f, result);
            fflush(stdout);
            follow_end_lines(f);
        }
        render_result(stderr, result, o->verbose);
    }
    if (save)
        saved = save_all(result, save, stderr);
    if (saved < 0 && rc == EXITS_OK) {
        text_say("not all could be written to %s: %s", save, strerror(-saved));
        rc = EXITS_CAPIBOX;
    }
    return rc;
}

int show_job(const struct settings *s, const struct options *o,
             const char *save, struct follow *f, const struct client_job *job,
             const char *id)
{
    AUTO_FREE char *shown = job->result ? strdup(job->result) : NULL;
    cJSON *result;
    int rc;

    if (shown)
        json_show_nuls(shown);
    result = shown ? cJSON_Parse(shown) : NULL;
    if (!cJSON_IsObject(result)) {
        text_say("job %s is %s, but its result cannot be read", id,
                 job->status);
        cJSON_Delete(result);
        return EXITS_CAPIBOX;
    }
    rc = show(s, o, save, f, job->result, result);
    cJSON_Delete(result);
    return rc;
}
