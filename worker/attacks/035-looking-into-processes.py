# 035 reading and steering other processes
# tries: 19
# verdict: ok
import ctypes
import errno
import os
import signal
from attack import ABSENT, REFUSED, fails, refused, syscall
TRACEME, ATTACH, SEIZE = 0, 16, 0x4206
child = os.fork()
if child == 0:
    signal.pause()
parent = os.getppid()
refused("ptrace traceme", REFUSED, 101, TRACEME, 0, 0, 0)
for pid in (1, parent, child):
    refused("ptrace attach", REFUSED, 101, ATTACH, pid, 0, 0)
refused("ptrace seize", REFUSED, 101, SEIZE, child, 0, 0)
buffer = ctypes.create_string_buffer(64)
vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 64)
for pid in (1, child):
    refused("process_vm_readv", REFUSED, 310, pid, vector, 1, vector, 1, 0)
    refused("process_vm_writev", REFUSED, 311, pid, vector, 1, vector, 1, 0)
refused("kcmp", REFUSED, 312, os.getpid(), 1, 0, 0, 0)
refused("process_madvise", REFUSED, 440, 0, vector, 1, 4, 0)
pidfd = syscall(434, 1, 0)[0]
refused("pidfd_getfd", REFUSED + (errno.EBADF,), 438, pidfd, 0, 0)
refused("allowing a tracer", REFUSED, 157, 0x59616d61, 2**64 - 1, 0, 0, 0)
refused("limits of init", REFUSED, 302, 1, 7, 0, buffer)
for name in ("mem", "maps", "environ", "fd/0", "root", "cwd"):
    fails("/proc/1/" + name, REFUSED + ABSENT, os.open, "/proc/1/" + name,
          os.O_RDONLY)
os.kill(child, signal.SIGKILL)
