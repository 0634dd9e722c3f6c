#include "producer/render.h"

#include <string.h>

#include "producer/text.h"

const char *render_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsString(item) ? item->valuestring : "";
}

double render_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool is_form(const char *name)
{
    return strcmp(name, "is_main_result") != 0 && strcmp(name, "extra") != 0;
}

/* "result 1: text, html", then the text. */
static void item(FILE *out, const cJSON *result, int number)
{
    const cJSON *form;
    const char *comma = "";

    fprintf(out, "result %d: ", number);
    cJSON_ArrayForEach(form, result)
    {
        char size[TEXT_SHORT];

        if (!form->string || !is_form(form->string) || cJSON_IsNull(form))
            continue;
        fputs(comma, out);
        text_put(out, form->string, -1);
        if (!strcmp(form->string, "png") || !strcmp(form->string, "jpeg"))
            fprintf(out, " picture, %s",
                    text_bytes(size, (double)strlen(
                                         render_text(result, form->string)) *
                                         3 / 4));
        comma = ", ";
    }
    fputc('\n', out);
    text_put(out, render_text(result, "text"), 2);
}

static void items(FILE *out, const cJSON *result)
{
    const cJSON *one;
    int number = 0;

    cJSON_ArrayForEach(one, member(result, "results")) item(out, one, ++number);
}

static void files(FILE *out, const cJSON *result)
{
    const cJSON *file;

    cJSON_ArrayForEach(file, member(result, "files"))
    {
        const char *skipped = render_text(file, "skipped");
        char size[TEXT_SHORT];

        fputs("file ", out);
        text_put(out, render_text(file, "path"), -1);
        fprintf(out, "  %s  ", text_bytes(size, render_number(file, "size")));
        text_put(out, render_text(file, "mime"), -1);
        if (*skipped) {
            fputs("  not kept: ", out);
            text_put(out, skipped, -1);
        }
        fputc('\n', out);
    }
}

/* The code's own stderr may have shown the error already. */
static bool was_shown(const cJSON *result, const char *name)
{
    const cJSON *piece;

    cJSON_ArrayForEach(piece, member(member(result, "logs"),
                                     "stderr")) if (cJSON_IsString(piece) &&
                                                    strstr(piece->valuestring,
                                                           name)) return true;
    return false;
}

/* Shows the traceback; true if that says all that `error` would. */
static bool error_detail(FILE *out, const cJSON *result)
{
    const cJSON *detail = member(result, "error_detail");
    const char *name = render_text(detail, "name");
    const char *traceback = render_text(detail, "traceback");

    if (!*name || !*traceback)
        return false;
    if (!was_shown(result, name))
        text_put(out, traceback, 0);
    return strstr(traceback, render_text(result, "error")) != NULL;
}

static void warnings(FILE *out, const cJSON *result)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, member(result, "warnings"))
    {
        if (!cJSON_IsString(one))
            continue;
        fputs("warning: ", out);
        text_put(out, one->valuestring, -1);
        fputc('\n', out);
    }
}

static void details(FILE *out, const cJSON *result)
{
    const cJSON *one;
    char shown[TEXT_SHORT];
    struct grid g = {.columns = 2};

    cJSON_ArrayForEach(
        one, member(result, "enforced")) if (cJSON_IsString(one) && one->string)
    {
        grid_cell(&g, "  %s", one->string);
        grid_cell(&g, "%s", one->valuestring);
    }
    if (g.count > 0)
        fputs("enforced:\n", out);
    grid_print(&g, out);
    fputs("time:", out);
    cJSON_ArrayForEach(
        one, member(result, "timings")) if (cJSON_IsNumber(one) && one->string)
    {
        fputc(' ', out);
        text_put(out, one->string, -1);
        fprintf(out, " %s%s", text_seconds(shown, one->valuedouble),
                one->next ? "," : "");
    }
    fputc('\n', out);
}

static void ending(FILE *out, const cJSON *result)
{
    const cJSON *code = member(result, "exit_code");
    const cJSON *number = member(result, "signal");

    if (cJSON_IsNumber(number) && number->valuedouble > 0)
        fprintf(out, " (signal %.0f)", number->valuedouble);
    else if (cJSON_IsNumber(code) && code->valuedouble > 0)
        fprintf(out, " (exit code %.0f)", code->valuedouble);
}

static void figures(FILE *out, const cJSON *result)
{
    const cJSON *usage = member(result, "usage");
    double peak = render_number(usage, "peak_memory_mb");
    double cpu = render_number(usage, "cpu_seconds");
    char shown[TEXT_SHORT];

    fprintf(out, " in %s",
            text_seconds(shown, render_number(result, "execution_time")));
    if (peak > 0)
        fprintf(out, ", peak memory %.1f MB", peak);
    if (cpu > 0)
        fprintf(out, ", CPU %s", text_seconds(shown, cpu));
    if (cJSON_IsTrue(member(result, "cached")))
        fputs(", from the cache", out);
}

static void summary(FILE *out, const cJSON *result)
{
    static const char *const labels[] = {"template_used", "language"};

    text_put(out, render_text(result, "verdict"), -1);
    ending(out, result);
    figures(out, result);
    fputs("  [", out);
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        const char *label = render_text(result, labels[i]);

        text_put(out, label, -1);
        fputs(*label ? ", " : "", out);
    }
    fputs("job ", out);
    text_put(out, render_text(result, "job_id"), -1);
    fputs("]\n", out);
}

void render_result(FILE *out, const cJSON *result, bool verbose)
{
    const char *error = render_text(result, "error");
    bool told;

    items(out, result);
    files(out, result);
    told = error_detail(out, result);
    warnings(out, result);
    if (verbose)
        details(out, result);
    summary(out, result);
    if (*error && !told) {
        fputs("  ", out);
        text_put(out, error, -1);
        fputc('\n', out);
    }
}
