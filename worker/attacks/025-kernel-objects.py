# 025 memory of the kernel's own: pipes, timers, queues, signals
# limits: memory_limit_mb=64
# tries: 12
# verdict: ok
import ctypes
import errno
import os
import select
import signal
import socket
from attack import refused, syscall, until_refused, REFUSED
FULL = (errno.EMFILE, errno.EAGAIN, errno.ENOSPC, errno.ENOMEM, errno.ENFILE)
ABSENT = (errno.ENOSYS,) + REFUSED


def close(kept):
    for one in kept:
        for fd in one if isinstance(one, tuple) else (one,):
            fd.close() if hasattr(fd, "close") else os.close(fd)


def ask(number, *args):
    answer, error = syscall(number, *args)
    if error:
        raise OSError(error, "")
    return answer


close(until_refused("pipes", FULL, 5000, os.pipe))
close(until_refused("epolls", FULL, 5000, select.epoll))
close(until_refused("sockets", FULL, 5000, socket.socketpair))
close(until_refused("eventfds", FULL, 5000, lambda: ask(290, 0, 0)))
timer = ctypes.c_int()
until_refused("timers", FULL, 5000,
              lambda: ask(222, 0, 0, ctypes.byref(timer)))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
info = (ctypes.c_int * 32)(signal.SIGRTMIN, 0, -1)
until_refused("queued signals", FULL, 5000,
              lambda: ask(129, os.getpid(), int(signal.SIGRTMIN), info))
refused("inotify_init1", ABSENT, 294, 0)
refused("msgget", ABSENT, 68, 0, 0o1600)
refused("semget", ABSENT, 64, 0, 250, 0o1600)
refused("shmget", ABSENT, 29, 0, 1 << 20, 0o1600)
refused("mq_open", ABSENT, 240, b"x", os.O_CREAT | os.O_RDWR, 0o600, 0)
refused("add_key", ABSENT, 248, b"user", b"x", b"y", 1, -2)
refused("io_setup", ABSENT, 206, 128, (ctypes.c_ulong * 1)())
