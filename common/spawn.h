/* common/spawn.h -- runs a program and reads what it prints.
 *
 * Standard input is empty, standard error goes where `quiet` says, no signal is
 * blocked. A program that takes too long or prints too much is killed; it is
 * always reaped.
 *
 * Threads:  any.
 * Errors:   negated errno: could not start, -ETIMEDOUT, -EFBIG.
 */
#ifndef COMMON_SPAWN_H
#define COMMON_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* env: NULL-terminated; NULL: ours. *exit_out: its exit code, or 128 + signal.
 * Caller frees *text_out. */
int spawn_read(const char *const *argv, const char *const *env, bool quiet,
               size_t max_bytes, int64_t deadline_ms, char **text_out,
               int *exit_out);

#endif
