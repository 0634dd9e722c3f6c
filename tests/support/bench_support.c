#include "tests/support/bench_support.h"

#include <stdio.h>
#include <stdlib.h>

int bench_by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void bench_print(const char *bench, const char *figure, const char *unit,
                 double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), bench_by_size);
    printf("{\"bench\":\"%s\",\"figure\":\"%s\",\"unit\":\"%s\","
           "\"median\":%.3f,\"min\":%.3f,\"max\":%.3f,\"rounds\":%d}\n",
           bench, figure, unit, v[n / 2], v[0], v[n - 1], n);
    fflush(stdout);
}

int bench_from_env(const char *name, int otherwise, int most)
{
    const char *text = getenv(name);
    int n = text ? atoi(text) : otherwise;

    return n < 1 ? 1 : n > most ? most : n;
}
