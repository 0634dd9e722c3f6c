# 027 children that rewrite all they share with their parent
# limits: memory_limit_mb=96
# verdict: oom
# without-cgroup: none
import os
import time
shared = bytearray(b"x") * (40 << 20)
for i in range(4):
    if os.fork() == 0:
        for at in range(0, len(shared), 4096):
            shared[at] = 1
        time.sleep(3)
while True:
    os.wait()
