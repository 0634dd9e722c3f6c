# 052 ending early: os.abort()
# verdict: signal
# signal: 6
# stdout: before
import os
print("before")
os.abort()
