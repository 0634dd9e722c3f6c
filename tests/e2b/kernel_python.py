"""The Python kernel of the interpreter's double: runs cells as IPython would.

Forked ready-made from a sandbox's first process (agent.py). Descriptor 3 is its
socket to the double, in both directions frames of one kind byte, a 4-byte
length and the payload:
  to it:    X {"code", "count"}
  from it:  C count   O/E text of stdout/stderr   R result   F error   D done
What is written to descriptors 1 and 2 behind Python's back arrives by pipes.
"""
import _ast
import builtins
import io
import json
import linecache
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback

RUNTIME = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                       "..", "..", "worker", "runtime")
HEAD = struct.Struct("<cI")
SOCKET_FD = 3
AWAIT = _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
CO_COROUTINE = 0x80
RED, GREEN, CYAN, MARK = "\033[31m", "\033[32m", "\033[36m", "\033[43m"
PLAIN, UNMARK = "\033[39m", "\033[49m"
RULE = "-" * 75
REAL_PRINT = print


def preload() -> None:
    """Once, before any fork. How objects turn into MIME forms is what capibox
    has for its own sandboxes; E2B's forms are meant to be the same."""
    sys.path.insert(0, RUNTIME)
    global python_driver, python_rich
    import python_driver
    import python_rich
    for part in (python_rich.CHART_FILE, python_rich.NOTEBOOK_FILE):
        python_rich.load_part(part)
    sys.path.remove(RUNTIME)
    # Nothing that loads libraries (asyncio and random bring OpenSSL): every
    # mapping makes every fork dearer.
    import ast  # noqa: F401
    import collections  # noqa: F401
    import datetime  # noqa: F401
    import math  # noqa: F401
    import re  # noqa: F401


class StdinNotImplementedError(NotImplementedError):
    pass


def no_input(*_args):
    raise StdinNotImplementedError(
        "raw_input was called, but this frontend does not support input "
        "requests.")


class Link:
    """The socket to the double. A frame goes out whole: an interrupt waits."""

    def __init__(self):
        self.sock = socket.socket(fileno=os.dup(SOCKET_FD))
        os.close(SOCKET_FD)
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.sending, self.interrupted = False, False
        os.register_at_fork(after_in_child=self.forked)

    def forked(self) -> None:
        self.lock = threading.RLock()

    def own(self) -> bool:
        return os.getpid() == self.pid

    def on_interrupt(self, _number, _frame) -> None:
        if self.sending:
            self.interrupted = True
        else:
            raise KeyboardInterrupt

    def send(self, kind: bytes, payload: bytes) -> None:
        if not self.own():
            return  # a child of user code that came back from its cell
        with self.lock:
            self.sending = True
            try:
                self.sock.sendall(HEAD.pack(kind, len(payload)) + payload)
            except OSError:
                os._exit(0)  # the double is gone
            finally:
                self.sending = False
            if self.interrupted:
                self.interrupted = False
                raise KeyboardInterrupt

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.sock.recv(min(size, 1 << 20))
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def next_cell(self) -> dict:
        _kind, size = HEAD.unpack(self.read(HEAD.size))
        return json.loads(self.read(size))


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr. Children of user code use the pipe instead."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, link: Link, kind: bytes, fd: int):
        self.link, self.kind, self.fd = link, kind, fd
        self.name = "<stdout>" if fd == 1 else "<stderr>"

    def writable(self):
        return True

    def fileno(self):
        return self.fd

    def isatty(self):
        return False

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" %
                            type(text).__name__)
        raw = text.encode("utf-8", "backslashreplace")
        if not self.link.own():
            while raw:
                raw = raw[os.write(self.fd, raw):]
        elif raw:
            self.link.send(self.kind, raw)
        return len(text)

    @property
    def buffer(self):
        return Bytes(self)


class Bytes(io.RawIOBase):
    def __init__(self, stream: Stream):
        self.stream = stream

    def writable(self):
        return True

    def write(self, data):
        self.stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)


def whole_print(*values, sep=" ", end="\n", file=None, flush=False):
    """print() that writes once, where the real kernel's streams gather."""
    stream = sys.stdout if file is None else file
    if not isinstance(stream, Stream):
        REAL_PRINT(*values, sep=sep, end=end, file=file, flush=flush)
        return
    gathered = io.StringIO()
    REAL_PRINT(*values, sep=sep, end=end, file=gathered)
    stream.write(gathered.getvalue())


class Pipe:
    """Where capibox's reporter sends results to: our frames, without limits."""

    def __init__(self, link: Link):
        self.link, self.lock = link, link.lock

    def usable(self) -> bool:
        return self.link.own()

    def send(self, kind: bytes, payload: bytes) -> None:
        if kind == b"R":
            self.link.send(b"R", payload)


class Rich:
    """What python_driver.ImportHooks asks for."""

    def __init__(self, link: Link):
        self.reporter = python_rich.Reporter.__new__(python_rich.Reporter)
        self.reporter.rich = self
        self.reporter.pipe = Pipe(link)
        self.new_cell()

    def new_cell(self) -> None:
        reporter = self.reporter
        reporter.items = reporter.left_out = reporter.warnings = 0
        reporter.bytes_left = 1 << 60

    def load(self):
        return self.reporter

    def display(self, *objects, **options):
        self.reporter.items = 0
        self.reporter.display(objects, options)

    def linecache_loaded(self, _module) -> None:
        pass


class Compiler:
    """IPython's way to name a cell's file, which code may replace."""

    def get_code_name(self, _raw_code: str, code: str, _number: int) -> str:
        return "/tmp/ipykernel_%d/%d.py" % (os.getpid(),
                                            hash(code) & 0xffffffff)


class Shell:
    def __init__(self, link: Link):
        self.link, self.rich = link, Rich(link)
        self.main = type(sys)("__main__")
        self.main.__builtins__ = builtins
        self.count = 0
        self.loop = None
        self.names: dict[str, int] = {}  # file name of a cell -> its number
        self.compile = Compiler()

    # Source to code.

    def transform(self, code: str) -> str:
        """`!command` and `%magic` lines, where plain Python would not have
        them."""
        lines = []
        for line in code.split("\n"):
            body = line.lstrip()
            lead = line[:len(line) - len(body)]
            if body.startswith("!"):
                line = "%s__import__('os').system(%r)" % (lead, body[1:])
            elif body.startswith("%matplotlib"):
                line = lead + "pass"
            elif body.startswith("%pip "):
                line = "%s__import__('os').system(%r)" % (
                    lead, "python3 -m " + body[1:])
            lines.append(line)
        return "\n".join(lines)

    def parse(self, code: str, name: str):
        flags = _ast.PyCF_ONLY_AST | AWAIT
        try:
            return compile(code, name, "exec", flags, dont_inherit=True)
        except SyntaxError:
            changed = self.transform(code)
            if changed == code:
                raise
            return compile(changed, name, "exec", flags, dont_inherit=True)

    def parts(self, code: str, name: str):
        """[the code but its last expression, that expression or None]"""
        tree = self.parse(code, name)
        last = None
        if tree.body and isinstance(tree.body[-1], _ast.Expr) and \
                not code.split("\n")[-1].split("#")[0].rstrip().endswith(";"):
            last = tree.body.pop()
        yield compile(tree, name, "exec", AWAIT, dont_inherit=True)
        if last is not None:
            yield compile(_ast.Expression(last.value), name, "eval", AWAIT,
                          dont_inherit=True)

    def evaluate(self, code: str, name: str):
        value = None
        for part in list(self.parts(code, name)):
            value = eval(part, self.main.__dict__)
            if part.co_flags & CO_COROUTINE:
                import asyncio
                self.loop = self.loop or asyncio.new_event_loop()
                asyncio.set_event_loop(self.loop)
                value = self.loop.run_until_complete(value)
        return value

    # What of IPython's InteractiveShell code may use: a cell within a cell.

    @property
    def user_ns(self) -> dict:
        return self.main.__dict__

    def transform_cell(self, code: str) -> str:
        return code

    async def run_cell_async(self, raw_cell, store_history=False, silent=False,
                             shell_futures=True, *, transformed_cell=None,
                             preprocessing_exc_tuple=None, cell_id=None):
        name = self.compile.get_code_name(
            raw_cell, transformed_cell or raw_cell, self.count)
        self.enter(raw_cell, name)
        try:
            if preprocessing_exc_tuple:
                raise preprocessing_exc_tuple[1]
            value = None
            for part in list(self.parts(transformed_cell or raw_cell, name)):
                value = eval(part, self.user_ns)
                if part.co_flags & CO_COROUTINE:
                    value = await value
            self.show(value)
        except SystemExit as error:
            self.exit(error)
        except BaseException as error:
            self.failure(error)

    # A cell.

    def run(self, cell: dict) -> None:
        self.count = cell["count"]
        self.rich.new_cell()
        self.link.send(b"C", b"%d" % self.count)
        code = cell["code"]
        name = self.compile.get_code_name(code, code, self.count)
        self.enter(code, name)
        try:
            self.show(self.evaluate(code, name))
        except SystemExit as error:
            self.exit(error)
        except BaseException as error:
            self.failure(error)

    def enter(self, code: str, name: str) -> None:
        """Tracebacks know this cell and its lines from now on."""
        self.names[name] = self.count
        linecache.cache[name] = (len(code), None,
                                 [line + "\n" for line in code.split("\n")],
                                 name)

    def show(self, value) -> None:
        if value is not None:
            builtins._ = value
            self.rich.reporter.result(value)
        self.rich.reporter.finish()

    def exit(self, error: SystemExit) -> None:
        import warnings
        warnings.warn("To exit: use 'exit', 'quit', or Ctrl-D.", stacklevel=1)
        self._showtraceback(type(error), error, [
            "An exception has occurred, use %tb to see the full traceback.\n",
            "%s%s%s%s:%s %s\n" % (RED, type(error).__name__, PLAIN, RED, PLAIN,
                                  error)])

    def failure(self, error: BaseException) -> None:
        name = type(error).__name__
        try:
            value = str(error)
        except Exception:
            value = "<exception str() failed>"
        try:
            text = self.trace(error, name, value)
        except Exception:
            text = "%s: %s" % (name, value)
        self._showtraceback(type(error), error, [text])

    def _showtraceback(self, etype: type, evalue: BaseException,
                       stb: list[str]) -> None:
        """As ipykernel's ZMQInteractiveShell, by whose name code may wrap it."""
        try:
            value = str(evalue)
        except Exception:
            value = "<exception str() failed>"
        self.link.send(b"F", json.dumps({
            "name": str(etype.__name__), "value": value,
            "traceback": "\n".join(stb)}).encode())

    # The look of a traceback.

    def place(self, frame) -> str:
        cell = self.names.get(frame.filename)
        if cell is None:
            return "File %s%s:%d, in %s(...)%s" % (
                GREEN, frame.filename, frame.lineno, frame.name, PLAIN)
        inside = "" if frame.name == "<module>" else \
            ", in %s%s()%s" % (CYAN, frame.name, PLAIN)
        return "%sCell%s %sIn[%d]%s%s, line %d%s%s" % (
            CYAN, PLAIN, GREEN, cell, PLAIN, GREEN, frame.lineno, PLAIN,
            inside)

    def around(self, frame) -> list[str]:
        out = []
        for number in range(max(frame.lineno - 2, 1), frame.lineno + 3):
            line = linecache.getline(frame.filename, number).rstrip("\n")
            if number == frame.lineno:
                out.append("%s----> %s%s%d%s %s%s%s" % (
                    GREEN, PLAIN, GREEN, number, PLAIN, MARK, line, UNMARK))
            elif line:
                out.append("%s%7d%s %s" % (GREEN, number, PLAIN, line))
        return out

    def syntax_trace(self, error: SyntaxError, name: str) -> str:
        cell = self.names.get(error.filename, self.count)
        text = (error.text or "").rstrip("\n")
        arrow = " " * (4 + max((error.offset or 1) - 1, 0)) + "^"
        place = "  %sCell%s %sIn[%d]%s%s, line %s%s" % (
            CYAN, PLAIN, GREEN, cell, PLAIN, GREEN, error.lineno, PLAIN)
        return "%s\n    %s\n%s\n%s%s%s%s:%s %s\n" % (
            place, text, arrow, RED, name, PLAIN, RED, PLAIN, error.msg)

    def trace(self, error: BaseException, name: str, value: str) -> str:
        if isinstance(error, SyntaxError) and error.filename in self.names:
            return self.syntax_trace(error, name)
        lines = ["%s%s%s" % (RED, RULE, PLAIN),
                 "%s%s%s%s" % (RED, name, PLAIN,
                               "Traceback (most recent call last)".rjust(
                                   max(75 - len(name), 34)))]
        frames = traceback.extract_tb(error.__traceback__)
        while frames and frames[0].filename not in self.names:
            del frames[0]
        for frame in frames:
            lines += [self.place(frame), *self.around(frame), ""]
        if not frames:
            lines.append("")
        lines.append("%s%s%s: %s" % (RED, name, PLAIN, value))
        return "\n".join(lines)


def main(order: dict) -> None:
    """The whole life of a kernel; descriptors and user are set up."""
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    link = Link()
    sys.stdout = sys.__stdout__ = Stream(link, b"O", 1)
    sys.stderr = sys.__stderr__ = Stream(link, b"E", 2)
    sys.stdin = sys.__stdin__ = open(os.devnull, encoding="utf-8")
    builtins.input = no_input
    builtins.print = whole_print
    shell = Shell(link)
    builtins.display = shell.rich.display
    builtins.get_ipython = lambda: shell
    hooks = python_driver.ImportHooks(shell.rich)
    sys.meta_path.insert(0, hooks)
    hooks.catch_up()
    sys.argv = ["ipykernel_launcher.py"]
    sys.path[:] = [order["cwd"], *[p for p in sys.path[1:]]]
    sys.modules["__main__"] = shell.main
    while True:
        # Between cells an interrupt has nothing to hit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cell = link.next_cell()
        try:
            signal.signal(signal.SIGINT, link.on_interrupt)
            shell.run(cell)
        except KeyboardInterrupt as error:  # after the cell's own end
            shell.failure(error)
        if not link.own():
            os._exit(0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        link.interrupted = False
        link.send(b"D", b"")
