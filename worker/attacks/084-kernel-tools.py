# 084 tools that look into the kernel
# tries: 8
# verdict: ok
import errno
import os
from attack import ABSENT, REFUSED, fails, refused
NO = REFUSED + (errno.ENOSYS,)
for command in (0, 5, 18):
    refused("bpf %d" % command, NO, 321, command, b"\0" * 120, 120)
attributes = b"\1\0\0\0\x80" + b"\0" * 123
refused("perf_event_open", NO, 298, attributes, 0, -1, -1, 0)
refused("userfaultfd", NO, 323, 1)
refused("userfaultfd of the kernel", NO, 323, 0)
fails("/dev/userfaultfd", ABSENT, os.open, "/dev/userfaultfd", os.O_RDWR)
fails("/sys/kernel/debug", ABSENT, os.listdir, "/sys/kernel/debug")
refused("fanotify", NO, 300, 0, 0)
