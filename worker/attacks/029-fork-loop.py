# 029 forking without an end
# limits: pids_limit=16 memory_limit_mb=384
# verdict: pids_limit
# without-cgroup: user_error pids_limit
import os
while True:
    os.fork()
