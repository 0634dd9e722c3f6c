# 101 sockets without a file that the host listens on
# env: NAMES=/tmp/.X11-unix/X0 capibox-attack-host capibox-ids-0 capibox-ids-1
# tries: 8
# verdict: ok
import errno
import os
import socket
from attack import fails
NO = (errno.ECONNREFUSED, errno.EPERM)
for name in os.environ["NAMES"].split():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        fails("%s, kind %d" % (name, kind), NO,
              socket.socket(socket.AF_UNIX, kind).connect, "\0" + name)
