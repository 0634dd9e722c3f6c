# 071 changing programs and libraries that all jobs share
# tries: 29
# verdict: ok
import os
import sys
from attack import MARK, SEALED, check, fails, refused
folders = ["/usr", "/usr/bin", "/usr/lib", "/usr/lib/python3/dist-packages",
           "/etc", "/etc/ssl/certs", "/etc/fonts", "/bin", "/lib", "/",
           "/run/capibox", "/dev", os.path.dirname(os.__file__),
           os.path.dirname(os.__file__) + "/__pycache__"]
for folder in folders:
    if os.path.isdir(folder):
        fails("a file in " + folder, SEALED, open, folder + "/" + MARK, "w")
        fails("a folder in " + folder, SEALED, os.mkdir, folder + "/" + MARK)
for file in (os.__file__, os.path.realpath(sys.executable), "/etc/passwd",
             "/run/capibox-runtime/python_driver.py", "/run/capibox/main.py"):
    if os.path.exists(file):
        fails("writing " + file, SEALED + (26,), open, file, "r+b")
        fails("chmod of " + file, SEALED, os.chmod, file, 0o777)
        fails("removing " + file, SEALED, os.remove, file)
        fails("times of " + file, SEALED, os.utime, file)
for place in ("/", "/usr", "/etc", "/run/capibox"):
    check(place + " is mounted read-only",
          os.statvfs(place).f_flag & os.ST_RDONLY)
refused("remounting /usr", SEALED, 165, 0, b"/usr", 0, 32, 0)
