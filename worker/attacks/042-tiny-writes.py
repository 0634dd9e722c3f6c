# 042 millions of writes of one byte or none
# limits: timeout=0.8
# verdict: output_limit timeout
import os
while True:
    os.write(1, b"")
    os.write(1, b"x")
