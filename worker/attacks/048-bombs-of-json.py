# 048 results too deep, too many, too odd
# verdict: ok
# stdout: END
import os
import struct
bombs = [b'{"json":' + b"[" * 100000 + b"]" * 100000 + b"}",
         b'{"json":{"' + b"k" * 1000000 + b'":1}}',
         b'{"text":"a","text":"b","text":"c"}',
         b'{"json":[NaN,Infinity,-Infinity,1e999]}',
         b'{"png":"' + b"=" * 100000 + b'"}',
         b'{"text":"\xff\xfe"}', b'{"text":"\\u0000\\ud800"}', b"", b"null"]
bombs += [b'{"text":"x"}'] * 3000
for fd in range(3, 64):
    try:
        for body in bombs:
            body = b"R" + struct.pack("<I", len(body)) + body
            while body:
                body = body[os.write(fd, body):]
    except OSError:
        pass
print("END")
