# 021 recursion without a limit
# limits: memory_limit_mb=64
# verdict: oom signal user_error
# stdout: before
import sys
sys.setrecursionlimit(10**9)
print("before")


def deeper():
    deeper()


deeper()
