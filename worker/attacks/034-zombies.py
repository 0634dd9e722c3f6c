# 034 dead children that nobody reaps
# limits: pids_limit=24
# tries: 2
# verdict: ok
import errno
import os
import time
from attack import check, in_child, until_refused


def child():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


hoard = until_refused("a hoard of them", (errno.EAGAIN,), 64, child)
for pid in hoard:
    os.waitpid(pid, 0)


def leave_orphan():
    if os.fork() == 0:
        os._exit(0)


orphans = 0
for i in range(60):
    orphans += in_child(leave_orphan) == 0
    time.sleep(.005)
check("orphans are reaped", orphans == 60, orphans)
