# 048 a flood on the pipe of the results
# limits: timeout=4
# within: 1
# verdict: output_limit timeout
# stdout: before
import os
print("before")
while True:
    os.write(3, b"x" * 65536)
