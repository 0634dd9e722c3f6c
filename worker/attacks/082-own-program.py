# 082 overwriting the program that runs it
# tries: 7
# verdict: ok
import errno
import os
from attack import ABSENT, SEALED, fails, not_applicable
if not os.path.exists("/proc/self/exe"):
    not_applicable("sandboxes have no /proc here")
NO = SEALED + ABSENT + (errno.ETXTBSY, errno.ELOOP)
for path in ("/proc/self/exe", "/proc/1/exe", "/proc/self/map_files"):
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        fails("writing " + path, NO + (errno.EISDIR,), os.open, path, flags)
program = os.open("/proc/self/exe", os.O_PATH)
fails("by a file opened before", NO, os.open, "/proc/self/fd/%d" % program,
      os.O_WRONLY)
fails("its name", NO, os.rename, os.readlink("/proc/self/exe"),
      os.readlink("/proc/self/exe") + "-x")
