# 011 a parent that waits uninterruptibly for its child
# limits: timeout=0.5
# verdict: timeout
# stdout: before
import signal
from attack import syscall
CLONE, CLONE_VFORK = 56, 0x4000
print("before")
if syscall(CLONE, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0)[0] == 0:
    signal.pause()
