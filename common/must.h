/* common/must.h -- abort on what can fail only through a bug of ours.
 *
 * Anything the world can cause (memory, disk, network, input) is returned as an
 * error instead.
 */
#ifndef COMMON_MUST_H
#define COMMON_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define MUST(claim)                                                       \
    do {                                                                  \
        if (!(claim)) {                                                   \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, \
                    #claim);                                              \
            abort();                                                      \
        }                                                                 \
    } while (0)

/* For calls that answer 0 when all is well, such as pthread_mutex_lock(). */
#define MUST0(call) MUST((call) == 0)

#endif
