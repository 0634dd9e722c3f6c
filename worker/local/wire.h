/* worker/local/wire.h -- what worker and sandboxd say to each other.
 *
 * sandboxd (worker/sandboxd/) is the process that makes, watches and ends local
 * sandboxes. It has no Redis, no secrets, and parses no JSON.
 *
 * One SOCK_SEQPACKET pair is the control socket: over it the worker passes, per
 * job, one end of a new SOCK_SEQPACKET pair (the job socket) with WIRE_CREATE;
 * WIRE_WARM, which names a kind of sandbox to hold ready from now on; and
 * WIRE_POOL {most}, how many of a kind may wait.
 * All else about a job goes over its job socket:
 *
 *   worker                          sandboxd
 *   CREATE {spec}, fds: input  ->                    (on the job socket)
 *                              <-   CREATED {…}, fds: stdin, stdout, stderr,
 *                                   result, home     or FAILED {step, errno}
 *   RUN                        ->                    the clock starts
 *   KILL {reason}              ->                    any time
 *                              <-   ENDED {facts}    every process is gone
 *   DESTROY                    ->                    any time
 *                              <-   GONE {leftovers} cgroups, mounts removed
 *
 * Before CREATED, DESTROY withdraws the request, and GONE waits for nobody but
 * the sandbox's own processes: where a spawner or zygote owes an answer about
 * it, nothing of the job is in it, and what they still make is killed.
 *
 * End of file on a job socket kills and removes that sandbox; end of file on
 * the control socket does so for all, and ends sandboxd. So no crash of the
 * worker leaves a sandbox behind.
 *
 * Messages are the structs below, one per packet, host byte order (both ends
 * are of one build), sizes checked on receipt.
 *
 * input is a sealed memfd the worker wrote:
 *   u32 count, then per file: u32 path_len, u32 data_len, path, data.
 * The sandbox's own init writes them out, inside the sandbox. Path prefixes:
 *   "home/…"  below /home/user          (the job's files)
 *   "job/…"   below /run/capibox        (the code: read-only for it)
 * Standard input is not in there: the worker writes it to the stdin pipe.
 */
#ifndef WORKER_LOCAL_WIRE_H
#define WORKER_LOCAL_WIRE_H

#include <stdint.h>

#define WIRE_STRINGS_MAX (160u << 10) /* argv + env of one sandbox */
#define WIRE_ARGV_MAX    256
#define WIRE_INPUT_MAX   (24u << 20)
#define WIRE_PRELOAD_MAX 32  /* modules of a zygote */
#define WIRE_FLOOR_MAX   512 /* sandboxes held ready of one kind */
#define WIRE_CACHES      "/tmp/.capibox-cache" /* where packages keep files */

enum wire_kind {
    WIRE_CREATE = 1,
    WIRE_CREATED,
    WIRE_FAILED,
    WIRE_RUN,
    WIRE_KILL,
    WIRE_ENDED,
    WIRE_DESTROY,
    WIRE_GONE,
    WIRE_WARM,
    WIRE_POOL,
};

enum wire_reason { /* why it was killed; first one wins */
                   WIRE_NOT_KILLED,
                   WIRE_TIMEOUT,
                   WIRE_OOM, /* the cgroup's oom counter, or sampled without one
                              */
                   WIRE_OUTPUT,  /* worker: output past the hard cap */
                   WIRE_CANCEL,  /* worker: the job was cancelled */
                   WIRE_ABANDON, /* worker no longer holds the job */
                   WIRE_LOST,    /* by somebody else, and its status with it */
};

struct wire_create {
    uint32_t kind;
    int64_t timeout_ms;
    int64_t memory_bytes;
    int64_t disk_bytes, disk_inodes;
    int32_t cpu_percent, pids;
    int32_t warm; /* 1: from a zygote of argv[0] with these modules, if any */
    /* NUL-terminated strings follow: argv, env, the zygote's modules. */
    uint32_t argc, envc, preloads;
    uint32_t strings_bytes;
};

/* On the control socket. Its strings: the interpreter, then the modules. */
struct wire_warm {
    uint32_t kind;
    int32_t warm;  /* as in wire_create */
    int32_t floor; /* sandboxes to hold ready, at least */
    uint32_t preloads;
    uint32_t strings_bytes;
};

struct wire_enforced {
    char timeout[96], memory[96], cpu[96], pids[96], disk[96], network[96];
};

enum wire_start {               /* where the program came from */
                  WIRE_COLD,    /* made for this job, starts by exec */
                  WIRE_WARMED,  /* made for this job, forked from a zygote */
                  WIRE_WAITING, /* made before, cold */
                  WIRE_WAITING_WARMED,
};

struct wire_created {
    uint32_t kind;
    char sandbox_id[64];
    struct wire_enforced enforced;
    int32_t start;               /* enum wire_start */
    int64_t shared_memory_bytes; /* of its zygote; 0: cold */
    char zygote_trouble[160];    /* why it is cold though asked for warm */
};

struct wire_failed {
    uint32_t kind;
    int32_t error;  /* errno */
    char step[160]; /* "write memory.limit_in_bytes" … for people */
};

struct wire_word { /* RUN, DESTROY; KILL with its reason, POOL with its most */
    uint32_t kind;
    int32_t reason;
};

struct wire_ended {
    uint32_t kind;
    int32_t reason;       /* enum wire_reason */
    int32_t exit_code;    /* -1: did not exit */
    int32_t signal;       /* 0: none */
    int32_t exec_error;   /* errno of a failed exec of the interpreter, or 0 */
    int64_t oom_kills;    /* the kernel's counter for this sandbox */
    int64_t pids_refused; /* forks refused at the cap */
    int32_t disk_full;    /* its file system had no blocks or inodes left */
    int64_t cpu_us;
    int64_t peak_memory_bytes; /* cgroup peak: private growth + its files */
    int32_t peak_processes;    /* 0: not measured */
    int64_t run_us;            /* from RUN to the last process gone */
    int64_t switches;          /* context switches of what was waited for */
};

struct wire_gone {
    uint32_t kind;
    int32_t
        leftovers; /* what could not be removed: 0 is the only good answer */
};

/* Frames on the result pipe: written by code we do not trust.
 *   u8 type, u32 length (little endian), payload
 * The driver (worker/runtime/) writes them; the user's code can, too. */
#define RESULT_FRAME_ITEM    'R' /* JSON object of MIME forms */
#define RESULT_FRAME_ERROR   'E' /* JSON {"name","value","traceback"} */
#define RESULT_FRAME_WARNING 'W' /* UTF-8 text */

#endif
