/* worker/local/collect.c -- brings output files out of a dead sandbox. */
#include "worker/local/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/scope.h"
#include "worker/glob.h"
#include "worker/outfile.h"

#define PATH_BYTES_MAX 4095

/* One open folder of the walk. */
struct level {
    DIR *dir;
    size_t path_len;                  /* of walk.path, without a slash */
    struct glob_positions *positions; /* one a glob */
};

struct walk {
    struct outcome *o;
    int home_fd;
    struct glob *globs;
    size_t nglobs;
    struct level levels[COLLECT_DEPTH_MAX + 1];
    size_t depth; /* levels in use */
    char path[PATH_BYTES_MAX + 1];
    char **matches;
    size_t nmatches;
    size_t entries;
    size_t bytes; /* of the files taken */
    int64_t deadline_ms;
    bool stopped; /* a bound was reached */
    bool warned_depth, warned_unreadable;
};

/* ---- opening ---------------------------------------------------------- */

/* Below home only, through no link and onto no other mount. */
static int open_below(int home_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                   RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long fd;

    do
        fd = syscall(SYS_openat2, home_fd, path, &how, sizeof(how));
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : (int)fd;
}

static const char *why_not(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return OUTFILE_MISSING;
    case ELOOP:
        return "symlink";
    case EXDEV:
        return "outside the work folder";
    case EACCES:
    case EPERM:
        return "unreadable";
    case ENAMETOOLONG:
        return "path too long";
    default:
        return strerrordesc_np(error);
    }
}

/* ---- matches ---------------------------------------------------------- */

static void stop(struct walk *w, const char *why)
{
    if (!w->stopped)
        outcome_warn(w->o, "output_files: %s; some files may be missing", why);
    w->stopped = true;
}

static int add_match(struct walk *w, const char *path)
{
    if (w->nmatches == COLLECT_MATCHES_MAX) {
        stop(w, "too many files match");
        return 0;
    }
    char *copy = strdup(path);

    if (!copy)
        return -ENOMEM;
    w->matches[w->nmatches++] = copy;
    return 0;
}

/* Names without wildcards, and names that exist although they look like a
 * glob. */
static int add_exact(struct walk *w, const char *name, bool *there_out)
{
    AUTO_FD int fd = open_below(w->home_fd, name, O_PATH);

    *there_out = fd >= 0;
    if (fd < 0 && glob_is(name))
        return 0;
    return add_match(w, name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_matches(struct walk *w)
{
    size_t kept = 0;

    if (w->nmatches == 0)
        return;
    qsort(w->matches, w->nmatches, sizeof(char *), by_text);
    for (size_t i = 1; i < w->nmatches; i++) {
        if (strcmp(w->matches[kept], w->matches[i]) == 0)
            free(w->matches[i]);
        else
            w->matches[++kept] = w->matches[i];
    }
    w->nmatches = kept + 1;
}

/* ---- the walk --------------------------------------------------------- */

static void leave_folder(struct walk *w)
{
    struct level *top = &w->levels[--w->depth];

    closedir(top->dir);
    free(top->positions);
}

/* Enters the folder w->path names ("" is home). Takes positions. */
static int enter_folder(struct walk *w, size_t path_len,
                        struct glob_positions *positions)
{
    AUTO_FREE struct glob_positions *own = positions;
    AUTO_FD int fd = open_below(w->home_fd, path_len > 0 ? w->path : ".",
                                O_RDONLY | O_DIRECTORY | O_NONBLOCK);

    if (w->depth > COLLECT_DEPTH_MAX) {
        if (!w->warned_depth)
            outcome_warn(w->o,
                         "output_files: folders more than %d levels deep were "
                         "not searched",
                         COLLECT_DEPTH_MAX);
        w->warned_depth = true;
        return 0;
    }
    if (fd < 0) {
        if (!w->warned_unreadable)
            outcome_warn(w->o, "output_files: a folder is %s: %s", why_not(-fd),
                         w->path);
        w->warned_unreadable = true;
        return 0;
    }
    DIR *dir = fdopendir(fd);

    if (!dir)
        return -errno;
    TAKE_FD(fd);
    w->levels[w->depth++] = (struct level){
        .dir = dir, .path_len = path_len, .positions = TAKE(own)};
    return 0;
}

static unsigned char type_of(DIR *dir, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type;
    if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return DT_UNKNOWN;
    return IFTODT(st.st_mode);
}

/* w->path becomes the entry's; its length, or 0 if it is too long. */
static size_t enter_path(struct walk *w, const char *name)
{
    size_t at = w->levels[w->depth - 1].path_len, len = strlen(name);

    if (at + 1 + len > PATH_BYTES_MAX)
        return 0;
    if (at > 0)
        w->path[at++] = '/';
    memcpy(w->path + at, name, len + 1);
    return at + len;
}

static int visit(struct walk *w, const struct dirent *entry)
{
    const struct level *top = &w->levels[w->depth - 1];
    bool folder = type_of(top->dir, entry) == DT_DIR;
    bool match = false, on = false, here;
    size_t path_len = enter_path(w, entry->d_name);

    if (path_len == 0)
        return 0;
    AUTO_FREE struct glob_positions *next = calloc(w->nglobs, sizeof(*next));

    if (!next)
        return -ENOMEM;
    for (size_t i = 0; i < w->nglobs; i++) {
        next[i] = glob_advance(&w->globs[i], &top->positions[i], entry->d_name);
        here = !folder && glob_matches(&w->globs[i], &next[i]);
        w->globs[i].used |= here;
        match = match || here;
        on = on || glob_leads_on(&w->globs[i], &next[i]);
    }
    if (folder)
        return on ? enter_folder(w, path_len, TAKE(next)) : 0;
    return match ? add_match(w, w->path) : 0;
}

static int visit_next(struct walk *w)
{
    struct level *top = &w->levels[w->depth - 1];
    const struct dirent *entry = readdir(top->dir);

    if (!entry) {
        leave_folder(w);
        return 0;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return 0;
    if (++w->entries > COLLECT_ENTRIES_MAX)
        stop(w, "too many files to search");
    else if (clock_ms() > w->deadline_ms)
        stop(w, "searching took too long");
    if (w->stopped)
        return 0;
    return visit(w, entry);
}

static int walk_globs(struct walk *w)
{
    struct glob_positions *start;
    int rc;

    if (w->nglobs == 0)
        return 0;
    start = calloc(w->nglobs, sizeof(*start));
    if (!start)
        return -ENOMEM;
    for (size_t i = 0; i < w->nglobs; i++)
        start[i] = glob_start(&w->globs[i]);
    rc = enter_folder(w, 0, start);
    while (rc == 0 && w->depth > 0 && !w->stopped)
        rc = visit_next(w);
    while (w->depth > 0)
        leave_folder(w);
    return rc;
}

/* ---- reading ---------------------------------------------------------- */

/* NULL if the file may be read, else why not. */
static const char *refuse(const struct walk *w, const struct stat *st)
{
    if (S_ISLNK(st->st_mode))
        return "symlink";
    if (!S_ISREG(st->st_mode))
        return "not a regular file";
    if (st->st_size > (int64_t)RESULT_FILES_BYTES_MAX)
        return OUTFILE_TOO_LARGE;
    if ((size_t)st->st_size > RESULT_FILES_BYTES_MAX - w->bytes)
        return OUTFILE_NO_ROOM;
    if (clock_ms() > w->deadline_ms)
        return "limit reached: reading took too long";
    return NULL;
}

static int read_file(struct walk *w, const char *path, const struct stat *st)
{
    AUTO_FD int fd =
        open_below(w->home_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    size_t size = (size_t)st->st_size;

    if (fd < 0) {
        outfile_skipped(&w->o->files, path, st->st_size, why_not(-fd));
        return 0;
    }
    AUTO_FREE char *data = malloc(size + 1);

    if (!data)
        return -ENOMEM;
    ssize_t got = io_read_full(fd, data, size);

    if (got < 0)
        outfile_skipped(&w->o->files, path, st->st_size, why_not((int)-got));
    else {
        outfile_add(&w->o->files, path, data, (size_t)got);
        w->bytes += (size_t)got;
    }
    return 0;
}

/* What is there is looked at without opening it: opening a FIFO or a device
 * would do something. */
static int take_file(struct walk *w, const char *path)
{
    AUTO_FD int fd = open_below(w->home_fd, path, O_PATH);
    struct stat st;
    const char *why;

    if (fd < 0) {
        outfile_skipped(&w->o->files, path, 0, why_not(-fd));
        return 0;
    }
    if (fstat(fd, &st) < 0)
        return -errno;
    why = refuse(w, &st);
    if (why) {
        outfile_skipped(&w->o->files, path,
                        S_ISREG(st.st_mode) ? st.st_size : 0, why);
        return 0;
    }
    return read_file(w, path, &st);
}

static int take_files(struct walk *w)
{
    size_t listed = 2 * (size_t)RESULT_FILES_MAX;

    for (size_t i = 0; i < w->nmatches && i < listed; i++) {
        int rc = 0;

        if (i < RESULT_FILES_MAX)
            rc = take_file(w, w->matches[i]);
        else
            outfile_skipped(&w->o->files, w->matches[i], 0,
                            "limit reached: too many files");
        if (rc < 0)
            return rc;
    }
    if (w->nmatches > listed)
        outcome_warn(w->o,
                     "output_files: %zu more files match and are not "
                     "listed (at most %d are returned)",
                     w->nmatches - listed, RESULT_FILES_MAX);
    return w->o->files.failed ? -ENOMEM : 0;
}

/* ---- all of it -------------------------------------------------------- */

static size_t count_globs(char *const *globs)
{
    size_t count = 0;

    while (globs && count < JOB_OUTPUT_GLOBS_MAX && globs[count])
        count++;
    return count;
}

static int find_files(struct walk *w, char *const *globs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct glob *glob = &w->globs[w->nglobs];
        bool there;
        int rc = add_exact(w, globs[i], &there);

        if (rc == 0 && glob_is(globs[i])) {
            rc = glob_init(glob, globs[i]);
            glob->used = there;
            w->nglobs++;
        }
        if (rc < 0)
            return rc;
    }
    return walk_globs(w);
}

static void free_walk(struct walk *w)
{
    for (size_t i = 0; i < w->nglobs; i++)
        glob_fini(&w->globs[i]);
    for (size_t i = 0; i < w->nmatches; i++)
        free(w->matches[i]);
    free(w->globs);
    free(w->matches);
    free(w);
}

int collect_files(int home_fd, char *const *globs, struct outcome *o)
{
    size_t count = count_globs(globs);
    struct walk *w;
    int rc = -ENOMEM;

    if (count == 0)
        return 0;
    w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->o = o;
    w->home_fd = home_fd;
    w->deadline_ms = clock_ms() + COLLECT_TIME_MS_MAX;
    w->globs = calloc(count, sizeof(*w->globs));
    w->matches = calloc(COLLECT_MATCHES_MAX, sizeof(*w->matches));
    if (w->globs && w->matches)
        rc = find_files(w, globs, count);
    if (rc == 0) {
        if (!w->stopped)
            outfile_unmatched(&o->files, w->globs, w->nglobs);
        sort_matches(w);
        rc = take_files(w);
    }
    free_walk(w);
    return rc;
}
