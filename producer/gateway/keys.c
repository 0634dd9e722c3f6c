#include "producer/gateway/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/job.h"
#include "common/scope.h"

_Static_assert(KEYS_SUM_BYTES == SHA256_DIGEST_LENGTH, "sums are SHA-256");

double bucket_take(struct bucket *b, int64_t rate, int64_t now_ms)
{
    double most = (double)rate;

    if (rate == 0)
        return 0;
    if (b->filled_ms == 0)
        b->tokens = most;
    else
        b->tokens += (double)(now_ms - b->filled_ms) / 1000 * most;
    if (b->tokens > most)
        b->tokens = most;
    b->filled_ms = now_ms;
    if (b->tokens < 1)
        return (1 - b->tokens) / most;
    b->tokens -= 1;
    return 0;
}

static struct holder *find_holder(struct holder *list, const char *name)
{
    while (list && strcmp(list->name, name) != 0)
        list = list->next;
    return list;
}

/* One that was there before keeps its counts. */
static struct holder *holder_of(struct keys *keys, const char *name)
{
    struct holder *holder = find_holder(keys->holders, name);

    if (holder)
        return holder;
    holder = calloc(1, sizeof(*holder));
    if (!holder)
        return NULL;
    strcpy(holder->name, name);
    holder->next = keys->holders;
    keys->holders = holder;
    return holder;
}

static int check_key(const char *key, size_t size, int line,
                     struct complaint *why)
{
    if (size < KEYS_LENGTH_MIN || size > KEYS_LENGTH_MAX)
        return complain(why, "CAPIBOX_API_KEYS",
                        "line %d: a key of %zu bytes; give %d to %d", line,
                        size, KEYS_LENGTH_MIN, KEYS_LENGTH_MAX);
    for (size_t i = 0; i < size; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return complain(why, "CAPIBOX_API_KEYS",
                            "line %d: the key holds what a header cannot; "
                            "give printable ASCII without spaces",
                            line);
    return 0;
}

static int take_line(struct keys *keys, struct key *out, char *text, int line,
                     struct complaint *why)
{
    char *colon = strchr(text, ':');
    const char *key = colon ? colon + 1 : NULL;
    int rc;

    if (!colon)
        return complain(why, "CAPIBOX_API_KEYS",
                        "line %d has no colon; give name:key", line);
    *colon = '\0';
    if (!job_name_valid(text, true))
        return complain(why, "CAPIBOX_API_KEYS",
                        "line %d: the name will not do; give 1 to %d of "
                        "A-Za-z0-9._-",
                        line, JOB_NAME_MAX);
    rc = check_key(key, strlen(key), line, why);
    if (rc < 0)
        return rc;
    out->holder = holder_of(keys, text);
    if (!out->holder)
        return -ENOMEM;
    SHA256((const unsigned char *)key, strlen(key), out->sum);
    return 0;
}

/* Whose would its jobs be? */
static int check_sole(const struct key *list, size_t count, int line,
                      struct complaint *why)
{
    const struct key *last = &list[count];

    for (size_t i = 0; i < count; i++)
        if (list[i].holder != last->holder &&
            CRYPTO_memcmp(list[i].sum, last->sum, sizeof(last->sum)) == 0)
            return complain(why, "CAPIBOX_API_KEYS",
                            "line %d: %s has the same key as %s; give each "
                            "name its own",
                            line, last->holder->name, list[i].holder->name);
    return 0;
}

static int take_lines(struct keys *keys, char *text, struct key *list,
                      size_t *count_out, struct complaint *why)
{
    char *rest = text, *line;
    int number = 0;

    *count_out = 0;
    while ((line = strsep(&rest, "\n"))) {
        size_t len = strlen(line);
        int rc;

        number++;
        if (len > 0 && line[len - 1] == '\r')
            line[--len] = '\0';
        if (len == 0 || line[0] == '#')
            continue;
        if (*count_out == KEYS_MAX)
            return complain(why, "CAPIBOX_API_KEYS",
                            "more than %d keys; give fewer", KEYS_MAX);
        rc = take_line(keys, &list[*count_out], line, number, why);
        if (rc == 0)
            rc = check_sole(list, *count_out, number, why);
        if (rc < 0)
            return rc;
        (*count_out)++;
    }
    if (*count_out == 0)
        return complain(why, "CAPIBOX_API_KEYS",
                        "holds no key; give name:key lines");
    return 0;
}

static int read_file(const char *file, char **text_out, size_t *size_out,
                     bool *open_out, struct complaint *why)
{
    struct stat st;
    int rc = io_read_file(file, KEYS_FILE_BYTES_MAX, text_out, size_out);

    if (rc < 0)
        return complain(why, "CAPIBOX_API_KEYS", "cannot read the file: %s",
                        strerror(-rc));
    *open_out = stat(file, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO));
    if (memchr(*text_out, '\0', *size_out))
        return complain(why, "CAPIBOX_API_KEYS",
                        "the file holds a NUL byte; give name:key lines");
    return 0;
}

int keys_load(struct keys *keys, const char *file, bool *open_out,
              struct complaint *why)
{
    AUTO_FREE char *text = NULL;
    AUTO_FREE struct key *list = calloc(KEYS_MAX, sizeof(*list));
    size_t size = 0, count = 0;
    int rc;

    if (!list)
        return -ENOMEM;
    rc = read_file(file, &text, &size, open_out, why);
    if (rc == 0)
        rc = take_lines(keys, text, list, &count, why);
    if (text)
        OPENSSL_cleanse(text, size);
    if (rc < 0)
        return rc;
    free(keys->list);
    keys->list = TAKE(list);
    keys->count = count;
    return 0;
}

void keys_fini(struct keys *keys)
{
    while (keys->holders) {
        struct holder *next = keys->holders->next;

        free(keys->holders);
        keys->holders = next;
    }
    free(keys->list);
    *keys = (struct keys){0};
}

struct holder *keys_find(const struct keys *keys, const char *key, size_t size)
{
    unsigned char sum[KEYS_SUM_BYTES];
    struct holder *found = NULL;

    SHA256((const unsigned char *)key, size, sum);
    for (size_t i = 0; i < keys->count; i++)
        if (CRYPTO_memcmp(keys->list[i].sum, sum, sizeof(sum)) == 0)
            found = keys->list[i].holder;
    return found;
}
