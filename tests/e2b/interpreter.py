"""The code interpreter of a sandbox, port 49999: /execute and /contexts."""
import asyncio
import functools
import json
import os
import signal
import socket
import struct
import uuid
from datetime import datetime, timezone
from typing import Any

from sandbox import BASE_ENV, HERE, HOME, KERNEL_ENV, Gone, Output, Sandbox
from server import Dropped, Exchange

KEEPALIVE_S = 5.0
FRAME = struct.Struct("<cI")
LANGUAGES = {"python": "python", "python3": "python", "javascript":
             "javascript", "js": "javascript", "typescript": "javascript",
             "ts": "javascript", "bash": "bash"}
# How the real server writes a variable, by kernel; the quotes in a value are
# left as they are.
SET_ENV = {"python": "import os; os.environ['{0}'] = '{1}'",
           "javascript": "process.env['{0}'] = '{1}'",
           "bash": "export {0}='{1}'"}
UNSET_ENV = {"python": "import os; os.environ.pop('{0}', None)",
             "javascript": "delete process.env['{0}']",
             "bash": "unset {0}"}


@functools.cache
def source(name: str) -> str:
    """As an argument: the sandbox's user may not be able to read our tree."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


class Kernel:
    """A process that runs cells: frames of kernel_python.py over a socket."""

    def __init__(self, sandbox: Sandbox, kind: str, cwd: str):
        self.sandbox, self.kind, self.cwd = sandbox, kind, cwd
        self.pid, self.dead = 0, False
        self.sock: socket.socket | None = None
        self.output = Output()
        self.buffer = bytearray()

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        null = os.open(os.devnull, os.O_RDONLY)
        fds = (null, pipes[0][1], pipes[1][1], theirs.fileno())
        order: dict[str, Any] = {"op": "kernel", "cwd": self.cwd,
                                 "env": {**BASE_ENV, **KERNEL_ENV}}
        if self.kind == "javascript":
            order.update(op="spawn", argv=["node", "-e",
                                           source("kernel_node.js")])
        elif self.kind == "bash":
            order.update(op="spawn", argv=["/usr/bin/python3", "-I", "-c",
                                           source("kernel_bash.py")])
        try:
            reply = await self.sandbox.ask(order, fds)
        finally:
            theirs.close()
            for fd in (null, pipes[0][1], pipes[1][1]):
                os.close(fd)
        if "errno" in reply:
            raise OSError(reply["errno"], "cannot start a kernel")
        self.pid = reply["pid"]
        self.sock = ours
        for (fd, _write), kind in zip(pipes, (b"O", b"E")):
            self.output.add(fd, kind)
        self.output.watch(ours.fileno(), self.readable)

    def readable(self) -> None:
        assert self.sock
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.dead = True
            self.drain_pipes()
            self.close()
            self.output.put(b"", b"")
            return
        self.buffer += data
        self.split()

    def drain_pipes(self) -> None:
        for _ in range(8):
            before = self.output.bytes
            self.output.poll()
            if self.output.bytes == before:
                return

    def split(self) -> None:
        """Frames out of the buffer; neighbours of one stream become one."""
        at, buffer = 0, self.buffer
        text_kind, texts = b"", []
        while len(buffer) - at >= FRAME.size:
            kind, size = FRAME.unpack_from(buffer, at)
            if len(buffer) - at < FRAME.size + size:
                break
            at += FRAME.size
            payload = bytes(buffer[at:at + size])
            at += size
            if kind != text_kind and texts:
                self.output.put(text_kind, b"".join(texts))
                texts = []
            text_kind = kind
            if kind in (b"O", b"E"):
                texts.append(payload)
                continue
            text_kind = b""
            if kind == b"D":
                self.drain_pipes()
            self.output.put(kind, payload)
        if texts:
            self.output.put(text_kind, b"".join(texts))
        del buffer[:at]

    def send(self, cell: dict) -> None:
        body = json.dumps(cell).encode()
        assert self.sock
        # It waits for a cell, so it reads.
        self.sock.setblocking(True)
        try:
            self.sock.sendall(FRAME.pack(b"X", len(body)) + body)
        except OSError:
            pass  # its death shows on the reading side
        finally:
            if self.sock.fileno() >= 0:
                self.sock.setblocking(False)

    async def interrupt(self) -> None:
        await self.sandbox.ask({"op": "signal", "pid": self.pid,
                                "signal": signal.SIGINT, "group": True})

    async def kill(self) -> None:
        await self.sandbox.ask({"op": "signal", "pid": self.pid,
                                "signal": signal.SIGKILL, "group": True})

    def close(self) -> None:
        if self.sock and self.sock.fileno() >= 0:
            self.output.unwatch(self.sock.fileno())
            self.sock.close()
        self.output.close()


class Context:
    def __init__(self, kind: str, language: str, cwd: str):
        self.id = str(uuid.uuid4())
        self.kind, self.language, self.cwd = kind, language, cwd
        self.lock = asyncio.Lock()
        self.kernel: Kernel | None = None
        self.count = 0
        self.settling: asyncio.Future | None = None  # of an abandoned run
        self.envs: dict[str, Any] | None = None

    def describe(self) -> dict[str, str]:
        return {"id": self.id, "language": self.language, "cwd": self.cwd}


class Interpreter:
    def __init__(self, sandbox: Sandbox, app: Any):
        self.sandbox, self.app = sandbox, app
        self.contexts: dict[str, Context] = {}
        self.defaults: dict[str, Context] = {}
        for language in ("python", "javascript"):  # exist at boot
            self.default(language)

    def close(self) -> None:
        for context in self.contexts.values():
            if context.kernel:
                context.kernel.close()

    def default(self, language: str) -> Context | None:
        kind = LANGUAGES.get(language)
        if kind is None:
            return None
        if language not in self.defaults:
            self.defaults[language] = self.add(Context(kind, language, HOME))
        return self.defaults[language]

    def add(self, context: Context) -> Context:
        self.contexts[context.id] = context
        return context

    # Routes.

    async def ci_health(self, exchange: Exchange, _body: Any, _id: str
                        ) -> None:
        await exchange.json(200, "OK", kind="application/json")

    async def listing(self, exchange: Exchange, _body: Any, _id: str) -> None:
        await exchange.json(200, [one.describe()
                                  for one in self.contexts.values()],
                            kind="application/json")

    async def context_new(self, exchange: Exchange, body: dict, _id: str
                          ) -> None:
        language = (body.get("language") or "python").strip().lower()
        kind = LANGUAGES.get(language)
        if kind is None:
            await text(exchange, 500, "Failed to create context: no kernel "
                       "%s" % language)
            return
        context = self.add(Context(kind, language, body.get("cwd") or HOME))
        await exchange.json(200, context.describe(), kind="application/json")

    async def context_restart(self, exchange: Exchange, _body: Any, name: str
                              ) -> None:
        context = self.contexts.get(name)
        if context is None:
            await text(exchange, 404, "Context %s not found" % name)
            return
        await self.forget_kernel(context)
        await exchange.json(200, None, kind="application/json")

    async def context_delete(self, exchange: Exchange, _body: Any, name: str
                             ) -> None:
        context = self.contexts.pop(name, None)
        if context is None:
            await text(exchange, 404, "Context %s not found" % name)
            return
        for language, one in list(self.defaults.items()):
            if one is context:
                del self.defaults[language]
        await self.forget_kernel(context)
        await exchange.json(200, None, kind="application/json")

    async def forget_kernel(self, context: Context) -> None:
        kernel, context.kernel = context.kernel, None
        if kernel and not kernel.dead:
            await kernel.kill()
            kernel.close()
            kernel.dead = True
            kernel.output.put(b"", b"")

    # Execute.

    async def execute(self, exchange: Exchange, body: dict, _id: str) -> None:
        language, name = body.get("language"), body.get("context_id")
        if language and name:
            await text(exchange, 400, "Only one of context_id or language can "
                       "be provided")
            return
        if name:
            context = self.contexts.get(name)
            if context is None:
                await text(exchange, 404, "Context %s not found" % name)
                return
        else:
            context = self.default((language or "python").strip().lower())
            if context is None:
                await text(exchange, 500, "Failed to create context: no "
                           "kernel %s" % language)
                return
        # No Content-Type, and at once, even if the run must wait.
        await exchange.begin(200, {"server": "uvicorn"})
        run = Run(self, context, exchange)
        watcher = asyncio.ensure_future(exchange.connection.watch())
        work = asyncio.ensure_future(run.whole(body))
        try:
            await asyncio.wait((watcher, work),
                               return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # the client is gone
                exchange.dead = True
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        error = None if work.cancelled() else work.exception()
        if error and not isinstance(error, (Dropped, Gone, ConnectionError)):
            raise error
        if error or work.cancelled():
            exchange.reset()

    def variables(self, context: Context, exchange: Exchange) -> dict:
        """What envd says at GET /envs, once per context. Without the token it
        says 401, and that answer is taken for the variables."""
        if context.envs is None:
            token = exchange.request.headers.get("x-access-token")
            if self.sandbox.token and token != self.sandbox.token:
                self.app.complain("execute: the first run of a context came "
                                  "without the right X-Access-Token")
                context.envs = {"code": 401,
                                "message": "unauthorized access, please "
                                "provide a valid access token or method "
                                "signing if supported"}
            else:
                context.envs = self.sandbox.envs()
        return context.envs


class Run:
    """One run of a context, event by event."""

    def __init__(self, interpreter: Interpreter, context: Context,
                 exchange: Exchange):
        self.interpreter, self.context = interpreter, context
        self.sandbox, self.exchange = interpreter.sandbox, exchange
        self.fault = exchange.fault
        self.events = 0
        self.kernel_done = False
        self.tails = {b"O": b"", b"E": b""}  # half a UTF-8 character

    async def whole(self, body: dict) -> None:
        context = self.context
        async with context.lock:
            if context.settling:
                await asyncio.shield(context.settling)
                context.settling = None
            first = context.envs is None
            if context.kernel is None or context.kernel.dead:
                context.kernel = Kernel(self.sandbox, context.kind,
                                        context.cwd)
                try:
                    await context.kernel.start()
                except OSError:  # a guest full of processes, say
                    context.kernel.close()
                    await self.kernel_died()
                    await self.event("end_of_execution")
                    await self.exchange.finish()
                    return
                first = True
            code = self.code(body, first)
            context.count += 1
            kernel = context.kernel
            try:
                kernel.send({"code": code, "count": context.count})
                await self.relay(kernel)
                if body.get("env_vars") and not kernel.dead:
                    self.kernel_done = False
                    await self.undo(kernel, body["env_vars"])
                    self.kernel_done = True
            finally:
                if not self.kernel_done and not kernel.dead and \
                        self.sandbox.state == "running":
                    # On its own: this task may be cancelled any moment.
                    context.settling = asyncio.ensure_future(
                        self.abandon(kernel))
        await self.exchange.finish()

    async def abandon(self, kernel: Kernel) -> None:
        """The client went: interrupt, and wait for the end of the cell."""
        try:
            await kernel.interrupt()
            try:
                async with asyncio.timeout(30):
                    while (await kernel.output.take())[0] not in (b"D", b""):
                        pass
            except asyncio.TimeoutError:
                await self.interpreter.forget_kernel(self.context)
        except Gone:
            pass

    def code(self, body: dict, first: bool) -> str:
        every = self.interpreter.variables(self.context, self.exchange)
        names = {**(every if first else {}), **(body.get("env_vars") or {})}
        return "\n".join([*self.assign(names), body["code"]])

    def assign(self, names: dict[str, Any]) -> list[str]:
        return [SET_ENV[self.context.kind].format(name, value)
                for name, value in names.items()]

    async def undo(self, kernel: Kernel, call: dict[str, str]) -> None:
        """Takes the call's own variables back, out of the client's sight."""
        every = self.context.envs or {}
        lines = self.assign({name: every[name] for name in call
                             if name in every})
        lines += [UNSET_ENV[self.context.kind].format(name) for name in call
                  if name not in every]
        kernel.send({"code": "\n".join(lines), "count": self.context.count})
        while (await kernel.output.take())[0] not in (b"D", b""):
            pass

    # Events.

    async def event(self, kind: str, **fields: Any) -> None:
        if self.fault and await self.spoil(kind, fields):
            return
        await self.line({"type": kind, **fields})

    async def line(self, value: Any) -> None:
        self.events += 1
        await self.exchange.chunk(json.dumps(value).encode() + b"\n")

    async def relay(self, kernel: Kernel) -> None:
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    kind, data = await kernel.output.take()
            except asyncio.TimeoutError:
                await self.event("keepalive")
                continue
            self.kernel_done = kind in (b"", b"D")
            if kind == b"":
                await self.kernel_died()
                break
            if kind == b"D":
                await self.flush_tails()
                break
            await self.pass_on(kind, data)
        self.sandbox.count_ooms()
        await self.event("end_of_execution")

    async def pass_on(self, kind: bytes, data: bytes) -> None:
        if kind in (b"O", b"E"):
            # An empty read is the end of a pipe.
            if data:
                await self.text(kind, data)
        elif kind == b"C":
            await self.event("number_of_executions",
                             execution_count=int(data))
        elif kind == b"R":
            await self.result(json.loads(data))
        elif kind == b"F":
            await self.event("error", **json.loads(data))

    async def text(self, kind: bytes, data: bytes) -> None:
        data = self.tails[kind] + data
        text = data.decode("utf-8", "ignore")
        # A character whose rest is still to come is the only thing to keep.
        tail = b""
        for size in (1, 2, 3):
            if len(data) >= size and data[-size] >= 0xc0:
                try:
                    data[-size:].decode("utf-8")
                except UnicodeDecodeError:
                    tail = data[-size:]
                break
        if tail:
            data = data[:-len(tail)]
        text = data.decode("utf-8", "replace")
        self.tails[kind] = tail
        if text:
            await self.event("stdout" if kind == b"O" else "stderr",
                             text=text, timestamp=now())

    async def flush_tails(self) -> None:
        for kind, tail in list(self.tails.items()):
            self.tails[kind] = b""
            if tail:
                await self.event("stdout" if kind == b"O" else "stderr",
                                 text="\ufffd", timestamp=now())

    async def result(self, fields: dict) -> None:
        text = fields.get("text")
        # One pair of quotes around a plain string goes.
        if isinstance(text, str) and len(text) > 1 and \
                text[0] == text[-1] and text[0] in "'\"":
            fields["text"] = text[1:-1]
        await self.event("result", **fields)

    async def kernel_died(self) -> None:
        await self.flush_tails()
        self.context.kernel, self.context.count = None, 0
        await asyncio.sleep(self.interpreter.app.restart_delay)
        await self.event("error", name="ContextRestarting",
                         value="Context was restarted", traceback="")

    # Faults: called before each event; True if it has dealt with it.

    async def spoil(self, kind: str, fields: dict) -> bool:
        fault = self.fault
        if kind == "number_of_executions" and fault.kind == "no_count":
            return True
        if kind == "end_of_execution":
            return await self.spoil_end()
        if fault.kind == "split_utf8" and kind in ("stdout", "stderr"):
            await self.split_utf8({"type": kind, **fields})
            return True
        if fault.struck or self.events < fault.after:
            return False
        method = getattr(self, "spoil_" + fault.kind, None)
        if method is None:
            return False
        fault.struck = True
        await method()
        return False

    async def spoil_end(self) -> bool:
        fault = self.fault
        if not fault.struck and hasattr(self, "spoil_" + fault.kind):
            fault.struck = True
            await getattr(self, "spoil_" + fault.kind)()
        if fault.kind == "no_end":
            return True
        if fault.kind in ("bare_end", "held_open"):
            await self.exchange.chunk(
                b'{"execution_count": 1, "type": "end_of_execution"}' +
                b"\n" * (fault.kind == "held_open"))
            if fault.kind == "held_open":
                await asyncio.get_running_loop().create_future()
            return True
        if fault.kind in ("duplicate_end", "after_end"):
            await self.line({"type": "end_of_execution"})
            if fault.kind == "after_end":
                await self.line({"type": "stdout", "text": "too late\n",
                                 "timestamp": now()})
                return True
        return False

    async def split_utf8(self, value: dict) -> None:
        """Raw UTF-8, cut in the middle of its first character."""
        raw = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        at = next((i for i, byte in enumerate(raw) if byte > 0x7f), 0) + 1
        self.events += 1
        await self.exchange.chunk(raw[:at])
        await asyncio.sleep(0.05)
        await self.exchange.chunk(raw[at:])

    async def spoil_long_line(self) -> None:
        size = self.fault.spec.get("bytes", 10 << 20)
        await self.exchange.chunk(b'{"type": "stdout", "timestamp": "%s", '
                                  b'"text": "' % now().encode())
        for left in range(size, 0, -65536):
            await self.exchange.chunk(b"x" * min(left, 65536))
        await self.exchange.chunk(b'"}\n')

    async def spoil_huge_total(self) -> None:
        left = self.fault.spec.get("bytes", 256 << 20)
        line = json.dumps({"type": "stdout", "text": "y" * 60000 + "\n",
                           "timestamp": now()}).encode() + b"\n"
        while left > 0:
            await self.exchange.chunk(line)
            left -= len(line)

    async def spoil_many_lines(self) -> None:
        line = json.dumps({"type": "stdout", "text": "z\n",
                           "timestamp": now()}).encode() + b"\n"
        for _ in range(self.fault.spec.get("lines", 100000) // 100):
            await self.exchange.chunk(line * 100)

    async def spoil_half_line(self) -> None:
        await self.exchange.chunk(b'{"type": "stdout", "text": "half a l')
        if self.fault.spec.get("clean", False):
            await self.exchange.finish()
            await self.exchange.close_cleanly()
        else:
            await self.exchange.cut()
        raise Dropped

    async def spoil_empty_line(self) -> None:
        await self.exchange.chunk(b"\n")

    async def spoil_not_json(self) -> None:
        await self.exchange.chunk(self.fault.spec.get(
            "body", "this is not JSON").encode("utf-8", "surrogateescape") +
            b"\n")

    async def spoil_raw_lines(self) -> None:
        for line in self.fault.spec["lines"]:
            if not isinstance(line, str):
                line = json.dumps(line)
            await self.exchange.chunk(line.encode("utf-8", "surrogateescape") +
                                      b"\n")

    async def spoil_unknown_type(self) -> None:
        await self.line({"type": "weather_report", "text": "rain"})
        await self.line({"type": "stdout_v2", "chunks": [1, 2]})

    async def spoil_wrong_types(self) -> None:
        for value in (
                {"type": "stdout", "text": 5, "timestamp": 7},
                {"type": "stdout", "timestamp": now()},
                {"type": "stderr", "text": None, "timestamp": None},
                {"type": 12, "text": "x"}, {"text": "no type"}, [], "text", 3,
                None, {"type": "result", "is_main_result": "yes",
                       "extra": [], "text": {"a": 1}, "png": 12},
                {"type": "error", "name": 5, "value": None, "traceback": []},
                {"type": "number_of_executions", "execution_count": "one"}):
            await self.line(value)

    async def spoil_keepalive_only(self) -> None:
        while True:
            await self.line({"type": "keepalive"})
            await asyncio.sleep(self.fault.spec.get("interval_ms", 5000) /
                                1000)

    async def spoil_silent(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def spoil_sandbox_lost(self) -> None:
        await asyncio.sleep(0.02)
        self.interpreter.app.fleet.lose(self.sandbox)
        raise Dropped

    async def spoil_kernel_dies(self) -> None:
        if self.context.kernel:
            await self.context.kernel.kill()
            # Before anything more of it is passed on.
            while not self.context.kernel.dead:
                await asyncio.sleep(0.005)


async def text(exchange: Exchange, status: int, message: str) -> None:
    await exchange.reply(status, message.encode(),
                         {"Content-Type": "text/plain; charset=utf-8"})
