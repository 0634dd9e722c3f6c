/* common/limits.h -- every bound on what comes from outside, with its name.
 *
 * Bounds that an operator may move are settings (settings.h); these are part of
 * the contract or protect the process itself.
 */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

/* A job (contract section 3). */
#define JOB_BYTES_MAX        (4u << 20) /* as a client has it */
#define JOB_ADDED_BYTES_MAX  256 /* by a producer: id, tenant, batch id… */
#define JOB_TEXT_BYTES_MAX   (JOB_BYTES_MAX + JOB_ADDED_BYTES_MAX)
#define JOB_CODE_BYTES_MAX   (1u << 20)
#define JOB_CODE_KEPT_MAX    (16u << 10) /* larger code is not in its hash */
#define JOB_ID_MAX           64
#define JOB_FILES_MAX        64
#define JOB_FILES_BYTES_MAX  (8u << 20) /* after base64 */
#define JOB_PATH_MAX         255        /* bytes of one relative path */
#define JOB_OUTPUT_GLOBS_MAX 64
#define JOB_ENV_MAX          128
#define JOB_ENV_BYTES_MAX    (64u << 10)
#define JOB_ARGS_MAX         128
#define JOB_ARGS_BYTES_MAX   (64u << 10)
#define JOB_PACKAGES_MAX     64
#define TEMPLATE_PRELOAD_MAX 32 /* modules; WIRE_PRELOAD_MAX */
#define JOB_WARNINGS_MAX     32
#define JOB_URL_MAX          2048
#define JOB_NAME_MAX         64 /* template, tenant, batch id, queue name… */
#define JOB_ATTEMPTS_MAX     10
#define JOB_ATTEMPTS_DEFAULT 3
#define JOB_DELAY_S_MAX      (30.0 * 86400)
#define JSON_DEPTH_MAX       64 /* nesting of any JSON we read */

/* Template files (contract section 6). */
#define TEMPLATES_MAX           256
#define TEMPLATE_BYTES_MAX      (64u << 10)
#define TEMPLATE_TEXT_MAX       1024 /* name, description, interpreter path */
#define TEMPLATE_TASK_TYPES_MAX 64
#define TEMPLATE_VARIANTS_MAX   16  /* sizes on E2B */
#define IMPORTS_MAX             128 /* different modules noted of one code */

/* What one run may hand back. */
#define RESULT_ITEMS_MAX       256
#define RESULT_BYTES_MAX       (16u << 20) /* all rich results, as JSON */
#define RESULT_FILES_MAX       128
#define RESULT_FILES_BYTES_MAX (16u << 20) /* all files, before base64 */
#define ERROR_TEXT_MAX         4096        /* bytes of a short error message */
#define TRACEBACK_BYTES_MAX    (64u << 10)

/* Delivery. */
#define QUEUE_NAMES_MAX 16
#define WORKER_ID_MAX   48
#define FLEET_ID_MAX    32 /* names all workers of one Redis */
#define TOKEN_MAX       (WORKER_ID_MAX + 16 + JOB_NAME_MAX)
#define CLAIM_MAX       128 /* jobs one exchange may claim */
#define FINISH_MAX      128 /* jobs one exchange may finish */
#define DELIVERIES_MAX  20  /* claims of one job before it is `lost` */
#define DEAD_LIST_MAX   10000
#define TOMBSTONES_MAX  10000 /* cancels remembered; the oldest go first */

#endif
