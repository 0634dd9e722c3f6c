# 016 only a child grows, and its parent ends well
# limits: memory_limit_mb=64
# verdict: oom
# without-cgroup: ok user_error
# stdout: before
import os
print("before")
if os.fork() == 0:
    kept = []
    try:
        while True:
            kept.append(bytearray(1 << 20))
    except MemoryError:
        os._exit(1)
os.wait()
