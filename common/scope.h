/* common/scope.h -- local resources let go by scope.
 *
 *   AUTO_FD int fd = open(...);     closed at the end of the scope, if >= 0
 *   AUTO_FREE char *text = ...;     freed at the end of the scope
 *   *out = TAKE(text);              hands it over: the local becomes NULL
 *   return TAKE_FD(fd);             hands it over: the local becomes -1
 *
 * Closing keeps errno, so `return -errno` after a failed call stays true.
 */
#ifndef COMMON_SCOPE_H
#define COMMON_SCOPE_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void scope_close(const int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    errno = saved;
}

static inline void scope_free(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}

#define AUTO_FD   __attribute__((cleanup(scope_close)))
#define AUTO_FREE __attribute__((cleanup(scope_free)))

#define TAKE(pointer)                         \
    __extension__({                           \
        __typeof__(pointer) took = (pointer); \
        (pointer) = NULL;                     \
        took;                                 \
    })

#define TAKE_FD(fd)         \
    __extension__({         \
        int took_fd = (fd); \
        (fd) = -1;          \
        took_fd;            \
    })

#endif
