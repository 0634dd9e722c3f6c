# 054 the end of the interpreter does not come: atexit
# limits: timeout=0.6
# verdict: timeout
# stdout: before
import atexit
import time
atexit.register(time.sleep, 60)
print("before")
