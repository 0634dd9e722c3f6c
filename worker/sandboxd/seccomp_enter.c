#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/sandboxd/seccomp.h"

/* Apart from seccomp.c, as a zygote loads a filter without libseccomp. */
int seccomp_enter(const struct sock_fprog *program, struct step *why)
{
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0)
        return step_failed(why, errno, "load the seccomp filter");
    return 0;
}
