# 025 attributes of files, without an end
# limits: memory_limit_mb=64
# tries: 2
# verdict: ok
import errno
import os
from attack import until_refused
count = iter(range(10**7))
FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOTSUP, errno.E2BIG, errno.EPERM)
open("one", "w").close()
until_refused("of one file", FULL, 10**5,
              lambda: os.setxattr("one", "user.%d" % next(count), b"x" * 4096))
until_refused("of a folder", FULL, 10**5,
              lambda: os.setxattr(".", "user.%d" % next(count), b"x" * 60000))
