# 080 raising its own limits by the control groups
# tries: 5
# verdict: ok
import os
from attack import ABSENT, REFUSED, check, fails, refused
for kind in (b"cgroup", b"cgroup2"):
    refused("mount " + kind.decode(), REFUSED, 165, b"x", b"/tmp", kind, 0,
            b"memory")
fails("/sys/fs/cgroup", ABSENT, os.listdir, "/sys/fs/cgroup")
names = {"release_agent", "notify_on_release", "cgroup.procs", "memory.max",
         "devices.allow", "memory.limit_in_bytes", "cgroup.subtree_control"}
found = []
for path, folders, files in os.walk("/"):
    if path == "/":
        folders[:] = set(folders) - {"usr", "proc"}
    found += [path + "/" + name for name in files if name in names]
check("no file of them", not found, found)
mounts = "/proc/self/mounts"
types = [line.split()[2] for line in open(mounts)] \
    if os.path.exists(mounts) else []
check("no mount of them", not {"cgroup", "cgroup2", "sysfs"} & set(types),
      types)
