# 032 killing every process in sight
# tries: 4
# verdict: ok
import os
import signal
import time
from attack import check, held
for pid in (1, os.getppid()):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        try:
            os.kill(pid, number)
        except OSError:
            pass
    held("signals to %d" % (pid == 1))
victim = os.fork()
if victim == 0:
    time.sleep(30)
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
held("signals to all")
status = os.waitpid(victim, 0)[1]
check("only its own child died", os.WTERMSIG(status) == signal.SIGKILL, status)
