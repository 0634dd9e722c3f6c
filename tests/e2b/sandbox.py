"""A running sandbox, the forker that starts it, and its guest's memory.

The double keeps no state of a sandbox but here. Everything inside it happens
through its first process (agent.py).
"""
import asyncio
import collections
import contextlib
import errno
import hashlib
import hmac
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from typing import Any, Callable

import wire

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = "/home/user"
ID_CHARS = string.ascii_lowercase + string.digits
ENVD_VERSION = "0.6.13"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What real kernels and shells get, before any variable of the user.
BASE_ENV = {"PATH": PATH, "HOME": HOME, "USER": "user", "LOGNAME": "user",
            "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
KERNEL_ENV = {"MPLBACKEND": "Agg", "JUPYTER_PLATFORM_DIRS": "1"}
QUEUE_BYTES_MAX = 4 << 20


class Gone(Exception):
    """The sandbox ended while something was asked of it."""


class Peer:
    """Orders over a socket of wire.py, and what comes back unasked."""

    def __init__(self, sock: socket.socket, news: Callable[[dict], None],
                 closed: Callable[[], None] = lambda: None):
        self.sock, self.news, self.closed = sock, news, closed
        self.waiting: dict[int, asyncio.Future] = {}
        self.number = 0
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(sock.fileno(), self.readable)

    def ask(self, order: dict, fds: tuple[int, ...] = ()) -> asyncio.Future:
        future = self.loop.create_future()
        if self.sock.fileno() < 0:
            future.set_exception(Gone())
            return future
        self.number += 1
        order["re"] = self.number
        self.waiting[self.number] = future
        try:
            wire.send(self.sock, order, fds)
        except OSError:
            self.close()
        return future

    def readable(self) -> None:
        try:
            got = wire.receive(self.sock)
        except OSError:
            got = None
        if got is None:
            self.close()
            return
        message, fds = got
        future = self.waiting.pop(message.pop("re", 0), None)
        if future is None:
            self.news(message)
        elif future.cancelled():
            for fd in fds:
                os.close(fd)
        else:
            if fds:
                message["fd"] = fds[0]
            future.set_result(message)

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Gone())
                future.exception()  # some are not waited for
        self.waiting.clear()
        self.closed()


class Memory:
    """The guests' RAM: a memory cgroup each where we can, else RLIMIT_AS."""

    def __init__(self):
        self.version, self.root, self.made = 0, "", 0
        self.free: dict[int, list[str]] = {}  # by limit
        if os.geteuid() != 0:
            return
        name = "capibox-double-%d" % os.getpid()
        for version, top in ((1, "/sys/fs/cgroup/memory"),
                             (2, "/sys/fs/cgroup")):
            try:
                self.sweep(top)
                self.root = self.prepare(version, top, name)
            except OSError:
                continue
            self.version = version
            return

    @staticmethod
    def sweep(top: str) -> None:
        """Groups of doubles that were killed."""
        for name in os.listdir(top):
            match = re.fullmatch(r"capibox-double-(\d+)", name)
            if match and not os.path.exists("/proc/" + match.group(1)):
                for folder, _names, _files in os.walk(
                        os.path.join(top, name), topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)

    @staticmethod
    def prepare(version: int, top: str, name: str) -> str:
        root = os.path.join(top, name)
        if version == 1:
            if not os.path.exists(top + "/memory.limit_in_bytes") and \
                    not os.path.exists(top + "/memory.oom_control"):
                raise FileNotFoundError(top)
            os.mkdir(root)
            return root
        write(top + "/cgroup.subtree_control", "+memory")
        os.mkdir(root)
        write(root + "/cgroup.subtree_control", "+memory")
        return root

    @property
    def kind(self) -> str:
        return "cgroup" if self.version else "rlimit"

    def take(self, limit: int) -> str:
        """A group of that size. Making one costs more than a fork, so they
        are used again; whoever takes one notes its count of OOM kills."""
        if not self.version:
            return ""
        if self.free.get(limit):
            return self.free[limit].pop()
        self.made += 1
        folder = os.path.join(self.root, str(self.made))
        os.mkdir(folder)
        limits = {1: (("memory.limit_in_bytes", limit),
                      ("memory.memsw.limit_in_bytes", limit)),
                  2: (("memory.max", limit), ("memory.swap.max", 0))}
        for file, value in limits[self.version]:
            with contextlib.suppress(FileNotFoundError):
                write(os.path.join(folder, file), str(value))
        return folder

    def give_back(self, folder: str, limit: int) -> None:
        if folder:
            self.free.setdefault(limit, []).append(folder)

    def oom_kills(self, folder: str) -> int:
        if not folder:
            return 0
        file = {1: "memory.oom_control", 2: "memory.events"}[self.version]
        try:
            with open(os.path.join(folder, file), encoding="ascii") as text:
                match = re.search(r"^oom_kill (\d+)", text.read(), re.M)
        except FileNotFoundError:
            return 0
        return int(match.group(1)) if match else 0

    def used(self, folder: str) -> int:
        file = {1: "memory.usage_in_bytes", 2: "memory.current"}
        try:
            with open(os.path.join(folder, file[self.version]),
                      encoding="ascii") as text:
                return int(text.read())
        except (OSError, KeyError):
            return 0

    def close(self) -> None:
        for folder in [*sum(self.free.values(), []), self.root]:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Forker:
    """forker.py as a child of ours, and what it tells."""

    def __init__(self, ended: Callable[[int], None]):
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-s", os.path.join(HERE, "forker.py"),
             str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=sys.stderr)
        theirs.close()
        self.ended = ended
        self.peer = Peer(ours, lambda message: ended(message["gone"]))

    async def cpu(self) -> float:
        return (await self.peer.ask({"op": "cpu"}))["cpu"]

    def close(self) -> None:
        self.peer.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Output:
    """What comes from descriptors of a process, in order of arrival; the
    process waits if nobody takes it."""

    def __init__(self):
        self.items: collections.deque[tuple[Any, bytes]] = collections.deque()
        self.bytes = 0
        self.wake = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.readers: dict[int, Callable[[], None]] = {}
        self.pipes: set[int] = set()  # of the readers, ours to close
        self.paused = False

    def watch(self, fd: int, read: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self.readers[fd] = read
        if not self.paused:
            self.loop.add_reader(fd, read)

    def unwatch(self, fd: int) -> None:
        if self.readers.pop(fd, None):
            self.loop.remove_reader(fd)

    def add(self, fd: int, kind: Any) -> None:
        """A pipe (or terminal) whose text comes as (kind, bytes), and whose
        end as (kind, b"")."""
        self.pipes.add(fd)
        self.watch(fd, lambda: self.readable(fd, kind))

    def readable(self, fd: int, kind: Any) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:  # a terminal without a program says EIO
            data = b""
        if not data:
            self.unwatch(fd)
            self.pipes.discard(fd)
            os.close(fd)
        self.put(kind, data)

    def put(self, kind: Any, data: bytes) -> None:
        self.items.append((kind, data))
        self.bytes += len(data)
        self.wake.set()
        if self.bytes > QUEUE_BYTES_MAX and not self.paused:
            self.paused = True
            for fd in self.readers:
                self.loop.remove_reader(fd)

    def poll(self) -> None:
        """Takes in what lies ready in the pipes."""
        for fd in list(self.pipes):
            self.readers[fd]()

    async def take(self) -> tuple[Any, bytes]:
        while not self.items:
            self.wake.clear()
            await self.wake.wait()
        kind, data = self.items.popleft()
        self.bytes -= len(data)
        if self.paused and self.bytes < QUEUE_BYTES_MAX // 2:
            self.paused = False
            for fd, read in self.readers.items():
                self.loop.add_reader(fd, read)
        return kind, data

    def close(self) -> None:
        for fd in list(self.readers):
            self.unwatch(fd)
        for fd in self.pipes:
            os.close(fd)
        self.pipes.clear()


class Template:
    def __init__(self, text: str):
        parts = text.split(":")
        if len(parts) not in (3, 4):
            raise ValueError("--template wants id:cpu:memoryMB[:alias]")
        self.id, self.cpu, self.memory_mb = \
            parts[0], int(parts[1]), int(parts[2])
        self.alias = parts[3] if len(parts) == 4 else parts[0]
        # Public, and E2B's own; all others are the team's.
        self.is_e2bs = self.id in ("base", "code-interpreter-v1")


def new_id() -> str:
    return "i" + "".join(random.choices(ID_CHARS, k=20))


class Sandbox:
    def __init__(self, fleet: "Fleet", template: Template, asked: dict):
        self.fleet, self.template = fleet, template
        self.id = new_id()
        self.memory_bytes = template.memory_mb << 20
        self.metadata: dict[str, str] = asked.get("metadata") or {}
        self.env_vars: dict[str, str] = asked.get("envVars") or {}
        network = asked.get("network") or {}
        self.internet = asked.get("allow_internet_access")
        self.auto_pause = bool(asked.get("autoPause"))
        self.auto_resume = bool((asked.get("autoResume") or {}).get("enabled"))
        self.token = hmac.new(fleet.seed, self.id.encode(),
                              hashlib.sha256).hexdigest() \
            if asked.get("secure") else None
        self.traffic_token = hmac.new(
            fleet.seed, b"traffic" + self.id.encode(),
            hashlib.sha256).hexdigest() \
            if network.get("allowPublicTraffic") is False else None
        self.state = "running"
        self.started_at = time.time()
        self.ends_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.folder = os.path.join(fleet.folder, self.id)
        self.home = os.path.join(self.folder, "home")
        self.vmstat = os.path.join(self.folder, "vmstat")
        self.cgroup = ""
        self.pid = 0
        self.ooms = 0
        self.pretended = 0  # to be added to the group's own count
        self.agent: Peer | None = None
        self.ready = asyncio.get_running_loop().create_future()
        self.exits: dict[int, asyncio.Future] = {}
        self.early: dict[int, int] = {}
        self.inflight: set[Any] = set()  # exchanges to reset when it ends
        self.services: dict[str, Any] = {}  # what envd and interpreter keep

    # Life.

    async def start(self) -> None:
        os.makedirs(self.home)
        os.chmod(self.home, 0o755)
        if os.geteuid() == 0:
            os.chown(self.home, 1000, 1000)
        write(self.vmstat, self.fleet.vmstat_text(0))
        self.cgroup = self.fleet.memory.take(self.memory_bytes)
        self.pretended = -self.fleet.memory.oom_kills(self.cgroup)
        ours, theirs = socket.socketpair()
        self.agent = Peer(ours, self.heard, self.agent_gone)
        reply = await self.fleet.forker.peer.ask(
            {"op": "start", "id": self.id, "home": self.home,
             "vmstat": self.vmstat, "passwd": self.fleet.passwd,
             "group": self.fleet.group, "disk_mb": self.fleet.disk_mb,
             "cgroup": self.cgroup,
             "rlimit_as": 0 if self.cgroup else self.memory_bytes},
            (theirs.fileno(),))
        theirs.close()
        if "error" in reply:
            raise OSError(reply["error"])
        self.pid = reply["pid"]
        self.fleet.by_pid[self.pid] = self
        await self.ready

    def heard(self, message: dict) -> None:
        if "ready" in message:
            if not self.ready.done():
                self.ready.set_result(None)
        elif "exit" in message:
            self.count_ooms()
            future = self.exits.pop(message["exit"], None)
            if future is None:
                # Not ours, or ended before anyone could ask.
                self.early[message["exit"]] = message["status"]
                while len(self.early) > 64:
                    self.early.pop(next(iter(self.early)))
            elif not future.done():
                future.set_result(message["status"])

    def agent_gone(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(OSError("the sandbox did not start"))
            self.ready.exception()

    def set_timeout(self, seconds: float) -> None:
        self.ends_at = time.time() + seconds
        if self.timer:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(
            seconds, self.fleet.expire, self)

    def pause(self) -> None:
        """The TTL stops, answers under way are cut. The processes are not
        frozen: nobody can reach them."""
        self.state = "paused"
        if self.timer:
            self.timer.cancel()
        for exchange in list(self.inflight):
            exchange.reset()

    def resume(self, seconds: float) -> None:
        self.state = "running"
        self.set_timeout(seconds)

    def end(self) -> None:
        """Kills all of it. Whoever waits for an answer gets a reset."""
        if self.state == "ended":
            return
        self.state = "ended"
        if self.timer:
            self.timer.cancel()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        for exchange in list(self.inflight):
            exchange.reset()
        if self.agent:
            self.agent.close()
        for service in self.services.values():
            service.close()
        for future in self.exits.values():
            if not future.done():
                future.set_exception(Gone())
                future.exception()

    def clear_away(self) -> None:
        """After its last process."""
        self.fleet.memory.give_back(self.cgroup, self.memory_bytes)
        self.cgroup = ""
        shutil.rmtree(self.folder, ignore_errors=True)

    # What it can be asked.

    async def ask(self, order: dict, fds: tuple[int, ...] = ()) -> dict:
        if self.state == "ended" or self.agent is None:
            raise Gone()
        return await self.agent.ask(order, fds)

    def exit_of(self, pid: int) -> asyncio.Future:
        future = self.exits.get(pid)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if pid in self.early:
                future.set_result(self.early.pop(pid))
            else:
                self.exits[pid] = future
        return future

    def count_ooms(self) -> None:
        """The guest's kernel tells of its OOM kills in /proc/vmstat."""
        if not self.cgroup and self.fleet.memory.version:
            return  # all over
        ooms = self.pretended + self.fleet.memory.oom_kills(self.cgroup)
        if ooms != self.ooms:
            self.ooms = ooms
            write(self.vmstat, self.fleet.vmstat_text(ooms))

    def pretend_ooms(self, number: int) -> None:
        self.pretended += number
        self.count_ooms()

    def envs(self) -> dict[str, str]:
        return {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.id,
                "E2B_TEMPLATE_ID": self.template.id, **self.env_vars}

    def path(self, path: str, user: str = "user") -> str:
        """As envd reads a path: relative ones and ~ mean the home."""
        home = "/root" if user == "root" else HOME
        if path == "~" or path.startswith("~/"):
            path = home + path[1:]
        return os.path.normpath(os.path.join(home, path))


class Fleet:
    """All sandboxes of one double."""

    def __init__(self, folder: str, templates: list[Template],
                 max_sandboxes: int, max_hours: float, disk_mb: int):
        self.folder = os.path.join(folder, "sandboxes")
        os.makedirs(self.folder)
        self.templates, self.disk_mb = templates, disk_mb
        self.max_sandboxes, self.max_hours = max_sandboxes, max_hours
        self.seed = os.urandom(32)
        self.memory = Memory()
        self.passwd = self.with_user(
            folder, "passwd", "user:x:1000:1000::/home/user:/bin/bash\n")
        self.group = self.with_user(folder, "group", "user:x:1000:\n")
        with open("/proc/vmstat", encoding="ascii") as file:
            self.vmstat_lines = file.read()
        if "\noom_kill " not in self.vmstat_lines:
            self.vmstat_lines += "oom_kill 0\n"
        self.alive: dict[str, Sandbox] = {}
        self.starting = 0
        self.by_pid: dict[int, Sandbox] = {}
        self.creates = self.destroys = self.expired = self.max_alive = 0
        self.lost = 0
        self.forker = Forker(self.gone)
        self.idle = asyncio.Event()

    @staticmethod
    def with_user(folder: str, name: str, line: str) -> str:
        """The host's /etc/passwd or group, but 1000 is `user`."""
        with open("/etc/" + name, encoding="utf-8") as file:
            lines = [old for old in file if old.split(":")[2] != "1000" and
                     not old.startswith("user:")]
        path = os.path.join(folder, name)
        write(path, "".join(lines) + line)
        return path

    def vmstat_text(self, ooms: int) -> str:
        return re.sub(r"(?m)^oom_kill \d+$", "oom_kill %d" % ooms,
                      self.vmstat_lines)

    def template(self, name: str) -> Template | None:
        name = name.strip().lower().partition(":")[0].rpartition("/")[2]
        for template in self.templates:
            if name in (template.id, template.alias):
                return template
        return None

    def full(self) -> bool:
        return len(self.alive) + self.starting >= self.max_sandboxes

    async def create(self, template: Template, asked: dict,
                     seconds: float) -> Sandbox:
        sandbox = Sandbox(self, template, asked)
        self.starting += 1
        try:
            await sandbox.start()
        except BaseException:
            sandbox.end()
            if not sandbox.pid:
                sandbox.clear_away()
            raise
        finally:
            self.starting -= 1
        self.alive[sandbox.id] = sandbox
        self.creates += 1
        self.max_alive = max(self.max_alive, len(self.alive))
        # The clock starts when the create has finished.
        sandbox.started_at = time.time()
        sandbox.set_timeout(seconds)
        return sandbox

    def remove(self, sandbox: Sandbox) -> None:
        self.alive.pop(sandbox.id, None)
        sandbox.end()

    def lose(self, sandbox: Sandbox) -> None:
        """As if its node had died: nobody asked for it."""
        if sandbox.id in self.alive:
            self.lost += 1
            self.remove(sandbox)

    def expire(self, sandbox: Sandbox) -> None:
        if sandbox.id in self.alive:
            self.expired += 1
            self.remove(sandbox)

    def gone(self, pid: int) -> None:
        """The forker has reaped a first process, all of its own are dead."""
        sandbox = self.by_pid.pop(pid, None)
        if sandbox is None:
            return
        if sandbox.id in self.alive:  # killed from within, or by the host
            self.expire(sandbox)
        sandbox.count_ooms()
        sandbox.clear_away()
        if not self.by_pid:
            self.idle.set()

    async def close(self) -> None:
        for sandbox in list(self.alive.values()):
            self.remove(sandbox)
        while self.by_pid and self.forker.process.poll() is None:
            self.idle.clear()
            await asyncio.wait_for(self.idle.wait(), 10)
        self.forker.close()
        self.memory.close()


def errno_name(number: int) -> str:
    return errno.errorcode.get(number, str(number))
