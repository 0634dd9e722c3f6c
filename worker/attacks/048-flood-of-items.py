# 048 results without an end, each as it should be
# limits: timeout=2
# verdict: output_limit timeout
# stdout: before
import os
import struct
print("before")
body = b'{"text":"x"}'
many = (b"R" + struct.pack("<I", len(body)) + body) * 4096
while True:
    os.write(3, many)
