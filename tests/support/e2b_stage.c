#include "tests/support/e2b_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"

#define TOKEN_DIGITS 64 /* of envdAccessToken */

int e2b_stage_open_empty(void **state)
{
    struct e2b_stage *s = calloc(1, sizeof(*s));

    MUST(s);
    stage_open(&s->rig, NULL);
    double_open(&s->e2b, NULL);
    *state = s;
    return 0;
}

int e2b_stage_open(void **state)
{
    struct e2b_stage *s;

    e2b_stage_open_empty(state);
    s = *state;
    e2b_stage_worker(s, &s->worker, NULL);
    return 0;
}

int e2b_stage_close(void **state)
{
    struct e2b_stage *s = *state;

    proc_stop(&s->worker);
    double_end(&s->e2b);
    rig_close(&s->rig);
    free(s);
    return 0;
}

void e2b_stage_worker(struct e2b_stage *s, struct proc *worker,
                      const char *setting)
{
    /* Sanitizers' programs are not where templates are found beside. */
    const char *env[DOUBLE_ENV + 2] = {E2B_STAGE_TEMPLATES, setting};
    int n = setting ? 2 : 1;

    for (int i = 0; s->e2b.env[i]; i++)
        env[n++] = s->e2b.env[i];
    stage_worker(&s->rig, worker, env);
}

/* ---- jobs ---------------------------------------------------------------- */

void e2b_stage_push(struct e2b_stage *s, const char *prefix, int count,
                    const char *fields)
{
    char job[2048];

    for (int i = 0; i < count; i++) {
        snprintf(job, sizeof(job), "{\"id\":\"%s%d\",%s}", prefix, i, fields);
        rig_push(&s->rig, "default", job);
    }
}

void e2b_stage_expect_all(struct e2b_stage *s, const char *prefix, int count,
                          const char *verdict, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    char id[64];

    for (int i = 0; i < count; i++) {
        snprintf(id, sizeof(id), "%s%d", prefix, i);
        cJSON *r = stage_result_within(&s->rig, id, clock_left_ms(deadline));

        stage_expect(r, "verdict", verdict);
        if (stage_number(r, "attempt") != 1)
            fail_msg("job %s used up attempts: %g", id,
                     stage_number(r, "attempt"));
        cJSON_Delete(r);
    }
}

/* ---- secrets ------------------------------------------------------------- */

void e2b_stage_no_secret(const struct e2b_stage *s, const char *text)
{
    size_t run = 0;

    assert_null(strstr(text, s->e2b.key + strlen("e2b_")));
    for (const char *c = text; *c; c++) {
        run = strspn(c, "0123456789abcdef");
        if (run == TOKEN_DIGITS)
            fail_msg("this looks like a token: %.*s", (int)run, c);
        c += run > 0 ? run - 1 : 0;
    }
}

static void no_secret_in_redis(struct e2b_stage *s)
{
    AUTO_FREE char *all = malloc(4 << 20);

    MUST(all);
    rig_text(&s->rig, all, 4 << 20, "EVAL",
             "local out = {} "
             "for _, k in ipairs(redis.call('KEYS', '{capibox}:job:*')) do "
             "out[#out + 1] = redis.call('HGET', k, 'result') or '' end "
             "return table.concat(out, '\\n')",
             "0", NULL);
    e2b_stage_no_secret(s, all);
}

/* ---- the end ------------------------------------------------------------- */

void e2b_stage_end_well(struct e2b_stage *s)
{
    AUTO_FREE char *said = NULL;

    assert_true(rig_settled(&s->rig));
    assert_true(double_settled(&s->e2b, 15000));
    assert_int_equal(rig_stat(&s->rig, "sandbox_created"),
                     rig_stat(&s->rig, "sandbox_destroyed"));
    no_secret_in_redis(s);
    said = proc_err(&s->worker);
    e2b_stage_no_secret(s, said);
    assert_int_equal(stage_end_worker(&s->worker), 0);
    double_close(&s->e2b);
}
