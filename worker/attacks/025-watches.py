# 025 hundreds of thousands of watched files
# limits: memory_limit_mb=32 timeout=8
# verdict: oom user_error
# without-cgroup: ok user_error
import os
import select
ends = [os.eventfd(0) for i in range(500)] if hasattr(os, "eventfd") else \
    [end for i in range(250) for end in os.pipe()]
kept = []
for i in range(500):
    kept.append(select.epoll())
    for end in ends:
        kept[-1].register(end)
