# 104 raw packets, tunnels, other devices
# tries: 8
# verdict: ok
import errno
import os
import socket
from attack import ABSENT, REFUSED, check, fails, refused
NO = REFUSED + (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
for family in (socket.AF_INET, socket.AF_INET6):
    for protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_RAW):
        fails("raw %d %d" % (family, protocol), NO, socket.socket, family,
              socket.SOCK_RAW, protocol)
fails("ping", NO, socket.socket, socket.AF_INET, socket.SOCK_DGRAM,
      socket.IPPROTO_ICMP)
fails("a packet socket", NO, socket.socket, 17, socket.SOCK_RAW, 0)
fails("/dev/net/tun", ABSENT, os.open, "/dev/net/tun", os.O_RDWR)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
request = b"lo".ljust(16, b"\0") + b"\1\0" + b"\0" * 22
refused("raising lo", REFUSED + (errno.ENOSYS,), 16, one.fileno(), 0x8914,
        request)
refused("a name for it", REFUSED + (errno.ENOSYS,), 16, one.fileno(), 0x8923,
        request)
