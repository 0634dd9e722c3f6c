# 100 reaching anything by the network
# tries: 27
# verdict: ok
import errno
import socket
from attack import check, fails
NO = (errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL,
      errno.EHOSTUNREACH, errno.ENODEV, errno.EINVAL)
places = [("127.0.0.1", 6379), ("127.0.0.1", 22), ("127.1.2.3", 80),
          ("0.0.0.0", 6379), ("169.254.169.254", 80), ("1.1.1.1", 53),
          ("10.0.0.1", 80), ("192.168.0.1", 80), ("255.255.255.255", 9),
          ("::1", 6379), ("fd00::1", 80), ("fe80::1", 80),
          ("::ffff:127.0.0.1", 6379), ("2606:4700:4700::1111", 53)]
for host, port in places:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        if host == "0.0.0.0" and kind == socket.SOCK_DGRAM:
            continue  # it is taken, and goes to a device that is down
        one = socket.socket(family, kind)
        one.settimeout(1)
        call = one.connect if kind == socket.SOCK_STREAM else \
            lambda to: one.sendto(b"x", to)
        fails("%s port %d, kind %d" % (host, port, kind), NO, call,
              (host, port))
try:
    socket.getaddrinfo("example.com", 80)
    check("names", False, "resolved")
except OSError:
    check("names", True)
