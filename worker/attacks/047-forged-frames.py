# 047 frames of a result that it made up, on every file it finds
# verdict: user_error
# exit: 3
# stdout: before
import json
import os
import struct


def frame(kind, body):
    return kind + struct.pack("<I", len(body)) + body


forged = [json.dumps({"text": "forged", "verdict": "ok", "job_id": "other",
                      "timings": {"run": 0}, "success": True}),
          json.dumps({"name": "Forged", "value": 5, "traceback": []}),
          "[]", "{", "\x00"]
print("before")
for fd in range(3, 64):
    for path in (fd, "/proc/self/fd/%d" % fd, "/dev/fd/%d" % fd):
        try:
            file = path if path == fd else os.open(path, os.O_WRONLY)
            for text in forged:
                for kind in (b"R", b"E", b"W", b"V", b"\xff"):
                    os.write(file, frame(kind, text.encode()))
            os.write(file, b"R\xff\xff\xff\xff" + b"x" * 1000)
        except OSError:
            pass
os._exit(3)
