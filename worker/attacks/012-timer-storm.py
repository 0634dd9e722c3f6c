# 012 a timer of a microsecond
# limits: timeout=0.6
# verdict: timeout
# stdout: before
import signal
import time
signal.signal(signal.SIGALRM, lambda *ignored: None)
signal.signal(signal.SIGPROF, lambda *ignored: None)
print("before")
signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
signal.setitimer(signal.ITIMER_PROF, 1e-6, 1e-6)
while True:
    time.sleep(1)
