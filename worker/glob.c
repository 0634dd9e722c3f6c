#include "worker/glob.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static bool is_any_folders(const char *part)
{
    return strcmp(part, "**") == 0;
}

int glob_init(struct glob *g, const char *text)
{
    char *save = NULL;

    *g = (struct glob){.whole = text, .text = strdup(text)};
    if (!g->text)
        return -ENOMEM;
    for (char *part = strtok_r(g->text, "/", &save);
         part && g->nparts < GLOB_PARTS_MAX;
         part = strtok_r(NULL, "/", &save)) {
        /* Two in a row say no more than one. */
        if (g->nparts > 0 && is_any_folders(part) &&
            is_any_folders(g->parts[g->nparts - 1]))
            continue;
        g->parts[g->nparts++] = part;
    }
    return 0;
}

static bool has_position(const struct glob_positions *p, size_t i)
{
    return p->bits[i / 64] >> (i % 64) & 1;
}

/* `**` may also stand for nothing, so being there is being behind it; but as
 * the last it wants something below. */
static void add_position(struct glob_positions *p, const struct glob *g,
                         size_t i)
{
    for (;;) {
        p->bits[i / 64] |= UINT64_C(1) << (i % 64);
        if (i + 1 >= g->nparts || !is_any_folders(g->parts[i]))
            return;
        i++;
    }
}

static bool part_matches(const char *part, const char *name)
{
    return fnmatch(part, name, FNM_PERIOD | FNM_NOESCAPE) == 0;
}

/* Where the glob is after one more component of the path. */
struct glob_positions glob_advance(const struct glob *g,
                                   const struct glob_positions *from,
                                   const char *name)
{
    struct glob_positions to = {{0}};

    for (size_t i = 0; i < g->nparts; i++) {
        if (!has_position(from, i))
            continue;
        if (is_any_folders(g->parts[i])) {
            if (name[0] == '.')
                continue;
            add_position(&to, g, i);
            if (i + 1 == g->nparts)
                add_position(&to, g, i + 1);
        } else if (part_matches(g->parts[i], name)) {
            add_position(&to, g, i + 1);
        }
    }
    return to;
}

bool glob_matches(const struct glob *g, const struct glob_positions *p)
{
    return has_position(p, g->nparts);
}

bool glob_leads_on(const struct glob *g, const struct glob_positions *p)
{
    for (size_t i = 0; i < g->nparts; i++)
        if (has_position(p, i))
            return true;
    return false;
}

struct glob_positions glob_start(const struct glob *g)
{
    struct glob_positions start = {{0}};

    add_position(&start, g, 0);
    return start;
}

void glob_fini(struct glob *g)
{
    free(g->text);
    g->text = NULL;
}

bool glob_is(const char *text)
{
    return strpbrk(text, "*?[") != NULL;
}

bool glob_takes(const struct glob *g, const char *path)
{
    struct glob_positions at = glob_start(g);
    char part[GLOB_NAME_MAX + 1];

    while (*path) {
        size_t len = strcspn(path, "/");

        if (len > GLOB_NAME_MAX)
            return false;
        memcpy(part, path, len);
        part[len] = '\0';
        at = glob_advance(g, &at, part);
        path += len + (path[len] == '/');
    }
    return glob_matches(g, &at);
}
