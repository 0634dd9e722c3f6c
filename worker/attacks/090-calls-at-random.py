# 090 any system call with any arguments
# limits: timeout=8 pids_limit=32
# verdict: user_error oom pids_limit disk_limit output_limit signal
import ctypes
import os
import random
import signal
import time
libc = ctypes.CDLL(None)
end = time.monotonic() + 1.5
# Not what ends or stops the loop: exits, waits, kills.
left_out = {15, 34, 60, 61, 62, 128, 129, 130, 200, 231, 234, 247, 297, 424}
memory = ctypes.create_string_buffer(8192)
at = ctypes.addressof(memory)


def argument():
    return random.choice((random.randrange(8), at, -1, random.getrandbits(32),
                          random.getrandbits(64), 1 << random.randrange(64)))


def child():
    signal.alarm(1)
    random.seed(os.urandom(8))
    while True:
        number = random.randrange(600)
        if number not in left_out:
            libc.syscall(ctypes.c_long(number), *[
                ctypes.c_ulong(argument() % 2**64) for i in range(6)])


while time.monotonic() < end:
    try:
        if os.fork() == 0:
            child()
    except OSError:
        pass
    time.sleep(.02)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
os._exit(7)
