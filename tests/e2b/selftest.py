#!/usr/bin/python3
"""Shows that the double keeps to E2B's protocol, sees who does not, and fails
as told. `tests/e2b/selftest.py [NAME...]` prints TAP, as tests/run.sh reads it;
exits 1 if any failed.
"""
import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any
from urllib.parse import quote

HERE = os.path.dirname(os.path.abspath(__file__))
JSON = {"Content-Type": "application/json"}


class Connection(http.client.HTTPConnection):
    """To 127.0.0.1, whatever the host's name."""

    def __init__(self, double: "Double", host: str, ragged: bool = True):
        super().__init__(host, timeout=15)
        self.double, self.ragged = double, ragged

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port or 443), 15)
        context = ssl.create_default_context(cafile=self.double.ready["ca"])
        context.set_alpn_protocols(["http/1.1"])
        if not self.ragged:  # Python likes an end without close_notify
            context.options &= ~0x80  # SSL_OP_IGNORE_UNEXPECTED_EOF
        self.sock = context.wrap_socket(plain, server_hostname=self.host,
                                        suppress_ragged_eofs=self.ragged)


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.body.splitlines()]

    def of(self, kind: str) -> list[dict]:
        return [one for one in self.events if one["type"] == kind]

    @property
    def stdout(self) -> str:
        return "".join(one["text"] for one in self.of("stdout"))


class Box:
    """A sandbox, seen by a client."""

    def __init__(self, double: "Double", made: dict):
        self.double, self.made, self.id = double, made, made["sandboxID"]
        self.token = {"X-Access-Token": made["envdAccessToken"]} \
            if "envdAccessToken" in made else {}

    def ask(self, port: int, method: str, path: str, body: bytes | None = None,
            headers: dict | None = None) -> Answer:
        host = "%d-%s.%s" % (port, self.id, self.double.ready["domain"])
        return self.double.ask(host, method, path, body,
                               {**self.token, **(headers or {})})

    def run(self, code: str, **fields: Any) -> Answer:
        return self.ask(49999, "POST", "/execute",
                        json.dumps({"code": code, **fields}).encode(), JSON)

    def rpc(self, method: str, body: Any) -> Answer:
        return self.ask(49983, "POST", "/" + method, json.dumps(body).encode(),
                        {**JSON, "Connect-Protocol-Version": "1"})

    def start(self, command: str, headers: dict | None = None,
              **fields: Any) -> tuple[Answer, list[dict]]:
        raw = json.dumps({"process": {"cmd": "/bin/bash", "args": [
            "-l", "-c", command]}, "stdin": False, **fields}).encode()
        got = self.ask(49983, "POST", "/process.Process/Start",
                       struct.pack(">BI", 0, len(raw)) + raw,
                       {"Content-Type": "application/connect+json",
                        "Connect-Protocol-Version": "1", **(headers or {})})
        return got, envelopes(got.body)

    def delete(self) -> int:
        return self.double.api("DELETE", "/sandboxes/" + self.id).status


def envelopes(raw: bytes) -> list[dict]:
    found = []
    while raw:
        flags, size = struct.unpack_from(">BI", raw)
        found.append({"flags": flags, **json.loads(raw[5:5 + size])})
        raw = raw[5 + size:]
    return found


class Double:
    def __init__(self, *options: str):
        self.folder = tempfile.mkdtemp(prefix="double-")
        self.process = subprocess.Popen(
            ["/usr/bin/python3", os.path.join(HERE, "double.py"), "--dir",
             self.folder, *options], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        assert self.process.stdout
        self.ready = json.loads(self.process.stdout.readline())
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(20)
        self.control.connect(self.ready["control"])
        self.lines = self.control.makefile()

    def command(self, **order: Any) -> dict:
        self.control.sendall(json.dumps(order).encode() + b"\n")
        reply = json.loads(self.lines.readline())
        assert "error" not in reply, reply
        return reply

    def fault(self, route: str, kind: str, **more: Any) -> None:
        self.command(cmd="fault", route=route, kind=kind, **more)

    def report(self) -> dict:
        return self.command(cmd="report")

    def violations(self) -> list[str]:
        found = self.report()["violations"]
        self.command(cmd="clear_violations")
        return found

    def ask(self, host: str, method: str, path: str, body: bytes | None = None,
            headers: dict | None = None) -> Answer:
        connection = Connection(self, host)
        try:
            send = {"User-Agent": "selftest/1", **(headers or {})}
            connection.request(method, path, body, {
                name: value for name, value in send.items() if value})
            got = connection.getresponse()
            return Answer(got.status, got.headers, got.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Any = None,
            headers: dict | None = None) -> Answer:
        raw = None if body is None else \
            body if isinstance(body, bytes) else json.dumps(body).encode()
        send = {"X-API-Key": self.ready["api_key"], **(
            JSON if raw is not None else {}), **(headers or {})}
        return self.ask("api." + self.ready["domain"], method, path, raw, send)

    def create(self, **fields: Any) -> Box:
        got = self.api("POST", "/sandboxes", {
            "templateID": "code-interpreter-v1", "timeout": 60,
            "secure": True, **fields})
        assert got.status == 201, got.body
        return Box(self, got.json)

    def close(self) -> int:
        self.control.close()
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait(15)
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def fails(call: Any, *kinds: type) -> None:
    try:
        got = call()
    except kinds:
        return
    raise AssertionError("no error but %r" % vars(got))


BROKEN = (http.client.IncompleteRead, http.client.RemoteDisconnected,
          ConnectionError, ssl.SSLError)

# The honest flow.


def a_job_runs(double: Double) -> None:
    box = double.create(metadata={"pool": "p"}, envVars={"A": "b"})
    assert box.made["clientID"] == "6532622b" and len(box.id) == 21
    assert len(box.made["envdAccessToken"]) == 64
    got = box.run("print('hi é')\n1 + 1")
    assert [one["type"] for one in got.events] == [
        "number_of_executions", "stdout", "result", "end_of_execution"]
    assert "Content-Type" not in got.headers and b"\\u00e9" in got.body
    assert got.of("result")[0] == {"type": "result", "text": "2", "extra": {},
                                   "is_main_result": True}
    assert box.run("import os; os.environ['A']").of("result")[0]["text"] == "b"
    assert box.delete() == 204 and box.delete() == 404
    gone = box.run("1")
    assert gone.status == 502 and gone.json["message"] == \
        "The sandbox was not found" and "port" not in gone.json
    assert double.violations() == []


def lists_are_filtered_and_paged(double: Double) -> None:
    boxes = [double.create(metadata={"k 1": "v&1", "n": str(at)})
             for at in range(3)]
    inner = quote(quote("k 1")) + "=" + quote(quote("v&1"))
    query = "/v2/sandboxes?metadata=" + quote(inner, safe="")
    assert "k%2525201%3Dv%2525261" in query
    assert {one["sandboxID"] for one in double.api("GET", query).json} == \
        {box.id for box in boxes}
    seen: list[str] = []
    token = ""
    while True:
        page = double.api("GET", query + "&limit=2" + token)
        seen += [one["metadata"]["n"] for one in page.json]
        if "X-Next-Token" not in page.headers:
            break
        token = "&nextToken=" + page.headers["X-Next-Token"]
    assert seen == ["2", "1", "0"], seen
    for box in boxes:
        box.delete()
    assert double.violations() == []


def sandboxes_expire(double: Double) -> None:
    begun = time.monotonic()
    box = double.create(timeout=1)
    fails(lambda: box.run("import time; time.sleep(30)"), *BROKEN)
    assert 0.99 < time.monotonic() - begun < 20
    assert double.api("GET", "/sandboxes/" + box.id).status == 404
    for _ in range(20):
        box = double.create(timeout=1)
        longer = double.api("POST", "/sandboxes/%s/timeout" % box.id,
                            {"timeout": 30}).status
        if longer != 404:
            break  # in time: a slow machine may be late
    assert longer == 204
    time.sleep(1.1)
    detail = double.api("GET", "/sandboxes/" + box.id).json
    assert detail["envdAccessToken"] == box.made["envdAccessToken"]
    assert double.api("POST", "/sandboxes/%s/pause" % box.id).status == 204
    assert box.run("1").status == 502
    assert double.api("POST", "/sandboxes/%s/connect" % box.id,
                      {"timeout": 30}).status == 201
    box.delete()
    assert double.violations() == []


def the_number_of_sandboxes_is_limited(double: Double) -> None:
    double.command(cmd="max_sandboxes", n=1)
    box = double.create()
    got = double.api("POST", "/sandboxes", {
        "templateID": "code-interpreter-v1"})
    assert got.status == 429 and got.json["code"] == 429
    assert "Retry-After" not in got.headers
    box.delete()
    for body, status in (({"templateID": "nope"}, 404),
                         ({"templateID": "code-interpreter-v1",
                           "timeout": 0}, 400),
                         ({"templateID": "code-interpreter-v1",
                           "timeout": 3601}, 400),
                         ({"templateID": "code-interpreter-v1",
                           "autoPause": True, "autoPauseMemory": False,
                           "autoResume": {"enabled": True}}, 400),
                         ({"templateID": "code-interpreter-v1",
                           "network": {"allowOut": ["e2b.dev"]}}, 400)):
        got = double.api("POST", "/sandboxes", body)
        assert got.status == status and got.json["code"] == status, got.body


def only_the_teams_own_templates_show(double: Double) -> None:
    for name, status in (("small", 200), ("code-interpreter-v1", 403),
                         ("capibox%2Fsmall", 200), ("nope", 404),
                         ("others%2Fsmall", 400)):
        got = double.api("GET", "/templates/aliases/" + name)
        assert got.status == status, (name, got.body)
    assert [one["templateID"] for one in
            double.api("GET", "/v2/templates").json] == ["small"]
    assert double.violations() == []


def errors_look_as_in_a_notebook(double: Double) -> None:
    box = double.create()
    error = box.run("x = 1\nfoo", env_vars={"M": "1"}).of("error")[0]
    assert (error["name"], error["value"]) == (
        "NameError", "name 'foo' is not defined")
    # Shifted by the variables: three of the sandbox and one of the call.
    assert "line 6" in error["traceback"], error["traceback"]
    assert box.run("import os; os.environ.get('M', 'gone')").of(
        "result")[0]["text"] == "gone"
    error = box.run("foo").of("error")[0]
    assert "line 1" in error["traceback"]
    error = box.run("import sys; sys.exit(3)").of("error")[0]
    assert (error["name"], error["value"]) == ("SystemExit", "3")
    assert box.run("input()").of("error")[0]["name"] == \
        "StdinNotImplementedError"
    assert box.run("a b").of("error")[0]["name"] == "SyntaxError"
    assert box.run("1", env_vars={"Q": "it's"}).of("error")[0]["name"] == \
        "SyntaxError"
    got = box.run("import os; os._exit(0)")
    assert got.of("error")[0]["name"] == "ContextRestarting"
    assert got.events[-1]["type"] == "end_of_execution"
    assert box.run("x").of("error")[0]["name"] == "NameError"
    box.delete()
    assert double.violations() == []


def results_have_their_forms(double: Double) -> None:
    box = double.create()
    got = box.run("display({'a': 1})\n'text'").of("result")
    assert [one["is_main_result"] for one in got] == [False, True]
    assert got[1]["text"] == "text"
    assert not box.run("5;").of("result") and not box.run("x = 5").of("result")
    got = box.run("class H:\n def _repr_html_(self): return '<b>'\nH()")
    assert got.of("result")[0]["html"] == "<b>"
    assert box.run("import asyncio\nawait asyncio.sleep(0, 7)").of(
        "result")[0]["text"] == "7"
    assert box.run("!echo out; echo err >&2").stdout == "out\n"
    if subprocess.run(["/usr/bin/python3", "-c", "import matplotlib"],
                      capture_output=True, check=False).returncode == 0:
        got = box.run("import matplotlib.pyplot as p\np.plot([1,2])\np.show()")
        shown = [one for one in got.of("result") if "png" in one]
        assert len(shown) == 1 and "chart" in shown[0]
        assert base64.b64decode(shown[0]["png"]).startswith(b"\x89PNG")
    box.delete()
    assert double.violations() == []


def other_languages_run(double: Double) -> None:
    box = double.create()
    if shutil.which("node"):
        got = box.run("console.log('x'); let a = 5; ({a})", language="js")
        assert got.stdout == "x\n"
        assert got.of("result")[0]["text"] == "{ a: 5 }"
        got = box.run("await 1; throw new TypeError('t' + a)", language="js")
        assert got.of("error")[0]["name"] == "TypeError"
        assert got.of("error")[0]["value"] == "t5"
    got = box.run("x=4; echo out; echo err >&2", language="bash")
    assert got.stdout == "out\n" and got.of("stderr")[0]["text"] == "err\n"
    assert box.run("echo $x", language="bash").stdout == "4\n"
    assert box.run("1", language="cobol").status == 500
    box.delete()
    assert double.violations() == []


def contexts_are_apart(double: Double) -> None:
    box = double.create()
    made = box.ask(49999, "POST", "/contexts", b'{"cwd":"/tmp"}', JSON).json
    assert set(made) == {"id", "language", "cwd"}
    assert box.run("import os; print(os.getcwd()); y = 1",
                   context_id=made["id"]).stdout == "/tmp\n"
    assert box.run("y").of("error")
    assert box.run("y", context_id=made["id"]).of("result")
    assert box.ask(49999, "POST", "/contexts/%s/restart" %
                   made["id"]).body == b"null"
    assert box.run("y", context_id=made["id"]).of("error")
    assert box.ask(49999, "DELETE", "/contexts/" + made["id"]).status == 200
    got = box.run("1", context_id=made["id"])
    assert got.status == 404 and got.body == \
        b"Context %s not found" % made["id"].encode()
    assert box.run("1", context_id="x", language="python").status == 400
    box.delete()
    assert double.violations() == []


def a_lost_client_interrupts(double: Double) -> None:
    box = double.create()
    host = "49999-%s.%s" % (box.id, double.ready["domain"])
    connection = Connection(double, host)
    connection.request("POST", "/execute", json.dumps({
        "code": "import time\ntry:\n  print('on'); time.sleep(60)\nexcept "
        "KeyboardInterrupt:\n  open('seen', 'w')"}), {
            "User-Agent": "t", **box.token, **JSON})
    answer = connection.getresponse()
    while b"stdout" not in answer.readline():
        pass
    answer.close()
    connection.close()
    deadline = time.monotonic() + 5
    while box.ask(49983, "GET", "/files?path=seen").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert box.run("print(1)").stdout == "1\n"
    box.delete()
    assert double.violations() == []


def memory_is_the_templates(double: Double) -> None:
    if double.ready["memory"] != "cgroup":
        return
    box = double.create(templateID="small")
    look = "grep '^oom_kill ' /proc/vmstat"
    assert box.run("!" + look).stdout == "oom_kill 0\n"
    got = box.run("x = b'x' * (300 << 20)")
    assert got.of("error")[0]["name"] == "ContextRestarting"
    _, items = box.start(look)
    assert base64.b64decode(items[1]["event"]["data"]["stdout"]) == \
        b"oom_kill 1\n"
    box.delete()
    box = double.create(templateID="small")  # may have the same group
    assert box.run("!" + look).stdout == "oom_kill 0\n"
    box.delete()


def files_go_in_and_out(double: Double) -> None:
    box = double.create()
    body = b""
    for name, data in (("a/b c.txt", b"one\r\n--x"), ("ü", b"\0\xff")):
        body += b'--XX\r\nContent-Disposition: form-data; name="file"; ' \
            b'filename="%s"\r\nContent-Type: application/octet-stream\r\n' \
            b"\r\n%s\r\n" % (name.encode(), data)
    got = box.ask(49983, "POST", "/files", body + b"--XX--\r\n", {
        "Content-Type": "multipart/form-data; boundary=XX"})
    assert got.status == 200 and [one["path"] for one in got.json] == [
        "/home/user/a/b c.txt", "/home/user/ü"], got.body
    got = box.ask(49983, "GET", "/files?path=a%2Fb%20c.txt&username=user")
    assert got.body == b"one\r\n--x"
    assert box.run("open('ü','rb').read()").of("result")[0]["text"] == \
        "b'\\x00\\xff'"
    got = box.ask(49983, "POST", "/files?path=raw", b"raw", {
        "Content-Type": "application/octet-stream"})
    assert got.status == 200
    for query, status in (("path=nope", 404), ("path=a", 400),
                          ("path=raw&username=eve", 401)):
        got = box.ask(49983, "GET", "/files?" + query)
        assert got.status == status and got.json["code"] == status
    stat = box.rpc("filesystem.Filesystem/Stat", {"path": "raw"}).json
    assert stat["entry"]["size"] == "3" and stat["entry"]["owner"] == "user"
    assert len(box.rpc("filesystem.Filesystem/ListDir", {
        "path": ".", "depth": 2}).json["entries"]) == 4
    assert box.rpc("filesystem.Filesystem/MakeDir", {
        "path": "a"}).status == 409
    assert box.rpc("filesystem.Filesystem/Move", {
        "source": "raw", "destination": "d/raw"}).status == 200
    assert box.rpc("filesystem.Filesystem/Remove", {"path": "d"}).json == {}
    assert box.rpc("filesystem.Filesystem/Stat", {
        "path": "d"}).json["code"] == "not_found"
    host = "sandbox." + double.ready["domain"]
    assert double.ask(host, "GET", "/files?path=a/b%20c.txt", None, {
        **box.token, "E2b-Sandbox-Id": box.id,
        "E2b-Sandbox-Port": "49983"}).body == b"one\r\n--x"
    box.delete()
    assert double.violations() == []


def floods_come_through(double: Double) -> None:
    box = double.create()
    got = box.run("for i in range(20000): print('x' * 500)")
    assert len(got.stdout) == 20000 * 501
    got = box.run("!head -c 10000000 /dev/zero | tr '\\0' y")
    assert len(got.stdout) == 10000000
    _, items = box.start("head -c 10000000 /dev/zero")
    assert sum(len(base64.b64decode(one["event"]["data"]["stdout"]))
               for one in items[1:-2]) == 10000000
    box.delete()
    assert double.violations() == []


def processes_run(double: Double) -> None:
    box = double.create(envVars={"A": "1"})
    got, items = box.start("echo $A$B; echo e >&2; pwd", process={
        "cmd": "/bin/bash", "args": ["-c", "echo $A$B; exit 3"],
        "envs": {"B": "2"}, "cwd": "/tmp"})
    assert got.headers["Content-Type"] == "application/connect+json"
    assert "pid" in items[0]["event"]["start"]
    assert items[1]["event"]["data"] == {"stdout": base64.b64encode(
        b"12\n").decode()}
    assert items[2]["event"]["end"]["exitCode"] == 3
    assert items[3] == {"flags": 2}
    _, items = box.start("true")
    assert items[-2]["event"]["end"] == {"exited": True,
                                         "status": "exit status 0"}
    _, items = box.start("kill -9 $$")
    assert items[-2]["event"]["end"] == {"exitCode": -1,
                                         "status": "signal: killed"}
    _, items = box.start("sleep 60", {"Connect-Timeout-Ms": "200"})
    assert items[-1]["error"]["code"] == "deadline_exceeded"
    _, items = box.start("x", process={"cmd": "/bin/true", "cwd": "/nope"})
    assert items[-1]["error"]["code"] == "invalid_argument"
    _, items = box.start("x", {"Authorization": "Basic " + base64.b64encode(
        b"eve:").decode()})
    assert items[-1]["error"]["code"] == "unauthenticated"
    _, items = box.start("stty size", pty={"size": {"cols": 90, "rows": 30}})
    assert items[1]["event"]["data"]["pty"] == base64.b64encode(
        b"30 90\r\n").decode()
    assert box.ask(49983, "GET", "/envs").json["A"] == "1"
    assert box.ask(49983, "GET", "/health").status == 204
    # The one whose time was over is killed, which takes its moment.
    until = time.monotonic() + 10
    while (listed := box.rpc("process.Process/List", {}).json) != {}:
        assert time.monotonic() < until, listed
        time.sleep(0.02)
    box.delete()
    assert double.violations() == []

# Violations.


def strays_are_seen(double: Double) -> None:
    box = double.create()
    new = {"templateID": "code-interpreter-v1", "timeout": 5}
    api = double.api
    envelope = {"Content-Type": "application/connect+json",
                "Connect-Protocol-Version": "1"}
    start = "/process.Process/Start"
    cases = (
        ("unknown field body.cpu", 201, lambda: api(
            "POST", "/sandboxes", {**new, "cpu": 4})),
        ("body.timeout is string", 400, lambda: api(
            "POST", "/sandboxes", {**new, "timeout": "5"})),
        ("body.timeout is float", 400, lambda: api(
            "POST", "/sandboxes", {**new, "timeout": 5.0})),
        ("templateID is missing", 400, lambda: api(
            "POST", "/sandboxes", {})),
        ("body is no JSON", 400, lambda: api("POST", "/sandboxes", b"{")),
        ("a key comes twice", 400, lambda: api(
            "POST", "/sandboxes", b'{"timeout":1,"timeout":1}')),
        ("Content-Type is", 400, lambda: api(
            "POST", "/sandboxes", new, {"Content-Type": "text/plain"})),
        ("unknown query parameter 'x'", 200, lambda: api(
            "GET", "/v2/sandboxes?x=1")),
        ("query is not well-formed", 200, lambda: api(
            "GET", "/v2/sandboxes?template=%zz")),
        ("no User-Agent", 200, lambda: api(
            "GET", "/v2/sandboxes", None, {"User-Agent": ""})),
        ("X-API-Key is wrong", 401, lambda: api(
            "GET", "/v2/sandboxes", None, {"X-API-Key": "e2b_0"})),
        ("X-API-Key is missing", 401, lambda: api(
            "GET", "/v2/sandboxes", None, {"X-API-Key": ""})),
        ("a body where none belongs", 404, lambda: api(
            "DELETE", "/sandboxes/i0", {})),
        ("no route PUT", 404, lambda: api("PUT", "/sandboxes")),
        ("x-access-token does not belong", 200, lambda: api(
            "GET", "/v2/sandboxes", None, box.token)),
        ("X-API-Key sent to a sandbox", 200, lambda: box.ask(
            49999, "GET", "/health", None, {"X-API-Key": "e2b_0"})),
        ("came without the right X-Access-Token", 200, lambda: box.ask(
            49999, "POST", "/execute", b'{"code":"1"}', {
                **JSON, "X-Access-Token": ""})),
        ("unknown field body.stdin", 200, lambda: box.run("1", stdin="x")),
        ("body.code is missing", 422, lambda: box.ask(
            49999, "POST", "/execute", b"{}", JSON)),
        ("E2b-Sandbox-Id 'other'", 200, lambda: box.ask(
            49999, "GET", "/health", None, {"E2b-Sandbox-Id": "other"})),
        ("X-Access-Token is missing", 401, lambda: box.ask(
            49983, "GET", "/envs", None, {"X-Access-Token": ""})),
        ("X-Access-Token is wrong", 401, lambda: box.ask(
            49983, "GET", "/files?path=x", None, {"X-Access-Token": "no"})),
        ("no envelope", 200, lambda: box.ask(
            49983, "POST", start, b"{}", envelope)),
        ("envelope of flags 0", 200, lambda: box.ask(
            49983, "POST", start, b"\0\0\0\0\x09{}", envelope)),
        ("start: Content-Type is", 415, lambda: box.ask(
            49983, "POST", start, b"\0\0\0\0\x02{}", {
                **envelope, **JSON})),
        ("Connect-Protocol-Version is None", 200, lambda: box.ask(
            49983, "POST", "/process.Process/List", b"{}", JSON)),
        ("body.signal is", 400, lambda: box.rpc(
            "process.Process/SendSignal", {"process": {"pid": 1},
                                           "signal": 9})),
        ("Authorization is malformed", 401, lambda: box.ask(
            49983, "POST", "/process.Process/List", b"{}", {
                **JSON, "Connect-Protocol-Version": "1",
                "Authorization": "Basic dXNlcg=="})),
        ("files_post: Content-Type is", 400, lambda: box.ask(
            49983, "POST", "/files?path=x", b"x", JSON)),
        ("no E2b-Sandbox-Id or -Port", 400, lambda: double.ask(
            "sandbox." + double.ready["domain"], "GET", "/health")),
        ("Invalid sandbox port: 'http'", 400, lambda: double.ask(
            "sandbox." + double.ready["domain"], "GET", "/health", None, {
                "E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "http"})),
        ("Invalid sandbox ID: '../x'", 400, lambda: double.ask(
            "sandbox." + double.ready["domain"], "GET", "/health", None, {
                "E2b-Sandbox-Id": "../x", "E2b-Sandbox-Port": "49999"})),
        ("User-Agent of a browser", 200, lambda: box.ask(
            49999, "GET", "/health", None, {"User-Agent": "Mozilla/5.0"})),
        ("metadata is not encoded thrice", 200, lambda: api(
            "GET", "/v2/sandboxes?metadata=k%3Da%2520b")),
        ("Connect-Timeout-Ms is '0'", 200, lambda: box.start(
            "true", {"Connect-Timeout-Ms": "0"})[0]),
        ("Keepalive-Ping-Interval is '0'", 200, lambda: box.start(
            "true", {"Keepalive-Ping-Interval": "0"})[0]),
    )
    for words, status, call in cases:
        got = call()
        found = double.violations()
        assert any(words in text for text in found), (words, found)
        assert len(found) == 1, (words, found)
        assert got.status == status, (words, got.status, got.body)


def the_wire_is_watched(double: Double) -> None:
    host = "api." + double.ready["domain"]
    for raw, words in (
            (b"GET /health HTTP/1.0\r\nHost: %s\r\nUser-Agent: x\r\n\r\n",
             "HTTP/1.0"),
            (b"PRI * HTTP/2.0\r\n\r\n", "request line"),
            (b"GET /health HTTP/1.1\r\nHost: %s\r\nUser-Agent: x\r\n"
             b"Host: %s\r\n\r\n", "header host comes twice"),
            (b"GET /health HTTP/1.1\r\nHost: %s\r\n X: y\r\n\r\n",
             "header line"),
            (b"POST /sandboxes HTTP/1.1\r\nHost: %s\r\n"
             b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size")):
        connection = Connection(double, host)
        connection.connect()
        connection.sock.sendall(raw.replace(b"%s", host.encode()))
        connection.sock.recv(4096)
        connection.close()
        found = double.violations()
        assert any(words in text for text in found), (words, found)

# Faults.


def answers_are_replaced(double: Double) -> None:
    for kind, status, words in (
            ("429a", 429, b"maximum number"), ("429b", 429, b"Rate limit"),
            ("429c", 429, b"<!doctype"), ("503", 503, b"sandbox_capacity"),
            ("504", 504, b"placement_timeout"), ("502-html", 502, b"nginx"),
            ("500", 500, b"sandbox_create_failed")):
        double.fault("create", kind)
        got = double.api("POST", "/sandboxes", {
            "templateID": "code-interpreter-v1"})
        assert got.status == status and words in got.body, kind
        assert (kind == "429b") == ("Retry-After" in got.headers)
    double.fault("list", "status", status=418, body="tea", skip=1)
    assert double.api("GET", "/v2/sandboxes").status == 200
    assert double.api("GET", "/v2/sandboxes").status == 418
    assert double.api("GET", "/v2/sandboxes").status == 200
    assert not double.report()["alive"]
    box = double.create()
    double.fault("delete", "429b", count=2)
    assert box.delete() == 429 and double.violations() == []
    assert box.delete() == 429
    assert "sooner than Retry-After" in double.violations()[0]
    time.sleep(1.01)
    assert box.delete() == 204 and double.violations() == []


def creates_go_wrong(double: Double) -> None:
    new = {"templateID": "code-interpreter-v1", "secure": True, "timeout": 5}

    def post() -> Answer:
        return double.api("POST", "/sandboxes", new)

    before = double.report()["creates"]
    double.fault("create", "answer_lost")
    fails(post, *BROKEN)
    assert double.report()["creates"] == before + 1
    for kind in ("refuse_before", "reset_before"):
        double.fault("create", kind)
        fails(post, *BROKEN)
    assert double.report()["creates"] == before + 1
    double.fault("create", "create-no-token")
    assert "envdAccessToken" not in post().json
    double.fault("create", "create-old-envd")
    assert post().json["envdVersion"] == "0.0.9"
    double.fault("create", "create-not-json")
    assert post().body.startswith(b"<html>")
    double.fault("create", "create-giant", repeat=1 << 20)
    assert len(post().body) > 1 << 20
    for kind in ("reset", "truncate", "bad_length"):
        double.fault("create", kind)
        fails(post, *BROKEN)
    double.fault("create", "drip", interval_ms=1)
    assert post().status == 201
    double.fault("create", "delay", ms=300)
    begun = time.monotonic()
    assert post().status == 201 and time.monotonic() - begun > 0.3
    double.fault("any", "stall")
    connection = Connection(double, "api." + double.ready["domain"])
    connection.connect()
    connection.sock.settimeout(0.3)
    connection.request("GET", "/health", headers={"User-Agent": "t"})
    fails(connection.getresponse, TimeoutError)
    connection.close()
    assert double.violations() == []


def redirects_are_noted(double: Double) -> None:
    double.fault("list", "redirect", status=307)
    got = double.api("GET", "/v2/sandboxes")
    where = "foreign.e2b.localhost:%d" % double.ready["foreign_port"]
    assert got.status == 307 and where in got.headers["Location"]
    double.ask(where, "GET", "/caught", None, {"X-API-Key": "e2b_1"})
    assert double.report()["foreign"][0]["secrets"] == ["x-api-key"]
    assert "followed to a foreign host with x-api-key" in \
        double.violations()[0]


def streams_go_wrong(double: Double) -> None:
    box = double.create()
    box.run("1")

    def run(kind: str, code: str = "print('é')", **more: Any) -> Answer:
        double.fault("execute", kind, **more)
        return box.run(code)

    def types(answer: Answer) -> list[str]:
        return [one["type"] for one in answer.events]

    assert types(run("no_end"))[-1] != "end_of_execution"
    assert types(run("duplicate_end"))[-2:] == ["end_of_execution"] * 2
    assert types(run("after_end"))[-1] == "stdout"
    assert types(run("no_count"))[0] == "stdout"
    assert b"\n\n" in run("empty_line").body
    assert b"this is not JSON\n" in run("not_json").body
    assert "weather_report" in types(run("unknown_type"))
    assert b"[]\n" in run("wrong_types").body
    assert "é".encode() in run("split_utf8").body
    assert len(run("long_line").body) > 10 << 20
    assert len(run("huge_total", bytes=1 << 20).body) > 1 << 20
    assert b"\nrow\n" in run("raw_lines", lines=["row"]).body
    assert run("kernel_dies", "import time; print(1); time.sleep(60)").of(
        "error")[0]["name"] == "ContextRestarting"
    for kind in ("half_line", "reset", "truncate", "answer_lost"):
        fails(lambda: run(kind), *BROKEN)
    double.fault("execute", "502-notfound")
    assert box.run("1").json["sandboxId"] == box.id
    double.fault("execute", "502-port")
    assert box.run("1").json["port"] == 49999
    for kind in ("bad_flag", "not_json", "compressed", "wrong_types"):
        double.fault("start", kind)
        got = box.ask(49983, "POST", "/process.Process/Start", frame(), {
            "Content-Type": "application/connect+json",
            "Connect-Protocol-Version": "1"})
        assert got.status == 200
    double.fault("start", "end_error", code="unavailable")
    assert box.start("true")[1][-1]["error"]["code"] == "unavailable"
    double.fault("start", "half_envelope")
    fails(lambda: box.start("true"), *BROKEN)
    fails(lambda: run("sandbox_lost"), *BROKEN)
    assert box.run("1").status == 502
    assert double.violations() == []


def frame() -> bytes:
    raw = b'{"process":{"cmd":"/bin/true"},"stdin":false}'
    return struct.pack(">BI", 0, len(raw)) + raw


def how_it_ended(double: Double, kind: str) -> str:
    """What a TLS client sees at the end of a run struck by a fault."""
    box = double.create()
    double.fault("execute", kind)
    connection = Connection(double, "49999-%s.%s" % (
        box.id, double.ready["domain"]), ragged=False)
    connection.request("POST", "/execute", b'{"code":"print(1)"}', {
        "User-Agent": "t", "Connection": "close", **box.token, **JSON})
    try:
        while connection.sock.recv(65536):
            pass
        return "clean"
    except ssl.SSLEOFError:
        return "reset"  # or so OpenSSL calls it here
    except ConnectionResetError:
        return "reset"
    except ssl.SSLError as error:
        return "cut" if "UNEXPECTED_EOF" in str(error) else str(error)
    finally:
        connection.close()


def ends_of_streams_differ(double: Double) -> None:
    for kind, end in (("no_end", "clean"), ("answer_lost", "clean"),
                      ("half_line", "cut"), ("truncate", "cut"),
                      ("no_close_notify", "cut"), ("reset", "reset"),
                      ("sandbox_lost", "reset")):
        assert how_it_ended(double, kind) == end, kind
    assert double.violations() == []


def outages_come_and_go(double: Double) -> None:
    host = "api." + double.ready["domain"]
    connection = Connection(double, host)
    connection.request("GET", "/health", headers={"User-Agent": "t"})
    connection.getresponse().read()
    assert double.command(cmd="close_idle")["closed"] >= 1
    assert connection.sock.recv(1) == b""
    connection.close()
    double.command(cmd="outage", how="refuse")
    fails(lambda: double.api("GET", "/health"), ConnectionRefusedError)
    double.command(cmd="outage", how="mute")
    with socket.create_connection(("127.0.0.1", double.ready["port"])) as one:
        one.settimeout(0.1)
        fails(lambda: one.recv(1), TimeoutError)
    double.command(cmd="outage", how="none")
    assert double.api("GET", "/health").status == 200


def http2_is_a_trap(_double: Double) -> None:
    with contextlib.closing(Double("--h2")) as double:
        context = ssl.create_default_context(cafile=double.ready["ca"])
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(socket.create_connection((
                "127.0.0.1", double.ready["port"])),
                server_hostname="localhost") as one:
            assert one.selected_alpn_protocol() == "h2"
            one.recv(1)
        assert double.api("GET", "/health").status == 200
        assert double.violations() == ["http: HTTP/2 was negotiated"]


def faults_come_by_chance(double: Double) -> None:
    double.fault("health", "500", probability=0.5)
    seen = [double.api("GET", "/health").status for _ in range(40)]
    assert 5 < seen.count(500) < 35
    double.command(cmd="clear")
    assert double.api("GET", "/health").status == 200


# Doubles of their own.


def bad_certificates_are_refused(_double: Double) -> None:
    for kind in ("expired", "wrong-host", "self-signed", "other-ca"):
        with contextlib.closing(Double("--bad-cert", kind)) as bad:
            fails(lambda: bad.api("GET", "/health"), ssl.SSLError)


def a_disk_fills_up(_double: Double) -> None:
    with contextlib.closing(Double("--disk-mb", "2")) as double:
        got = double.create().ask(49983, "POST", "/files?path=x",
                                  b"x" * (3 << 20), {
                                      "Content-Type":
                                      "application/octet-stream"})
        assert got.status == 507 and got.json["code"] == 507


def an_old_envd_wants_a_user(_double: Double) -> None:
    with contextlib.closing(Double("--envd-version", "0.3.5")) as double:
        box = double.create()
        assert box.made["envdVersion"] == "0.3.5"
        _, items = box.start("true")
        assert items[-1]["error"]["code"] == "unauthenticated"
        assert "no Authorization for an old envd" in double.violations()[0]
        _, items = box.start("true", {"Authorization": "Basic dXNlcjo="})
        assert items[-1] == {"flags": 2}
        assert double.violations() == []
        got = box.ask(49983, "POST", "/files?path=x", b"x", {
            "Content-Type": "application/octet-stream"})
        assert got.status == 400
        assert "octet-stream for an old envd" in double.violations()[0]


def plain_http_works_too(_double: Double) -> None:
    with contextlib.closing(Double("--plain")) as double:
        connection = http.client.HTTPConnection(
            "127.0.0.1", double.ready["plain_port"], timeout=5)
        connection.request("GET", "/v2/sandboxes", headers={
            "User-Agent": "t", "X-API-Key": double.ready["api_key"]})
        assert connection.getresponse().read() == b"[]"
        connection.close()


def nothing_outlives_it(_double: Double) -> None:
    double = Double()
    box = double.create()
    mark = "outlive-%d" % os.getpid()
    box.run("import subprocess; subprocess.Popen(['bash', '-c', "
            "'exec -a %s sleep 300'], start_new_session=True)" % mark)
    deadline = time.monotonic() + 5
    while mark not in commands():  # between two execs it has no name
        assert time.monotonic() < deadline
    assert double.close() == 0
    assert mark not in commands()
    assert not any(name.endswith("-%d" % double.process.pid) for name in (
        os.listdir("/sys/fs/cgroup/memory")
        if os.path.isdir("/sys/fs/cgroup/memory") else ()))


def commands() -> str:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), \
                open("/proc/%s/cmdline" % pid, "rb") as file:
            found.append(file.read().decode("utf-8", "replace"))
    return "\n".join(found)


# These share a double, one after the other.
SHARED = (a_job_runs, lists_are_filtered_and_paged,
          the_number_of_sandboxes_is_limited,
          only_the_teams_own_templates_show, errors_look_as_in_a_notebook,
          results_have_their_forms, other_languages_run, contexts_are_apart,
          a_lost_client_interrupts, memory_is_the_templates,
          files_go_in_and_out, floods_come_through, processes_run,
          strays_are_seen, the_wire_is_watched, answers_are_replaced,
          creates_go_wrong, redirects_are_noted, streams_go_wrong,
          faults_come_by_chance, ends_of_streams_differ, outages_come_and_go)
# And these, which wait more than they work, go on beside them.
BESIDE = (sandboxes_expire, http2_is_a_trap, bad_certificates_are_refused,
          a_disk_fills_up, an_old_envd_wants_a_user, plain_http_works_too,
          nothing_outlives_it)


def clean(double: Double) -> None:
    """What one test left, for the next."""
    double.command(cmd="clear")
    double.command(cmd="max_sandboxes", n=50)
    for one in double.report()["alive"]:
        double.command(cmd="kill", id=one["id"])
    double.violations()


said = threading.Lock()


def say(name: str, trouble: str, failures: list[str], ended: list[str]) -> None:
    """A line of TAP; two threads number together."""
    with said:
        ended.append(name)
        if trouble:
            failures.append(name)
            print(trouble)
        print("%sok %d - %s" % ("not " if trouble else "", len(ended), name),
              flush=True)


def run_all(tests: tuple, failures: list[str], ended: list[str]) -> None:
    double = Double("--max-sandboxes", "50", "--template",
                    "code-interpreter-v1:2:2048", "--template",
                    "small:1:256")
    for test in tests:
        begun, trouble = time.monotonic(), ""
        try:
            test(double)
        except Exception:
            trouble = traceback.format_exc()
        say(test.__name__, trouble, failures, ended)
        if "SELFTEST_TIMES" in os.environ:
            print("%s: %.2f s" % (test.__name__, time.monotonic() - begun))
        clean(double)
    say("the_end", "" if double.close() == 0 else "it ended badly", failures,
        ended)


def main() -> int:
    chosen = [tuple(test for test in group
                    if not sys.argv[1:] or test.__name__ in sys.argv[1:])
              for group in (SHARED, BESIDE)]
    failures: list[str] = []
    ended: list[str] = []
    print("1..%d" % (sum(map(len, chosen)) + len(chosen)))
    beside = threading.Thread(target=run_all,
                              args=(chosen[1], failures, ended))
    beside.start()
    run_all(chosen[0], failures, ended)
    beside.join()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
