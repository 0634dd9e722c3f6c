"""The first process of a sandbox: starts what runs in it and touches its files.

Pid 1 of its namespace, so killing it kills all the rest. Obeys the double over
one socket (wire.py), one order at a time; it is root there, and works as the
sandbox's user wherever user code could have laid a trap.
"""
import contextlib
import errno
import os
import resource
import select
import signal
import socket
import stat
import sys

import kernel_python
import wire

UID = GID = 1000
HOME = "/home/user"
PROCESSES_MAX = 4096  # of all sandboxes together: a fork bomb must stay ours
OOM_SCORE = "500"  # the kernel picks user code, never this process


def preload() -> None:
    kernel_python.preload()


def set_dumpable() -> None:
    """A changed user id closes /proc/self to its owner."""
    import ctypes
    ctypes.PyDLL(None).prctl(4, 1, 0, 0, 0)


class Agent:
    def __init__(self, control: socket.socket, order: dict, is_root: bool):
        self.control, self.is_root = control, is_root
        self.address_space = order["rlimit_as"]
        self.kernels: set[int] = set()

    # Who does it.

    @contextlib.contextmanager
    def as_user(self):
        if not self.is_root:
            yield
            return
        os.setegid(GID)
        os.seteuid(UID)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def become_user(self) -> None:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(OOM_SCORE)
        resource.setrlimit(resource.RLIMIT_NPROC,
                           (PROCESSES_MAX, PROCESSES_MAX))
        if self.address_space:
            resource.setrlimit(resource.RLIMIT_AS,
                               (self.address_space, self.address_space))
        if self.is_root:
            os.setgroups([GID])
            os.setresgid(GID, GID, GID)
            os.setresuid(UID, UID, UID)
            set_dumpable()

    # Processes.

    def in_child(self, order: dict, fds: list[int]) -> None:
        """Sets a fresh child up: fds become 0, 1, 2 and so on."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        # Out of the way of the low numbers first.
        high = [os.dup2(fd, 100 + at) for at, fd in enumerate(fds)]
        for at, fd in enumerate(high):
            os.dup2(fd, at)
        os.closerange(len(high), 200)
        self.become_user()
        os.chdir(order["cwd"])
        os.umask(0o022)

    def do_spawn(self, order: dict, fds: list[int]) -> dict:
        if not os.path.isdir(order["cwd"]):
            return {"errno": errno.ENOENT}
        if order.get("pty"):
            set_window(fds[0], order["pty"])
        pid = os.fork()
        if pid == 0:
            try:
                self.in_child(order, fds)
                if order.get("pty"):
                    import fcntl
                    import termios
                    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
                os.execvpe(order["argv"][0], order["argv"], order["env"])
            except OSError as error:
                os.write(2, ("%s: %s\n" % (order["argv"][0],
                                           error.strerror)).encode())
            finally:
                os._exit(127)
        return {"pid": pid}

    def do_kernel(self, order: dict, fds: list[int]) -> dict:
        pid = os.fork()
        if pid == 0:
            try:
                if not os.path.isdir(order["cwd"]):
                    order["cwd"] = HOME
                self.in_child(order, fds)
                kernel_python.main(order)
            finally:
                os._exit(1)
        return {"pid": pid}

    def do_signal(self, order: dict, _fds: list[int]) -> dict:
        kill = os.killpg if order.get("group") else os.kill
        kill(order["pid"], order["signal"])
        return {}

    # Files.

    def do_open(self, order: dict, _fds: list[int]) -> dict:
        """Hands an open file over; the folders above a new one are made."""
        path = order["path"]
        flags = os.O_RDONLY | os.O_NONBLOCK
        if order["write"]:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        if not order["write"] and not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return {"fd": fd, "size": os.fstat(fd).st_size}

    def entry(self, path: str) -> dict:
        """A link has its target, and that one's type."""
        info = os.lstat(path)
        link = stat.S_ISLNK(info.st_mode)
        mode = info.st_mode
        if link:
            try:
                mode = os.stat(path).st_mode
            except OSError:
                mode = 0
        kind = {stat.S_IFDIR: "FILE_TYPE_DIRECTORY",
                stat.S_IFREG: "FILE_TYPE_FILE"}.get(
                    stat.S_IFMT(mode), "FILE_TYPE_UNSPECIFIED")
        entry = {"name": os.path.basename(path), "type": kind, "path": path,
                 "size": info.st_size, "mode": stat.S_IMODE(info.st_mode),
                 "permissions": stat.filemode(info.st_mode),
                 "uid": info.st_uid, "gid": info.st_gid,
                 "mtime": info.st_mtime}
        if link:
            entry["symlinkTarget"] = os.path.realpath(path)
        return entry

    def do_stat(self, order: dict, _fds: list[int]) -> dict:
        return {"entry": self.entry(order["path"])}

    def do_list(self, order: dict, _fds: list[int]) -> dict:
        found: list[dict] = []

        def walk(folder: str, depth: int) -> None:
            for name in sorted(os.listdir(folder)):
                found.append(self.entry(os.path.join(folder, name)))
                if depth > 1 and "symlinkTarget" not in found[-1] and \
                        found[-1]["type"] == "FILE_TYPE_DIRECTORY":
                    walk(found[-1]["path"], depth - 1)

        walk(order["path"], order["depth"])
        return {"entries": found}

    def do_mkdir(self, order: dict, _fds: list[int]) -> dict:
        os.makedirs(order["path"])
        return {"entry": self.entry(order["path"])}

    def do_move(self, order: dict, _fds: list[int]) -> dict:
        os.makedirs(os.path.dirname(order["to"]), exist_ok=True)
        os.rename(order["path"], order["to"])
        return {"entry": self.entry(order["to"])}

    def do_remove(self, order: dict, _fds: list[int]) -> dict:
        path = order["path"]
        if os.path.isdir(path) and not os.path.islink(path):
            import shutil
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
        return {}

    FILE_WORK = ("open", "stat", "list", "mkdir", "move", "remove")

    # The loop.

    def obey(self, order: dict, fds: list[int]) -> None:
        work = getattr(self, "do_" + order["op"])
        try:
            if order["op"] in self.FILE_WORK:
                with self.as_user():
                    reply = work(order, fds)
            else:
                reply = work(order, fds)
        except OSError as error:
            reply = {"errno": error.errno or errno.EIO}
        out = reply.pop("fd", None)
        reply["re"] = order["re"]
        wire.send(self.control, reply, () if out is None else (out,))
        if out is not None:
            os.close(out)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            wire.send(self.control, {"exit": pid, "status": status})

    def serve(self) -> None:
        os.environ.clear()
        wake_read, wake_write = os.pipe()
        for fd in (wake_read, wake_write):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        wire.send(self.control, {"ready": True})
        while True:
            ready, _, _ = select.select([self.control, wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
                self.reap()
            if self.control in ready:
                got = wire.receive(self.control)
                if got is None:
                    os._exit(0)
                self.obey(*got)
                for fd in got[1]:
                    os.close(fd)


def set_window(fd: int, size: dict) -> None:
    import fcntl
    import struct
    import termios
    fcntl.ioctl(fd, termios.TIOCSWINSZ,
                struct.pack("HHHH", size.get("rows", 24),
                            size.get("cols", 80), 0, 0))


assert sys.version_info >= (3, 9)
