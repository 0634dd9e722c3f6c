# 055 reading standard input when there is none
# limits: timeout=5
# within: 1
# tries: 2
# verdict: ok
import os
import sys
from attack import check
check("its end comes at once", os.read(0, 1) == b"")
check("also for Python", sys.stdin.read() == "")
