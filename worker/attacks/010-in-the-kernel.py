# 010 calls that stay in the kernel for long
# limits: timeout=0.6
# verdict: timeout
# stdout: before
import os
os.mkfifo("fifo")
if os.fork() == 0:
    while True:
        os.getrandom(1 << 25)
if os.fork() == 0:
    while True:
        bytearray(1 << 24)
print("before")
open("fifo").read()
