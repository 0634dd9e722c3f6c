# 077 becoming somebody else by programs that may
# tries: 9
# verdict: ok
import errno
import glob
import os
import shutil
import stat
import subprocess
from attack import REFUSED, check, fails, not_applicable
NOT_MAPPED = REFUSED + (errno.EINVAL,)
fails("setuid 0", NOT_MAPPED, os.setuid, 0)
fails("setgid 0", NOT_MAPPED, os.setgid, 0)
fails("setresuid 0", NOT_MAPPED, os.setresuid, 0, 0, 0)
fails("setgroups", NOT_MAPPED, os.setgroups, [0])
fails("chown to root", NOT_MAPPED, os.chown, ".", 0, 0)
fails("chown to nobody", NOT_MAPPED, os.chown, ".", 65534, 65534)
nosuid = [path for path in ("/usr", "/tmp", "/home/user", "/dev/shm")
          if not os.statvfs(path).f_flag & os.ST_NOSUID]
check("no set-user-id bit counts", not nosuid, nosuid)
shutil.copy("/usr/bin/id", "id")
os.chmod("id", 0o6755)
who = subprocess.run(["./id"], capture_output=True, text=True).stdout
check("one of its own", "uid=1000(" in who and "euid" not in who, who)
for tool in ("su", "sudo", "passwd", "mount", "newgrp", "chsh", "pkexec"):
    path = shutil.which(tool)
    if not path or not os.stat(path).st_mode & stat.S_ISUID:
        continue
    end = subprocess.run([path, "-c", "id -u"], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=5)
    check(tool, end.stdout.strip() != "0", end.stdout)
if os.path.exists("/proc/self/status"):
    status = open("/proc/self/status").read()
    check("no new privileges", "NoNewPrivs:\t1" in status)
else:
    check("no new privileges", True)
