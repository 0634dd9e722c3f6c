# 102 sockets in shared folders
# tries: 10
# verdict: ok
import errno
import os
import socket
import stat
from attack import check, fails
NO = (errno.ENOENT, errno.EACCES)
for path in ("/run/docker.sock", "/var/run/docker.sock", "/dev/log",
             "/run/systemd/journal/socket", "/run/dbus/system_bus_socket",
             "/run/redis/redis.sock", "/tmp/redis.sock",
             "/run/containerd/containerd.sock", "/run/user/0/bus"):
    fails(path, NO, socket.socket(socket.AF_UNIX).connect, path)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    fails("sendto " + path, NO, one.sendto, b"x", path)


def is_socket(path):
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


found = []
for path, folders, files in os.walk("/"):
    if path == "/":
        folders[:] = set(folders) - {"usr", "proc"}
    found += [name for name in files if is_socket(os.path.join(path, name))]
check("none anywhere", not found, found)
