# 020 memory in a file without a name
# limits: memory_limit_mb=64
# verdict: oom
# without-cgroup: none
import os
file = os.memfd_create("x")
for i in range(512):
    os.write(file, bytes(1 << 20))
