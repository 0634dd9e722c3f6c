#include "worker/local/drivers.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "worker/beside.h"

struct prefix {
    const char *text;
    enum language language;
};

static const struct prefix prefixes[] = {
    {"python_", LANGUAGE_PYTHON},
    {"node_", LANGUAGE_JAVASCRIPT},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Only source files: an editor's backup or a cache is none. */
static bool is_source(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot && (strcmp(dot, ".py") == 0 || strcmp(dot, ".js") == 0);
}

static const struct prefix *prefix_of(const char *name)
{
    for (size_t i = 0; i < COUNT(prefixes); i++)
        if (strncmp(name, prefixes[i].text, strlen(prefixes[i].text)) == 0)
            return is_source(name) ? &prefixes[i] : NULL;
    return NULL;
}

static int load_file(DIR *dir, const char *name, struct drivers *d,
                     struct complaint *why)
{
    const struct prefix *prefix = prefix_of(name);

    if (!prefix)
        return 0;
    struct driver_file *f = &d->files[d->count];
    const char *rest = name + strlen(prefix->text);
    const char *as = strncmp(rest, "driver.", 7) == 0 ? rest : name;

    if (d->count == DRIVER_FILES_MAX || strlen(as) >= sizeof(f->name)) {
        complain(why, NULL,
                 "the drivers' folder holds too many files, or %.200s"
                 " is too long a name",
                 name);
        return -EFBIG;
    }
    int rc =
        io_read_file_at(dirfd(dir), name, DRIVER_BYTES_MAX, &f->data, &f->size);
    if (rc < 0) {
        complain(why, NULL, "cannot read the driver %.200s: %s", name,
                 strerror(-rc));
        return rc;
    }
    f->language = prefix->language;
    memcpy(f->name, as, strlen(as) + 1);
    d->count++;
    return 0;
}

static int load_folder(DIR *dir, const char *path, struct drivers *d,
                       struct complaint *why)
{
    int rc = 0;

    for (const struct dirent *e; rc == 0 && (e = readdir(dir));)
        rc = load_file(dir, e->d_name, d, why);
    if (rc == 0 && d->count == 0) {
        complain(why, NULL, "%.300s holds no driver", path);
        rc = -ENOENT;
    }
    return rc;
}

int drivers_load(const char *program_dir, struct drivers *drivers_out,
                 struct complaint *why)
{
    char path[PATH_MAX];
    DIR *dir;
    int rc = beside_open(program_dir, "runtime", &dir, path, why);

    *drivers_out = (struct drivers){0};
    if (rc < 0)
        return rc;
    rc = load_folder(dir, path, drivers_out, why);
    closedir(dir);
    if (rc < 0)
        drivers_unload(drivers_out);
    return rc;
}

void drivers_unload(struct drivers *drivers)
{
    for (size_t i = 0; i < drivers->count; i++)
        free(drivers->files[i].data);
    drivers->count = 0;
}

void drivers_add(const struct drivers *drivers, enum language language,
                 struct input *in)
{
    for (size_t i = 0; i < drivers->count; i++) {
        const struct driver_file *f = &drivers->files[i];

        if (f->language == language)
            input_add(in, "job", f->name, f->data, f->size);
    }
}
