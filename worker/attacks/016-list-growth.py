# 016 a list that grows
# limits: memory_limit_mb=64
# verdict: oom
# without-cgroup: user_error
# stdout: before
print("before")
kept = []
while True:
    kept.append(bytearray(1 << 20))
