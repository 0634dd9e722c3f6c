# 052 ending early: os._exit(0)
# verdict: ok
# exit: 0
# stdout: before
import os
print("before")
os._exit(0)
