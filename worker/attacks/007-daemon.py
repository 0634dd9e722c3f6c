# 007 a daemon that outlives the job
# limits: timeout=20
# within: 2
# verdict: ok
# stdout: END
import os
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 1024)
        time.sleep(1000)
    os._exit(0)
os.wait()
print("END")
