# 025 a million locks of one file
# limits: memory_limit_mb=48 timeout=1.5
# verdict: oom timeout user_error
# without-cgroup: timeout user_error
import fcntl
file = open("x", "w")
for i in range(10**6):
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * (10**6 - i))
raise SystemExit("all were given")
