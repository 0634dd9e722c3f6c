# 003 it stops itself and its children
# limits: timeout=0.5
# verdict: timeout
# stdout: before
import os
import signal
for i in range(3):
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
print("before")
os.kill(0, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
