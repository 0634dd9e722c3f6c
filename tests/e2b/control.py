"""The control plane: api.<domain>, JSON both ways, X-API-Key."""
import base64
import re
import time
import urllib.parse
from datetime import datetime, timezone
from typing import Any

import sandbox as sandboxes
from sandbox import ENVD_VERSION, Fleet, Sandbox
from schema import encoded_too_little, metadata_filter, parse_query
from server import Exchange

CLIENT_ID = "6532622b"
TEAM = "capibox"
DISK_MB = 10240


class ApiError(Exception):
    def __init__(self, code: int, message: str, error_code: str = ""):
        super().__init__(message)
        self.code, self.body = code, {"code": code, "message": message}
        if error_code:
            self.body["error_code"] = error_code


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ")


class Control:
    def __init__(self, fleet: Fleet, app: Any):
        self.fleet, self.app = fleet, app

    async def handle(self, exchange: Exchange, route: str, path_id: str,
                     body: Any) -> None:
        handler = getattr(self, "do_" + re.sub(r"_v\d$", "", route))
        try:
            if route == "alias":
                await handler(exchange, path_id)
            elif path_id:
                await handler(exchange, self.find(self.strict_id(path_id)),
                              body)
            elif route.startswith("create"):
                await handler(exchange, body or {}, route == "create_v2")
            else:
                await handler(exchange, body)
        except ApiError as error:
            await exchange.json(error.code, error.body)

    def strict_id(self, text: str) -> str:
        """`ID` or `ID-anything`."""
        if text.count("-") > 1 or not re.fullmatch(r"[a-z0-9]+",
                                                   text.partition("-")[0]):
            self.app.complain("control plane: sandbox ID %r" % text)
            raise ApiError(400, "Invalid sandbox ID")
        return text.partition("-")[0]

    def find(self, sandbox_id: str) -> Sandbox:
        sandbox = self.fleet.alive.get(sandbox_id)
        if sandbox is None:
            raise ApiError(404, "sandbox \"%s\" doesn't exist or you don't "
                           "have access to it" % sandbox_id)
        return sandbox

    def check_timeout(self, seconds: int) -> int:
        if seconds <= 0:
            raise ApiError(400, "Timeout must be greater than 0")
        if seconds > self.fleet.max_hours * 3600:
            raise ApiError(400, "Timeout cannot be greater than %g hours" %
                           self.fleet.max_hours)
        return seconds

    # Create.

    async def do_create(self, exchange: Exchange, body: dict, is_v2: bool
                     ) -> None:
        network = body.get("network") or {}
        asked = dict(body)
        if is_v2:
            asked["secure"] = True
        template = self.fleet.template(body["templateID"])
        if template is None:
            raise ApiError(404, "template '%s' not found" %
                           body["templateID"])
        seconds = self.check_timeout(body.get("timeout", 300 if is_v2 else 15))
        if network.get("allowPublicTraffic") is False and \
                not asked.get("secure"):
            raise ApiError(400, "You cannot disable public traffic without "
                           "secure access")
        if body.get("autoPauseMemory") is False and not body.get("autoPause"):
            raise ApiError(400, "autoPauseMemory needs autoPause")
        if body.get("autoPauseMemory") is False and \
                (body.get("autoResume") or {}).get("enabled"):
            raise ApiError(400, "autoPauseMemory and autoResume exclude each "
                           "other")
        if any(re.search("[a-z]", one, re.I) for one in
               network.get("allowOut") or ()) and \
                "0.0.0.0/0" not in (network.get("denyOut") or ()):
            raise ApiError(400, "When specifying allowed domains, you must "
                           "include 0.0.0.0/0 in denyOut")
        if self.fleet.full():
            raise ApiError(429, "you have reached the maximum number of "
                           "concurrent E2B sandboxes (%d). If you need more, "
                           "please contact us at 'https://e2b.dev/docs/"
                           "getting-help'" % self.fleet.max_sandboxes)
        try:
            sandbox = await self.fleet.create(template, asked, seconds)
        except (OSError, sandboxes.Gone) as error:
            self.app.complain("double: a sandbox did not start: %r" % error)
            raise ApiError(500, "Failed to place sandbox",
                           "sandbox_create_failed") from error
        await exchange.json(201, self.describe(sandbox))

    def describe(self, sandbox: Sandbox) -> dict[str, Any]:
        out = {"alias": sandbox.template.alias, "clientID": CLIENT_ID,
               "envdVersion": self.app.envd_version or ENVD_VERSION,
               "sandboxID": sandbox.id, "templateID": sandbox.template.id}
        if sandbox.token:
            out["envdAccessToken"] = sandbox.token
        if sandbox.traffic_token:
            out["trafficAccessToken"] = sandbox.traffic_token
        return out

    # Look.

    def listed(self, sandbox: Sandbox) -> dict[str, Any]:
        out: dict[str, Any] = {
            "alias": sandbox.template.alias, "clientID": CLIENT_ID,
            "cpuCount": sandbox.template.cpu, "diskSizeMB": DISK_MB,
            "endAt": rfc3339(sandbox.ends_at),
            "envdVersion": self.app.envd_version or ENVD_VERSION,
            "memoryMB": sandbox.template.memory_mb,
            "sandboxID": sandbox.id, "startedAt": rfc3339(sandbox.started_at),
            "state": sandbox.state, "templateID": sandbox.template.id}
        if sandbox.metadata:
            out["metadata"] = sandbox.metadata
        return out

    async def do_list(self, exchange: Exchange, _body: Any) -> None:
        query = dict(parse_query(exchange.request.query))
        is_v2 = exchange.request.path.startswith("/v2")
        found = self.matching(query)
        states = query.get("state", "running,paused").split(",") \
            if is_v2 else ["running"]
        if set(states) - {"running", "paused"}:
            raise ApiError(400, "validation error: state")
        found = [one for one in found if one.state in states]
        headers = {}
        if is_v2:
            if "running" in states:
                headers["X-Total-Running"] = str(sum(
                    one.state == "running" for one in found))
            found = self.one_page(found, query, headers)
        await exchange.json(200, [self.listed(one) for one in found], headers)

    def matching(self, query: dict[str, str]) -> list[Sandbox]:
        found = list(self.fleet.alive.values())
        if "metadata" in query:
            if encoded_too_little(query["metadata"]):
                self.app.complain("list: metadata is not encoded thrice: %r" %
                                  query["metadata"])
            try:
                wanted = metadata_filter(query["metadata"])
            except ValueError as error:
                raise ApiError(400, "validation error: metadata: %s" %
                               error) from error
            found = [one for one in found
                     if wanted.items() <= one.metadata.items()]
        if "template" in query:
            found = [one for one in found if query["template"] in
                     (one.template.id, one.template.alias)]
        if "startedAfter" in query:
            after = datetime.fromisoformat(
                query["startedAfter"].replace("Z", "+00:00")).timestamp()
            found = [one for one in found if one.started_at >= after]
        return found

    @staticmethod
    def one_page(found: list[Sandbox], query: dict[str, str],
                 headers: dict[str, str]) -> list[Sandbox]:
        upward = query.get("order", "desc") == "asc"
        limit = query.get("limit", "100")
        if query.get("order", "desc") not in ("asc", "desc") or \
                not limit.isdecimal() or not 1 <= int(limit) <= 100:
            raise ApiError(400, "validation error: limit or order")

        def key(one: Sandbox) -> str:
            return "%s__%s" % (rfc3339(one.started_at), one.id)

        found.sort(key=key, reverse=not upward)
        if "nextToken" in query:
            try:
                last = base64.urlsafe_b64decode(query["nextToken"]).decode()
            except ValueError as error:
                raise ApiError(400, "Invalid next token") from error
            if last.count("__") != (2 if upward else 1):
                raise ApiError(400, "Invalid next token")
            last = last.removesuffix("__asc")
            found = [one for one in found
                     if (key(one) > last if upward else key(one) < last)]
        if len(found) > int(limit):
            found = found[:int(limit)]
            token = key(found[-1]) + ("__asc" if upward else "")
            headers["X-Next-Token"] = \
                base64.urlsafe_b64encode(token.encode()).decode()
        return found

    async def do_get(self, exchange: Exchange, sandbox: Sandbox,
                     _body: Any) -> None:
        out = self.listed(sandbox)
        if sandbox.token:
            out["envdAccessToken"] = sandbox.token
        if sandbox.internet is not None:
            out["allowInternetAccess"] = sandbox.internet
        out["lifecycle"] = {
            "onTimeout": "pause" if sandbox.auto_pause else "kill",
            "autoResume": sandbox.auto_resume}
        await exchange.json(200, out)

    async def do_metrics(self, exchange: Exchange, sandbox: Sandbox,
                     _body: Any) -> None:
        now = time.time()
        await exchange.json(200, [{
            "timestamp": rfc3339(now), "timestampUnix": int(now),
            "cpuCount": sandbox.template.cpu, "cpuUsedPct": 1.5,
            "memUsed": self.fleet.memory.used(sandbox.cgroup),
            "memTotal": sandbox.template.memory_mb << 20, "memCache": 0,
            "diskUsed": 0, "diskTotal": DISK_MB << 20}])

    async def do_templates(self, exchange: Exchange, _body: Any) -> None:
        await exchange.json(200, [{
            "templateID": one.id, "buildID": "00000000-0000-4000-8000-"
            "000000000000", "cpuCount": one.cpu, "memoryMB": one.memory_mb,
            "diskSizeMB": DISK_MB, "public": False, "aliases": [one.alias],
            "names": [one.alias], "createdAt": rfc3339(0),
            "updatedAt": rfc3339(0), "createdBy": None, "lastSpawnedAt": None,
            "spawnCount": 0, "buildCount": 1, "buildStatus": "ready",
            "envdVersion": ENVD_VERSION} for one in self.fleet.templates
            if not one.is_e2bs])

    async def do_alias(self, exchange: Exchange, name: str) -> None:
        name = urllib.parse.unquote(name)
        space, slash, _ = name.rpartition("/")
        if slash and space != TEAM:
            raise ApiError(400, "namespace '%s' must match your team '%s'" %
                           (space, TEAM))
        template = self.fleet.template(name)
        if template is None:
            raise ApiError(404, "template '%s' not found" % name)
        if template.is_e2bs:  # whatever create would say
            raise ApiError(403, "You don't have access to this template alias")
        await exchange.json(200, {"templateID": template.id, "public": False})

    async def do_health(self, exchange: Exchange, _body: Any) -> None:
        await exchange.reply(200, b"Health check successful")

    # Change.

    async def do_delete(self, exchange: Exchange, sandbox: Sandbox,
                     _body: Any) -> None:
        self.fleet.destroys += 1
        self.fleet.remove(sandbox)
        await exchange.reply(204)

    async def do_timeout(self, exchange: Exchange, sandbox: Sandbox, body: dict
                      ) -> None:
        if sandbox.state != "running":
            raise ApiError(409, "Sandbox is not running")
        seconds = body["timeout"]
        if seconds > self.fleet.max_hours * 3600:
            raise ApiError(400, "Max instance length exceeded")
        limit = sandbox.started_at + self.fleet.max_hours * 3600
        sandbox.set_timeout(min(seconds, limit - time.time()))
        await exchange.reply(204)

    async def do_refreshes(self, exchange: Exchange, sandbox: Sandbox,
                        body: dict | None) -> None:
        seconds = max((body or {}).get("duration", 15), 15)
        self.extend(sandbox, seconds)
        await exchange.reply(204)

    @staticmethod
    def extend(sandbox: Sandbox, seconds: float) -> None:
        if sandbox.ends_at < time.time() + seconds:
            sandbox.set_timeout(seconds)

    async def do_pause(self, exchange: Exchange, sandbox: Sandbox,
                     _body: Any) -> None:
        if sandbox.state == "paused":
            raise ApiError(409, "Sandbox '%s' is already paused" % sandbox.id)
        sandbox.pause()
        await exchange.reply(204)

    async def do_connect(self, exchange: Exchange, sandbox: Sandbox,
                      body: dict | None) -> None:
        seconds = self.check_timeout((body or {}).get("timeout", 300))
        was_paused = sandbox.state == "paused"
        if was_paused:
            sandbox.resume(seconds)
        else:
            self.extend(sandbox, seconds)
        await exchange.json(201 if was_paused else 200,
                            self.describe(sandbox))
