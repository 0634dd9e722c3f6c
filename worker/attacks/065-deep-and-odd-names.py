# 065 a thousand folders deep, names that are no text
# limits: output_limit_kb=64
# output: **
# output: **/*
# within: 5
# verdict: ok
# stdout: END
import os
for name in (b"\xc3\x28", b"new\nline", b"\x1b[2J", b"a" * 255, b"dot.", b" ",
             b"-rf", b"..."):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
for i in range(1000):
    try:
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    except OSError:
        break
os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY))
print("END")
