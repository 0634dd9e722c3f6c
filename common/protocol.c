#include "common/protocol.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static const struct {
    const char *name, *text;
} SCRIPTS[SCRIPT_COUNT] = {
    [SCRIPT_EXCHANGE] =
        {
            "exchange",
#include "lua/exchange.inc"
        },
    [SCRIPT_START] =
        {
            "start",
#include "lua/start.inc"
        },
    [SCRIPT_REGISTER] =
        {
            "register",
#include "lua/register.inc"
        },
    [SCRIPT_HEARTBEAT] =
        {
            "heartbeat",
#include "lua/heartbeat.inc"
        },
    [SCRIPT_FENCE] =
        {
            "fence",
#include "lua/fence.inc"
        },
    [SCRIPT_REAP] =
        {
            "reap",
#include "lua/reap.inc"
        },
    [SCRIPT_PROMOTE] =
        {
            "promote",
#include "lua/promote.inc"
        },
    [SCRIPT_ENQUEUE] =
        {
            "enqueue",
#include "lua/enqueue.inc"
        },
    [SCRIPT_LEAVE] =
        {
            "leave",
#include "lua/leave.inc"
        },
    [SCRIPT_AUDIT] =
        {
            "audit",
#include "lua/audit.inc"
        },
    [SCRIPT_GRAVES] =
        {
            "graves",
#include "lua/graves.inc"
        },
    [SCRIPT_BATCH] =
        {
            "batch",
#include "lua/batch.inc"
        },
    [SCRIPT_CANCEL] =
        {
            "cancel",
#include "lua/cancel.inc"
        },
    [SCRIPT_LOOK] =
        {
            "look",
#include "lua/look.inc"
        },
    [SCRIPT_SETTLE] =
        {
            "settle",
#include "lua/settle.inc"
        },
    [SCRIPT_DEAD] =
        {
            "dead",
#include "lua/dead.inc"
        },
    [SCRIPT_DEAD_RETRY] =
        {
            "dead_retry",
#include "lua/dead_retry.inc"
        },
    [SCRIPT_DEAD_DROP] =
        {
            "dead_drop",
#include "lua/dead_drop.inc"
        },
};

static int hash_script(struct script *script)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_Digest(script->text, strlen(script->text), digest, &len, EVP_sha1(),
                   NULL) != 1)
        return -ENOMEM;
    for (unsigned i = 0; i < len && i < 20; i++)
        snprintf(script->sha + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

static bool prefix_valid(const char *prefix)
{
    size_t len = strlen(prefix);

    if (len == 0 || len >= sizeof(((struct protocol *)0)->prefix))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)prefix[i] < ' ' || prefix[i] == 0x7f)
            return false;
    return true;
}

int protocol_init(struct protocol *p, const char *prefix, int64_t result_ttl_s,
                  int64_t lease_ms)
{
    if (!prefix_valid(prefix))
        return -EINVAL;
    *p = (struct protocol){.result_ttl_s = result_ttl_s, .lease_ms = lease_ms};
    strcpy(p->prefix, prefix);
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        p->scripts[i].name = SCRIPTS[i].name;
        p->scripts[i].text = SCRIPTS[i].text;
    }
    return protocol_rehash(p);
}

int protocol_rehash(struct protocol *p)
{
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        int rc = hash_script(&p->scripts[i]);

        if (rc < 0)
            return rc;
    }
    return 0;
}

char *protocol_key(const struct protocol *p, char out[KEY_MAX],
                   const char *kind, const char *name)
{
    snprintf(out, KEY_MAX, "%s:%s%s%s", p->prefix, kind, name ? ":" : "",
             name ? name : "");
    return out;
}

char *protocol_token(char out[TOKEN_MAX + 1], const char *wid, int64_t number)
{
    snprintf(out, TOKEN_MAX + 1, "%s.%lld", wid, (long long)number);
    return out;
}

static int random_bytes(void *out, size_t size)
{
    ssize_t got;

    do
        got = getrandom(out, size, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    return (size_t)got == size ? 0 : -EIO;
}

/* What may stand in a job id, so that tokens can be ids. */
static bool id_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

int protocol_make_worker_id(char out[WORKER_ID_MAX + 1])
{
    char host[WORKER_ID_MAX + 1] = "", tail[40];
    uint64_t nonce;
    int rc = random_bytes(&nonce, sizeof(nonce));

    if (rc < 0)
        return rc;
    /* A name too long for the buffer is cut, maybe without its NUL. */
    gethostname(host, sizeof(host));
    host[WORKER_ID_MAX] = '\0';
    for (char *c = host; *c; c++)
        if (!id_character(*c))
            *c = '-';
    snprintf(tail, sizeof(tail), "-%ld-%016llx", (long)getpid(),
             (unsigned long long)nonce);
    snprintf(out, WORKER_ID_MAX + 1, "%.*s%s",
             (int)(WORKER_ID_MAX - strlen(tail)), host[0] ? host : "host",
             tail);
    return 0;
}

int protocol_make_job_id(char out[JOB_ID_MAX + 1])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char bytes[26];
    int rc = random_bytes(bytes, sizeof(bytes));

    if (rc < 0)
        return rc;
    out[0] = 'j';
    out[1] = '-';
    for (size_t i = 0; i < sizeof(bytes); i++)
        out[2 + i] = digits[bytes[i] & 31];
    out[2 + sizeof(bytes)] = '\0';
    return 0;
}
