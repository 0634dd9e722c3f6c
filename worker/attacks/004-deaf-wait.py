# 004 waiting with every signal blocked
# limits: timeout=0.5
# verdict: timeout
# stdout: before
import select
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
print("before")
select.select([], [], [])
