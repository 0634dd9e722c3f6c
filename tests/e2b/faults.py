"""How the double misbehaves on demand. double.py's text lists the kinds.

A Fault strikes one exchange. Kinds that replace or spoil the HTTP answer are
acted out here; those of a stream's content by interpreter.py and envd.py, which
look at `fault.kind`.
"""
import asyncio
import gzip
import json
import random
from typing import Any

from server import Dropped, Exchange

PLAIN, HTML = "text/plain; charset=utf-8", "text/html"
NGINX = ("<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n<center><h1>%s"
         "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n"
         "</html>\r\n")


def api(code: int, message: str, error_code: str = "") -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "message": message}
    if error_code:
        body["error_code"] = error_code
    return {"kind": "status", "status": code, "json": body}


def page(code: int, title: str) -> dict[str, Any]:
    return {"kind": "status", "status": code, "type": HTML,
            "body": NGINX % (title, title)}


PRESETS: dict[str, dict[str, Any]] = {
    "400": api(400, "validation error: request body has an error"),
    "401": api(401, "Invalid API key"),
    "403": api(403, "Team is blocked"),
    "404": api(404, "Sandbox not found"),
    "404-html": page(404, "404 Not Found"),
    "409": api(409, "Sandbox is being changed", "sandbox_start_in_flight"),
    "429a": api(429, "you have reached the maximum number of concurrent E2B "
                "sandboxes (20). If you need more, please contact us"),
    "429b": {**api(429, "Rate limit exceeded"), "headers": {
        "Retry-After": "1", "RateLimit-Limit": "5",
        "RateLimit-Remaining": "0", "RateLimit-Reset": "1"}},
    "429c": {"kind": "status", "status": 429, "type": HTML,
             "body": "<!doctype html><title>429</title>Too Many Requests"},
    "500": api(500, "Failed to place sandbox", "sandbox_create_failed"),
    "500-internal": api(500, "Internal error", "internal_server_error"),
    "503": api(503, "Failed to place sandbox: no capacity",
               "sandbox_capacity_unavailable"),
    "503-node": api(503, "Failed to place sandbox: no compatible node",
                    "sandbox_no_compatible_node"),
    "503-plain": {"kind": "status", "status": 503, "type": PLAIN,
                  "body": "upstream connect error"},
    "504": api(504, "Failed to place sandbox in time",
               "sandbox_placement_timeout"),
    "502-notfound": {"kind": "status", "status": 502, "json": {
        "sandboxId": "{id}", "message": "The sandbox was not found",
        "code": 502}},
    "502-port": {"kind": "status", "status": 502, "json": {
        "sandboxId": "{id}", "port": 49999, "code": 502,
        "message": "The sandbox is running but port is not open"}},
    "502-html": page(502, "502 Bad Gateway"),
    "502-plain": {"kind": "status", "status": 502, "type": PLAIN,
                  "body": "Failed to route request to sandbox"},
    "502-empty": {"kind": "status", "status": 502, "body": ""},
    "507": api(507, "not enough disk space available"),
    # Create answers a client must not swallow.
    "create-not-json": {"kind": "body", "body": "<html>created</html>"},
    "create-empty": {"kind": "body", "body": ""},
    "create-array": {"kind": "body", "body": "[]"},
    "create-truncated-json": {"kind": "body", "body": '{"sandboxID":"iabc'},
    "create-giant": {"kind": "body", "repeat": 64 << 20},
    "create-old-envd": {"kind": "patch", "set": {"envdVersion": "0.0.9"}},
    "create-odd-envd": {"kind": "patch", "set": {"envdVersion": "banana"}},
    "create-no-token": {"kind": "patch", "drop": ["envdAccessToken"]},
    "create-no-id": {"kind": "patch", "drop": ["sandboxID"]},
    "create-bad-id": {"kind": "patch", "set": {
        "sandboxID": "../../x?y#z\r\nX-Evil: 1"}},
    "create-evil-token": {"kind": "patch", "set": {
        "envdAccessToken": "a\r\nX-Evil: 1"}},
    "create-evil-domain": {"kind": "patch", "set": {
        "domain": "evil.example/..@x"}},
    "create-nulls": {"kind": "patch", "set": {"alias": None, "domain": None,
                                              "trafficAccessToken": None}},
}
# What goes wrong inside a stream of /execute; `after` events have gone out.
EXECUTE_KINDS = (
    "long_line", "huge_total", "half_line", "no_end", "empty_line", "not_json",
    "unknown_type", "wrong_types", "keepalive_only", "silent", "duplicate_end",
    "after_end", "split_utf8", "sandbox_lost", "kernel_dies", "raw_lines",
    "many_lines", "no_count", "bare_end", "held_open")
# And of Process/Start.
START_KINDS = ("bad_flag", "giant_envelope", "half_envelope", "no_end",
               "not_json", "end_error", "compressed", "sandbox_lost", "silent",
               "wrong_types", "keepalive_only", "no_start", "huge_total",
               "held_open")
WIRE_KINDS = (
    "status", "refuse_before", "reset_before", "answer_lost", "stall", "delay",
    "redirect", "reset", "truncate", "drip", "stall_body", "no_close_notify",
    "body", "patch", "bad_length", "garbage", "giant_header", "gzip")
KINDS = frozenset(WIRE_KINDS + EXECUTE_KINDS + START_KINDS)


class Fault:
    def __init__(self, spec: dict[str, Any], foreign: str):
        self.spec, self.kind, self.foreign = spec, spec["kind"], foreign
        self.after: int = spec.get("after", 1)
        self.struck = False

    # Instead of the work.

    async def before(self, exchange: Exchange, sandbox_id: str) -> bool:
        """True if the exchange is over before any work is done."""
        if "delay_ms" in self.spec or self.kind == "delay":
            await asyncio.sleep(self.spec.get("delay_ms",
                                              self.spec.get("ms", 1000)) / 1000)
        if self.kind == "refuse_before":
            await exchange.close_cleanly()
        elif self.kind == "reset_before":
            exchange.reset()
        elif self.kind == "stall":
            await self.stall(exchange)
        elif self.kind == "status":
            await self.status(exchange, sandbox_id)
        elif self.kind == "redirect":
            code = self.spec.get("status", 302)
            await exchange.reply(code, b"", {
                "Location": self.spec.get("location", self.foreign)})
        elif self.kind == "garbage":
            exchange.connection.writer.write(
                self.spec.get("body", "\0\1garbage\r\n\r\n").encode())
            await exchange.close_cleanly()
        else:
            return False
        return True

    async def stall(self, exchange: Exchange) -> None:
        """Not a byte, until the client goes."""
        await exchange.connection.watch()
        exchange.dead = True

    async def status(self, exchange: Exchange, sandbox_id: str) -> None:
        spec = self.spec
        kind, body = spec.get("type", PLAIN), spec.get("body", "")
        if "json" in spec:
            kind = "application/json; charset=utf-8"
            body = json.dumps(spec["json"]).replace("{id}", sandbox_id)
        await exchange.reply(spec["status"], body.encode(), {
            "Content-Type": kind, **spec.get("headers", {})})

    # While the answer goes out.

    async def on_reply(self, exchange: Exchange, _status: int,
                       _body: bytes) -> bool:
        if self.struck or self.kind in ("status", "redirect"):
            return False
        self.struck = True
        if self.kind == "answer_lost":
            if self.spec.get("rst"):
                exchange.reset()
            else:
                await exchange.close_cleanly()
            return True
        if self.kind in ("body", "patch"):
            await self.other_body(exchange, _status, _body)
            return True
        if self.kind == "bad_length":
            exchange.write_head(_status, {
                "Content-Type": "application/json",
                "Content-Length": str(len(_body) + 100)})
            exchange.raw(_body)
            await exchange.drain()
            await exchange.close_cleanly()
            return True
        if self.kind == "gzip":
            await exchange.reply(_status, gzip.compress(_body),
                                 {"Content-Encoding": "gzip"})
            return True
        if self.kind == "giant_header":
            await exchange.reply(_status, _body, {
                "X-Padding": "x" * self.spec.get("bytes", 1 << 20)})
            return True
        if self.kind == "no_close_notify":
            exchange.keep = False
            await exchange.reply(_status, _body,
                                 {"Content-Type": "application/json"})
            await exchange.cut()
            return True
        if self.kind in ("reset", "truncate", "stall_body", "drip"):
            self.struck = False
        return False

    async def other_body(self, exchange: Exchange, status: int,
                         body: bytes) -> None:
        if self.kind == "patch":
            value = json.loads(body)
            value.update(self.spec.get("set", {}))
            for name in self.spec.get("drop", ()):
                value.pop(name, None)
            body = json.dumps(value).encode()
        elif "repeat" in self.spec:
            head = body[:-1] if body.endswith(b"}") else b"{"
            body = head + b',"x":"' + b"y" * self.spec["repeat"] + b'"}'
        else:
            body = self.spec.get("body", "").encode("utf-8", "surrogateescape")
        await exchange.reply(self.spec.get("status", status), body, {
            "Content-Type": self.spec.get("type", "application/json")})

    async def on_begin(self, exchange: Exchange) -> None:
        """Before the head of a stream; the work is under way."""
        if self.kind == "answer_lost":
            await exchange.close_cleanly()
            raise Dropped

    async def on_finish(self, exchange: Exchange) -> None:
        if self.kind == "no_close_notify":
            await exchange.cut()

    async def on_body(self, exchange: Exchange, data: bytes) -> bytes:
        if self.kind not in ("reset", "truncate", "stall_body", "drip"):
            return data
        limit = self.spec.get("bytes", 16 if not exchange.chunked else 64)
        left = limit - exchange.sent_body
        if left >= len(data):
            return data
        if left > 0:
            exchange.raw(data[:left])
            await exchange.drain()
        if self.kind == "drip":
            for at in range(max(left, 0), len(data)):
                exchange.raw(data[at:at + 1])
                await exchange.drain()
                await asyncio.sleep(self.spec.get("interval_ms", 1000) / 1000)
            return b""
        if self.kind == "stall_body":
            await self.stall(exchange)
        elif self.kind == "truncate":
            await exchange.cut()
        else:
            await asyncio.sleep(0.05)  # else the RST overtakes the bytes
            exchange.reset()
        raise Dropped


class Rule:
    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.skip: int = spec.get("skip", 0)
        self.left: float = spec.get("count", float("inf")
                                    if "probability" in spec else 1)
        self.hits = 0


class Faults:
    def __init__(self):
        self.rules: list[Rule] = []
        self.foreign = ""
        self.random = random.Random(1)

    def add(self, spec: dict[str, Any]) -> None:
        spec = {key: value for key, value in spec.items() if key != "cmd"}
        kind = spec.get("kind")
        if kind in PRESETS:
            spec = {**PRESETS[kind], **spec, "kind": PRESETS[kind]["kind"]}
        elif kind not in KINDS:
            raise ValueError("no fault kind %r" % kind)
        if spec["kind"] == "status" and "status" not in spec:
            raise ValueError("kind status needs a status")
        spec.setdefault("route", "any")
        self.rules.append(Rule(spec))

    def take(self, route: str, sandbox_id: str) -> Fault | None:
        for rule in self.rules:
            wanted = rule.spec["route"]
            if wanted != "any" and route not in (wanted, wanted + "_v2",
                                                 wanted + "_v1"):
                continue
            if rule.spec.get("id", sandbox_id) != sandbox_id or not rule.left:
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if self.random.random() >= rule.spec.get("probability", 1):
                continue
            rule.left -= 1
            rule.hits += 1
            return Fault(rule.spec, self.foreign)
        return None

    def report(self) -> list[dict[str, Any]]:
        return [{"route": rule.spec["route"], "kind": rule.spec["kind"],
                 "hits": rule.hits} for rule in self.rules]
