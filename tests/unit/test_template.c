/* tests/unit/test_template.c -- template files, and what a job gets of them. */
#include "common/template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"

#define MB (1 << 20)

/* ---- the shipped ones -------------------------------------------------- */

struct fixture {
    struct template_set *set;
    struct settings settings;
};

static void fail_on_bad(void *ctx, const char *file, int line,
                        const struct complaint *why)
{
    (void)ctx;
    fail_msg("%s:%d: %s: %s", file, line, why->field, why->text);
}

static int load_shipped(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    MUST(f);
    MUST0(template_set_load("templates", fail_on_bad, NULL, &f->set));
    MUST0(settings_init(&f->settings));
    *state = f;
    return 0;
}

static int unload(void **state)
{
    struct fixture *f = *state;

    template_set_unref(f->set);
    settings_fini(&f->settings);
    free(f);
    return 0;
}

static struct job *parse(const char *text)
{
    struct complaint why = {0};
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;

    if (job_parse(text, strlen(text), &job, id, &why) < 0)
        fail_msg("%s: %s", why.field, why.text);
    return job;
}

static void uses(const struct fixture *f, const char *text, const char *id)
{
    struct job *job = parse(text);
    struct complaint why = {0};
    struct spec spec;

    if (spec_resolve(f->set, &f->settings, job, &spec, &why) < 0)
        fail_msg("%s -> %s: %s", text, why.field, why.text);
    assert_string_equal(spec.template_used, id);
    job_destroy(job);
}

static void refuse(const struct fixture *f, const char *text, const char *field,
                   const char *part)
{
    struct job *job = parse(text);
    struct complaint why = {0};
    struct spec spec;

    assert_int_equal(spec_resolve(f->set, &f->settings, job, &spec, &why),
                     -EINVAL);
    assert_string_equal(why.field, field);
    if (!strstr(why.text, part))
        print_error("%s\n", why.text);
    assert_non_null(strstr(why.text, part));
    job_destroy(job);
}

static void the_five_templates_are_as_the_contract_says(void **state)
{
    static const struct {
        const char *id;
        int timeout, memory, cpu;
        size_t languages;
    } all[] = {
        {"data_analysis", 600, 1024, 75, 1},
        {"default", 300, 512, 50, 2},
        {"machine_learning", 1800, 2048, 100, 1},
        {"quick_script", 60, 256, 25, 3},
        {"visualization", 600, 1024, 75, 1},
    };
    struct fixture *f = *state;

    assert_int_equal(f->set->count, 5);
    for (size_t i = 0; i < 5; i++) {
        const struct template *tpl = f->set->items[i];

        assert_string_equal(tpl->id, all[i].id);
        assert_int_equal(tpl->limits.timeout_ms, all[i].timeout * 1000);
        assert_int_equal(tpl->limits.memory_bytes, (int64_t)all[i].memory * MB);
        assert_int_equal(tpl->limits.cpu_percent, all[i].cpu);
        assert_int_equal(tpl->nlanguages, all[i].languages);
        assert_string_equal(tpl->template_name, "code-interpreter-v1");
        assert_true(tpl->limits.disk_bytes <= tpl->limits.memory_bytes / 2);
        assert_true(tpl->limits.pids >= 32 && !tpl->limits.network);
        assert_int_equal(tpl->limits.output_bytes, MB);
        assert_ptr_equal(template_find(f->set, all[i].id), tpl);
    }
    assert_null(template_find(f->set, "nope"));
}

static void a_job_that_asks_for_nothing_gets_the_default(void **state)
{
    struct fixture *f = *state;
    struct job *job = parse("{\"code\":\"x\"}");
    struct complaint why;
    struct spec spec;

    assert_int_equal(spec_resolve(f->set, &f->settings, job, &spec, &why), 0);
    assert_string_equal(spec.template_used, "default");
    assert_int_equal(spec.language, LANGUAGE_PYTHON);
    assert_string_equal(spec.interpreter, "/usr/bin/python3");
    assert_int_equal(spec.limits.timeout_ms, 300000);
    assert_int_equal(spec.limits.pids, 64);
    assert_false(spec.dynamic);
    assert_null(spec_package(&spec, 0));
    job_destroy(job);
}

static void a_task_type_leads_to_its_template(void **state)
{
    uses(*state, "{\"code\":\"x\",\"task_type\":\"ml\"}", "machine_learning");
    uses(*state, "{\"code\":\"x\",\"task_type\":\"data-visualization\"}",
         "visualization");
    uses(*state, "{\"code\":\"x\",\"task_type\":\"cooking\"}", "default");
    uses(*state,
         "{\"code\":\"x\",\"task_type\":\"ml\",\"template\":\"quick_script\"}",
         "quick_script");
}

static void auto_follows_the_imports(void **state)
{
    uses(*state, "{\"template\":\"auto\",\"code\":\"import pandas\"}",
         "data_analysis");
    uses(*state, "{\"template\":\"auto\",\"code\":\"import pandas, plotly\"}",
         "visualization");
    uses(*state, "{\"template\":\"auto\",\"code\":\"from sklearn import x\"}",
         "machine_learning");
    uses(*state, "{\"template\":\"auto\",\"code\":\"import torch\"}",
         "machine_learning");
    uses(*state, "{\"template\":\"auto\",\"code\":\"import os\"}", "default");
    uses(*state, "{\"template\":\"auto\",\"code\":\"'import pandas'\"}",
         "default");
    uses(*state,
         "{\"template\":\"auto\",\"code\":\"import pandas\",\"language\":"
         "\"javascript\"}",
         "default");
    uses(*state,
         "{\"template\":\"auto\",\"code\":\"ls\",\"language\":\"bash\"}",
         "quick_script");
}

static void requirements_lie_over_the_template(void **state)
{
    struct fixture *f = *state;
    struct job *job = parse(
        "{\"code\":\"x\",\"template\":\"data_analysis\",\"timeout\":2.5,"
        "\"requirements\":{\"memory_limit_mb\":100,\"cpu_limit_percent\":200,"
        "\"pids_limit\":9,\"output_limit_kb\":1,\"network\":true,"
        "\"packages\":[\"numpy\",\"polars\",\"polars\",\"rich\"],"
        "\"template_name\":\"mine\"}}");
    struct complaint why;
    struct spec spec;

    assert_int_equal(spec_resolve(f->set, &f->settings, job, &spec, &why), 0);
    assert_true(spec.dynamic && spec.limits.network);
    assert_int_equal(spec.limits.timeout_ms, 2500);
    assert_int_equal(spec.limits.memory_bytes, 100 * MB);
    assert_int_equal(spec.limits.disk_bytes, 50 * MB); /* inside the memory */
    assert_int_equal(spec.limits.disk_inodes, 50 * 64);
    assert_int_equal(spec.limits.cpu_percent, 200);
    assert_int_equal(spec.limits.pids, 9);
    assert_int_equal(spec.limits.output_bytes, 1024);
    assert_string_equal(spec.template_name, "mine");
    assert_string_equal(spec_package(&spec, 4), "scipy");
    assert_string_equal(spec_package(&spec, 5), "polars");
    assert_string_equal(spec_package(&spec, 6), "rich");
    assert_null(spec_package(&spec, 7));
    job_destroy(job);
}

static void nothing_goes_over_the_operators_ceilings(void **state)
{
    refuse(*state, "{\"code\":\"x\",\"timeout\":3600.1}", "timeout",
           "3600.1 is over this worker's ceiling; give at most 3600 seconds "
           "(CAPIBOX_MAX_TIMEOUT)");
    refuse(*state,
           "{\"code\":\"x\",\"requirements\":{\"memory_limit_mb\":9000}}",
           "requirements.memory_limit_mb", "at most 8192 MB");
    refuse(*state,
           "{\"code\":\"x\",\"requirements\":{\"cpu_limit_percent\":401}}",
           "requirements.cpu_limit_percent", "at most 400");
    refuse(*state, "{\"code\":\"x\",\"requirements\":{\"disk_limit_mb\":3000}}",
           "requirements.disk_limit_mb", "at most 2048 MB");
    refuse(*state, "{\"code\":\"x\",\"requirements\":{\"pids_limit\":2000}}",
           "requirements.pids_limit", "at most 1024");
    refuse(*state,
           "{\"code\":\"x\",\"requirements\":{\"output_limit_kb\":20000}}",
           "requirements.output_limit_kb", "at most 16384 KB");
    uses(*state, "{\"code\":\"x\",\"timeout\":3600}", "default");
}

static void a_ceiling_does_not_cut_what_a_template_has_anyway(void **state)
{
    struct fixture *f = *state;

    f->settings.max_timeout_s = 10;
    uses(f, "{\"code\":\"x\",\"timeout\":200}", "default");
    refuse(f, "{\"code\":\"x\",\"timeout\":301}", "timeout", "at most 300");
}

static void an_unknown_template_lists_those_there_are(void **state)
{
    refuse(*state, "{\"code\":\"x\",\"template\":\"defualt\"}", "template",
           "\"defualt\" is unknown; this worker has auto, data_analysis, "
           "default, machine_learning, quick_script, visualization");
}

static void a_language_must_be_the_templates(void **state)
{
    refuse(*state, "{\"code\":\"x\",\"language\":\"bash\"}", "language",
           "\"bash\" is not of template default; give python, javascript or "
           "a template that has it: quick_script");
}

static void a_template_is_shown_with_its_limits(void **state)
{
    struct fixture *f = *state;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    template_to_json(template_find(f->set, "visualization"), &sb);
    assert_string_equal(
        sb.text,
        "{\"id\":\"visualization\",\"name\":\"Visualization\","
        "\"description\":\"Charts with matplotlib, seaborn, plotly and "
        "altair.\",\"supported_languages\":[\"python\"],\"task_types\":["
        "\"visualization\",\"data_visualization\",\"data-visualization\"],"
        "\"config\":{\"timeout\":600,\"memory_limit_mb\":1024,"
        "\"cpu_limit_percent\":75,\"template_name\":\"code-interpreter-v1\","
        "\"packages\":[\"pandas\",\"matplotlib\",\"seaborn\",\"plotly\","
        "\"altair\"],\"disk_limit_mb\":512,\"pids_limit\":128,"
        "\"output_limit_kb\":1024,\"network\":false}}");
}

static void a_set_lives_until_its_last_user(void **state)
{
    struct fixture *f = *state;
    struct template_set *again = template_set_ref(f->set);

    template_set_unref(again);
    assert_non_null(template_find(f->set, "default"));
}

/* ---- bad files --------------------------------------------------------- */

#define GOOD                                                                  \
    "\"languages\":[\"bash\"],\"limits\":{\"timeout\":1,\"memory_limit_mb\":" \
    "16,\"cpu_limit_percent\":5}"

struct folder {
    char dir[64];
    int fd;
    char last[1024]; /* "file:line field: text" of the last complaint */
    int bad;
};

static int make_folder(void **state)
{
    struct folder *f = calloc(1, sizeof *f);

    MUST(f);
    strcpy(f->dir, "/tmp/capibox-test-XXXXXX");
    MUST(mkdtemp(f->dir));
    f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(f->fd >= 0);
    *state = f;
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"default.json", "x.json", ".y.json",
                                        "z.txt", "auto.json"};
    struct folder *f = *state;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlinkat(f->fd, names[i], 0);
    close(f->fd);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void put(struct folder *f, const char *name, const char *text)
{
    int fd =
        openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    MUST(fd >= 0);
    MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void note_bad(void *ctx, const char *file, int line,
                     const struct complaint *why)
{
    struct folder *f = ctx;

    f->bad++;
    snprintf(f->last, sizeof f->last, "%s:%d %s: %s", file, line, why->field,
             why->text);
}

static void a_bad_file_is_named_with_line_and_reason(void **state)
{
    static const struct {
        const char *text, *complaint;
    } cases[] = {
        {"{\n\"id\":\"x\",\n oops", "x.json:3 : not JSON at line 3, column 2"},
        {"{\"id\":\"x\",\n\"tiemout\":1," GOOD "}",
         "x.json:2 tiemout: is no field of a template"},
        {"{\"id\":\"x\",\"languages\":[\"bash\"],\"limits\":{\n"
         "\"timeout\":1,\n\"memory\":5}}",
         "x.json:3 limits.memory: is no limit"},
        {"{\"id\":\"x\",\"languages\":[\"bash\"],\"limits\":{\n"
         "\"timeout\":0}}",
         "x.json:2 limits.timeout: 0 is out of range"},
        {"{\"id\":\"x\",\"languages\":[\"bash\"],\"limits\":{\"timeout\":1}}",
         "x.json:1 limits: lacks one of"},
        {"{\"id\":\"x\",\"languages\":[\"bash\"]}",
         "x.json:0 limits: is missing"},
        {"{" GOOD "}", "x.json:0 id: is missing; give \"x\""},
        {"\n{\"id\":\"y\"," GOOD "}",
         "x.json:2 id: \"y\" is not the file's name"},
        {"{\"id\":\"a/b\"}", "x.json:1 id: \"a/b\" cannot be an id"},
        {"{\"id\":\"x\",\"languages\":[\"bash\",\n\"perl\"]}",
         "x.json:2 languages[1]: \"perl\" is unknown"},
        {"{\"id\":\"x\",\"languages\":[\"bash\",\"bash\"]}",
         "x.json:1 languages[1]: \"bash\" is given twice"},
        {"{\"id\":\"x\",\"languages\":[]}", "x.json:1 languages: "},
        {"{\"id\":\"x\",\"local\":{\"bash\":\"bash\"}," GOOD "}",
         "x.json:1 local.bash: \"bash\" is relative"},
        {"{\"id\":\"x\",\"local\":{\"python\":\"/p\"}," GOOD "}",
         "x.json:1 local.python: is not among languages"},
        {"{\"id\":\"x\",\"isolation\":\"warm\"," GOOD "}",
         "x.json:1 isolation: \"warm\" is text; give \"cold\""},
        {"{\"id\":\"x\",\"task_types\":[\"a\",\n\"d\"]," GOOD "}",
         "x.json:2 task_types[1]: \"d\" is template default's already"},
        {"{\"id\":\"x\",\"id\":\"x\"}", "x.json:1 id: is given twice"},
        {"[]", "x.json:0 : is no template"},
        {"", "x.json:1 : the JSON ends too early"},
    };
    struct folder *f = *state;

    put(f, "default.json",
        "{\"id\":\"default\",\"task_types\":[\"d\"]," GOOD "}");
    put(f, ".y.json", "hidden");
    put(f, "z.txt", "something else");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct template_set *set = NULL;

        f->bad = 0;
        put(f, "x.json", cases[i].text);
        assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
        if (f->bad != 1 || !strstr(f->last, cases[i].complaint))
            print_error("%s\n -> %s\n", cases[i].text, f->last);
        assert_int_equal(f->bad, 1);
        assert_memory_equal(f->last, cases[i].complaint,
                            strlen(cases[i].complaint));
        assert_int_equal(set->count, 1); /* the others still load */
        template_set_unref(set);
    }
}

static void what_a_file_leaves_out_has_a_default(void **state)
{
    struct folder *f = *state;
    struct template_set *set = NULL;
    const struct template *tpl;

    put(f, "default.json",
        "{\"id\":\"default\",\"isolation\":\"cold\"," GOOD "}");
    assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
    tpl = template_find(set, "default");
    assert_string_equal(tpl->name, "default");
    assert_string_equal(tpl->template_name, "code-interpreter-v1");
    assert_string_equal(tpl->runtimes[0].interpreter, "/bin/bash");
    assert_int_equal(tpl->limits.disk_bytes, 8 * MB);
    assert_int_equal(tpl->limits.disk_inodes, 1024);
    assert_int_equal(tpl->limits.pids, 64);
    assert_int_equal(tpl->limits.output_bytes, MB);
    assert_true(tpl->cold);
    template_set_unref(set);
}

static void without_a_default_nothing_loads(void **state)
{
    struct folder *f = *state;
    struct template_set *set = NULL;

    put(f, "x.json", "{\"id\":\"x\"," GOOD "}");
    assert_int_equal(template_set_load(f->dir, note_bad, f, &set), -EINVAL);
    assert_non_null(strstr(f->last, "default.json:0 : is missing or bad"));
    assert_int_equal(template_set_load("/nonexistent", note_bad, f, &set),
                     -ENOENT);
    assert_null(set);
}

static void auto_is_no_name_for_a_file(void **state)
{
    struct folder *f = *state;
    struct template_set *set = NULL;

    put(f, "default.json", "{\"id\":\"default\"," GOOD "}");
    put(f, "auto.json", "{\"id\":\"auto\"," GOOD "}");
    assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
    assert_non_null(strstr(f->last, "other than auto"));
    template_set_unref(set);
}

/* ---- sizes on E2B ---------------------------------------------------------
 */

#define VARIANT(name, cpus, mb) \
    "{\"template\":\"" name "\",\"vcpu\":" #cpus ",\"memory_mb\":" #mb "}"

static const struct template_variant *pick(const struct template *tpl,
                                           int cpu_percent, int memory_mb)
{
    struct template_limits limits = {.cpu_percent = cpu_percent,
                                     .memory_bytes = (int64_t)memory_mb * MB};

    return template_variant(tpl, &limits);
}

static void assert_picks(const struct template *tpl, int cpu_percent,
                         int memory_mb, const char *id)
{
    const struct template_variant *v = pick(tpl, cpu_percent, memory_mb);

    assert_non_null(v);
    assert_string_equal(v->template_id, id);
}

static void the_smallest_variant_that_fits_is_taken(void **state)
{
    struct folder *f = *state;
    struct template_set *set = NULL;
    const struct template *tpl;

    put(f, "default.json",
        "{\"id\":\"default\",\"e2b\":{\"variants\":[" VARIANT(
            "big:v2", 4,
            4096) "," VARIANT("wide", 8, 1024) "," VARIANT("t/mid", 2,
                                                           1024) "]}"
                                                                 "," GOOD "}");
    assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
    tpl = template_find(set, "default");
    assert_int_equal(tpl->nvariants, 3);
    assert_picks(tpl, 50, 128, "t/mid");
    assert_picks(tpl, 200, 1024, "t/mid");
    assert_picks(tpl, 201, 1024, "wide");
    assert_picks(tpl, 100, 1025, "big:v2");
    assert_picks(tpl, 400, 4096, "big:v2");
    assert_null(pick(tpl, 401, 4096));
    assert_null(pick(tpl, 801, 128));
    assert_null(pick(tpl, 1, 4097));
    template_set_unref(set);
}

static void without_variants_there_is_e2bs_own_size(void **state)
{
    struct folder *f = *state;
    struct template_set *set = NULL;
    const struct template *tpl;

    put(f, "default.json", "{\"id\":\"default\"," GOOD "}");
    assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
    tpl = template_find(set, "default");
    assert_int_equal(tpl->nvariants, 1);
    assert_picks(tpl, 200, 2048, "code-interpreter-v1");
    assert_null(pick(tpl, 201, 2048));
    template_set_unref(set);
}

static void a_bad_variant_is_named_with_its_field(void **state)
{
    static const struct {
        const char *e2b, *complaint;
    } cases[] = {
        {"[]", "x.json:1 e2b: "},
        {"{\"variant\":[]}", "x.json:1 e2b.variant: is not known"},
        {"{\"variants\":[]}", "x.json:1 e2b.variants: "},
        {"{\"variants\":{}}", "x.json:1 e2b.variants: "},
        {"{\"variants\":[7]}", "x.json:1 e2b.variants[0]: "},
        {"{\"variants\":[{}]}", "x.json:1 e2b.variants[0]: lacks one of"},
        {"{\"variants\":[" VARIANT("a", 1, 512) ",{\"template\":\"b\","
                                                "\"vcpu\":2}]}",
         "x.json:1 e2b.variants[1]: lacks one of"},
        {"{\"variants\":[" VARIANT("a", 0, 512) "]}",
         "x.json:1 e2b.variants[0].vcpu: 0 is out of range"},
        {"{\"variants\":[" VARIANT("a", 33, 512) "]}",
         "x.json:1 e2b.variants[0].vcpu: "},
        {"{\"variants\":[" VARIANT("a", 1.5, 512) "]}",
         "x.json:1 e2b.variants[0].vcpu: "},
        {"{\"variants\":[" VARIANT("a", 2, 64) "]}",
         "x.json:1 e2b.variants[0].memory_mb: "},
        {"{\"variants\":[" VARIANT("", 2, 512) "]}",
         "x.json:1 e2b.variants[0].template: "},
        {"{\"variants\":[{\"template\":7}]}",
         "x.json:1 e2b.variants[0].template: "},
        {"{\"variants\":[{\"cpu\":7}]}",
         "x.json:1 e2b.variants[0].cpu: is no field of a variant"},
    };
    struct folder *f = *state;
    char text[1024];

    put(f, "default.json", "{\"id\":\"default\"," GOOD "}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct template_set *set = NULL;

        f->bad = 0;
        snprintf(text, sizeof text, "{\"id\":\"x\",\"e2b\":%s," GOOD "}",
                 cases[i].e2b);
        put(f, "x.json", text);
        assert_int_equal(template_set_load(f->dir, note_bad, f, &set), 0);
        if (f->bad != 1 || strncmp(f->last, cases[i].complaint,
                                   strlen(cases[i].complaint)) != 0)
            fail_msg("%s\n -> %s", text, f->last);
        template_set_unref(set);
    }
}

#define shipped(test) \
    cmocka_unit_test_setup_teardown(test, load_shipped, unload)
#define in_folder(test) \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        shipped(the_five_templates_are_as_the_contract_says),
        shipped(a_job_that_asks_for_nothing_gets_the_default),
        shipped(a_task_type_leads_to_its_template),
        shipped(auto_follows_the_imports),
        shipped(requirements_lie_over_the_template),
        shipped(nothing_goes_over_the_operators_ceilings),
        shipped(a_ceiling_does_not_cut_what_a_template_has_anyway),
        shipped(an_unknown_template_lists_those_there_are),
        shipped(a_language_must_be_the_templates),
        shipped(a_template_is_shown_with_its_limits),
        shipped(a_set_lives_until_its_last_user),
        in_folder(a_bad_file_is_named_with_line_and_reason),
        in_folder(what_a_file_leaves_out_has_a_default),
        in_folder(without_a_default_nothing_loads),
        in_folder(auto_is_no_name_for_a_file),
        in_folder(the_smallest_variant_that_fits_is_taken),
        in_folder(without_variants_there_is_e2bs_own_size),
        in_folder(a_bad_variant_is_named_with_its_field),
    };

    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
