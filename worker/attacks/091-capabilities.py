# 091 what is left of root's rights
# tries: 13
# verdict: ok
import ctypes
import errno
import os
from attack import REFUSED, check, libc, refused, syscall
NO = REFUSED + (errno.EINVAL, errno.ENOSYS)
head = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
syscall(125, head, sets)
check("capget: none", not any(sets), list(sets))
for which in range(3):
    wanted = (ctypes.c_uint32 * 6)()
    wanted[which] = 1 << 21
    refused("capset %d" % which, NO, 126, head, wanted)
refused("raising an ambient one", NO, 157, 47, 2, 21, 0, 0)
refused("changing the secure bits", NO, 157, 28, 0, 0, 0, 0)
refused("keeping them", NO, 157, 8, 1, 0, 0, 0)
left = [cap for cap in range(64) if syscall(157, 23, cap, 0, 0, 0)[0] == 1]
check("the bounding set is empty", not left, left)
check("no new privileges", syscall(157, 39, 0, 0, 0, 0)[0] == 1)
check("a filter is on", syscall(157, 21, 0, 0, 0, 0)[0] in (2, -1))
check("it cannot be dumped", syscall(157, 3, 0, 0, 0, 0)[0] in (0, 1))
refused("a filter that asks somebody", NO, 317, 1, 8, b"\0" * 16)
for call in (os.getuid, os.geteuid, os.getgid, os.getegid):
    check(call.__name__, call() == 1000, call())
