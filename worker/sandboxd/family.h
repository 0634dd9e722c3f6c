/* worker/sandboxd/family.h -- what sandboxd and its own processes say to each
 * other.
 *
 *   sandboxd ── spawner   one per interpreter tree: has the sandboxes' root,
 *      │                  clones their inits and the zygotes
 *      ├─────── zygote    a warmed interpreter: forks programs into sandboxes
 *      ├─────── init      PID 1 of each sandbox
 *      └─────── program   the user's, the init's child; cold (it execs) or warm
 *                         (a fork of the zygote, which runs on)
 *
 * All are SOCK_SEQPACKET pairs, one struct per packet, sizes checked; end of
 * file means: die. Spawners, zygotes and inits are children of sandboxd.
 *
 * Making a sandbox:
 *   sandboxd -> spawner   SPAWN_INIT, fds        spawner -> sandboxd  answer
 *   sandboxd -> init      LEASH_GO               ids and cgroups are set
 *   init -> sandboxd      LEASH_READY, home fd
 *   sandboxd -> zygote    join, fds              zygote -> sandboxd   answer
 *   program -> sandboxd   PROGRAM_READY          it waits, confined
 * Running a job in it:
 *   sandboxd -> init      LEASH_PREPARE, files   init -> sandboxd  PREPARED
 *   sandboxd -> program   PROGRAM_START          sandboxd -> init  RUN
 *   init -> sandboxd      LEASH_EXITED
 */
#ifndef WORKER_SANDBOXD_FAMILY_H
#define WORKER_SANDBOXD_FAMILY_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/local/wire.h"
#include "worker/sandboxd/step.h"

#define FAMILY_FD     3 /* the socket, in spawner and zygote */
#define SANDBOX_UID   1000
#define SANDBOX_PIPES 4 /* stdin, stdout, stderr, result */

/* ---- spawner ----------------------------------------------------------- */

enum spawn_kind { SPAWN_SETUP = 1, SPAWN_INIT, SPAWN_ZYGOTE };

/* The first message. zygote_lib is "": no zygotes. */
struct spawn_setup {
    uint32_t kind;
    int32_t ids_are_root; /* one host id per slot */
    char interpreter[PATH_MAX], runtime[PATH_MAX], zygote_lib[PATH_MAX];
};

/* SPAWN_INIT fds: leash, then for cold ones: program socket, pipes.
 * SPAWN_ZYGOTE fd: its socket; NUL-terminated module names follow. */
struct spawn_request {
    uint32_t kind;
    int32_t slot;
    uint64_t token;
    int32_t cold;
    char interpreter[PATH_MAX]; /* of a zygote */
};

#define SPAWN_INIT_FDS (2 + SANDBOX_PIPES)

/* Of spawner and zygote, to each request; to SETUP and from a zygote that is
 * warm with token 0. */
struct spawn_answer {
    uint64_t token;
    int32_t pid; /* an init's or zygote's: a child of sandboxd, not reaped yet;
                    0 of a program; -1: see why */
    struct step why;
};

/* ---- zygote ------------------------------------------------------------ */

/* fds: pidfd of the init, program socket, pipes, then the cgroups' procs files
 * (at most JOIN_CGROUPS_MAX). */
struct join_request {
    uint64_t token;
};

#define JOIN_CGROUPS_MAX 4
#define JOIN_FDS         (2 + SANDBOX_PIPES)

/* ---- init -------------------------------------------------------------- */

enum leash_kind {
    LEASH_GO = 1,
    LEASH_READY, /* + fd of the home folder */
    LEASH_FAILED,
    LEASH_PREPARE, /* + fd of the job's files */
    LEASH_PREPARED,
    LEASH_RUN,
    LEASH_EXITED,
};

struct leash_message {
    uint32_t kind;
    struct step step; /* FAILED */
    bool alone;       /* EXITED: nothing but the init is left */
    int64_t cpu_us, peak_bytes, switches; /* EXITED: of all it waited for */
    int32_t status;                       /* EXITED: as of wait() */
    int32_t program;                      /* PREPARE: its pid inside */
    int64_t disk_bytes, disk_inodes;      /* PREPARE */
    int64_t backstop_ms; /* PREPARE, RUN: it ends by itself then */
};

/* ---- program ----------------------------------------------------------- */

enum program_kind { PROGRAM_READY = 1, PROGRAM_FAILED, PROGRAM_START };

/* READY; FAILED also when the exec fails. */
struct program_word {
    uint32_t kind;
    int32_t pid; /* READY: inside */
    struct step why;
};

#define PROGRAM_MEMORY_IN_CGROUP 1u
#define PROGRAM_PIDS_IN_CGROUP   2u

/* PROGRAM_START; the message of the worker follows: struct wire_create and its
 * strings. */
struct program_start {
    uint32_t kind;
    uint32_t flags;
};

#endif
