# 074 watching what other jobs open
# tries: 6
# verdict: ok
import errno
import fcntl
import os
from attack import REFUSED, fails, refused
NOT_THERE = REFUSED + (errno.ENOSYS,)
refused("inotify_init", NOT_THERE, 253)
refused("inotify_init1", NOT_THERE, 294, 0)
refused("fanotify_init", NOT_THERE, 300, 0, 0)
refused("fanotify_init of a user", NOT_THERE, 300, 0x200, 0)
folder = os.open("/usr/lib", os.O_RDONLY)
refused("F_NOTIFY", NOT_THERE, 72, folder, 1026, 0x3f)
file = os.open("/etc/passwd", os.O_RDONLY)
refused("F_SETLEASE", NOT_THERE, 72, file, 1024, fcntl.F_RDLCK)
refused("F_SETLEASE with a high bit", NOT_THERE, 72, file, 1 << 32 | 1024, 0)
