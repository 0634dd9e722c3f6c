# 093 files that somebody forgot to close
# tries: 2
# verdict: ok
import os
import stat
from attack import check
found = {}
for fd in range(4096):
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        continue
    found[fd] = ("pipe" if stat.S_ISFIFO(mode) else
                 "device" if stat.S_ISCHR(mode) else oct(mode))
check("at most four", set(found) <= {0, 1, 2, 3}, found)
check("pipes only", set(found.values()) <= {"pipe", "device"}, found)
