# 036 more of the processor than others get
# tries: 7
# verdict: ok
import ctypes
import errno
import os
from attack import REFUSED, fails, held, refused
parameter = ctypes.c_int(50)
for policy in (1, 2):  # SCHED_FIFO, SCHED_RR
    refused("policy %d" % policy, REFUSED, 144, 0, policy,
            ctypes.byref(parameter))
deadline = (ctypes.c_ulong * 6)(48 | 6 << 32, 0, 0, 10**6, 10**7, 10**7)
refused("SCHED_DEADLINE", REFUSED + (errno.EINVAL,), 314, 0, deadline, 0)
refused("real-time disk priority", REFUSED, 251, 1, 0, 1 << 13)
fails("nice -20", REFUSED, os.nice, -20)
fails("init's priority", REFUSED, os.setpriority, os.PRIO_PROCESS, 1, -20)
try:
    os.sched_setaffinity(0, range(4096))
except OSError:
    pass
held("all processors: the quota stays")
