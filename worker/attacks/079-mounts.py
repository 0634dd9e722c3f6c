# 079 mounting, unmounting, changing the root
# tries: 18
# verdict: ok
import errno
from attack import REFUSED, refused
NO = REFUSED + (errno.ENOSYS,)
for kind in (b"tmpfs", b"proc", b"sysfs", b"overlay", b"cgroup2", b"devpts"):
    refused("mount " + kind.decode(), NO, 165, b"x", b"/tmp", kind, 0, 0)
refused("making mounts shared", NO, 165, 0, b"/", 0, 1 << 20 | 1 << 14, 0)
refused("umount /proc", NO, 166, b"/proc", 0)
refused("umount of /etc/passwd, lazily", NO, 166, b"/etc", 2)
refused("pivot_root", NO, 155, b"/tmp", b"/tmp")
refused("chroot", NO, 161, b"/tmp")
refused("fsopen", NO, 430, b"tmpfs", 0)
refused("fsconfig", NO, 431, 0, 6, 0, 0, 0)
refused("fsmount", NO, 432, 0, 0, 0)
refused("fspick", NO, 433, -100, b"/", 0)
refused("move_mount", NO, 429, -100, b"/usr", -100, b"/tmp", 0)
refused("open_tree", NO, 428, -100, b"/usr", 1)
refused("mount_setattr", NO, 442, -100, b"/usr", 0, (b"\0" * 32), 32)
refused("open_tree_attr", NO, 467, -100, b"/usr", 1, (b"\0" * 32), 32)
refused("swapon", NO, 167, b"x", 0)
