# 054 the end of the interpreter does not come: a hook
# limits: timeout=0.6
# verdict: timeout
# stdout: before
import sys
import time
sys.excepthook = lambda *ignored: time.sleep(60)
print("before")
raise ValueError
