"""envd of a sandbox, port 49983: files over REST, the rest over Connect-RPC."""
import asyncio
import base64
import binascii
import contextlib
import errno
import gzip
import json
import os
import pty
import re
import signal
import struct
import time
from typing import Any

from sandbox import BASE_ENV, HOME, Gone, Output, Sandbox
from schema import parse_query
from server import Dropped, Exchange

ENVELOPE = struct.Struct(">BI")
END, COMPRESSED = 2, 1
DATA_MAX, PTY_MAX = 32 << 10, 16 << 10
KEEPALIVE_S = 90
KEPT_AFTER_EXIT_S = 30
HTTP_OF = {"canceled": 499, "unknown": 500, "invalid_argument": 400,
           "deadline_exceeded": 504, "not_found": 404, "already_exists": 409,
           "permission_denied": 403, "resource_exhausted": 429,
           "failed_precondition": 400, "aborted": 409, "unimplemented": 501,
           "internal": 500, "unavailable": 503, "unauthenticated": 401}
CODE_OF_ERRNO = {errno.ENOENT: "not_found", errno.EEXIST: "already_exists",
                 errno.EACCES: "permission_denied",
                 errno.EPERM: "permission_denied",
                 errno.ENOTDIR: "invalid_argument",
                 errno.ENOTEMPTY: "invalid_argument",
                 errno.EINVAL: "invalid_argument"}


class RpcError(Exception):
    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class RestError(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


def need(reply: dict) -> dict:
    """The agent's answer, or its errno as an RPC error."""
    number = reply.get("errno")
    if number is not None:
        raise RpcError(CODE_OF_ERRNO.get(number, "internal"),
                       os.strerror(number))
    return reply


class Process:
    """What Start began, and what was and is to be said of it."""

    def __init__(self, config: dict, tag: str | None):
        self.config, self.tag = config, tag
        self.pid, self.status = 0, -1
        self.output = Output()
        self.stdin = -1
        self.is_pty = False
        self.ended = asyncio.Event()
        self.listeners: list[asyncio.Queue] = []

    def close(self) -> None:
        self.output.close()
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def end_event(self) -> dict[str, Any]:
        """proto3 leaves defaults out: no exitCode if 0, no exited if not."""
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            name = signal.strsignal(number) or "signal %d" % number
            return {"exitCode": -1, "status": "signal: " + name.lower()}
        code = os.WEXITSTATUS(self.status)
        end: dict[str, Any] = {"exited": True, "status": "exit status %d" %
                               code}
        if code:
            end["exitCode"] = code
            end["error"] = "exit status %d" % code
        return end


class Envd:
    def __init__(self, sandbox: Sandbox, app: Any):
        self.sandbox, self.app = sandbox, app
        self.processes: dict[int, Process] = {}

    def close(self) -> None:
        for process in self.processes.values():
            process.close()

    # REST.

    async def rest(self, exchange: Exchange, route: str) -> None:
        try:
            await getattr(self, route)(exchange)
        except RestError as error:
            await exchange.json(error.status, {
                "code": error.status, "message": error.message},
                kind="application/json")

    async def envd_health(self, exchange: Exchange) -> None:
        await exchange.reply(204)

    async def envs(self, exchange: Exchange) -> None:
        await exchange.json(200, self.sandbox.envs(), kind="application/json")

    async def envd_metrics(self, exchange: Exchange) -> None:
        total = self.sandbox.template.memory_mb << 20
        used = self.sandbox.fleet.memory.used(self.sandbox.cgroup)
        await exchange.json(200, {
            "ts": int(time.time()), "cpu_count": self.sandbox.template.cpu,
            "cpu_used_pct": 1.0, "mem_total": total, "mem_used": used,
            "mem_cache": 0, "mem_total_mib": total >> 20,
            "mem_used_mib": used >> 20, "disk_used": 0,
            "disk_total": 10 << 30}, kind="application/json")

    def file_query(self, exchange: Exchange) -> tuple[str, str]:
        query = dict(parse_query(exchange.request.query))
        user = query.get("username", "user")
        if user not in ("user", "root"):
            raise RestError(401, "error looking up user '%s'" % user)
        token = self.sandbox.token
        if token and exchange.request.headers.get("x-access-token") != token:
            raise RestError(401, "missing or invalid access token")
        path = query.get("path", "")
        if "\0" in path:
            raise RestError(400, "invalid path")
        return path, user

    async def files_get(self, exchange: Exchange) -> None:
        path, user = self.file_query(exchange)
        if not path:
            raise RestError(400, "path is missing")
        self.sandbox.count_ooms()
        reply = await self.sandbox.ask({
            "op": "open", "path": self.sandbox.path(path, user),
            "write": False})
        if "errno" in reply:
            self.refuse(reply["errno"], path)
        with open(reply["fd"], "rb") as file:
            data = file.read()
        headers = {"Content-Type": "application/octet-stream",
                   "Accept-Ranges": "bytes"}
        status, data = self.ranged(exchange, data, headers)
        await exchange.reply(status, data, headers)

    @staticmethod
    def ranged(exchange: Exchange, data: bytes, headers: dict[str, str]
               ) -> tuple[int, bytes]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)",
                             exchange.request.headers.get("range", ""))
        if not match or int(match[1]) >= len(data):
            return 200, data
        first = int(match[1])
        last = min(int(match[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = "bytes %d-%d/%d" % (first, last, len(data))
        return 206, data[first:last + 1]

    @staticmethod
    def refuse(number: int, path: str) -> None:
        if number == errno.ENOENT:
            raise RestError(404, "path '%s' does not exist" % path)
        if number in (errno.EISDIR, errno.EINVAL, errno.ENOTDIR):
            raise RestError(400, "path '%s' is a directory or no regular "
                            "file" % path)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise RestError(507, "not enough disk space available")
        raise RestError(500, "%s: %s" % (path, os.strerror(number)))

    async def files_post(self, exchange: Exchange) -> None:
        path, user = self.file_query(exchange)
        request = exchange.request
        if request.headers.get("content-encoding") == "gzip":
            request.body = gzip.decompress(request.body)
        if request.content_type == "application/octet-stream":
            if not path:
                raise RestError(400, "path is missing")
            parts = [(path, request.body)]
        else:
            parts = self.form(exchange, path)
        written = []
        for name, data in parts:
            full = self.sandbox.path(name, user)
            await self.write(full, data)
            written.append({"path": full, "name": os.path.basename(full),
                            "type": "file"})
        # Sent without a JSON content type, as the real one does.
        await exchange.reply(200, json.dumps(written).encode(),
                             {"Content-Type": "text/plain; charset=utf-8"})

    def form(self, exchange: Exchange, path: str) -> list[tuple[str, bytes]]:
        request = exchange.request
        boundary = re.search(r'boundary="?([^";]+)"?',
                             request.headers.get("content-type", ""))
        if not boundary:
            raise RestError(400, "no multipart boundary")
        mark = b"\r\n--" + boundary.group(1).encode()
        pieces = (b"\r\n" + request.body).split(mark)
        if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
            self.app.complain("files_post: broken multipart body")
            raise RestError(400, "broken multipart body")
        parts = []
        for piece in pieces[1:-1]:
            head, gap, data = piece.partition(b"\r\n\r\n")
            if not gap:
                self.app.complain("files_post: part without a head")
                raise RestError(400, "broken multipart part")
            name, filename = disposition(head)
            if name != "file":
                self.app.complain("files_post: a part is named %r" % name)
                continue
            target = path or filename
            if not target:
                self.app.complain("files_post: a part has no filename")
                raise RestError(400, "no path for a part")
            parts.append((target, data))
        if len(parts) > 1 and path:
            self.app.complain("files_post: several parts for one path")
        return parts

    async def write(self, path: str, data: bytes) -> None:
        reply = await self.sandbox.ask({"op": "open", "path": path,
                                        "write": True})
        if "errno" in reply:
            self.refuse(reply["errno"], path)
        try:
            with open(reply["fd"], "wb") as file:
                file.write(data)
        except OSError as error:
            self.refuse(error.errno or errno.EIO, path)

    # Connect-RPC.

    async def unary(self, exchange: Exchange, route: str, body: dict) -> None:
        try:
            reply = await getattr(self, route)(body)
        except RpcError as error:
            await exchange.json(HTTP_OF[error.code], {
                "code": error.code, "message": error.message},
                kind="application/json")
            return
        await exchange.json(200, reply, kind="application/json")

    async def stream(self, exchange: Exchange, route: str, body: dict) -> None:
        await exchange.begin(200, {"Content-Type": "application/connect+json"})
        out = Envelopes(exchange, self)
        try:
            await getattr(self, "stream_" + route)(exchange, body, out)
        except RpcError as error:
            await out.end({"error": {"code": error.code,
                                     "message": error.message}})
        else:
            await out.end({})
        await exchange.finish()

    async def stream_start(self, exchange: Exchange, body: dict,
                           out: "Envelopes") -> None:
        process = await self.begin(body)
        await out.event({"start": {"pid": process.pid}})
        await self.follow(exchange, process, out, kill=True)

    async def stream_process_connect(self, exchange: Exchange, body: dict,
                                     out: "Envelopes") -> None:
        process = self.select(body)
        await out.event({"start": {"pid": process.pid}})
        await self.follow(exchange, process, out, kill=False)

    async def begin(self, body: dict) -> Process:
        config = body["process"]
        process = Process(config, body.get("tag"))
        env = {**BASE_ENV, **self.sandbox.envs(), **config.get("envs", {})}
        order: dict[str, Any] = {
            "op": "spawn", "env": env,
            "argv": [config["cmd"], *config.get("args", [])],
            "cwd": self.sandbox.path(config.get("cwd") or HOME)}
        opened: list[int] = []
        try:
            if "pty" in body:
                master, slave = pty.openpty()
                opened = [slave] * 3
                order["pty"] = body["pty"].get("size") or {}
                process.stdin, process.is_pty = os.dup(master), True
                process.output.add(master, "pty")
            else:
                opened = self.pipes(process, body.get("stdin", True))
            self.sandbox.count_ooms()
            reply = await self.sandbox.ask(order, tuple(opened))
        except BaseException:
            process.close()
            raise
        finally:
            for fd in set(opened):
                os.close(fd)
        if "errno" in reply:
            process.close()
            raise RpcError("invalid_argument", "cwd '%s' does not exist" %
                           order["cwd"])
        process.pid = reply["pid"]
        self.processes[process.pid] = process
        exit_future = self.sandbox.exit_of(process.pid)
        exit_future.add_done_callback(lambda done: self.exited(process, done))
        asyncio.ensure_future(self.pump(process))
        return process

    @staticmethod
    def pipes(process: Process, with_stdin: bool) -> list[int]:
        if with_stdin:
            in_read, process.stdin = os.pipe()
        else:
            in_read = os.open(os.devnull, os.O_RDONLY)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        process.output.add(out_read, "stdout")
        process.output.add(err_read, "stderr")
        return [in_read, out_write, err_write]

    def exited(self, process: Process, done: asyncio.Future) -> None:
        if done.cancelled() or done.exception():
            return
        process.status = done.result()
        process.output.put("exit", b"")
        asyncio.get_running_loop().call_later(
            KEPT_AFTER_EXIT_S, self.processes.pop, process.pid, None)

    async def pump(self, process: Process) -> None:
        """Hands output to whoever listens now; it ends once the process and
        its pipes have."""
        left = 1 if process.is_pty else 2
        exited = False
        while left or not exited:
            kind, data = await process.output.take()
            if kind == "exit":
                exited = True
            elif not data:
                left -= 1
            else:
                for queue in process.listeners:
                    await queue.put((kind, data))
        process.ended.set()
        for queue in process.listeners:
            await queue.put(("end", b""))
        process.close()

    async def follow(self, exchange: Exchange, process: Process,
                     out: "Envelopes", kill: bool) -> None:
        headers = exchange.request.headers
        timeout_ms = headers.get("connect-timeout-ms", "0")
        limit = int(timeout_ms) / 1000 if timeout_ms.isdecimal() else 0
        ping = headers.get("keepalive-ping-interval", "")
        ping_s = int(ping) if ping.isdecimal() and int(ping) else KEEPALIVE_S
        queue: asyncio.Queue = asyncio.Queue(64)
        process.listeners.append(queue)
        watcher = asyncio.ensure_future(exchange.connection.watch())
        try:
            async with asyncio.timeout(limit or None):
                while not process.ended.is_set() or not queue.empty():
                    if not await self.one_event(process, queue, watcher, out,
                                                ping_s):
                        break
            await out.event({"end": process.end_event()})
        except asyncio.TimeoutError as error:
            if kill:
                await self.kill(process, signal.SIGKILL)
            raise RpcError("deadline_exceeded",
                           "context deadline exceeded") from error
        finally:
            process.listeners.remove(queue)
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    @staticmethod
    async def one_event(process: Process, queue: asyncio.Queue,
                        watcher: asyncio.Future, out: "Envelopes",
                        ping_s: float) -> bool:
        if queue.empty():
            getter = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait((getter, watcher), timeout=ping_s,
                                   return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getter.done():
                    getter.cancel()
            if watcher.done():  # the client left; the process goes on
                raise Dropped
            if not getter.done():
                await out.event({"keepalive": {}})
                return True
            kind, data = getter.result()
        else:
            kind, data = queue.get_nowait()
        if kind == "end":
            return False
        size = PTY_MAX if kind == "pty" else DATA_MAX
        for at in range(0, len(data), size):
            await out.event({"data": {
                kind: base64.b64encode(data[at:at + size]).decode()}})
        return True

    async def kill(self, process: Process, number: int) -> None:
        await self.sandbox.ask({"op": "signal", "pid": process.pid,
                                "signal": number})

    def select(self, body: dict) -> Process:
        selector = body["process"]
        if len(selector) != 1:
            raise RpcError("invalid_argument", "one of pid and tag, please")
        for process in self.processes.values():
            if process.pid == selector.get("pid") or (
                    process.tag is not None and
                    process.tag == selector.get("tag")):
                return process
        raise RpcError("not_found", "process not found")

    async def process_list(self, _body: dict) -> dict:
        found = []
        for process in self.processes.values():
            if process.ended.is_set():
                continue
            info = {"config": process.config, "pid": process.pid}
            if process.tag is not None:
                info["tag"] = process.tag
            found.append(info)
        return {"processes": found} if found else {}

    async def send_signal(self, body: dict) -> dict:
        process = self.select(body)
        need(await self.sandbox.ask({
            "op": "signal", "pid": process.pid,
            "signal": int({"SIGNAL_SIGTERM": signal.SIGTERM,
                           "SIGNAL_SIGKILL": signal.SIGKILL}
                          [body["signal"]])}))
        return {}

    async def send_input(self, body: dict) -> dict:
        process = self.select(body)
        kind = "pty" if process.is_pty else "stdin"
        if kind not in body["input"] or process.stdin < 0:
            raise RpcError("failed_precondition", "no such input")
        try:
            data = base64.b64decode(body["input"][kind], validate=True)
            await asyncio.to_thread(os.write, process.stdin, data)
        except binascii.Error as error:
            raise RpcError("invalid_argument", "bad base64") from error
        except OSError as error:
            raise RpcError("internal", str(error)) from error
        return {}

    async def close_stdin(self, body: dict) -> dict:
        process = self.select(body)
        if process.is_pty:
            raise RpcError("failed_precondition", "a PTY takes Ctrl+D")
        if process.stdin >= 0:
            os.close(process.stdin)
            process.stdin = -1
        return {}

    async def pty_update(self, body: dict) -> dict:
        self.select(body)
        return {}

    # File system.

    def entry(self, entry: dict) -> dict[str, Any]:
        names = {0: "root", 1000: "user"}
        seconds = entry.pop("mtime")
        entry["owner"] = names.get(entry.pop("uid"), "nobody")
        entry["group"] = names.get(entry.pop("gid"), "nogroup")
        entry["modifiedTime"] = time.strftime(
            "%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + \
            ".%09dZ" % (seconds % 1 * 1e9)
        entry["size"] = str(entry["size"])
        return {name: value for name, value in entry.items()
                if value not in (0, "", "0")}

    async def stat(self, body: dict) -> dict:
        reply = need(await self.sandbox.ask({
            "op": "stat", "path": self.sandbox.path(body["path"])}))
        return {"entry": self.entry(reply["entry"])}

    async def list_dir(self, body: dict) -> dict:
        reply = need(await self.sandbox.ask({
            "op": "list", "path": self.sandbox.path(body["path"]),
            "depth": body.get("depth", 1)}))
        found = [self.entry(entry) for entry in reply["entries"]]
        return {"entries": found} if found else {}

    async def make_dir(self, body: dict) -> dict:
        reply = need(await self.sandbox.ask({
            "op": "mkdir", "path": self.sandbox.path(body["path"])}))
        return {"entry": self.entry(reply["entry"])}

    async def remove(self, body: dict) -> dict:
        need(await self.sandbox.ask({
            "op": "remove", "path": self.sandbox.path(body["path"])}))
        return {}

    async def move(self, body: dict) -> dict:
        reply = need(await self.sandbox.ask({
            "op": "move", "path": self.sandbox.path(body["source"]),
            "to": self.sandbox.path(body["destination"])}))
        return {"entry": self.entry(reply["entry"])}


class Envelopes:
    """A server stream of Connect, and what can be wrong with it."""

    def __init__(self, exchange: Exchange, envd: Envd):
        self.exchange, self.envd = exchange, envd
        self.fault, self.count = exchange.fault, 0

    async def put(self, flags: int, raw: bytes) -> None:
        self.count += 1
        await self.exchange.chunk(ENVELOPE.pack(flags, len(raw)) + raw)

    async def event(self, event: dict) -> None:
        if self.fault:
            if self.fault.kind == "no_start" and "start" in event:
                return
            await self.spoil()
        await self.put(0, json.dumps({"event": event}).encode())

    async def end(self, value: dict) -> None:
        if self.fault:
            await self.spoil()
            if self.fault.kind == "no_end":
                return
            if self.fault.kind == "end_error":
                value = {"error": {
                    "code": self.fault.spec.get("code", "unavailable"),
                    "message": "the double was told to fail"}}
        await self.put(END, json.dumps(value).encode())
        if self.fault and self.fault.kind == "held_open":
            await self.exchange.connection.watch()
            raise Dropped

    async def spoil(self) -> None:
        fault = self.fault
        if fault.struck or self.count < fault.after:
            return
        fault.struck = True
        if fault.kind == "bad_flag":
            await self.put(0x40, b"{}")
        elif fault.kind == "compressed":
            await self.put(COMPRESSED, b"\x1f\x8b\x08\0junk")
        elif fault.kind == "not_json":
            await self.put(0, b"not JSON")
        elif fault.kind == "wrong_types":
            for value in ([], {"event": 5}, {"event": {"data": "x"}},
                          {"event": {"data": {"stdout": "!!!"}}},
                          {"event": {"start": {"pid": "x"}}}):
                await self.put(0, json.dumps(value).encode())
        elif fault.kind == "giant_envelope":
            await self.exchange.chunk(ENVELOPE.pack(0, 0xfffffff0) + b"{")
        elif fault.kind == "half_envelope":
            await self.exchange.chunk(ENVELOPE.pack(0, 1000) + b'{"eve')
            await self.exchange.cut()
            raise Dropped
        elif fault.kind == "silent":
            await self.exchange.connection.watch()
            raise Dropped
        elif fault.kind == "keepalive_only":
            while True:
                await self.put(0, b'{"event":{"keepalive":{}}}')
                await asyncio.sleep(fault.spec.get("interval_ms", 5000) / 1000)
        elif fault.kind == "huge_total":
            data = base64.b64encode(b"y" * DATA_MAX).decode()
            for _ in range(fault.spec.get("bytes", 256 << 20) // DATA_MAX):
                await self.put(0, json.dumps(
                    {"event": {"data": {"stdout": data}}}).encode())
        elif fault.kind == "sandbox_lost":
            await asyncio.sleep(0.02)
            self.envd.app.fleet.lose(self.envd.sandbox)
            raise Dropped


def disposition(head: bytes) -> tuple[str, str]:
    """name and filename of a part. Go's reader keeps directories here only
    because envd looks at the raw header."""
    line = next((value for name, value in
                 (part.split(b":", 1) for part in head.split(b"\r\n")
                  if b":" in part)
                 if name.strip().lower() == b"content-disposition"), b"")
    fields = {}
    for match in re.finditer(rb';\s*([a-z*]+)="((?:[^"\\]|\\.)*)"', line):
        fields[match[1]] = re.sub(rb'\\(["\\])', rb"\1", match[2])
    for match in re.finditer(rb';\s*([a-z*]+)=([^";\s]+)', line):
        fields.setdefault(match[1], match[2])
    return (fields.get(b"name", b"").decode("utf-8", "replace"),
            fields.get(b"filename", b"").decode("utf-8", "replace"))


__all__ = ["Envd", "Gone"]
