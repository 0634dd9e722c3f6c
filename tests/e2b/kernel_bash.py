"""The bash kernel of the interpreter's double: one bash, cell after cell.

Speaks kernel_python.py's frames over descriptor 3 for a bash whose output goes
to our own descriptors 1 and 2, which the double reads itself.
"""
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys

HEAD = struct.Struct("<cI")
link = socket.socket(fileno=3)


def send(kind: bytes, payload: bytes) -> None:
    link.sendall(HEAD.pack(kind, len(payload)) + payload)


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done_read, done_write = os.pipe()
    os.set_inheritable(done_write, True)
    # It has to survive the interrupt that ends a command of it.
    bash = subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile"], stdin=subprocess.PIPE,
        pass_fds=[done_write],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert bash.stdin
    bash.stdin.write(b"trap : INT\n")
    os.close(done_write)
    while True:
        _kind, size = HEAD.unpack(read(HEAD.size))
        cell = json.loads(read(size))
        send(b"C", b"%d" % cell["count"])
        bash.stdin.write(("eval %s </dev/null %d>&-\necho >&%d\n" % (
            shlex.quote(cell["code"]), done_write, done_write)).encode())
        bash.stdin.flush()
        if not os.read(done_read, 1):
            sys.exit(1)  # `exit`: the kernel is gone with it
        send(b"D", b"")


main()
