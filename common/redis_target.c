/* common/redis_target.c -- where and how to connect, from a URL.
 *
 * No complaint quotes any part of the URL: with a stray '/' or '@' in it, a
 * password can turn up anywhere.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/redis.h"
#include "common/scope.h"
#include "common/strbuf.h"

#define FIELD        "CAPIBOX_REDIS_URL"
#define PORT_DEFAULT "6379"
#define PORT_MAX     65535
#define DB_MAX       65535
#define URL_MAX      4096

/* A stretch of the URL. */
struct span {
    const char *at;
    size_t len;
};

/* scheme://[login@]place[/path][?query], all still encoded. */
struct pieces {
    struct span login, place, path, query;
    bool has_login;
};

static struct span take_until(struct span *rest, const char *stops)
{
    struct span head = {.at = rest->at};

    while (head.len < rest->len && !strchr(stops, rest->at[head.len]))
        head.len++;
    rest->at += head.len;
    rest->len -= head.len;
    return head;
}

static struct pieces split(const char *after_scheme)
{
    struct span rest = {after_scheme, strlen(after_scheme)};
    struct pieces p = {.place = take_until(&rest, "/?")};
    const char *at = memrchr(p.place.at, '@', p.place.len);

    p.path = take_until(&rest, "?");
    if (rest.len > 0)
        p.query = (struct span){rest.at + 1, rest.len - 1};
    if (at) {
        p.has_login = true;
        p.login = (struct span){p.place.at, (size_t)(at - p.place.at)};
        p.place.len -= p.login.len + 1;
        p.place.at = at + 1;
    }
    return p;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int bad_percent(struct complaint *why)
{
    return complain(why, FIELD,
                    "a %% must be followed by two hex digits other than 00 "
                    "(write %%25 for the character itself)");
}

/* Undoes percent-encoding into a new string. */
static int decode(struct span in, char **out, struct complaint *why)
{
    AUTO_FREE char *text = malloc(in.len + 1);
    size_t len = 0;

    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];

        if (c == '%') {
            int high = i + 2 < in.len ? hex(in.at[i + 1]) : -1;
            int low = high >= 0 ? hex(in.at[i + 2]) : -1;

            if (low < 0 || high * 16 + low == 0)
                return bad_percent(why);
            c = (char)(high * 16 + low);
            i += 2;
        }
        text[len++] = c;
    }
    text[len] = '\0';
    *out = TAKE(text);
    return 0;
}

/* A decimal number without sign or leading blanks; -1 if it is none, or
 * greater than max. */
static long number(struct span in, long max)
{
    long value = 0;

    if (in.len == 0)
        return -1;
    for (size_t i = 0; i < in.len; i++) {
        if (!isdigit((unsigned char)in.at[i]))
            return -1;
        value = value * 10 + (in.at[i] - '0');
        if (value > max)
            return -1;
    }
    return value;
}

static int copy(struct span in, char **out)
{
    *out = strndup(in.at, in.len);
    return *out ? 0 : -ENOMEM;
}

static int read_login(struct redis_target *t, const struct pieces *p,
                      struct complaint *why)
{
    struct span rest = p->login;
    struct span user = take_until(&rest, ":");
    int rc;

    if (!p->has_login)
        return 0;
    if (rest.len < 2)
        return complain(why, FIELD,
                        "the part before @ must be user:password or "
                        ":password");
    rest.at++;
    rest.len--;
    rc = decode(rest, &t->password, why);
    if (rc == 0 && user.len > 0)
        rc = decode(user, &t->user, why);
    return rc;
}

static bool is_host_char(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_';
}

static int bad_host(struct complaint *why)
{
    return complain(why, FIELD,
                    "not a usable host and port; write host:port or "
                    "[IPv6 address]:port, and percent-encode special "
                    "characters of a password");
}

/* Cuts "[...]" or a name off the front of the place. */
static int take_host(struct span *place, struct span *host,
                     struct complaint *why)
{
    if (place->len > 0 && place->at[0] == '[') {
        const char *end = memchr(place->at, ']', place->len);

        if (!end)
            return bad_host(why);
        *host = (struct span){place->at + 1, (size_t)(end - place->at) - 1};
        place->len -= host->len + 2;
        place->at = end + 1;
        for (size_t i = 0; i < host->len; i++)
            if (!is_host_char(host->at[i]) && host->at[i] != ':')
                return bad_host(why);
    } else {
        *host = take_until(place, ":");
        for (size_t i = 0; i < host->len; i++)
            if (!is_host_char(host->at[i]))
                return bad_host(why);
    }
    return host->len > 0 ? 0 : bad_host(why);
}

static int read_place(struct redis_target *t, const struct pieces *p,
                      struct complaint *why)
{
    struct span place = p->place, host = {0};
    struct span port = {PORT_DEFAULT, strlen(PORT_DEFAULT)};
    int rc = take_host(&place, &host, why);

    if (rc < 0)
        return rc;
    if (place.len > 0) {
        port = (struct span){place.at + 1, place.len - 1};
        if (place.at[0] != ':')
            return bad_host(why);
    }
    if (number(port, PORT_MAX) < 1)
        return complain(why, FIELD, "the port must be 1 to %d", PORT_MAX);
    rc = copy(host, &t->host);
    return rc < 0 ? rc : copy(port, &t->port);
}

static int read_db(struct redis_target *t, struct span text,
                   struct complaint *why)
{
    long db = number(text, DB_MAX);

    if (db < 0)
        return complain(why, FIELD,
                        "the database must be a number from 0 to %d", DB_MAX);
    t->db = (int)db;
    return 0;
}

static int read_query(struct redis_target *t, struct span query,
                      struct complaint *why)
{
    if (query.len == 0)
        return 0;
    if (query.len < 3 || memcmp(query.at, "db=", 3) != 0)
        return complain(why, FIELD, "the only parameter after ? is db=NUMBER");
    return read_db(t, (struct span){query.at + 3, query.len - 3}, why);
}

static int read_tcp(struct redis_target *t, const struct pieces *p,
                    struct complaint *why)
{
    int rc = read_place(t, p, why);

    if (rc == 0)
        rc = read_query(t, p->query, why);
    if (rc < 0 || p->path.len <= 1)
        return rc;
    if (p->query.len > 0)
        return complain(why, FIELD,
                        "the database is given twice, after / and after ?");
    return read_db(t, (struct span){p->path.at + 1, p->path.len - 1}, why);
}

static int read_unix(struct redis_target *t, const struct pieces *p,
                     struct complaint *why)
{
    int rc;

    if (p->place.len > 0 || p->path.len < 2)
        return complain(why, FIELD,
                        "a socket is written unix:///absolute/path");
    rc = decode(p->path, &t->path, why);
    return rc < 0 ? rc : read_query(t, p->query, why);
}

/* An option of the settings: "" means it was not given. */
static int take_file(const char *setting, char **out)
{
    if (!setting || !setting[0])
        return 0;
    *out = strdup(setting);
    return *out ? 0 : -ENOMEM;
}

static int read_files(struct redis_target *t, const struct settings *settings,
                      struct complaint *why)
{
    int rc;

    if (t->kind != REDIS_TLS || !settings)
        return 0;
    rc = take_file(settings->redis_ca, &t->ca_file);
    if (rc == 0)
        rc = take_file(settings->redis_cert, &t->cert_file);
    if (rc == 0)
        rc = take_file(settings->redis_key, &t->key_file);
    if (rc == 0 && !t->cert_file != !t->key_file)
        return complain(why, "CAPIBOX_REDIS_CERT",
                        "a client certificate and its key "
                        "(CAPIBOX_REDIS_KEY) go together");
    return rc;
}

static void show_text(struct strbuf *out, const char *text)
{
    for (; *text; text++)
        strbuf_addc(out, iscntrl((unsigned char)*text) ? '?' : *text);
}

static int show(struct redis_target *t)
{
    static const char *const schemes[] = {[REDIS_TCP] = "redis://",
                                          [REDIS_TLS] = "rediss://",
                                          [REDIS_UNIX] = "unix://"};
    struct strbuf out = STRBUF_INIT;
    bool bracket = t->host && strchr(t->host, ':');

    strbuf_adds(&out, schemes[t->kind]);
    if (t->password) {
        show_text(&out, t->user ? t->user : "");
        strbuf_adds(&out, ":***@");
    }
    if (t->kind == REDIS_UNIX) {
        show_text(&out, t->path);
        strbuf_addf(&out, "?db=%d", t->db);
    } else {
        strbuf_addf(&out, bracket ? "[%s]:%s/%d" : "%s:%s/%d", t->host, t->port,
                    t->db);
    }
    t->shown = strbuf_take(&out);
    return t->shown ? 0 : -ENOMEM;
}

static int read_url(struct redis_target *t, const char *url,
                    struct complaint *why)
{
    struct pieces p;
    int rc;

    if (strlen(url) > URL_MAX)
        return complain(why, FIELD, "longer than %d bytes", URL_MAX);
    if (!strncmp(url, "redis://", 8))
        t->kind = REDIS_TCP;
    else if (!strncmp(url, "rediss://", 9))
        t->kind = REDIS_TLS;
    else if (!strncmp(url, "unix://", 7))
        t->kind = REDIS_UNIX;
    else
        return complain(why, FIELD,
                        "must start with redis://, rediss:// or unix://");
    if (strchr(url, '#'))
        return complain(why, FIELD, "write %%23 for a # (in a password, say)");
    p = split(strstr(url, "://") + 3);
    rc = read_login(t, &p, why);
    if (rc < 0)
        return rc;
    return t->kind == REDIS_UNIX ? read_unix(t, &p, why) : read_tcp(t, &p, why);
}

int redis_target_parse(const char *url, const struct settings *settings,
                       struct redis_target *target_out, struct complaint *why)
{
    struct redis_target t = {0};
    int rc = read_url(&t, url, why);

    if (rc == 0)
        rc = read_files(&t, settings, why);
    if (rc == 0)
        rc = show(&t);
    if (rc < 0) {
        redis_target_fini(&t);
        return rc;
    }
    *target_out = t;
    return 0;
}

static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void redis_target_fini(struct redis_target *target)
{
    free(target->host);
    free(target->port);
    free(target->path);
    free(target->user);
    forget(target->password);
    free(target->ca_file);
    free(target->cert_file);
    free(target->key_file);
    free(target->shown);
    *target = (struct redis_target){0};
}
