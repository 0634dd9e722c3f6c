# 056 typing into the terminal of whoever started the worker
# tries: 20
# verdict: ok
import errno
import os
from attack import fails, refused
GONE = (errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENODEV)
for name in ("tty", "ptmx", "console", "tty0", "vcs", "pts/0", "pts/ptmx"):
    fails("/dev/" + name, GONE, os.open, "/dev/" + name, os.O_RDWR)
calls = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "TIOCSETD": 0x5423,
         "TIOCSCTTY": 0x540E}
for name, number in calls.items():
    for fd in range(3):
        refused("%s on %d" % (name, fd), (errno.EPERM,), 16, fd, number,
                b"\x02x")
    refused(name + " with a high bit", (errno.EPERM,), 16, 0,
            1 << 32 | number, b"\x02x")
