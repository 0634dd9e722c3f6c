# 083 io_uring, which no filter of calls sees
# tries: 3
# verdict: ok
import errno
from attack import refused
for name, number in (("setup", 425), ("enter", 426), ("register", 427)):
    refused("io_uring_" + name, (errno.ENOSYS,), number, 8, b"\0" * 120, 0, 0)
