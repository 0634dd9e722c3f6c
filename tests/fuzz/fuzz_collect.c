/* tests/fuzz/fuzz_collect.c -- what a sandbox left in its home folder.
 *
 * The input is a list of records: kind, length of name, name and, for files,
 * length of content, content. Kinds make globs, files, folders (which are
 * entered), links and pipes, with any bytes in their names. What comes out is
 * JSON within the bounds.
 */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/job.h"
#include "common/json.h"
#include "common/must.h"
#include "tests/support/scratch.h"
#include "worker/local/collect.h"

#define GLOBS_MAX    4
#define ENTRIES_MAX  64
#define FOLDER_PERMS 0755

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum record {
    GLOB,
    PLAIN,
    FOLDER,
    UP,
    LINK,
    PIPE,
    RECORDS,
};

struct input {
    const uint8_t *data;
    size_t size;
};

struct scene {
    char base[SCRATCH_PATH_MAX];
    int home_fd, at_fd;
    char *globs[GLOBS_MAX + 1];
    size_t nglobs;
};

/* A length and so many bytes, as text; false at the end. */
static bool take_text(struct input *in, char out[256], size_t *len_out)
{
    size_t len;

    if (in->size == 0)
        return false;
    len = in->data[0] < in->size ? in->data[0] : in->size - 1;
    memcpy(out, in->data + 1, len);
    out[len] = '\0';
    in->data += len + 1;
    in->size -= len + 1;
    *len_out = len;
    return true;
}

/* Globs come to collect as job_parse() lets them through. */
static void add_glob(struct scene *s, const char *text)
{
    char path[JOB_PATH_MAX + 1];
    struct complaint why;

    if (s->nglobs == GLOBS_MAX ||
        job_path_normalise(text, path, &why, "glob") < 0)
        return;
    s->globs[s->nglobs] = strdup(path);
    MUST(s->globs[s->nglobs++]);
}

static void add_file(struct scene *s, const char *name, struct input *in)
{
    char content[256];
    size_t len;
    int fd = openat(s->at_fd, name,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (take_text(in, content, &len) && fd >= 0)
        MUST(write(fd, content, len) == (ssize_t)len);
    if (fd >= 0)
        close(fd);
}

static void add_folder(struct scene *s, const char *name)
{
    int fd;

    if (mkdirat(s->at_fd, name, FOLDER_PERMS) < 0)
        return;
    fd =
        openat(s->at_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    MUST(fd >= 0);
    if (s->at_fd != s->home_fd)
        close(s->at_fd);
    s->at_fd = fd;
}

/* Back to the top, which no name may lead out of: a slash makes none. */
static void go_home(struct scene *s)
{
    if (s->at_fd != s->home_fd)
        close(s->at_fd);
    s->at_fd = s->home_fd;
}

static void play(struct scene *s, struct input *in)
{
    char name[256];
    size_t len;

    for (int i = 0; i < ENTRIES_MAX && in->size > 0; i++) {
        unsigned kind = in->data[0] % RECORDS;

        in->data++;
        in->size--;
        if (!take_text(in, name, &len))
            return;
        if (kind == GLOB)
            add_glob(s, name);
        else if (kind == UP)
            go_home(s);
        else if (strchr(name, '/'))
            continue;
        else if (kind == PLAIN)
            add_file(s, name, in);
        else if (kind == FOLDER)
            add_folder(s, name);
        else if (kind == LINK && symlinkat("/etc", s->at_fd, name) < 0)
            continue;
        else if (kind == PIPE && mkfifoat(s->at_fd, name, 0644) < 0)
            continue;
    }
}

static void check_files(const struct outcome *o)
{
    struct strbuf json = STRBUF_INIT;
    struct complaint why;
    const cJSON *item;
    cJSON *root;

    strbuf_adds(&json, "{\"files\":[");
    strbuf_add(&json, o->files.text, o->files.len);
    strbuf_adds(&json, "]}");
    MUST0(json_check(json.text, json.len, NULL, 0, &why, NULL));
    root = cJSON_ParseWithLength(json.text, json.len);
    MUST(root);
    MUST(cJSON_GetArraySize(root->child) <= 2 * RESULT_FILES_MAX);
    cJSON_ArrayForEach(item, root->child)
    {
        int members = cJSON_GetArraySize(item);

        MUST(cJSON_IsString(cJSON_GetObjectItem(item, "path")));
        MUST(members == 3 || members == 4);
        MUST(members == 4 ||
             cJSON_IsString(cJSON_GetObjectItem(item, "skipped")));
    }
    cJSON_Delete(root);
    strbuf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct scene s = {.nglobs = 0};
    struct outcome o;

    scratch_make(s.base);
    s.home_fd = open(s.base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(s.home_fd >= 0);
    s.at_fd = s.home_fd;
    play(&s, &in);
    go_home(&s);
    MUST0(outcome_init(&o, 64));
    MUST0(collect_files(s.home_fd, s.globs, &o));
    check_files(&o);
    outcome_fini(&o);
    for (size_t i = 0; i < s.nglobs; i++)
        free(s.globs[i]);
    close(s.home_fd);
    scratch_remove(s.base);
    return 0;
}
