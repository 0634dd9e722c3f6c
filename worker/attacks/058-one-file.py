# 058 filling the disk, in every way, and going on
# tries: 5
# verdict: ok
import errno
import os
import signal
from attack import check, fails
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def fill():
    with open("big", "wb", buffering=0) as file:
        while True:
            if file.write(bytes(1 << 20)) < 1 << 20:
                raise OSError(errno.ENOSPC, "")


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fails("one file", FULL, fill)
size = sum(os.stat(n).st_blocks * 512 for n in os.listdir("."))
check("not more than allowed", size <= 16 << 20, size)
os.remove("big")
file = os.open("sparse", os.O_RDWR | os.O_CREAT)
fails("fallocate", FULL, os.posix_fallocate, file, 0, 100 << 30)
os.close(file)
os.remove("sparse")
total = 0
try:
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/home/user"):
        for i in range(64):
            total += open("%s/capibox-attack-%d" % (folder, i), "wb",
                          buffering=0).write(bytes(1 << 19))
except OSError:
    pass
check("all folders together", total <= 16 << 20, total)
check("no other place to write", not any(
    os.access(path, os.W_OK) for path in
    ("/", "/run", "/run/lock", "/var", "/opt", "/run/capibox", "/home")))
