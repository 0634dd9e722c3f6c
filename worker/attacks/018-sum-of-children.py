# 018 children that are each below the limit
# limits: memory_limit_mb=64
# verdict: oom
# without-cgroup: none
import os
import time
for i in range(6):
    if os.fork() == 0:
        kept = bytearray(b"x") * (24 << 20)
        time.sleep(3)
while True:
    os.wait()
