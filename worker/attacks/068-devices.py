# 068 devices: made, opened, mounted
# tries: 19
# verdict: ok
import errno
import os
import stat
from attack import ABSENT, REFUSED, fails, refused
for name, kind, major, minor in (("whiteout", stat.S_IFCHR, 0, 0),
                                 ("memory", stat.S_IFCHR, 1, 1),
                                 ("null", stat.S_IFCHR, 1, 3),
                                 ("disk", stat.S_IFBLK, 8, 0),
                                 ("loop", stat.S_IFBLK, 7, 0)):
    device = os.makedev(major, minor)
    refused("mknod " + name, REFUSED, 133, b"x", kind | 0o666, device)
    refused("mknod %s with a high bit" % name, REFUSED, 133, b"x",
            1 << 16 | kind | 0o666, device)
    refused("mknodat " + name, REFUSED, 259, -100, b"x", kind | 0o666, device)
for name in ("mem", "kmsg", "loop-control", "sda", "fuse", "kvm",
             "mapper/control", "port", "nvram", "uinput", "hwrng"):
    fails("/dev/" + name, REFUSED + ABSENT, os.open, "/dev/" + name,
          os.O_RDONLY)
refused("mount --bind", REFUSED, 165, b"/usr", b"/tmp", 0, 4096, 0)
