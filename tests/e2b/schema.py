"""What requests must look like: our reading of E2B's protocol, as data.

A request that strays is a *violation*, which tests hold against the client.
Whether the real server would also refuse it is told apart: it ignores fields
and query parameters it does not know, and answers wrong types with 400.
"""
import dataclasses
import os
import re
from typing import Any, Iterator
from urllib.parse import quote, unquote, unquote_plus

UNKNOWN, WRONG = "unknown", "wrong"


@dataclasses.dataclass(frozen=True)
class Value:
    kind: str  # string bool int object map array any
    required: bool = False
    nullable: bool = False
    fields: dict[str, "Value"] | None = None
    items: "Value | None" = None  # of arrays and maps
    low: int | None = None
    high: int | None = None
    among: tuple[str, ...] | None = None
    pattern: str | None = None


def must(value: Value) -> Value:
    return dataclasses.replace(value, required=True)


def or_null(value: Value) -> Value:
    return dataclasses.replace(value, nullable=True)


def obj(**fields: Value) -> Value:
    return Value("object", fields=fields)


STR, BOOL, ANY = Value("string"), Value("bool"), Value("any")
INT32 = Value("int", low=-2**31, high=2**31 - 1)
STRINGS = Value("map", items=STR)
STR_LIST = Value("array", items=STR)
BASE64 = Value("string", pattern=r"([A-Za-z0-9+/]{4})*"
               r"([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

NETWORK = obj(allowPublicTraffic=BOOL, allowOut=STR_LIST, denyOut=STR_LIST,
              egressProxy=or_null(obj(address=must(STR), username=STR,
                                      password=STR)),
              maskRequestHost=STR, rules=Value("map", items=ANY))
NEW_SANDBOX = obj(
    templateID=must(STR), timeout=INT32, metadata=STRINGS, envVars=STRINGS,
    secure=BOOL, allow_internet_access=BOOL, autoPause=BOOL,
    autoPauseMemory=BOOL, autoResume=obj(enabled=must(BOOL)), network=NETWORK,
    mcp=or_null(Value("map", items=ANY)), iam=ANY,
    volumeMounts=Value("array", items=obj(name=must(STR), path=must(STR))))
NEW_SANDBOX_V2 = Value("object", fields={
    name: value for name, value in NEW_SANDBOX.fields.items()
    if name != "secure"})

SELECTOR = Value("object", fields={"pid": Value("int", low=0, high=2**32 - 1),
                                   "tag": STR})
SIZE = obj(cols=INT32, rows=INT32)
PTY = obj(size=SIZE)


@dataclasses.dataclass(frozen=True)
class Route:
    """One request: what its query and body may hold."""
    method: str
    path: str  # of a control-plane or REST route; {id} is a sandbox
    body: Value | None = None
    body_optional: bool = False
    query: tuple[str, ...] = ()
    content: str = "application/json"
    auth: str = ""  # "", "key" or "token" (X-Access-Token)


CONTROL = {
    "create": Route("POST", "/sandboxes", NEW_SANDBOX, auth="key"),
    "create_v2": Route("POST", "/v2/sandboxes", NEW_SANDBOX_V2, auth="key"),
    "list": Route("GET", "/v2/sandboxes", auth="key", query=(
        "metadata", "state", "order", "startedAfter", "template", "limit",
        "nextToken")),
    "list_v1": Route("GET", "/sandboxes", query=("metadata",), auth="key"),
    "get": Route("GET", "/sandboxes/{id}", auth="key"),
    "delete": Route("DELETE", "/sandboxes/{id}", auth="key"),
    "timeout": Route("POST", "/sandboxes/{id}/timeout", obj(
        timeout=must(Value("int", low=0, high=2**31 - 1))), auth="key"),
    "refreshes": Route("POST", "/sandboxes/{id}/refreshes", obj(
        duration=Value("int", low=0, high=3600)), body_optional=True,
        auth="key"),
    "pause": Route("POST", "/sandboxes/{id}/pause", obj(memory=BOOL),
                   body_optional=True, auth="key"),
    "connect": Route("POST", "/sandboxes/{id}/connect", obj(
        timeout=must(INT32), memory=BOOL), auth="key"),
    "connect_v2": Route("POST", "/v2/sandboxes/{id}/connect", obj(
        timeout=INT32, memory=BOOL), body_optional=True, auth="key"),
    "metrics": Route("GET", "/sandboxes/{id}/metrics", query=("start", "end"),
                     auth="key"),
    "templates": Route("GET", "/v2/templates", query=("limit", "nextToken"),
                       auth="key"),
    "alias": Route("GET", "/templates/aliases/{id}", auth="key"),
    "health": Route("GET", "/health"),
}

INTERPRETER = {
    "ci_health": Route("GET", "/health"),
    "execute": Route("POST", "/execute", obj(
        code=must(STR), context_id=or_null(STR), language=or_null(STR),
        env_vars=or_null(STRINGS))),
    "contexts": Route("GET", "/contexts"),
    "context_new": Route("POST", "/contexts", obj(
        language=or_null(STR), cwd=or_null(STR))),
    "context_restart": Route("POST", "/contexts/{id}/restart"),
    "context_delete": Route("DELETE", "/contexts/{id}"),
}

FILE_QUERY = ("path", "username", "signature", "signature_expiration")
ENVD = {
    "envd_health": Route("GET", "/health"),
    "envs": Route("GET", "/envs", auth="token"),
    "envd_metrics": Route("GET", "/metrics", auth="token"),
    "files_get": Route("GET", "/files", query=FILE_QUERY),
    "files_post": Route("POST", "/files", query=FILE_QUERY, content="files"),
}

PROCESS_INPUT = obj(stdin=BASE64, pty=BASE64)
# Connect-RPC methods; the stream ones have their request in an envelope.
STREAMS = {
    "start": ("process.Process/Start", obj(
        process=must(obj(cmd=must(STR), args=STR_LIST, envs=STRINGS, cwd=STR)),
        pty=PTY, tag=STR, stdin=BOOL)),
    "process_connect": ("process.Process/Connect", obj(
        process=must(SELECTOR))),
}
UNARY = {
    "process_list": ("process.Process/List", obj()),
    "send_signal": ("process.Process/SendSignal", obj(
        process=must(SELECTOR), signal=must(Value(
            "string", among=("SIGNAL_SIGTERM", "SIGNAL_SIGKILL"))))),
    "send_input": ("process.Process/SendInput", obj(
        process=must(SELECTOR), input=must(PROCESS_INPUT))),
    "close_stdin": ("process.Process/CloseStdin", obj(
        process=must(SELECTOR))),
    "pty_update": ("process.Process/Update", obj(
        process=must(SELECTOR), pty=PTY)),
    "stat": ("filesystem.Filesystem/Stat", obj(path=must(STR))),
    "list_dir": ("filesystem.Filesystem/ListDir", obj(
        path=must(STR), depth=Value("int", low=0, high=2**32 - 1))),
    "make_dir": ("filesystem.Filesystem/MakeDir", obj(path=must(STR))),
    "remove": ("filesystem.Filesystem/Remove", obj(path=must(STR))),
    "move": ("filesystem.Filesystem/Move", obj(
        source=must(STR), destination=must(STR))),
}


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), (int, "int"), (float, "float"),
                       (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null"


def problems(value: Any, want: Value, at: str = "body"
             ) -> Iterator[tuple[str, str]]:
    """(UNKNOWN or WRONG, text) for everything that strays from `want`."""
    kind = kind_of(value)
    if want.kind == "any" or (kind == "null" and want.nullable):
        return
    expected = "object" if want.kind == "map" else want.kind
    if kind != expected:
        yield WRONG, "%s is %s, not %s" % (at, kind, expected)
        return
    if want.kind == "object":
        yield from object_problems(value, want, at)
    elif want.kind == "map" or want.kind == "array":
        items = value.items() if want.kind == "map" else enumerate(value)
        for name, item in items:
            yield from problems(item, want.items or ANY,
                                "%s[%r]" % (at, name))
    elif want.kind == "int":
        if (want.low is not None and value < want.low) or \
                (want.high is not None and value > want.high):
            yield WRONG, "%s is out of range: %d" % (at, value)
    elif want.among and value not in want.among:
        yield WRONG, "%s is %r" % (at, value)
    elif want.pattern and not re.fullmatch(want.pattern, value):
        yield WRONG, "%s has the wrong form" % at


def object_problems(value: dict, want: Value, at: str
                    ) -> Iterator[tuple[str, str]]:
    fields = want.fields or {}
    for name, item in value.items():
        if name in fields:
            yield from problems(item, fields[name], "%s.%s" % (at, name))
        else:
            yield UNKNOWN, "unknown field %s.%s" % (at, name)
    for name, field in fields.items():
        if field.required and name not in value:
            yield WRONG, "%s.%s is missing" % (at, name)


def once(pairs: list[tuple[str, Any]]) -> dict:
    """For json.loads: an object with the same key twice means two things."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key comes twice")
    return out


# Queries.

def parse_query(query: str) -> list[tuple[str, str]]:
    """As Go and Python servers do: + is a space."""
    pairs = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs


def bad_escape(query: str) -> bool:
    return re.search(r"%(?![0-9A-Fa-f]{2})|[^\x21-\x7e]", query) is not None


def metadata_filter(value: str) -> dict[str, str]:
    """The query's value, decoded once; two layers are left."""
    out = {}
    # One level around the whole, one around each part.
    for part in unquote(value).split("&"):
        name, equals, content = part.partition("=")
        if not equals:
            raise ValueError("no = in %r" % part)
        out[unquote(name)] = unquote(content)
    return out


def encoded_too_little(value: str) -> bool:
    """Of that value: what says something else if a layer is missing."""
    for word in re.split("[&=]", value):
        once = unquote(word)
        if once != quote(unquote(once), safe="-_.~"):
            return True
    return False


# The machine-readable specification, where a machine has it.

class Spec:
    """Checks bodies of control-plane requests against E2B's openapi.yml."""

    def __init__(self, folder: str):
        import yaml
        import jsonschema
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        with open(os.path.join(folder, "openapi.yml"),
                  encoding="utf-8") as file:
            self.document = yaml.load(file, loader)
        self.engine = jsonschema
        self.validators: dict[tuple[str, str], Any] = {}

    def plain(self, node: Any) -> Any:
        """OpenAPI 3.0 as JSON schema: references put in, null allowed."""
        if isinstance(node, list):
            return [self.plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = self.document
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part]
            return self.plain(target)
        out = {name: self.plain(item) for name, item in node.items()}
        if out.pop("nullable", False):
            return {"anyOf": [out, {"type": "null"}]}
        # The server ignores what it does not know; a client must not rely
        # on that.
        if "properties" in out and "additionalProperties" not in out:
            out["additionalProperties"] = False
        return out

    def problem(self, method: str, path: str, body: Any) -> str | None:
        key = (method, path)
        if key not in self.validators:
            self.validators[key] = self.validator(method, path)
        validator = self.validators[key]
        if validator is None:
            return None
        error = next(validator.iter_errors(body), None)
        return error.message if error else None

    def validator(self, method: str, path: str) -> Any:
        path = path.replace("{id}", "{sandboxID}")
        operation = self.document["paths"].get(path, {}).get(method.lower())
        if operation is None or "requestBody" not in operation:
            return None
        body = self.plain(operation["requestBody"])
        schema = body["content"]["application/json"]["schema"]
        return self.engine.Draft7Validator(schema)
