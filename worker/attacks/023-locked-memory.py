# 023 memory locked into RAM
# tries: 5
# verdict: ok
import ctypes
import errno
import resource
from attack import check, refused
no_room = (errno.EPERM, errno.ENOMEM, errno.EAGAIN)
page = ctypes.create_string_buffer(65536)
at = ctypes.addressof(page)
refused("mlock", no_room, 149, at, 65536)
refused("mlock2", no_room, 325, at, 65536, 0)
refused("mlockall", no_room, 151, 3)
refused("memfd_secret", (errno.ENOSYS,), 447, 0)
check("the limit", resource.getrlimit(resource.RLIMIT_MEMLOCK) == (0, 0),
      resource.getrlimit(resource.RLIMIT_MEMLOCK))
