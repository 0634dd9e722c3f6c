#include "producer/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/io.h"
#include "common/scope.h"
#include "common/utf8.h"
#include "producer/text.h"

#define SAVED_MAX (RESULT_FILES_MAX + RESULT_ITEMS_MAX * 5)

struct saving {
    int dir_fd;
    const char *dir;
    FILE *say;
    char **names; /* written so far */
    size_t count;
    int rc;
};

static size_t put_part(char *out, const char *part, size_t len)
{
    size_t n = 0;

    if (len == 2 && !memcmp(part, "..", 2)) {
        memcpy(out, "__", 2);
        return 2;
    }
    for (size_t i = 0; i < len;) {
        uint32_t point = 0;
        size_t size = utf8_decode(part + i, len - i, &point);

        if (size == 0 || point < 0x20 || (point >= 0x7f && point < 0xa0)) {
            out[n++] = '_';
            i += size ? size : 1;
            continue;
        }
        memcpy(out + n, part + i, size);
        n += size;
        i += size;
    }
    return n;
}

void save_name(const char *path, char out[SAVE_NAME_MAX + 1])
{
    size_t n = 0;

    while (*path) {
        size_t len = strcspn(path, "/");
        bool skip = len == 0 || (len == 1 && *path == '.');

        if (!skip && n + len + 1 > JOB_PATH_MAX)
            break;
        if (!skip) {
            if (n > 0)
                out[n++] = '/';
            n += put_part(out + n, path, len);
        }
        path += len + (path[len] == '/');
    }
    out[n] = '\0';
    if (n == 0)
        strcpy(out, "file");
}

/* Opens the folder of `name` below dir_fd, making what is missing; *base_out is
 * the last part. */
static int open_parent(int dir_fd, const char *name, const char **base_out)
{
    AUTO_FD int at = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    const char *slash;

    if (at < 0)
        return -errno;
    while ((slash = strchr(name, '/'))) {
        char part[SAVE_NAME_MAX + 1];
        int next;

        snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
        if (mkdirat(at, part, 0777) < 0 && errno != EEXIST)
            return -errno;
        next =
            openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return -errno;
        close(at);
        at = next;
        name = slash + 1;
    }
    *base_out = name;
    return TAKE_FD(at);
}

/* A file of that name is new, whole and ours. */
static int write_new(int parent, const char *name, const void *data,
                     size_t size)
{
    AUTO_FD int fd =
        openat(parent, name,
               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    int rc;

    if (fd < 0)
        return -errno;
    rc = io_write_full(fd, data, size);
    /* A full disk may show only now. */
    if (close(TAKE_FD(fd)) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* What is there under the name is replaced, never written through, and only by
 * what is written to its end. */
static int write_file(int dir_fd, const char *name, const void *data,
                      size_t size)
{
    const char *base = name;
    AUTO_FD int parent = open_parent(dir_fd, name, &base);
    char temporary[48];
    int rc;

    if (parent < 0)
        return parent;
    snprintf(temporary, sizeof(temporary), ".capibox-%ld.part", (long)getpid());
    if (unlinkat(parent, temporary, 0) < 0 && errno != ENOENT)
        return -errno;
    rc = write_new(parent, temporary, data, size);
    if (rc == 0 && renameat(parent, temporary, parent, base) < 0)
        rc = -errno;
    if (rc < 0)
        unlinkat(parent, temporary, 0);
    return rc;
}

static bool written(const struct saving *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->names[i], name))
            return true;
    return false;
}

/* "name", or "name-2", "name-3" … if another file of this result has it. */
static void free_name(const struct saving *s, char name[SAVE_NAME_MAX + 1])
{
    char stem[SAVE_NAME_MAX + 1];

    strcpy(stem, name);
    for (int i = 2; written(s, name) && i <= SAVED_MAX; i++)
        snprintf(name, SAVE_NAME_MAX + 1, "%.*s-%d", JOB_PATH_MAX, stem, i);
}

static const char *slash_behind(const char *dir)
{
    return *dir && dir[strlen(dir) - 1] == '/' ? "" : "/";
}

static void save_one(struct saving *s, const char *path, const void *data,
                     size_t size)
{
    char name[SAVE_NAME_MAX + 1], shown[TEXT_SHORT];
    int rc;

    if (s->count == SAVED_MAX)
        return;
    save_name(path, name);
    free_name(s, name);
    rc = write_file(s->dir_fd, name, data, size);
    if (rc < 0) {
        text_say("cannot write %s%s%s: %s", s->dir, slash_behind(s->dir), name,
                 strerror(-rc));
        s->rc = s->rc ? s->rc : rc;
        return;
    }
    s->names[s->count] = strdup(name);
    if (s->names[s->count])
        s->count++;
    fputs("saved ", s->say);
    text_put(s->say, s->dir, -1);
    fputs(slash_behind(s->dir), s->say);
    text_put(s->say, name, -1);
    fprintf(s->say, " (%s)\n", text_bytes(shown, (double)size));
}

static void save_base64(struct saving *s, const char *path, const char *text)
{
    AUTO_FREE unsigned char *data = NULL;
    size_t size, bad;
    int rc = base64_decode(text, strlen(text), &data, &size, &bad);

    if (rc == 0) {
        save_one(s, path, data, size);
        return;
    }
    text_say("cannot write %s: its base64 is broken", path);
    s->rc = s->rc ? s->rc : rc;
}

static void save_files(struct saving *s, const cJSON *result)
{
    const cJSON *file;

    cJSON_ArrayForEach(file, cJSON_GetObjectItemCaseSensitive(result, "files"))
    {
        const cJSON *path = cJSON_GetObjectItemCaseSensitive(file, "path");
        const cJSON *data =
            cJSON_GetObjectItemCaseSensitive(file, "content_base64");

        if (cJSON_IsString(path) && cJSON_IsString(data))
            save_base64(s, path->valuestring, data->valuestring);
    }
}

static void save_item(struct saving *s, const cJSON *item, int number)
{
    static const struct {
        const char *form, *ending;
        bool binary;
    } forms[] = {
        {"png", "png", true},  {"jpeg", "jpg", true},   {"pdf", "pdf", true},
        {"svg", "svg", false}, {"html", "html", false},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        const cJSON *data =
            cJSON_GetObjectItemCaseSensitive(item, forms[i].form);
        char name[64];

        if (!cJSON_IsString(data))
            continue;
        snprintf(name, sizeof(name), "result-%d.%s", number, forms[i].ending);
        if (forms[i].binary)
            save_base64(s, name, data->valuestring);
        else
            save_one(s, name, data->valuestring, strlen(data->valuestring));
    }
}

/* Makes the folder if it is missing and opens it. */
static int open_folder(const char *dir)
{
    int fd;

    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return -errno;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int save_check(const char *dir)
{
    AUTO_FD int dir_fd = open_folder(dir);

    if (dir_fd < 0)
        return dir_fd;
    return faccessat(dir_fd, ".", W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int save_all(const cJSON *result, const char *dir, FILE *say)
{
    struct saving s = {.dir = dir, .say = say};
    const cJSON *item;
    int number = 0;

    AUTO_FD int dir_fd = open_folder(dir);
    if (dir_fd < 0)
        return dir_fd;
    s.dir_fd = dir_fd;
    s.names = calloc(SAVED_MAX, sizeof(char *));
    if (!s.names)
        return -ENOMEM;
    save_files(&s, result);
    cJSON_ArrayForEach(item,
                       cJSON_GetObjectItemCaseSensitive(result, "results"))
        save_item(&s, item, ++number);
    for (size_t i = 0; i < s.count; i++)
        free(s.names[i]);
    free(s.names);
    return s.rc;
}
