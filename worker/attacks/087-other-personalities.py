# 087 memory that may be run, no random addresses, access to ports
# tries: 9
# verdict: ok
import errno
from attack import REFUSED, refused
NO = REFUSED + (errno.ENOSYS,)
for name, value in (("READ_IMPLIES_EXEC", 0x400000),
                    ("ADDR_NO_RANDOMIZE", 0x40000), ("both", 0x440000),
                    ("MMAP_PAGE_ZERO", 0x100000), ("PER_LINUX32", 8)):
    refused("personality " + name, NO, 135, value)
refused("modify_ldt", NO, 154, 1, b"\0" * 16, 16)
refused("iopl", NO, 172, 3)
refused("ioperm", NO, 173, 0, 1024, 1)
refused("PR_SET_MM", NO, 157, 35, 1, 0, 0, 0)
