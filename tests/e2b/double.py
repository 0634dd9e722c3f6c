"""A double of E2B for capibox's tests: control plane, envd, code interpreter.

    /usr/bin/python3 tests/e2b/double.py --dir DIR [--port N] [--key e2b_...]
        [--template id:cpu:memoryMB[:alias]]... [--max-sandboxes N]
        [--max-hours H] [--latency-ms N] [--restart-ms N] [--plain]
        [--bad-cert expired|wrong-host|self-signed|other-ca]
        [--envd-version V] [--spec FOLDER] [--h2] [--disk-mb N]

Prints one line of JSON when it is ready:
    port, domain ("e2b.localhost:PORT"), ca, api_key, control (a unix socket),
    foreign_port, memory ("cgroup" or "rlimit"), and with --plain plain_port and
    plain_domain.
It ends, with all its sandboxes, when its stdin does. DIR should be new.
$CAPIBOX_E2B_SPEC (or --spec) names a folder with E2B's openapi.yml; bodies are
then checked against that, too (needs python3-yaml and python3-jsonschema).

--h2 offers HTTP/2 to see who takes it: a violation, as /execute must be 1.1.
--disk-mb makes each home a RAM disk of that size, so that it can fill up.

One port serves everything: api.DOMAIN is the control plane, PORT-ID.DOMAIN a
sandbox, sandbox.DOMAIN (or localhost, 127.0.0.1) a sandbox by E2b-Sandbox-Id
and -Port. Code really runs, in namespaces of its own, with /home/user, /tmp and
processes that go when the sandbox does.

The control socket takes a line of JSON and answers with one:
    {"cmd": "report"}       violations, requests by route, sandboxes, CPU ...
    {"cmd": "fault", "route": R, "kind": K, ...}     see below
    {"cmd": "clear"}        drops faults;  {"cmd": "clear_violations"}
    {"cmd": "seed", "n": N}       of faults' probabilities
    {"cmd": "latency", "ms": N}   {"cmd": "max_sandboxes", "n": N}
    {"cmd": "kill", "id": ID}     a sandbox is lost, without a DELETE
    {"cmd": "close_idle", "rst": false}   connections without a request
    {"cmd": "outage", "how": "refuse"}    no new connections, the open ones are
        reset; "mute": TCP alone answers; "none": over
    {"cmd": "oom", "id": ID, "n": N}   as if the guest's kernel had OOM-killed

Routes: create list get delete timeout refreshes pause connect metrics
templates health; ci_health execute contexts context_new context_restart
context_delete; envd_health envs envd_metrics files_get files_post; start
process_connect process_list send_signal send_input close_stdin stat list_dir
make_dir remove move; any.

A fault strikes `count` times (1; without end if it has a `probability`) after
`skip` requests were spared; `id` restricts it to a sandbox. Kinds:
  instead of the work: status (status, body or json, type, headers),
    refuse_before, reset_before, stall, garbage, redirect (status, location:
    default is a listener that notes secrets), delay (ms; then all is well;
    delay_ms goes with any kind)
  after the work: answer_lost (rst), body (body or repeat), patch (set, drop),
    bad_length, giant_header, no_close_notify
  within the body, after `bytes`: reset, truncate (no close_notify), stall_body,
    drip (interval_ms)
  within execute's stream, when `after` (1) events are out: long_line (bytes),
    huge_total (bytes), many_lines (lines), half_line (clean), empty_line,
    not_json (body), raw_lines (lines), unknown_type, wrong_types,
    keepalive_only (interval_ms), silent, kernel_dies, sandbox_lost; and
    no_end, no_count, duplicate_end, after_end, split_utf8, bare_end (no
    newline), held_open (after the end)
  within start's stream, when `after` envelopes are out: bad_flag, compressed,
    not_json, wrong_types, giant_envelope, half_envelope, silent,
    keepalive_only, huge_total, sandbox_lost; and no_start, no_end,
    end_error (code), held_open
Presets stand for a kind with its values: faults.PRESETS, as 429a 429b 429c
500 503 504 502-notfound 502-port 502-html create-giant create-no-token.
"""
import argparse
import asyncio
import gc
import json
import logging
import os
import socket
import sys
from typing import Any

sys.dont_write_bytecode = True

import certs  # noqa: E402
from app import App  # noqa: E402
from sandbox import Fleet, Template  # noqa: E402

DEFAULT_KEY = "e2b_" + "0123456789abcdef" * 2 + "01234567"
DEFAULT_TEMPLATE = "code-interpreter-v1:2:2048"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A double of E2B.")
    add = parser.add_argument
    add("--dir", required=True)
    add("--port", type=int, default=0)
    add("--key", default=DEFAULT_KEY)
    add("--template", action="append", default=[])
    add("--max-sandboxes", type=int, default=20)
    add("--max-hours", type=float, default=1)
    add("--latency-ms", type=float, default=0)
    add("--restart-ms", type=float, default=100)
    add("--plain", action="store_true")
    add("--bad-cert", default="", choices=("expired", "wrong-host",
                                           "self-signed", "other-ca"))
    add("--h2", action="store_true")
    add("--disk-mb", type=int, default=0)
    add("--envd-version", default="")
    add("--spec", default=os.environ.get("CAPIBOX_E2B_SPEC", ""))
    return parser.parse_args()


class Door:
    """The main listener, which can be shut."""

    def __init__(self, app: App, options: dict[str, Any]):
        self.app, self.options = app, options
        self.server: asyncio.Server | None = None
        self.mute: socket.socket | None = None

    async def open(self) -> int:
        self.server = await asyncio.start_server(self.app.connected,
                                                 **self.options)
        self.options["port"] = self.server.sockets[0].getsockname()[1]
        return self.options["port"]

    def shut(self) -> None:
        if self.server:
            self.server.close()
        if self.mute:
            self.mute.close()
        self.server = self.mute = None

    async def outage(self, how: str) -> None:
        if how not in ("refuse", "mute", "none"):
            raise ValueError("no outage %r" % how)
        self.shut()
        if how == "none":
            await self.open()
            return
        await self.app.close_open(idle_only=False, rst=True)
        if how == "mute":
            # The kernel takes connections in; nobody takes them over.
            self.mute = socket.create_server(
                ("127.0.0.1", self.options["port"]), backlog=1024)


class Remote:
    """The tests' side entrance: the control socket."""

    def __init__(self, app: App, door: Door):
        self.app, self.door = app, door

    async def connected(self, reader: asyncio.StreamReader,
                        writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                reply = await self.obey(json.loads(line))
            except Exception as error:  # a test must not wait for ever
                reply = {"error": repr(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def obey(self, order: dict) -> dict:
        app, command = self.app, order["cmd"]
        if command == "report":
            return await app.report()
        if command == "fault":
            app.faults.add(order)
        elif command == "clear":
            app.faults.rules.clear()
        elif command == "seed":
            app.faults.random.seed(order["n"])
        elif command == "clear_violations":
            app.violations.clear()
            app.foreign.clear()
            app.violation_count = 0
        elif command == "latency":
            app.latency = order["ms"] / 1000
        elif command == "max_sandboxes":
            app.fleet.max_sandboxes = order["n"]
        elif command == "kill":
            app.fleet.lose(app.fleet.alive[order["id"]])
        elif command == "close_idle":
            return {"ok": True, "closed": await app.close_open(
                idle_only=True, rst=order.get("rst", False))}
        elif command == "outage":
            await self.door.outage(order["how"])
        elif command == "oom":
            app.fleet.alive[order["id"]].pretend_ooms(order.get("n", 1))
        else:
            raise ValueError("no command %r" % command)
        return {"ok": True}


async def stdin_closed() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass


async def main(args: argparse.Namespace) -> None:
    os.makedirs(args.dir, exist_ok=True)
    folder = os.path.abspath(args.dir)
    templates = [Template(text) for text in
                 args.template or [DEFAULT_TEMPLATE]]
    fleet = Fleet(folder, templates, args.max_sandboxes, args.max_hours,
                  args.disk_mb)
    app = App(fleet, args.key, args.envd_version, args.restart_ms / 1000,
              args.spec)
    app.latency = args.latency_ms / 1000
    ca, certificate, key = certs.make(folder, args.bad_cert)
    tls = certs.context(certificate, key, args.h2)
    options: dict[str, Any] = {"host": "127.0.0.1", "backlog": 1024,
                               "limit": 64 << 10}
    door = Door(app, {**options, "port": args.port, "ssl": tls})
    port = await door.open()
    foreign = await asyncio.start_server(app.connected_foreign, port=0,
                                         ssl=tls, **options)
    foreign_port = foreign.sockets[0].getsockname()[1]
    app.faults.foreign = "https://foreign.%s:%d/caught" % (certs.DOMAIN,
                                                           foreign_port)
    control = os.path.join(folder, "control")
    servers = [foreign, await asyncio.start_unix_server(
        Remote(app, door).connected, control)]
    ready = {"port": port, "ca": ca, "api_key": args.key,
             "domain": "%s:%d" % (certs.DOMAIN, port),
             "control": control, "foreign_port": foreign_port,
             "memory": fleet.memory.kind}
    if args.plain:
        servers.append(await asyncio.start_server(app.connected, port=0,
                                                  **options))
        port = servers[-1].sockets[0].getsockname()[1]
        ready.update(plain_port=port,
                     plain_domain="%s:%d" % (certs.DOMAIN, port))
    gc.collect()
    gc.freeze()
    print(json.dumps(ready), flush=True)
    await stdin_closed()
    door.shut()
    for one in servers:
        one.close()
    await fleet.close()


if __name__ == "__main__":
    # It tells of each write to a client that has left.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(main(arguments()))
