# 021 recursion until the stack of C ends
# limits: memory_limit_mb=256
# verdict: signal
# signal: 11
# stdout: before
import sys
sys.setrecursionlimit(10**9)


class Endless:
    def __repr__(self):
        return repr(self)


print("before")
repr(Endless())
