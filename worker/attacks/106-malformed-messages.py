# 106 messages and addresses that make no sense
# tries: 14
# verdict: ok
import ctypes
import errno
import socket
import struct
from attack import held, refused, syscall
BAD = (errno.EINVAL, errno.EFAULT, errno.EBADF, errno.ENOTSOCK, errno.EPERM,
       errno.ENETUNREACH, errno.EMSGSIZE, errno.EDESTADDRREQ, errno.ENOTCONN,
       errno.EAFNOSUPPORT, errno.ENAMETOOLONG, errno.ENOBUFS, errno.ENOENT,
       errno.ENOMEM, errno.ECONNREFUSED, errno.EAGAIN)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
two = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for fd in (one.fileno(), two.fileno(), -1, 2**31):
    for length in (2**31 - 1, 2**32 - 1, 129, 1):
        refused("sendto %d, an address of %d" % (fd, length), BAD, 44, fd,
                b"x", 1, 0, b"\xff" * 200, length)
    refused("sendto %d, a bad address" % fd, BAD, 44, fd, 8, 1, 0, 8, 16)
    for head in (struct.pack("QIQQQQI", 8, 16, 8, 2**40, 8, 2**40, 0),
                 b"\xff" * 64, b"\0" * 8 + b"\xff" * 56):
        refused("sendmsg %d" % fd, BAD, 46, fd, head, 0)
        refused("sendmmsg %d" % fd, BAD, 307, fd, head * 2, 2**31, 0)
rights = struct.pack("QiiII", 24, 1, 1, 2**31 - 1, 4096)
data = ctypes.create_string_buffer(rights)
head = struct.pack("QIxxxxQQQQixxxx", 0, 0, 0, 0, ctypes.addressof(data), 24, 0)
refused("handing over files that are not", BAD, 46, two.fileno(), head, 0)
held("it goes on")
