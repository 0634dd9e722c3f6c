# 020 memory shared with nobody
# limits: memory_limit_mb=64
# verdict: oom
# without-cgroup: none
import mmap
kept = [mmap.mmap(-1, 1 << 20) for i in range(512)]
for one in kept:
    one.write(bytes(1 << 20))
