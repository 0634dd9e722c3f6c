"""Where requests go: host to plane, path to route, and checks on the way."""
import asyncio
import collections
import json
import re
import time
import traceback
from typing import Any

import schema
import server
from control import Control
from envd import ENVELOPE, Envd
from faults import Faults
from interpreter import Interpreter
from sandbox import Fleet, Gone, Sandbox
from server import Connection, Exchange, Request

ENVD_PORT, INTERPRETER_PORT = "49983", "49999"
BODY_16M = 16 << 20
VIOLATIONS_MAX = 1000
CLOCKS_DIFFER_S = 0.02  # of what we measure and what the client does
BROWSERS = r"mozilla|chrome|safari|firefox|edge|opera|msie"
SECRETS = ("x-api-key", "x-access-token", "e2b-traffic-access-token",
           "authorization")


class Refused(Exception):
    """The request is answered; nothing more to do."""


class App:
    def __init__(self, fleet: Fleet, key: str, envd_version: str,
                 restart_delay: float, spec: str):
        self.fleet, self.key = fleet, key
        self.envd_version, self.restart_delay = envd_version, restart_delay
        self.control = Control(fleet, self)
        self.faults = Faults()
        self.spec = schema.Spec(spec) if spec else None
        self.violations: list[str] = []
        self.violation_count = 0
        self.requests: collections.Counter = collections.Counter()
        self.handshakes = self.resumed = self.connections = 0
        self.open: set[Connection] = set()
        self.foreign: list[dict[str, Any]] = []
        self.latency = 0.0
        self.not_before: dict[tuple[str, str], float] = {}
        self.begun = time.monotonic()

    def complain(self, text: str) -> None:
        self.violation_count += 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(text)

    # Connections.

    async def connected(self, reader: asyncio.StreamReader,
                        writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections += 1
        self.open.add(connection)
        self.handshakes += connection.tls
        self.resumed += connection.resumed
        try:
            if connection.alpn == "h2":
                # Offered with --h2 alone, to see who would take it.
                self.complain("http: HTTP/2 was negotiated")
                return
            await server.serve_connection(connection, self.dispatch,
                                          self.complain)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            traceback.print_exc()
            self.complain("double: bug: %r" % error)
            connection.reset()
        finally:
            self.open.discard(connection)
            connection.abort()

    async def close_open(self, idle_only: bool, rst: bool) -> int:
        """As a load balancer that restarts does."""
        chosen = [one for one in self.open if not (idle_only and one.busy)]
        for one in chosen:
            if rst:
                one.reset()
            else:
                one.writer.close()  # its own task waits for the end
        return len(chosen)

    async def connected_foreign(self, reader: asyncio.StreamReader,
                                writer: asyncio.StreamWriter) -> None:
        await server.serve_connection(Connection(reader, writer),
                                      self.note_foreign, lambda text: None)

    async def note_foreign(self, exchange: Exchange) -> None:
        """The host of redirects: nothing of E2B's belongs here."""
        request = exchange.request
        secrets = [name for name in SECRETS if name in request.headers]
        self.foreign.append({"method": request.method, "path": request.target,
                             "host": request.headers.get("host"),
                             "secrets": secrets, "body": len(request.body)})
        self.complain("redirect: followed to a foreign host%s" % (
            " with " + ", ".join(secrets) if secrets else ""))
        await exchange.reply(404, b"foreign")

    # Dispatch.

    async def dispatch(self, exchange: Exchange) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)
        request = exchange.request
        self.check_common(request)
        try:
            port, sandbox_id = self.where(exchange)
            if port is None:
                await self.to_control(exchange)
            else:
                await self.to_sandbox(exchange, port, sandbox_id)
        except Refused as error:
            status, body, kind = error.args
            await exchange.reply(status, body, {"Content-Type": kind})
        except Gone:
            exchange.reset()

    def check_common(self, request: Request) -> None:
        what = "%s %s" % (request.method, request.path)
        if "host" not in request.headers:
            self.complain(what + ": no Host")
        if not request.headers.get("user-agent"):
            self.complain(what + ": no User-Agent")
        # Its errors are pages then.
        if re.search(BROWSERS, request.headers.get("user-agent", ""), re.I) \
                and request.headers.get("accept") != "application/json":
            self.complain(what + ": User-Agent of a browser")
        for name in request.doubled:
            self.complain("%s: header %s comes twice" % (what, name))
        if request.version != "HTTP/1.1":
            self.complain("%s: %s" % (what, request.version))
        if schema.bad_escape(request.query):
            self.complain("%s: query is not well-formed: %r" %
                          (what, request.query))
        for name, value in request.header_list:
            if any(char < " " or char > "~" for char in value):
                self.complain("%s: header %s has odd characters" %
                              (what, name))

    def where(self, exchange: Exchange) -> tuple[str | None, str]:
        """(port, sandbox id), or (None, "") for the control plane."""
        headers, host = exchange.request.headers, exchange.request.host
        label = host.partition(".")[0]
        shared = label in ("sandbox", "localhost") or \
            re.fullmatch(r"[\d.]+|\[.*\]", host) is not None
        given = (headers.get("e2b-sandbox-port"),
                 headers.get("e2b-sandbox-id"))
        if label == "api" or (shared and label != "sandbox" and
                              given == (None, None)):
            return None, ""
        if shared:
            if None in given:
                self.complain("data plane: no E2b-Sandbox-Id or -Port for the "
                              "shared host")
                raise Refused(400, b"missing header", "text/plain")
            self.check_address(*given)
            return given[0], given[1] or ""
        parts = label.split("-")
        if len(parts) < 2 or not parts[0].isdecimal():
            self.complain("data plane: host %r" % host)
            raise Refused(400, b"Invalid host", "text/plain")
        if not re.fullmatch(r"[a-z0-9]+", parts[1]):
            self.complain("data plane: host %r" % host)
            raise Refused(400, b"Invalid sandbox ID", "text/plain")
        for sent, real, name in zip(given, parts, ("Port", "Id")):
            if sent is not None and sent != real:
                self.complain("data plane: E2b-Sandbox-%s %r at host %r" %
                              (name, sent, host))
        return parts[0], parts[1]

    def check_address(self, port: str | None, sandbox_id: str | None) -> None:
        for value, form, what in ((port, r"\d{1,5}", b"Invalid sandbox port"),
                                  (sandbox_id, r"[a-z0-9]+(-[a-z0-9]+)?",
                                   b"Invalid sandbox ID")):
            if not re.fullmatch(form, value or ""):
                self.complain("data plane: %s: %r" % (what.decode(), value))
                raise Refused(400, what, "text/plain")

    @staticmethod
    def match(routes: dict[str, schema.Route], request: Request
              ) -> tuple[str, schema.Route, str] | None:
        for name, route in routes.items():
            if route.method != request.method:
                continue
            head, gap, tail = route.path.partition("{id}")
            if not gap:
                if request.path == head:
                    return name, route, ""
            elif request.path.startswith(head) and \
                    request.path.endswith(tail):
                middle = request.path[len(head):len(request.path) - len(tail)]
                if middle and "/" not in middle and \
                        (head != "/sandboxes/" or tail or middle):
                    return name, route, middle
        return None

    async def before(self, exchange: Exchange, name: str, sandbox_id: str
                     ) -> bool:
        """Counts, and lets a fault strike; True if that was all."""
        self.requests[name] += 1
        same = sandbox_id or exchange.request.query
        too_soon = self.not_before.pop((name, same), 0) - time.monotonic()
        if too_soon > CLOCKS_DIFFER_S:
            self.complain("%s: %.2f s sooner than Retry-After" % (name,
                                                                  too_soon))
        fault = self.faults.take(name, sandbox_id)
        if fault is None:
            return False
        if await fault.before(exchange, sandbox_id):
            self.note_wait(name, same, fault.spec)
            return True
        exchange.fault = fault
        return False

    def note_wait(self, name: str, same: str, spec: dict) -> None:
        """For requests of one sandbox, or one listing: others may be on their
        way already."""
        wait = spec.get("headers", {}).get("Retry-After", "")
        if wait.isdecimal() and same:
            self.not_before[name, same] = time.monotonic() + int(wait)

    # The control plane.

    async def to_control(self, exchange: Exchange) -> None:
        request = exchange.request
        for name in SECRETS[1:]:
            if name in request.headers:
                self.complain("control plane: %s does not belong here" % name)
        found = self.match(schema.CONTROL, request)
        if found is None:
            self.complain("control plane: no route %s %s" %
                          (request.method, request.path))
            raise Refused(404, b'{"code":404,"message":"no matching operation '
                          b'was found"}', "application/json")
        name, route, path_id = found
        refusal = self.check_key(name, route, request)
        body, problem = self.check_request(name, route, request)
        if await self.before(exchange, name, path_id.partition("-")[0]):
            return
        if refusal or problem:
            status = 401 if refusal else 400
            await exchange.json(status, {"code": status, "message":
                                         refusal or "validation error: " +
                                         str(problem)})
            return
        await self.control.handle(exchange, name, path_id, body)

    def check_key(self, name: str, route: schema.Route, request: Request
                  ) -> str | None:
        if route.auth != "key":
            return None
        key = request.headers.get("x-api-key")
        if key == self.key:
            return None
        self.complain("%s: X-API-Key is %s" % (
            name, "missing" if key is None else "wrong"))
        return "no credentials found" if key is None else "Invalid API key"

    def check_request(self, name: str, route: schema.Route, request: Request
                      ) -> tuple[Any, str | None]:
        """The body as JSON, and what the real server would refuse it for."""
        self.check_query(name, route, request)
        if route.body is None:
            if request.body:
                self.complain("%s: a body where none belongs" % name)
            return None, None
        if not request.body:
            if route.body_optional:
                return None, None
            self.complain("%s: no body" % name)
            return None, "value is required but missing"
        if request.content_type != route.content:
            self.complain("%s: Content-Type is %r" % (
                name, request.headers.get("content-type")))
            return None, "unexpected Content-Type"
        if len(request.body) > BODY_16M:
            self.complain("%s: body of %d bytes" % (name, len(request.body)))
            return None, "request body too large"
        return self.check_body(name, route, request)

    def check_query(self, name: str, route: schema.Route, request: Request
                    ) -> None:
        seen = set()
        for key, _value in schema.parse_query(request.query):
            if key not in route.query:
                self.complain("%s: unknown query parameter %r" % (name, key))
            if key in seen:
                self.complain("%s: query parameter %r twice" % (name, key))
            seen.add(key)

    def check_body(self, name: str, route: schema.Route, request: Request
                   ) -> tuple[Any, str | None]:
        before = self.violation_count
        body, wrong = self.parse(name, request.body, route.body)
        if self.violation_count == before and self.spec and \
                name in schema.CONTROL:
            text = self.spec.problem(route.method, route.path, body)
            if text:
                self.complain("%s: openapi.yml: %s" % (name, text))
        return body, wrong

    def parse(self, name: str, raw: bytes, want: schema.Value | None
              ) -> tuple[Any, str | None]:
        try:
            body = json.loads(raw.decode("utf-8"),
                              object_pairs_hook=schema.once)
        except (ValueError, RecursionError) as error:
            self.complain("%s: body is no JSON: %s" % (name, error))
            return None, "failed to decode request body"
        wrong = None
        for severity, text in schema.problems(body, want or schema.ANY):
            self.complain("%s: %s" % (name, text))
            if severity == schema.WRONG:
                wrong = wrong or text
        return body, wrong

    # The data plane.

    async def to_sandbox(self, exchange: Exchange, port: str, sandbox_id: str
                         ) -> None:
        request = exchange.request
        if "x-api-key" in request.headers:
            self.complain("data plane: X-API-Key sent to a sandbox")
        found = self.data_route(port, request)
        name = found[0] if found else "port_" + port
        # Wrong requests are told of even if a fault answers them.
        checked = self.check_data(found, request) if found else None
        if await self.before(exchange, name, sandbox_id):
            return
        sandbox = self.fleet.alive.get(sandbox_id)
        if sandbox is None or sandbox.state != "running":
            await exchange.json(502, {
                "sandboxId": sandbox_id, "code": 502,
                "message": "The sandbox was not found"})
            return
        self.check_traffic(sandbox, port, exchange)
        if port not in (ENVD_PORT, INTERPRETER_PORT):
            await exchange.json(502, {
                "sandboxId": sandbox_id, "port": int(port), "code": 502,
                "message": "The sandbox is running but port is not open"})
            return
        sandbox.inflight.add(exchange)
        try:
            if found is None:
                await self.no_route(exchange, port)
            elif port == ENVD_PORT:
                await self.to_envd(exchange, sandbox, found, checked)
            else:
                await self.to_interpreter(exchange, sandbox, found, checked)
        finally:
            sandbox.inflight.discard(exchange)

    def check_traffic(self, sandbox: Sandbox, port: str, exchange: Exchange
                      ) -> None:
        token = exchange.request.headers.get("e2b-traffic-access-token")
        if sandbox.traffic_token and port != ENVD_PORT and \
                token != sandbox.traffic_token:
            self.complain("data plane: traffic token is missing or wrong")
            raise Refused(403, json.dumps({
                "sandboxId": sandbox.id, "code": 403,
                "message": "Sandbox is secured with traffic access token. "
                "Token header 'e2b-traffic-access-token' is missing or "
                "invalid"}).encode(), "application/json")

    def data_route(self, port: str, request: Request) -> tuple | None:
        if port == INTERPRETER_PORT:
            return self.match(schema.INTERPRETER, request)
        if port != ENVD_PORT:
            return None
        found: tuple | None = self.match(schema.ENVD, request)
        if found is None and request.method == "POST":
            for table in (schema.STREAMS, schema.UNARY):
                for name, (path, want) in table.items():
                    if request.path == "/" + path:
                        return name, want, path
        return found

    async def no_route(self, exchange: Exchange, port: str) -> None:
        request = exchange.request
        self.complain("port %s: no route %s %s" % (port, request.method,
                                                   request.path))
        if request.path == "/init":
            await exchange.json(404, {"message": "This endpoint is reserved",
                                      "path": "/init", "code": 404})
        elif port == INTERPRETER_PORT:
            await exchange.json(404, {"detail": "Not Found"},
                                kind="application/json")
        else:
            await exchange.reply(404, b"404 page not found\n",
                                 {"Content-Type": "text/plain"})

    def check_data(self, found: tuple, request: Request
                   ) -> tuple[Any, str | None]:
        name, route, _ = found
        if name in schema.STREAMS:
            return self.check_stream(name, route, request)
        if name in schema.UNARY:
            return self.check_unary(name, route, request)
        if name == "files_post":
            self.check_query(name, route, request)
            if request.content_type not in ("multipart/form-data",
                                            "application/octet-stream"):
                self.complain("files_post: Content-Type is %r" %
                              request.headers.get("content-type"))
            elif request.content_type == "application/octet-stream" and \
                    self.envd_before(0, 5, 7):
                self.complain("files_post: octet-stream for an old envd")
                return None, "no multipart body"
            return None, None
        if name in schema.INTERPRETER:
            self.check_interpreter(name, request)
        return self.check_request(name, route, request)

    def check_interpreter(self, name: str, request: Request) -> None:
        accept = request.headers.get("accept", "*/*")
        if "json" not in accept and "*/*" not in accept:
            self.complain("%s: Accept is %r" % (name, accept))

    def check_rpc(self, name: str, request: Request, content: str) -> bool:
        """The headers of Connect; False if the server answers 415."""
        self.check_query(name, schema.Route("POST", ""), request)
        if request.headers.get("connect-protocol-version") != "1":
            self.complain("%s: Connect-Protocol-Version is %r" % (
                name, request.headers.get("connect-protocol-version")))
        timeout = request.headers.get("connect-timeout-ms")
        if timeout is not None and not re.fullmatch(r"[1-9]\d{0,9}",
                                                        timeout):
            self.complain("%s: Connect-Timeout-Ms is %r" % (name, timeout))
        if request.headers.get("content-type") != content:
            self.complain("%s: Content-Type is %r" % (
                name, request.headers.get("content-type")))
            return False
        return True

    def check_unary(self, name: str, want: schema.Value, request: Request
                    ) -> tuple[Any, str | None]:
        if not self.check_rpc(name, request, "application/json"):
            return None, "415"
        return self.parse(name, request.body, want)

    def check_stream(self, name: str, want: schema.Value, request: Request
                     ) -> tuple[Any, str | None]:
        if not self.check_rpc(name, request, "application/connect+json"):
            return None, "415"
        ping = request.headers.get("keepalive-ping-interval", "50")
        if not ping.isdecimal() or int(ping) == 0:
            self.complain("%s: Keepalive-Ping-Interval is %r" % (name, ping))
        raw = request.body
        if len(raw) < ENVELOPE.size:
            self.complain("%s: no envelope" % name)
            return None, "protocol error: incomplete envelope"
        flags, size = ENVELOPE.unpack_from(raw)
        if flags or size != len(raw) - ENVELOPE.size:
            self.complain("%s: envelope of flags %d, %d bytes around %d" % (
                name, flags, size, len(raw) - ENVELOPE.size))
            return None, "protocol error: bad envelope"
        return self.parse(name, raw[ENVELOPE.size:], want)

    # envd.

    async def to_envd(self, exchange: Exchange, sandbox: Sandbox,
                      found: tuple, checked: Any) -> None:
        name, route, _ = found
        envd = sandbox.services.get("envd")
        if envd is None:
            envd = sandbox.services["envd"] = Envd(sandbox, self)
        body, problem = checked
        if name in schema.ENVD:
            if not self.token_ok(name, exchange, sandbox, route.auth ==
                                 "token"):
                await exchange.json(401, {
                    "code": 401, "message": "unauthorized access, please "
                    "provide a valid access token or method signing if "
                    "supported"}, kind="application/json")
                return
            if problem:
                await exchange.json(400, {"code": 400, "message": problem},
                                    kind="application/json")
                return
            await envd.rest(exchange, name)
            return
        await self.to_rpc(exchange, sandbox, envd, name, body, problem)

    async def to_rpc(self, exchange: Exchange, sandbox: Sandbox, envd: Envd,
                     name: str, body: Any, problem: str | None) -> None:
        is_stream = name in schema.STREAMS
        if problem == "415":
            await exchange.reply(415, b"", {
                "Accept-Post": "application/connect+json, application/json"})
            return
        if not self.token_ok(name, exchange, sandbox, True):
            await exchange.json(401, {
                "code": 401, "message": "unauthorized access, please provide "
                "a valid access token or method signing if supported"},
                kind="application/json")
            return
        error = None
        if problem:
            error = {"code": "invalid_argument", "message": problem}
        elif not self.user_ok(name, exchange):
            error = {"code": "unauthenticated", "message": "invalid username"}
        elif self.envd_before(0, 4) and \
                "authorization" not in exchange.request.headers:
            # A default user came with 0.4.0.
            self.complain("%s: no Authorization for an old envd" % name)
            error = {"code": "unauthenticated", "message": "no user specified"}
        if error and is_stream:
            raw = json.dumps({"error": error}).encode()
            await exchange.reply(200, ENVELOPE.pack(2, len(raw)) + raw, {
                "Content-Type": "application/connect+json"})
        elif error:
            await exchange.json(401 if error["code"] == "unauthenticated"
                                else 400, error, kind="application/json")
        elif is_stream:
            await envd.stream(exchange, name, body)
        else:
            await envd.unary(exchange, name, body)

    def envd_before(self, *version: int) -> bool:
        return tuple(map(int, re.findall(r"\d+", self.envd_version)[:3])) < \
            version if self.envd_version else False

    def token_ok(self, name: str, exchange: Exchange, sandbox: Sandbox,
                 checked: bool) -> bool:
        token = exchange.request.headers.get("x-access-token")
        if sandbox.token is None or name == "envd_health" or \
                token == sandbox.token:
            return True
        if "signature=" in exchange.request.query and name.startswith("files"):
            return True
        self.complain("%s: X-Access-Token is %s" % (
            name, "missing" if token is None else "wrong"))
        return not checked

    def user_ok(self, name: str, exchange: Exchange) -> bool:
        import base64
        import binascii
        value = exchange.request.headers.get("authorization")
        if value is None:
            return True
        try:
            kind, _, coded = value.partition(" ")
            user, colon, password = base64.b64decode(
                coded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            kind = user = colon = password = ""
        if kind != "Basic" or not colon or password:
            self.complain("%s: Authorization is malformed" % name)
            return False
        return user in ("user", "root")

    # The interpreter.

    async def to_interpreter(self, exchange: Exchange, sandbox: Sandbox,
                             found: tuple, checked: Any) -> None:
        name, _route, path_id = found
        service = sandbox.services.get("interpreter")
        if service is None:
            service = sandbox.services["interpreter"] = \
                Interpreter(sandbox, self)
        body, problem = checked
        request = exchange.request
        token = request.headers.get("x-access-token")
        if sandbox.token and token is not None and token != sandbox.token:
            self.complain("%s: X-Access-Token is wrong" % name)
        if problem:
            await exchange.json(422, {"detail": [{
                "type": "value_error", "loc": ["body"], "msg": problem,
                "input": None}]}, kind="application/json")
            return
        method = service.listing if name == "contexts" else \
            getattr(service, name)
        await method(exchange, body, path_id)

    # For the tests.

    async def report(self) -> dict[str, Any]:
        fleet = self.fleet
        return {
            "violations": self.violations,
            "violation_count": self.violation_count,
            "requests": dict(self.requests), "creates": fleet.creates,
            "destroys": fleet.destroys, "expired": fleet.expired,
            "lost": fleet.lost,
            "alive": [{"id": one.id, "metadata": one.metadata,
                       "state": one.state, "ooms": one.ooms,
                       "ends_in": one.ends_at - time.time()}
                      for one in fleet.alive.values()],
            "max_alive": fleet.max_alive, "tls_handshakes": self.handshakes,
            "tls_resumed": self.resumed, "connections": self.connections,
            "open_connections": len(self.open),
            "memory": fleet.memory.kind,
            "cpu_double": time.process_time(),
            "cpu_sandboxes": await fleet.forker.cpu(),
            "foreign": self.foreign, "faults": self.faults.report(),
            "uptime": time.monotonic() - self.begun}
