# 041 a flood of output
# verdict: output_limit
# stdout: xxxx
import os
while True:
    os.write(1, b"x" * 65536)
