# 095 a core dump, and the program that gets it
# tries: 5
# verdict: ok
import os
import resource
from attack import check, in_child, syscall
try:
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
except (OSError, ValueError):
    pass
limits = resource.getrlimit(resource.RLIMIT_CORE)
check("the limit stays", max(limits) <= 1, limits)
syscall(157, 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
for number in (6, 11, 3):
    status = in_child(lambda: os.kill(os.getpid(), number))
    check("signal %d leaves none" % number,
          os.WIFSIGNALED(status) and not os.WCOREDUMP(status), status)
files = [n for n in os.listdir(".") + os.listdir("/tmp") if "core" in n]
check("no file of it", not files, files)
