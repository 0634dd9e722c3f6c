#include "worker/e2b/collect.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "worker/glob.h"
#include "worker/outfile.h"

#define MATCHES_MAX 1024  /* files matched in one job */
#define TIME_MS_MAX 30000 /* for all of them */
#define HOME        GUEST_HOME "/"

struct match {
    char *path; /* below home */
    int64_t size;
    bool listed;            /* else nothing but its name is known */
    const char *not_a_file; /* why it cannot be fetched, or NULL */
};

struct search {
    struct guest *guest;
    struct outcome *o;
    struct match matches[MATCHES_MAX];
    size_t nmatches;
    size_t bytes; /* of the files taken */
    int64_t deadline_ms;
    bool too_many;
};

static int add_match(struct search *s, const struct match *match)
{
    char *copy;

    if (s->nmatches == MATCHES_MAX) {
        s->too_many = true;
        return 0;
    }
    copy = strdup(match->path);
    if (!copy)
        return -ENOMEM;
    s->matches[s->nmatches] = *match;
    s->matches[s->nmatches++].path = copy;
    return 0;
}

/* ---- globs ------------------------------------------------------------- */

static const char *text_of(const cJSON *entry, const char *name)
{
    const char *text = json_member(entry, name);

    return text ? text : "";
}

/* int64 is a text in proto3's JSON. */
static int64_t size_of(const cJSON *entry)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, "size");

    if (cJSON_IsNumber(item))
        return (int64_t)item->valuedouble;
    return cJSON_IsString(item) ? atoll(item->valuestring) : 0;
}

/* {"entries":[{"path",…},…]}; an empty list is left out (proto3's JSON). */
static bool is_listing(const cJSON *root)
{
    const cJSON *entries = cJSON_GetObjectItemCaseSensitive(root, "entries");
    const cJSON *entry;

    if (!cJSON_IsObject(root) || (entries && !cJSON_IsArray(entries)))
        return false;
    cJSON_ArrayForEach(entry, entries)
    {
        if (!json_member(entry, "path"))
            return false;
    }
    return true;
}

/* Newer envds give a link the type of its target. */
static bool is_link(const cJSON *entry)
{
    return *text_of(entry, "symlinkTarget") ||
           strcmp(text_of(entry, "type"), "FILE_TYPE_SYMLINK") == 0;
}

static bool is_folder(const cJSON *entry)
{
    return !is_link(entry) &&
           strcmp(text_of(entry, "type"), "FILE_TYPE_DIRECTORY") == 0;
}

/* What envd says of a file, for the match of its path. */
static void describe(const cJSON *entry, struct match *m)
{
    m->listed = true;
    if (is_link(entry))
        m->not_a_file = "symlink";
    else if (strcmp(text_of(entry, "type"), "FILE_TYPE_FILE") != 0)
        m->not_a_file = "not a regular file";
    m->size = m->not_a_file ? 0 : size_of(entry);
}

static int match_entry(struct search *s, struct glob *globs, size_t nglobs,
                       const cJSON *entry)
{
    const char *full = text_of(entry, "path");
    char path[JOB_PATH_MAX + 1];
    struct complaint complaint;
    struct match m = {.path = path};
    bool match = false;

    if (strncmp(full, HOME, strlen(HOME)) != 0 || is_folder(entry))
        return 0;
    full += strlen(HOME);
    full += strspn(full, "/");
    if (job_path_normalise(full, path, &complaint, "path") < 0)
        return 0;
    for (size_t i = 0; i < nglobs; i++) {
        bool takes = glob_takes(&globs[i], path);

        globs[i].used |= takes;
        match |= takes;
    }
    describe(entry, &m);
    return match ? add_match(s, &m) : 0;
}

/* -EPROTO: it is no listing. -EINVAL: with names that are no text. */
static int parse_listing(const struct strbuf *listing, cJSON **root_out)
{
    int rc = listing->len == 0
                 ? -EPROTO
                 : json_check(listing->text, listing->len, NULL, 0, NULL, NULL);

    if (rc < 0)
        return rc == -EINVAL ? rc : -EPROTO;
    *root_out = json_parse(listing->text, listing->len);
    if (!*root_out)
        return -ENOMEM;
    return is_listing(*root_out) ? 0 : -EPROTO;
}

static int match_listing(struct search *s, struct glob *globs, size_t nglobs,
                         const struct strbuf *listing)
{
    cJSON *root = NULL;
    const cJSON *entry;
    int rc = listing->failed ? -ENOMEM : parse_listing(listing, &root);

    if (rc == 0)
        cJSON_ArrayForEach(entry,
                           cJSON_GetObjectItemCaseSensitive(root, "entries"))
        {
            rc = match_entry(s, globs, nglobs, entry);
            if (rc < 0)
                break;
        }
    cJSON_Delete(root);
    return rc;
}

static int not_handed_over(struct search *s, const char *text)
{
    if (s->o->verdict != VERDICT_OK) {
        outcome_warn(s->o, "output_files: %s; some files may be missing", text);
        return 0;
    }
    outcome_error(s->o, "E2B did not hand over the output files: %s", text);
    return -EIO;
}

/* What was not listed whole may hold what a glob names. */
static int miss_globs(struct search *s, const struct glob *globs, size_t nglobs)
{
    if (s->too_many)
        return 0;
    outfile_unmatched(&s->o->files, globs, nglobs);
    return s->o->files.failed ? -ENOMEM : 0;
}

static int find_globs(struct search *s, struct glob *globs, size_t nglobs)
{
    AUTO_STRBUF struct strbuf listing = STRBUF_INIT;
    char text[CONTROL_TEXT_MAX];
    int rc;

    switch (guest_list(s->guest, &listing, text)) {
    case FAULT_NONE:
        rc = match_listing(s, globs, nglobs, &listing);
        if (rc == -EPROTO)
            return not_handed_over(s, "its listing makes no sense");
        if (rc == -EINVAL) {
            outcome_warn(s->o, "output_files: names that are no text; some "
                               "files may be missing");
            return 0;
        }
        return rc < 0 ? rc : miss_globs(s, globs, nglobs);
    case FAULT_NONSENSE:
        outcome_warn(s->o, "output_files: too many files to search; some may "
                           "be missing");
        return 0;
    default:
        return not_handed_over(s, text);
    }
}

static int find(struct search *s, char *const *names)
{
    struct glob globs[JOB_OUTPUT_GLOBS_MAX] = {{.text = NULL}};
    size_t nglobs = 0;
    int rc = 0;

    for (size_t i = 0; names[i] && i < JOB_OUTPUT_GLOBS_MAX && rc == 0; i++) {
        if (glob_is(names[i]))
            rc = glob_init(&globs[nglobs++], names[i]);
        else
            rc = add_match(s, &(struct match){.path = names[i]});
    }
    if (rc == 0 && nglobs > 0)
        rc = find_globs(s, globs, nglobs);
    for (size_t i = 0; i < nglobs; i++)
        glob_fini(&globs[i]);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    const struct match *x = a, *y = b;

    return strcmp(x->path, y->path);
}

static void sort_matches(struct search *s)
{
    size_t kept = 0;

    qsort(s->matches, s->nmatches, sizeof(s->matches[0]), by_path);
    for (size_t i = 1; i < s->nmatches; i++) {
        if (strcmp(s->matches[kept].path, s->matches[i].path) == 0)
            free(s->matches[i].path);
        else
            s->matches[++kept] = s->matches[i];
    }
    if (s->nmatches > 0)
        s->nmatches = kept + 1;
}

/* ---- fetching ---------------------------------------------------------- */

static void skip(struct search *s, const struct match *m, const char *why)
{
    outfile_skipped(&s->o->files, m->path, m->size, why);
}

/* Looks at a file that was asked for by its name; a link is not followed. What
 * E2B does not say, the download will. */
static void look(struct search *s, struct match *m)
{
    AUTO_STRBUF struct strbuf answer = STRBUF_INIT;
    char text[CONTROL_TEXT_MAX];
    cJSON *root = NULL;
    const cJSON *entry;

    if (guest_stat(s->guest, m->path, s->deadline_ms, &answer, text) !=
            FAULT_NONE ||
        answer.failed ||
        json_check(answer.text, answer.len, NULL, 0, NULL, NULL) < 0)
        return;
    root = json_parse(answer.text, answer.len);
    entry = cJSON_GetObjectItemCaseSensitive(root, "entry");
    if (cJSON_IsObject(entry))
        describe(entry, m);
    cJSON_Delete(root);
}

static int fetch(struct search *s, struct match *m)
{
    AUTO_STRBUF struct strbuf data = STRBUF_INIT;
    size_t most = RESULT_FILES_BYTES_MAX - s->bytes;
    char text[CONTROL_TEXT_MAX];
    int status;

    if (!m->listed && clock_ms() <= s->deadline_ms)
        look(s, m);
    if (m->not_a_file || clock_ms() > s->deadline_ms) {
        skip(s, m,
             m->not_a_file ? m->not_a_file
                           : "limit reached: reading took too long");
        return 0;
    }
    switch (guest_download(s->guest, m->path, most, s->deadline_ms, &data,
                           &status, text)) {
    case FAULT_NONE:
        outfile_add(&s->o->files, m->path, data.text ? data.text : "",
                    data.len);
        s->bytes += data.len;
        return 0;
    case FAULT_FLOOD:
        skip(s, m,
             most == RESULT_FILES_BYTES_MAX ? OUTFILE_TOO_LARGE
                                            : OUTFILE_NO_ROOM);
        return 0;
    case FAULT_REFUSED:
        skip(s, m, "not a regular file");
        return 0;
    case FAULT_GONE:
        if (status == 404) {
            skip(s, m, OUTFILE_MISSING);
            return 0;
        } /* fall through */
    default:
        skip(s, m, "E2B did not hand it over");
        return not_handed_over(s, text);
    }
}

static int fetch_all(struct search *s)
{
    size_t listed = 2 * (size_t)RESULT_FILES_MAX;
    int rc = 0;

    for (size_t i = 0; i < s->nmatches && i < listed && rc == 0; i++) {
        if (i < RESULT_FILES_MAX)
            rc = fetch(s, &s->matches[i]);
        else
            skip(s, &s->matches[i], "limit reached: too many files");
    }
    if (s->nmatches > listed || s->too_many)
        outcome_warn(s->o,
                     "output_files: more files match than are listed (at most "
                     "%d are returned)",
                     RESULT_FILES_MAX);
    return rc == 0 && s->o->files.failed ? -ENOMEM : rc;
}

int collect_guest_files(struct guest *g, char *const *globs, struct outcome *o)
{
    struct search *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return -ENOMEM;
    s->guest = g;
    s->o = o;
    s->deadline_ms = clock_ms() + TIME_MS_MAX;
    rc = find(s, globs);
    if (rc == 0) {
        sort_matches(s);
        rc = fetch_all(s);
    }
    for (size_t i = 0; i < s->nmatches; i++)
        free(s->matches[i].path);
    free(s);
    return rc;
}
