"""Makes sandboxes: forks each one's first process, into namespaces of its own.

A process apart from the double, because it must stay single-threaded and small:
everything a sandbox's Python needs is imported here once, and a fork costs a
millisecond where starting python3 costs thirty.

`forker.py FD`: FD is a socket of wire.py. Ends, with all sandboxes, when that
socket does.
"""
import ctypes
import gc
import os
import platform
import select
import signal
import socket
import sys

sys.dont_write_bytecode = True

import agent  # noqa: E402
import wire  # noqa: E402

LIBC = ctypes.PyDLL(None, use_errno=True)
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1


def clone(flags: int) -> int:
    """fork() into new namespaces: os.unshare() would need a process between."""
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = LIBC.syscall(SYS_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, "clone: " + os.strerror(error))
    return pid


def mount(source: str, target: str, kind: str, flags: int,
          options: str = "") -> None:
    if LIBC.mount(source.encode(), target.encode(), kind.encode(),
                  ctypes.c_ulong(flags), options.encode() or None):
        error = ctypes.get_errno()
        raise OSError(error, "mount on %s: %s" % (target, os.strerror(error)))


def map_user(host_uid: int, host_gid: int) -> None:
    """Without root the sandbox's only user is ourselves under another name."""
    for name, text in (("setgroups", "deny"),
                       ("uid_map", "%d %d 1" % (agent.UID, host_uid)),
                       ("gid_map", "%d %d 1" % (agent.GID, host_gid))):
        with open("/proc/self/" + name, "w", encoding="ascii") as file:
            file.write(text)


def map_all(pid: int) -> None:
    """As root: the same ids, in a user namespace of the sandbox's own, since
    RLIMIT_NPROC counts a user's processes within one. Each microVM has its
    own users."""
    for name in ("uid_map", "gid_map"):
        with open("/proc/%d/%s" % (pid, name), "w", encoding="ascii") as file:
            file.write("0 0 65536")


def make_rooms(order: dict) -> None:
    mount("", "/", "", MS_REC | MS_PRIVATE)
    safe = MS_NOSUID | MS_NODEV
    mount("tmpfs", "/home", "tmpfs", safe, "mode=755,size=64k")
    os.mkdir("/home/user")
    if order["disk_mb"]:
        mount("tmpfs", "/home/user", "tmpfs", safe,
              "mode=755,uid=%d,gid=%d,size=%dm" % (
                  agent.UID, agent.GID, order["disk_mb"]))
    else:
        mount(order["home"], "/home/user", "", MS_BIND)
    mount("proc", "/proc", "proc", safe)
    mount(order["vmstat"], "/proc/vmstat", "", MS_BIND)
    mount(order["passwd"], "/etc/passwd", "", MS_BIND)
    mount(order["group"], "/etc/group", "", MS_BIND)
    # Last: the folders bound above may lie in here.
    mount("tmpfs", "/dev/shm", "tmpfs", safe, "mode=1777")
    mount("tmpfs", "/tmp", "tmpfs", safe, "mode=1777")


def first_process(order: dict, control: socket.socket, ids: tuple) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    if order["cgroup"]:
        with open(order["cgroup"] + "/cgroup.procs", "w",
                  encoding="ascii") as file:
            file.write("0")
    if ids[0]:
        map_user(*ids)
    make_rooms(order)
    agent.Agent(control, order, is_root=not ids[0]).serve()


def start(order: dict, fds: list[int], keep: socket.socket) -> dict:
    ids = (os.geteuid(), os.getegid())
    mapped, tell = os.pipe()
    pid = clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER)
    if pid == 0:
        try:
            keep.close()
            os.close(tell)
            os.read(mapped, 1)
            os.close(mapped)
            first_process(order, socket.socket(fileno=fds[0]), ids)
        except BaseException as error:  # the double must hear of it
            sys.__stderr__.write("sandbox %s: %r\n" % (order["id"], error))
        finally:
            os._exit(1)
    os.close(mapped)
    try:
        if not ids[0]:
            map_all(pid)
    finally:
        os.close(tell)
    return {"re": order["re"], "pid": pid}


def reap(control: socket.socket) -> None:
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        wire.send(control, {"gone": pid})


def cpu() -> float:
    times = os.times()
    return sum(times[:4])


def serve(control: socket.socket) -> None:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([control, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            reap(control)
        if control not in ready:
            continue
        got = wire.receive(control)
        if got is None:
            return
        order, fds = got
        if order["op"] == "start":
            try:
                reply = start(order, fds, control)
            except OSError as error:
                reply = {"re": order["re"], "error": str(error)}
            wire.send(control, reply)
        elif order["op"] == "cpu":
            wire.send(control, {"re": order["re"], "cpu": cpu()})
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent.preload()
    gc.collect()
    gc.freeze()  # so that children do not copy what they never change
    serve(socket.socket(fileno=int(sys.argv[1])))
