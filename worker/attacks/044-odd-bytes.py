# 044 bytes that are no text
# verdict: ok
# stdout: END
import os
os.write(1, b"\xc3\x28 \xff\xfe \xed\xa0\x80 \r \x1b[2J \x1b]0;x\x07 ")
print("\u2028 \u2029 \ufffe \U0010ffff \udcff", end=" ")
os.write(2, bytes(range(256)))
print("END", "\0")
