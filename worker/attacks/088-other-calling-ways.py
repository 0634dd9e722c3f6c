# 088 system calls of 32 bits and of x32, past a filter of 64 bits
# tries: 6
# verdict: ok
import ctypes
import errno
import mmap
import os
import signal
from attack import check, in_child, libc, syscall
X32 = 0x40000000


def old_call(number):
    """int 0x80 in code of our own."""
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\xc3")
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    answer = ctypes.CFUNCTYPE(ctypes.c_long)(at)()
    os._exit(0 if answer == -errno.ENOSYS else 7)


def x32_call(number):
    answer, error = syscall(X32 | number, 0, 0, 0, 0)
    os._exit(0 if answer == -1 and error == errno.ENOSYS else 7)


for name, call, number in (("getpid by int 0x80", old_call, 20),
                           ("mount by int 0x80", old_call, 21),
                           ("socket by int 0x80", old_call, 359),
                           ("getpid of x32", x32_call, 39),
                           ("ptrace of x32", x32_call, 101),
                           ("mount of x32", x32_call, 165)):
    status = in_child(lambda: call(number))
    killed = os.WIFSIGNALED(status) and \
        os.WTERMSIG(status) in (signal.SIGSYS, signal.SIGSEGV)
    check(name, killed or status == 0, "wait status %d" % status)
