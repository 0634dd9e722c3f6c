"""HTTP/1.1 over asyncio streams, strict about requests and free with answers.

Knows nothing of E2B. An Exchange is one request and its answer; how the answer
can go wrong on the wire is in here too, as faults.Fault says.
"""
import asyncio
import contextlib
import json
import socket
import struct
import time
from typing import Any, Awaitable, Callable

HEAD_MAX = 64 << 10
BODY_MAX = 512 << 20
REASONS = {200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content",
           301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect",
           308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           409: "Conflict", 415: "Unsupported Media Type",
           422: "Unprocessable Entity", 429: "Too Many Requests",
           500: "Internal Server Error", 501: "Not Implemented",
           502: "Bad Gateway", 503: "Service Unavailable",
           504: "Gateway Timeout", 507: "Insufficient Storage"}


class Dropped(Exception):
    """The connection of this exchange is no more; stop working on it."""


class BadRequest(Exception):
    pass


class Request:
    def __init__(self, method: str, target: str, version: str,
                 headers: list[tuple[str, str]]):
        self.method, self.version, self.header_list = method, version, headers
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers: dict[str, str] = {}
        self.doubled: list[str] = []
        for name, value in headers:
            if name in self.headers:
                self.doubled.append(name)
            self.headers[name] = value
        self.body = b""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0] \
            .strip().lower()

    @property
    def host(self) -> str:
        return self.headers.get("host", "").rpartition(":")[0] or \
            self.headers.get("host", "")


def parse_head(raw: bytes) -> Request:
    try:
        lines = raw.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = []
        for line in lines[1:]:
            if not line:
                continue
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                raise BadRequest("header line %r" % line)
            headers.append((name.lower(), value.strip(" \t")))
    except ValueError as error:
        raise BadRequest("request line %r" % raw[:80]) from error
    if version not in ("HTTP/1.1", "HTTP/1.0") or not target.startswith("/"):
        raise BadRequest("request line %r" % lines[0][:80])
    return Request(method, target, version, headers)


class Connection:
    def __init__(self, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.pushed = b""  # read while watching for the end
        self.served = 0
        self.busy = False
        self.sock = writer.get_extra_info("socket")
        tls = writer.get_extra_info("ssl_object")
        self.tls = tls is not None
        self.alpn = tls.selected_alpn_protocol() if tls else None
        self.resumed = bool(tls and tls.session_reused)

    async def read_head(self) -> Request | None:
        raw = self.pushed
        self.pushed = b""
        try:
            if b"\r\n\r\n" not in raw:
                raw += await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if raw + error.partial:
                raise BadRequest("half a request: %r" %
                                 (raw + error.partial)[:80]) from error
            return None
        except asyncio.LimitOverrunError as error:
            raise BadRequest("request head too large") from error
        head, _, rest = raw.partition(b"\r\n\r\n")
        self.pushed = rest
        return parse_head(head)

    async def exactly(self, size: int) -> bytes:
        data, self.pushed = self.pushed[:size], self.pushed[size:]
        if len(data) < size:
            data += await self.reader.readexactly(size - len(data))
        return data

    async def line(self) -> bytes:
        while b"\r\n" not in self.pushed:
            more = await self.reader.read(4096)
            if not more:
                raise BadRequest("half a chunked body")
            self.pushed += more
        line, _, self.pushed = self.pushed.partition(b"\r\n")
        return line

    async def read_body(self, request: Request) -> None:
        headers = request.headers
        if headers.get("expect", "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        coding = headers.get("transfer-encoding")
        try:
            if coding is not None:
                if coding.lower() != "chunked" or "content-length" in headers:
                    raise BadRequest("transfer-encoding %r" % coding)
                request.body = await self.read_chunks()
            elif "content-length" in headers:
                length = headers["content-length"]
                if not length.isdecimal() or int(length) > BODY_MAX:
                    raise BadRequest("content-length %r" % length)
                request.body = await self.exactly(int(length))
        except asyncio.IncompleteReadError as error:
            raise BadRequest("half a body") from error

    async def read_chunks(self) -> bytes:
        parts, total = [], 0
        while True:
            line = (await self.line()).partition(b";")[0]
            try:
                size = int(line, 16)
            except ValueError as error:
                raise BadRequest("chunk size %r" % line[:20]) from error
            if size == 0:
                while await self.line():
                    pass
                return b"".join(parts)
            total += size
            if total > BODY_MAX:
                raise BadRequest("body too large")
            parts.append(await self.exactly(size))
            if await self.line():
                raise BadRequest("chunk without an end")

    async def watch(self) -> None:
        """Returns when the client is gone (or sends what it should not)."""
        if self.pushed:
            await asyncio.get_running_loop().create_future()
        try:
            self.pushed = await self.reader.read(1)
        except (ConnectionError, OSError):
            return
        if self.pushed:
            await asyncio.get_running_loop().create_future()

    # Ways to end.

    def reset(self) -> None:
        # Closed already, or lost before its handshake was over.
        with contextlib.suppress(OSError, AttributeError):
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        self.abort()

    def abort(self) -> None:
        # asyncio's TLS transport forgets its protocol once it is closed.
        with contextlib.suppress(AttributeError):
            self.writer.transport.abort()

    async def cut(self) -> None:
        """FIN, under TLS without close_notify, after what was written."""
        transport = self.writer.transport
        for _ in range(200):
            if not transport.get_write_buffer_size():
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.01)  # asyncio's TLS has a buffer of its own
        self.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), 5)
        except (OSError, asyncio.TimeoutError):
            self.abort()


class Exchange:
    def __init__(self, connection: Connection, request: Request):
        self.connection, self.request = connection, request
        self.fault: Any = None  # faults.Fault, for what is sent
        self.started = self.ended = self.dead = False
        self.chunked = False
        self.keep = request.version == "HTTP/1.1" and \
            "close" not in request.headers.get("connection", "").lower()
        self.sent_body = 0

    # Answers.

    async def reply(self, status: int, body: bytes = b"",
                    headers: dict[str, str] | None = None) -> None:
        if self.fault and await self.fault.on_reply(self, status, body):
            return
        head = dict(headers or {})
        if status != 204:
            head.setdefault("Content-Length", str(len(body)))
        self.write_head(status, head)
        if self.request.method != "HEAD":
            await self.write_body(body)
        self.ended = True

    async def json(self, status: int, value: Any,
                   headers: dict[str, str] | None = None,
                   kind: str = "application/json; charset=utf-8") -> None:
        body = json.dumps(value, separators=(",", ":")).encode()
        await self.reply(status, body, {"Content-Type": kind,
                                        **(headers or {})})

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        """A chunked answer; chunk() and finish() follow."""
        if self.fault:
            await self.fault.on_begin(self)
        self.chunked = True
        self.write_head(status, {**headers, "Transfer-Encoding": "chunked"})
        await self.drain()

    async def chunk(self, data: bytes) -> None:
        if data:
            await self.write_body(data)

    async def finish(self) -> None:
        if self.dead:
            raise Dropped
        self.connection.writer.write(b"0\r\n\r\n")
        self.ended = True
        await self.drain()
        if self.fault:
            await self.fault.on_finish(self)

    # Below that.

    def write_head(self, status: int, headers: dict[str, str]) -> None:
        if self.dead:
            raise Dropped
        lines = ["HTTP/1.1 %d %s" % (status, REASONS.get(status, "Status"))]
        lines += ["%s: %s" % item for item in headers.items()]
        lines.append("Date: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT",
                                              time.gmtime()))
        if not self.keep:
            lines.append("Connection: close")
        self.started = True
        self.connection.writer.write(
            ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def write_body(self, data: bytes) -> None:
        if self.fault:
            data = await self.fault.on_body(self, data)
        if self.dead:
            raise Dropped
        if data:
            self.raw(data)
        await self.drain()

    def raw(self, data: bytes) -> None:
        if self.chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self.sent_body += len(data)
        self.connection.writer.write(data)

    async def drain(self) -> None:
        try:
            await self.connection.writer.drain()
        except (ConnectionError, OSError) as error:
            self.dead = True
            raise Dropped from error
        if self.dead:
            raise Dropped

    def reset(self) -> None:
        """RST, also from outside, as when the sandbox behind it ends."""
        if not self.dead and not self.ended:
            self.dead = True
            self.connection.reset()

    async def cut(self) -> None:
        self.dead = True
        await self.connection.cut()

    async def close_cleanly(self) -> None:
        """FIN and, under TLS, close_notify."""
        self.dead = True
        await self.connection.close()


Handler = Callable[[Exchange], Awaitable[None]]


async def serve_connection(connection: Connection, handler: Handler,
                           complain: Callable[[str], None]) -> None:
    """One connection, request after request, until either side ends it."""
    try:
        while True:
            request = await connection.read_head()
            if request is None:
                break
            await connection.read_body(request)
            exchange = Exchange(connection, request)
            connection.served += 1
            connection.busy = True
            await handler(exchange)
            connection.busy = False
            if exchange.dead:
                return
            if not exchange.keep:
                break
    except BadRequest as error:
        complain("http: %s" % error)
        connection.writer.write(b"HTTP/1.1 400 Bad Request\r\n"
                                b"Connection: close\r\n"
                                b"Content-Length: 0\r\n\r\n")
    except (Dropped, ConnectionError, OSError, asyncio.IncompleteReadError):
        return
    finally:
        await connection.close()
