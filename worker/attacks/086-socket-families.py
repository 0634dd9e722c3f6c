# 086 sockets of families that few need and few have checked
# tries: 94
# verdict: ok
import errno
from attack import refused
FAMILY = (errno.EAFNOSUPPORT,)
for family in [0] + list(range(3, 10)) + list(range(11, 47)):
    for kind in (1, 3):
        refused("family %d, kind %d" % (family, kind), FAMILY, 41, family,
                kind, 0)
for family in (16, 17, 38, 40):
    refused("family %d with a high bit" % family, FAMILY, 41, 1 << 32 | family,
            3, 0)
refused("family -1", FAMILY, 41, -1, 1, 0)
refused("a pair of netlink", FAMILY + (errno.ENOSYS, errno.EPERM), 53, 16, 3,
        0, b"\0" * 8)
