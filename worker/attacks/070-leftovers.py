# 070 things left for the next job
# times: 2
# tries: 9
# verdict: ok
import os
import socket
import time
from attack import MARK, check
places = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/home/user",
          "/dev/mqueue", "/run", "/"]
paths = {place: "%s/%s-left" % (place, MARK) for place in places}
for place, path in paths.items():
    check("nothing in " + place, not os.path.lexists(path), path)
for path in paths.values():
    try:
        open(path, "w").close()
    except OSError:
        pass
name = "\0" + MARK
try:
    socket.socket(socket.AF_UNIX).connect(name)
    check("no socket without a file", False, "somebody listens")
except OSError:
    check("no socket without a file", True)
if os.fork() == 0:
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    os.closerange(0, 3)
    time.sleep(60)
