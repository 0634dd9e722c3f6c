/* common/settings.h -- every setting of every program, one row each.
 *
 * A row: environment name, flag, default, range, one line of help. Programs
 * start with settings_init(), apply the environment, then their arguments
 * (arguments win), then freeze the struct: from there on it is const.
 *
 * Memory:   strings inside belong to the struct; settings_fini() frees.
 * Threads:  filled in main before the first thread, const afterwards.
 * Errors:   -EINVAL with a complaint naming the variable or flag, the value
 *           (never for a secret: url passwords and keys are masked) and what
 *           would be right.
 */
#ifndef COMMON_SETTINGS_H
#define COMMON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/complaint.h"
#include "common/limits.h"

/* Which programs show and take a row. */
enum settings_for {
    FOR_WORKER = 1,
    FOR_CLI = 2,
    FOR_API = 4,
    FOR_ALL = 7,
};

struct queue_share {
    char name[JOB_NAME_MAX + 1];
    int weight; /* 0: strict order; with name*N: 1..100 */
};

struct settings {
    char *redis_url;  /* CAPIBOX_REDIS_URL, else REDIS_URL (secret inside) */
    char *redis_ca;   /* CAPIBOX_REDIS_CA: PEM file, "" = the system's */
    char *redis_cert; /* CAPIBOX_REDIS_CERT, CAPIBOX_REDIS_KEY: client side */
    char *redis_key;
    char *prefix; /* CAPIBOX_PREFIX, default {capibox} */
    struct queue_share queues[QUEUE_NAMES_MAX]; /* CAPIBOX_QUEUES */
    int nqueues;
    bool queues_weighted;
    int64_t concurrency;      /* CAPIBOX_CONCURRENCY 1..1024; 0 = by backend */
    char *backend;            /* CAPIBOX_BACKEND local|e2b */
    char *templates;          /* CAPIBOX_TEMPLATES folder; "" = find it */
    int64_t result_ttl_s;     /* CAPIBOX_RESULT_TTL 1..31536000 */
    int64_t shutdown_grace_s; /* CAPIBOX_SHUTDOWN_GRACE 0..86400 */
    bool log_json;            /* CAPIBOX_LOG text|json */
    int log_level; /* CAPIBOX_LOG_LEVEL debug|info|warn|error: enum log_level */
    char *api_listen;              /* CAPIBOX_API_LISTEN */
    char *api_keys;                /* CAPIBOX_API_KEYS */
    char *api_cert, *api_cert_key; /* CAPIBOX_API_CERT, CAPIBOX_API_CERT_KEY */
    char *api_origins;             /* CAPIBOX_API_ORIGINS a,b: CORS; "" none */
    int64_t api_rate;              /* CAPIBOX_API_RATE: requests/s of a key */
    int64_t api_jobs_per_key;      /* CAPIBOX_API_JOBS_PER_KEY */
    int64_t api_queue_max;         /* CAPIBOX_API_QUEUE_MAX */
    int64_t api_per_address;       /* CAPIBOX_API_PER_ADDRESS: connections */
    /* What E2B's own SDKs read (e2b: only for that backend). */
    char *e2b_key;         /* E2B_API_KEY (secret): environment only */
    char *e2b_domain;      /* E2B_DOMAIN, may end in :port */
    char *e2b_api_url;     /* E2B_API_URL, "" = https://api.<domain> */
    char *e2b_sandbox_url; /* E2B_SANDBOX_URL: one host for all sandboxes, "" */
    char *e2b_ca;          /* CAPIBOX_E2B_CA: PEM file, "" = the system's */
    char *e2b_shared_host; /* CAPIBOX_E2B_SHARED auto|always|never */

    int64_t lease_ms;         /* CAPIBOX_LEASE_MS 2000..600000, 10000 */
    int64_t memory_budget_mb; /* CAPIBOX_MEMORY_BUDGET_MB: sum of limits of
                                 running sandboxes; 0 = what host and cgroup
                                 have, less a reserve */
    bool allow_degraded;      /* CAPIBOX_ALLOW_DEGRADED 0|1, --allow-degraded */
    char *warm;      /* CAPIBOX_WARM start|demand|never: when interpreters are
                        warmed up; at the start, by a first job, or not at all */
    int64_t waiting; /* CAPIBOX_WAITING 0..512, 64: most sandboxes of a kind
                        that wait ready; how many do follows demand */
    bool supervise;  /* CAPIBOX_SUPERVISE 0|1, --supervise: worker only */

    /* Ceilings a dynamic spec may not pass (contract section 6). */
    int64_t max_timeout_s;   /* CAPIBOX_MAX_TIMEOUT 1..86400, 3600 */
    int64_t max_memory_mb;   /* CAPIBOX_MAX_MEMORY_MB 16..1048576, 8192 */
    int64_t max_cpu_percent; /* CAPIBOX_MAX_CPU_PERCENT 1..12800, 400 */
    int64_t max_disk_mb;     /* CAPIBOX_MAX_DISK_MB 1..1048576, 2048 */
    int64_t max_pids;        /* CAPIBOX_MAX_PIDS 1..65536, 1024 */
    int64_t max_output_kb;   /* CAPIBOX_MAX_OUTPUT_KB 1..65536, 16384 */

    /* Command line only, no environment. */
    bool help, version, json;
    bool probe;  /* worker --probe: print what this host can enforce, exit */
    bool attack; /* worker --attack: run hostile programs here, exit */
};

/* Defaults. -ENOMEM. */
int settings_init(struct settings *s);
void settings_fini(struct settings *s);

/* Reads the environment rows of `who`. */
int settings_from_env(struct settings *s, enum settings_for who,
                      struct complaint *why);

/* The next variable of the environment that begins with CAPIBOX_ and is no
 * setting of any program. *at_io: 0 at first. False: no more. *why then says
 * its name (never its value) and the nearest setting's. */
bool settings_unknown_env(size_t *at_io, struct complaint *why);

/* Takes `--flag value`, `--flag=value` and boolean `--flag` rows of `who` out
 * of argv (compacting it; argv[0] and everything that is not a row stays, in
 * order; everything from "--" on stays). *argc_io is updated. A flag given
 * twice, without its value, or out of range is an error. */
int settings_from_args(struct settings *s, enum settings_for who, int *argc_io,
                       char **argv, struct complaint *why);

/* Checks what one row alone cannot (sums, files that go together). */
int settings_check(const struct settings *s, enum settings_for who,
                   struct complaint *why);

/* What backend e2b needs: a key of the right form, https URLs (http only to
 * this host: the key would be readable on the way), a readable CA file.
 * settings_check() asks for it when the backend is e2b. */
int settings_check_e2b(const struct settings *s, struct complaint *why);

/* Sandboxes at a time: the setting, else by backend (the cores this process may
 * use x 2 for local, 64 for e2b). */
int settings_concurrency(const struct settings *s);

/* The table as --help prints it: flag, environment, default, range, help. */
void settings_print(FILE *out, enum settings_for who);

/* The folder of templates: the setting, else templates/ beside the program's
 * bin/ folder (a checkout), else ../share/capibox/templates (installed).
 * Caller frees. -ENOENT if there is none. */
int settings_find_templates(const struct settings *s, char **dir_out);

/* Queue list syntax: `high,default,low` or `name*3,other*1` (all or none have
 * weights). Names: 1..64 of A-Za-z0-9._- */
int settings_parse_queues(struct settings *s, const char *text,
                          struct complaint *why);

#endif
