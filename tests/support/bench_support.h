/* tests/support/bench_support.h -- what the benches share: figures of several
 * rounds, printed as one JSON line each.
 */
#ifndef TESTS_SUPPORT_BENCH_SUPPORT_H
#define TESTS_SUPPORT_BENCH_SUPPORT_H

#define BENCH_ROUNDS_MAX 9

/* For qsort() over doubles. */
int bench_by_size(const void *a, const void *b);

/* Median, least and most of n rounds. Sorts v. */
void bench_print(const char *bench, const char *figure, const char *unit,
                 double *v, int n);

/* A whole number from the environment, 1..most. */
int bench_from_env(const char *name, int otherwise, int most);

#endif
