# 078 namespaces of its own, in which it would be root
# tries: 30
# verdict: ok
import errno
import os
from attack import REFUSED, refused
flags = {"time": 0x80, "mnt": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000,
         "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
         "net": 0x40000000}
NO = REFUSED + (errno.ENOSYS,)
SIGCHLD = 17
for name, flag in flags.items():
    refused("unshare " + name, NO, 272, flag)
    refused("setns " + name, NO, 308, 0, flag)
    if name == "time":
        continue  # in clone it is the signal's number
    refused("clone " + name, NO, 56, flag | SIGCHLD, 0, 0, 0, 0)
    refused("clone %s with a high bit" % name, NO, 56,
            1 << 33 | flag | SIGCHLD, 0, 0, 0, 0)
refused("unshare all", NO, 272, sum(flags.values()))
refused("clone3", (errno.ENOSYS,), 435, 0, 88)
