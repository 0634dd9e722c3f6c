/* Real programs of users, each in its own template with the template's own
 * limits, through the built worker: none is broken by the system call filter,
 * the file system or a limit.
 *
 * A program lies in tests/e2e/programs; NAME.out is what it prints. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/stage.h"

#define FOLDER         "tests/e2e/programs/"
#define FILE_BYTES_MAX (1 << 20)
#define WAIT_MS        120000 /* a quarter of a core, and others run as well */
#define INPUTS_MAX     3
#define OUTPUTS_MAX    6
#define OTHERS         2 /* tests that run none of them */

static struct rig rig;
static struct proc worker;

struct output {
    const char *path, *mime;
    const char *text; /* its content, or NULL: anything but nothing */
};

struct program {
    const char *sentence, *file, *template_id;
    const char *inputs[INPUTS_MAX]; /* in FOLDER as well */
    struct output outputs[OUTPUTS_MAX];
    int pictures, pages; /* displayed: png, html */
};

/* Read by column. */
/* clang-format off */
static const struct program programs[] = {
    {"pandas_reads_joins_groups_and_writes_tables",
     "pandas_tables.py", "data_analysis", {"sales.csv", "stores.csv"},
     {{"by_town.csv", "text/csv",
       "town,units,days,mean\nBonn,527,21,25.095\nTrier,521,21,24.81\n"
       "Ulm,1004,42,23.905\n"},
      {"both.json", "application/json", NULL}}, 0, 1},
    {"numpy_solves_a_few_hundred_equations",
     "numpy_linalg.py", "data_analysis", {0},
     {{"a.npz", "application/octet-stream", NULL}}, 0, 0},
    {"scipy_optimizes_tests_and_solves_sparse_systems",
     "scipy_mix.py", "data_analysis", {0}, {{0}}, 0, 0},
    {"matplotlib_draws_into_files_and_results",
     "matplotlib_plots.py", "visualization", {0},
     {{"plots.png", "image/png", NULL}, {"plots.svg", "image/svg+xml", NULL},
      {"plots.pdf", "application/pdf", NULL},
      {"plots.jpg", "image/jpeg", NULL}}, 2, 0},
    {"seaborn_draws_four_plots",
     "seaborn_plots.py", "data_analysis", {0},
     {{"box.png", "image/png", NULL}, {"pairs.png", "image/png", NULL},
      {"heat.png", "image/png", NULL}, {"line.png", "image/png", NULL}}, 0, 0},
    {"scikit_learn_fits_with_two_processes",
     "sklearn_models.py", "machine_learning", {0}, {{0}}, 0, 0},
    {"plotly_shows_and_writes_a_figure",
     "plotly_figure.py", "visualization", {0},
     {{"squares.html", "text/html", NULL}}, 0, 2},
    {"altair_shows_and_writes_a_chart",
     "altair_chart.py", "visualization", {0},
     {{"chart.html", "text/html", NULL}}, 0, 1},
    {"sqlite_locks_its_file_between_processes",
     "sqlite_file.py", "default", {0},
     {{"shop.db", "application/vnd.sqlite3", NULL}}, 0, 0},
    {"asyncio_runs_children_queues_and_servers",
     "asyncio_mix.py", "default", {0}, {{0}}, 0, 0},
    {"multiprocessing_forks_pools_and_shares_memory",
     "multiprocessing_fork.py", "default", {0}, {{0}}, 0, 0},
    {"multiprocessing_spawns_pools_and_shares_memory",
     "multiprocessing_spawn.py", "default", {0}, {{0}}, 0, 0},
    {"subprocess_connects_programs_and_shells",
     "subprocess_pipes.py", "default", {0}, {{0}}, 0, 0},
    {"threads_and_futures_work_together",
     "threads_futures.py", "default", {0}, {{0}}, 0, 0},
    {"archives_and_temporary_files_come_back_whole",
     "archives.py", "default", {0},
     {{"made.zip", "application/zip", NULL},
      {"x.tar.gz", "application/gzip", NULL}}, 0, 0},
    {"text_and_number_modules_agree_with_their_books",
     "text_formats.py", "default", {0}, {{0}}, 0, 0},
    {"unix_sockets_carry_streams_packets_and_fds",
     "sockets.py", "default", {0}, {{0}}, 0, 0},
    {"files_signals_locks_and_maps_behave_as_on_linux",
     "system_calls.py", "default", {0}, {{0}}, 0, 0},
    {"node_uses_its_modules_and_the_jobs_own_file",
     "node_modules.js", "default", {"shapes.js", "echo.js"},
     {{"abc.gz", "application/gzip", NULL}, {"copy.txt", "text/plain", NULL}},
     0, 0},
    {"bash_uses_the_usual_tools",
     "bash_tools.sh", "quick_script", {0},
     {{"sorted", "application/octet-stream", "a\nb\n"},
      {"tree.tar.gz", "application/gzip", NULL}}, 0, 0},
};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the job ---------------------------------------------------------------
 */

static char *read_text(const char *name)
{
    char path[256], *text = NULL;

    snprintf(path, sizeof(path), FOLDER "%s", name);
    if (io_read_file(path, FILE_BYTES_MAX, &text, NULL) < 0)
        fail_msg("cannot read %s", path);
    return text;
}

static const char *language_of(const char *file)
{
    const char *ending = strrchr(file, '.');

    if (strcmp(ending, ".py") == 0)
        return "python";
    return strcmp(ending, ".js") == 0 ? "javascript" : "bash";
}

static void add_text(cJSON *object, const char *name, char *text)
{
    cJSON_AddStringToObject(object, name, text);
    free(text);
}

/* Its id is the name of the file. The caller frees. */
static char *job_of(const struct program *p)
{
    cJSON *job = cJSON_CreateObject();
    cJSON *files = cJSON_AddArrayToObject(job, "files");
    cJSON *globs = cJSON_AddArrayToObject(job, "output_files");
    char *text;

    cJSON_AddStringToObject(job, "id", p->file);
    cJSON_AddStringToObject(job, "template", p->template_id);
    cJSON_AddStringToObject(job, "language", language_of(p->file));
    add_text(job, "code", read_text(p->file));
    for (int i = 0; i < INPUTS_MAX && p->inputs[i]; i++) {
        cJSON *file = cJSON_CreateObject();

        cJSON_AddStringToObject(file, "path", p->inputs[i]);
        add_text(file, "content", read_text(p->inputs[i]));
        cJSON_AddItemToArray(files, file);
    }
    for (int i = 0; i < OUTPUTS_MAX && p->outputs[i].path; i++)
        cJSON_AddItemToArray(globs, cJSON_CreateString(p->outputs[i].path));
    text = cJSON_PrintUnformatted(job);
    MUST(text);
    cJSON_Delete(job);
    return text;
}

/* ---- what must come back ----------------------------------------------------
 */

static void expect_output(const cJSON *r, const char *file)
{
    char name[128];

    snprintf(name, sizeof(name), "%.*s.out", (int)(strrchr(file, '.') - file),
             file);
    AUTO_FREE char *expected = read_text(name);

    stage_expect(r, "logs.stdout.0", expected);
    if (stage_text(r, "logs.stderr.0"))
        fail_msg("%s complains: %s", file, stage_text(r, "logs.stderr.0"));
}

static void expect_file(const cJSON *r, const struct output *want)
{
    const cJSON *file;

    cJSON_ArrayForEach(
        file, stage_at(r, "files")) if (strcmp(stage_text(file, "path"),
                                               want->path) == 0) break;
    if (!file)
        fail_msg("there is no %s", want->path);
    stage_expect(file, "mime", want->mime);
    assert_true(stage_number(file, "size") > 0);
    if (!want->text)
        return;
    const char *encoded = stage_text(file, "content_base64");
    AUTO_FREE unsigned char *data = NULL;
    size_t size, wrong_at;

    MUST0(base64_decode(encoded, strlen(encoded), &data, &size, &wrong_at));
    assert_int_equal(size, strlen(want->text));
    assert_memory_equal(data, want->text, size);
}

static int displayed(const cJSON *r, const char *form)
{
    const cJSON *item;
    int count = 0;

    cJSON_ArrayForEach(item, stage_at(r, "results")) count +=
        stage_text(item, form) != NULL;
    return count;
}

static void a_program_does_all_it_should(void **state)
{
    const struct program *p = *state;
    AUTO_FREE char *job = job_of(p);

    rig_push(&rig, "default", job);
    cJSON *r = stage_result_within(&rig, p->file, WAIT_MS);
    stage_expect(r, "verdict", "ok");
    expect_output(r, p->file);
    for (int i = 0; i < OUTPUTS_MAX && p->outputs[i].path; i++)
        expect_file(r, &p->outputs[i]);
    assert_int_equal(displayed(r, "png"), p->pictures);
    assert_int_equal(displayed(r, "html"), p->pages);
    cJSON_Delete(r);
}

/* Debian has none of these; where somebody put one, there is no error. */
static void a_package_that_is_not_there_is_named_with_who_has_it(void **state)
{
    static const struct {
        const char *module, *package;
    } missing[] = {{"tensorflow", "tensorflow"}, {"torch", "pytorch"}};

    (void)state;
    for (size_t i = 0; i < COUNT(missing); i++) {
        char job[256], says[128];

        snprintf(job, sizeof(job),
                 "{\"id\":\"lack-%s\",\"code\":\"import %s\\nprint('there')\","
                 "\"template\":\"machine_learning\"}",
                 missing[i].module, missing[i].module);
        cJSON *r = stage_job(&rig, job);
        if (strcmp(stage_text(r, "verdict"), "ok") != 0) {
            snprintf(says, sizeof(says),
                     "%s is not installed for /usr/bin/python3 (template "
                     "machine_learning); templates that have it: ",
                     missing[i].package);
            stage_expect(r, "verdict", "user_error");
            stage_expect(r, "error_detail.name", "ModuleNotFoundError");
            stage_expect_part(r, "error", says);
        }
        cJSON_Delete(r);
    }
}

/* cJSON, which reads results in places, cuts text at a NUL. */
static void output_with_nuls_is_kept_cached_and_shown_whole(void **state)
{
    static const char *const ids[] = {"nul-1", "nul-2"};

    (void)state;
    for (size_t i = 0; i < COUNT(ids); i++) {
        char job[256];
        AUTO_FREE char *result = NULL, *out = NULL;

        snprintf(job, sizeof(job),
                 "{\"id\":\"%s\",\"language\":\"bash\",\"cache\":true,"
                 "\"template\":\"quick_script\",\"code\":\"printf "
                 "'a\\\\0b\\\\nc\\\\n'\"}",
                 ids[i]);
        cJSON_Delete(stage_job(&rig, job));
        result = stage_field(&rig, ids[i], "result");
        assert_non_null(strstr(result, "[\"a\\u0000b\\nc\\n\"]"));
        assert_non_null(
            strstr(result, i > 0 ? "\"cached\":true" : "\"cached\":false"));
        assert_int_equal(
            stage_cli(&rig, NULL, &out, NULL, "result", ids[i], NULL), 0);
        assert_string_equal(out, "a\\x00b\nc\n");
    }
}

/* ---- stage ------------------------------------------------------------------
 */

static int open_all(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker, NULL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    int ending = stage_end_worker(&worker);

    rig_close(&rig);
    return ending;
}

int main(void)
{
    struct CMUnitTest tests[COUNT(programs) + OTHERS] = {
        cmocka_unit_test(a_package_that_is_not_there_is_named_with_who_has_it),
        cmocka_unit_test(output_with_nuls_is_kept_cached_and_shown_whole)};

    for (size_t i = 0; i < COUNT(programs); i++)
        tests[i + OTHERS] = (struct CMUnitTest){
            .name = programs[i].sentence,
            .test_func = a_program_does_all_it_should,
            .initial_state = (void *)(uintptr_t)&programs[i],
        };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
