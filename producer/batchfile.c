#include "producer/batchfile.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/job.h"
#include "common/json.h"
#include "common/protocol.h"
#include "common/scope.h"

#define READ_STEP (1u << 20)

static int read_stdin(char **text_out, size_t *size_out)
{
    AUTO_STRBUF struct strbuf all = STRBUF_INIT;
    ssize_t got;

    do {
        char *room = strbuf_room(&all, READ_STEP + 1);

        if (!room)
            return -ENOMEM;
        got = io_read_full(STDIN_FILENO, room, READ_STEP);
        if (got < 0)
            return (int)got;
        all.len += (size_t)got;
        all.text[all.len] = '\0';
        if (all.len > BATCH_BYTES_MAX)
            return -EFBIG;
    } while (got == READ_STEP);
    *size_out = all.len;
    *text_out = strbuf_take(&all);
    return *text_out ? 0 : -ENOMEM;
}

static int complain_line(struct complaint *why, const struct batchfile_line *l,
                         const char *text)
{
    char field[32];

    snprintf(field, sizeof(field), "line %zu", l->number);
    return complain(why, field, "%s", text);
}

static int take_id(struct batchfile_line *line, const cJSON *json,
                   struct complaint *why)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(json, "id");

    if (cJSON_GetObjectItemCaseSensitive(json, "batch_id"))
        return complain_line(why, line,
                             "batch_id is given by capibox batch; leave it "
                             "out");
    if (!id)
        return protocol_make_job_id(line->id);
    if (!cJSON_IsString(id) || !job_id_valid(id->valuestring))
        return complain_line(why, line,
                             "id: not usable; give 1 to 64 of A-Za-z0-9._:-, "
                             "or none");
    strcpy(line->id, id->valuestring);
    line->own_id = true;
    return 0;
}

/* As a worker would say it, without the line within the line. */
static int complain_json(struct complaint *why,
                         const struct batchfile_line *line, const cJSON *json)
{
    static const char first[] = "at line 1, column";
    struct complaint fault = {0};
    char text[sizeof(fault.text) + 40], *at;
    char shown[JSON_SHOW_MAX];

    if (json_check(line->text, line->size, NULL, 0, &fault, NULL) < 0) {
        at = strstr(fault.text, first);
        if (at)
            memmove(at + 3, at + strlen("at line 1, "),
                    strlen(at + strlen("at line 1, ")) + 1);
    } else {
        snprintf(fault.text, sizeof(fault.text),
                 "a JSON object is wanted, not %s", json_show(json, shown));
    }
    snprintf(text, sizeof(text), "%s; nothing was submitted", fault.text);
    return complain_line(why, line, text);
}

static int check_line(struct batchfile_line *line, struct complaint *why)
{
    const char *end = NULL;
    cJSON *json;
    int rc;

    if (line->size > JOB_BYTES_MAX)
        return complain_line(why, line, "a job has at most 4 MiB");
    if (memchr(line->text, '\0', line->size))
        return complain_line(why, line, "holds a NUL byte");
    json = cJSON_ParseWithLengthOpts(line->text, line->size, &end, 0);
    while (json && end < line->text + line->size &&
           isspace((unsigned char)*end))
        end++;
    if (!cJSON_IsObject(json) || end != line->text + line->size)
        rc = complain_json(why, line, json);
    else
        rc = take_id(line, json, why);
    cJSON_Delete(json);
    return rc;
}

static int add_line(struct batchfile *b, const char *text, size_t size,
                    size_t number, struct complaint *why)
{
    struct batchfile_line *line;

    if (b->count == BATCH_JOBS_MAX)
        return complain(why, NULL, "more than %d jobs in one batch",
                        BATCH_JOBS_MAX);
    if (b->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 256;
        void *lines = realloc(b->lines, cap * sizeof(*b->lines));

        if (!lines)
            return -ENOMEM;
        b->lines = lines;
        b->cap = cap;
    }
    line = &b->lines[b->count++];
    *line = (struct batchfile_line){text, size, number, "", false};
    return check_line(line, why);
}

static bool blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!isspace((unsigned char)text[i]))
            return false;
    return true;
}

static int by_id(const void *a, const void *b, void *ctx)
{
    const struct batchfile_line *lines = ctx;
    const struct batchfile_line *x = &lines[*(const size_t *)a];
    const struct batchfile_line *y = &lines[*(const size_t *)b];
    int order = strcmp(x->id, y->id);

    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static int sort_ids(struct batchfile *b, struct complaint *why)
{
    b->by_id = calloc(b->count, sizeof(*b->by_id));
    if (!b->by_id)
        return -ENOMEM;
    for (size_t i = 0; i < b->count; i++)
        b->by_id[i] = i;
    qsort_r(b->by_id, b->count, sizeof(*b->by_id), by_id, b->lines);
    for (size_t i = 1; i < b->count; i++) {
        const struct batchfile_line *x = &b->lines[b->by_id[i - 1]];
        const struct batchfile_line *y = &b->lines[b->by_id[i]];

        if (!strcmp(x->id, y->id))
            return complain(why, NULL, "lines %zu and %zu have the same id, %s",
                            x->number, y->number, x->id);
    }
    return 0;
}

int batchfile_parse(struct batchfile *b, char *text, size_t size,
                    struct complaint *why)
{
    size_t number = 0;
    int rc = 0;

    *b = (struct batchfile){.text = text};
    for (size_t at = 0; rc == 0 && at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t len = newline ? (size_t)(newline - text) - at : size - at;

        number++;
        if (!blank(text + at, len))
            rc = add_line(b, text + at, len, number, why);
        at += len + 1;
    }
    if (rc == 0 && b->count == 0)
        rc = complain(why, NULL, "no jobs in it; give one JSON object a line");
    return rc < 0 ? rc : sort_ids(b, why);
}

int batchfile_read(struct batchfile *b, const char *path, struct complaint *why)
{
    char *text = NULL;
    size_t size = 0;
    int rc = strcmp(path, "-")
                 ? io_read_file(path, BATCH_BYTES_MAX, &text, &size)
                 : read_stdin(&text, &size);

    *b = (struct batchfile){0};
    if (rc == -EFBIG)
        return complain(why, NULL, "%.200s has over %u bytes", path,
                        BATCH_BYTES_MAX);
    if (rc < 0)
        return complain(why, NULL, "cannot read %.200s: %s", path,
                        strerror(-rc));
    return batchfile_parse(b, text, size, why);
}

void batchfile_fini(struct batchfile *b)
{
    free(b->text);
    free(b->lines);
    free(b->by_id);
    *b = (struct batchfile){0};
}

long batchfile_find(const struct batchfile *b, const char *id)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(b->lines[b->by_id[middle]].id, id);

        if (order == 0)
            return (long)b->by_id[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

void batchfile_body(const struct batchfile_line *line, const char *batch_id,
                    struct strbuf *out)
{
    const char *rest = memchr(line->text, '{', line->size);
    size_t left;

    rest++;
    left = line->size - (size_t)(rest - line->text);
    strbuf_adds(out, "{");
    if (!line->own_id)
        strbuf_addf(out, "\"id\":\"%s\",", line->id);
    strbuf_addf(out, "\"batch_id\":\"%s\"", batch_id);
    for (size_t i = 0; i < left; i++)
        if (!isspace((unsigned char)rest[i])) {
            if (rest[i] != '}')
                strbuf_addc(out, ',');
            break;
        }
    strbuf_add(out, rest, left);
}
