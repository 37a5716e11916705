"""HAProxy's configuration: Ray Serve's text put right, and our own while there is none.

Ray writes the configuration from a template that has no switches for what we need, so `put_right`
edits the text. Each edit names the line that it needs and raises `TemplateChanged` where Ray's
template no longer has it. What is edited:

- The public address is a socket that the door holds (`deployments.door.door`), handed down by
  number. It outlives HAProxy, so that nobody is refused a connection while HAProxy starts anew.
- Metrics, statistics and the admin socket are unix sockets in the door's own folder.
- No answer that is not ours leaves: HAProxy's own errors are the API's JSON with their true status
  and a request id, and so is a plain-text error of Ray's. What is not HTTP at all has its
  connection closed: there HAProxy 2.8 knows its built-in HTML, or nothing.
- Clients that are slow to send their headers are let go, and no address takes every connection.
- A connection to an ingress carries one request: when an ingress dies with a request that came on
  a connection that was used before, HAProxy closes the client's, too, and says nothing. The ingress
  is not told so: it would close before it has read the rest of a body that it refused, and what it
  said would be lost.
- Request bodies are not spliced: HAProxy 2.8 does not see a client leave before the first byte of
  its answer when they are, and the engine would work for nobody.
- Requests are not written to the machine's syslog, unless RAY_SERVE_HAPROXY_LOG_TARGET asks for it.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llm_serve.errors import (
    BodyTooLarge,
    Conflict,
    EngineDied,
    HeadersTooLarge,
    InferenceTimeout,
    InternalError,
    InvalidRequest,
    MissingKey,
    NoRoute,
    NotReady,
    QueueFull,
    RequestTimeout,
    ServeError,
    WrongKey,
    WrongMethod,
)
from llm_serve.host.ports import is_loopback
from llm_serve.wire import REQUEST_ID, error_body, to_json

RAY_VERSION = "2.60"
STARTING = "The server is starting; try again shortly."
HEADERS_BYTES = 16 * 1024
"""Above this, 431. HAProxy itself takes twice as much before it closes the connection."""
_BUFFERS = f"tune.bufsize {2 * HEADERS_BYTES}"
_ONE_REQUEST = """\
    http-reuse never
    option http-server-close
    option http-pretend-keepalive"""
HEADERS_S = 10
"""How long a client may take to send the headers of a request."""
_LEFT_S = 5
"""How long a connection stays whose client left in the middle of a request; without a limit of its
own it would be that of a client that reads nothing, an hour."""
MOST_CONNECTIONS = 20_000
_OTHER_FILES = 512
"""Descriptors that HAProxy needs besides those of connections."""
_FILES_A_CONNECTION = 2.5
"""One to the client, one to the ingress, and a pipe for one in four, through which answers are
spliced."""
_ALWAYS_WELCOME = 64
"""Connections that an address may have however full it is: a health check gets through."""
_RETRY_S = 2
_COMMON: dict[int, ServeError] = {
    400: InvalidRequest("The request could not be read."),
    405: WrongMethod("This path does not take that method."),
    413: BodyTooLarge("The body is too large."),
    502: EngineDied("The connection to the ingress broke; send the request again."),
    504: InferenceTimeout("The ingress did not answer in time."),
}
"""What HAProxy and Ray's plain text may both have to say, by status."""
_NO_ROUTE = NoRoute("There is no such path. /openapi.json lists every route.")
_OWN_ERRORS: tuple[ServeError, ...] = (
    *_COMMON.values(),
    _NO_ROUTE,
    RequestTimeout("The body did not come in time; see server.body_timeout_s."),
    MissingKey("An API key is needed."),
    WrongKey("This is not allowed here."),
    QueueFull("Too many requests; try again shortly.", retry_after_s=_RETRY_S),
    InternalError("HAProxy failed on this request; its log has the reason."),
)
"""What HAProxy may have to say by itself, besides the 503 of the configuration."""
_RAY_ERRORS: dict[int, ServeError] = {
    **_COMMON,
    409: Conflict("The server does not accept requests now; send it again shortly."),
    500: InternalError("Ray Serve failed on this request; its logs have the reason."),
}
"""What a plain-text error of Ray's becomes; any other is a 503, since no ingress has answered."""


class TemplateChanged(Exception):
    """Ray's template has no line of the form that an edit needs."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Ray Serve's configuration of HAProxy has no {what} any more: "
            f"deployments/door/haproxy.py was written for Ray {RAY_VERSION} and must be adapted to "
            "this version."
        )


class Address(NamedTuple):
    """Where Ray's configuration binds the public port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Opening:
    """The door as HAProxy sees it: the number of the listening socket, and where files go."""

    listener: int
    folder: Path
    loopback: bool
    most_connections: int
    body_s: int
    """How long a body may take that fits HAProxy's buffer; the ingress limits larger ones."""

    @property
    def admin(self) -> Path:
        """HAProxy's admin socket, the same for each process that takes over from another."""
        return self.folder / "haproxy.admin"


def most_connections(open_files: int) -> int:
    """Connections that HAProxy can hold with so many descriptors."""
    return max(256, min(MOST_CONNECTIONS, int((open_files - _OTHER_FILES) / _FILES_A_CONNECTION)))


def address_of(config: str) -> Address:
    """The public address of Ray's configuration, which the door of a node takes. The door of
    `llm-serve` has its own, and Ray is told 127.0.0.1 there."""
    found = re.search(r"frontend http_frontend\n *bind (.*):(\d+)$", config, re.MULTILINE)
    if found is None:
        raise TemplateChanged("address of the HTTP frontend")
    host = found[1].strip("[]")
    return Address("0.0.0.0" if host == "*" else host, int(found[2]))


def has_servers(config: str) -> bool:
    """Whether Ray's configuration knows an application yet; a manager that starts does not."""
    return re.search(r"^ *use_backend ", config, re.MULTILINE) is not None


def put_right(config: str, opening: Opening, environ: Mapping[str, str] = os.environ) -> str:
    """Ray's configuration with our changes. Writes the bodies of errors into the folder.

    Raises TemplateChanged.
    """
    folder, served = opening.folder, has_servers(config)
    unavailable = NotReady("No ingress is up; try again.", retry_after_s=_RETRY_S)
    edits = [
        ("maxconn", r"^ *maxconn .*$", f"    {_connections(opening)}"),
        ("buffer size", r"^ *tune.bufsize .*$", f"    {_BUFFERS}"),
        (
            "admin socket",
            r"^ *stats socket .*$",
            f"    stats socket {opening.admin} mode 600 level admin",
        ),
        (
            "frontend for metrics",
            r"(frontend prometheus\n *bind ).*$",
            rf"\g<1>unix@{folder}/prom mode 600",
        ),
        (
            "listener for statistics",
            r"(listen stats\n *bind ).*$",
            rf"\g<1>unix@{folder}/stats mode 600",
        ),
        ("option splice-request", r"^ *option splice-request\n", ""),
        (
            "HTTP frontend",
            r"(frontend http_frontend\n) *bind .*$",
            "\\g<1>" + _front(opening).replace("\\", "\\\\"),
        ),
        (
            "answer for unknown paths",
            r"(backend default_backend\n) *http-request return .*$",
            rf"\g<1>    http-request return {_page(_missing(served), folder)}",
        ),
        ("defaults", r"^defaults$", "defaults\n" + _defaults(unavailable, folder)),
    ]
    if "RAY_SERVE_HAPROXY_LOG_TARGET" not in environ:
        edits.append(("log target", r"^ *log \S+ local0 info\n", ""))
    if served:
        edits.append(("reuse of connections", r"^ *http-reuse always$", _ONE_REQUEST))
    config = re.sub(r"^ *errorfile .*\n", "", config, flags=re.MULTILINE)
    for what, pattern, by in edits:
        config, count = re.subn(pattern, by, config, count=1, flags=re.MULTILINE)
        if not count:
            raise TemplateChanged(what)
    buffered = rf"\1\n{_buffering(opening)}"
    return re.sub(r"^(backend (?!default_backend).*)$", buffered, config, flags=re.MULTILINE)


def closed(opening: Opening, reason: str) -> str:
    """The configuration for a server that is not there: every request gets 503 and the reason."""
    error = NotReady(reason, retry_after_s=_RETRY_S)
    return f"""global
    {_connections(opening)}
    {_BUFFERS}
    stats socket {opening.admin} mode 600 level admin
defaults
{_defaults(error, opening.folder)}
    mode http
    timeout client 60s
    timeout connect 5s
    timeout server 60s
frontend http_frontend
{_front(opening)}
    http-request return {_page(error, opening.folder)}
"""


def _buffering(opening: Opening) -> str:
    """A request reaches an ingress once its body is whole, or fills HAProxy's buffer: only so can
    it go to another ingress when the first one dies, and slow bodies are HAProxy's to wait for."""
    return f"    option http-buffer-request\n    timeout http-request {opening.body_s}s"


def _missing(has_any: bool) -> ServeError:
    if has_any:
        return _NO_ROUTE
    return NotReady(STARTING, retry_after_s=_RETRY_S)


def _connections(opening: Opening) -> str:
    return f"maxconn {opening.most_connections}\n    tune.http.maxhdr 1001"


def _defaults(unavailable: ServeError, folder: Path) -> str:
    """The bodies of HAProxy's own errors, and the deadlines of headers and of clients that left."""
    errors = "\n".join(f"    http-error {_page(e, folder)}" for e in (*_OWN_ERRORS, unavailable))
    return f"""    timeout http-request {HEADERS_S}s
    timeout client-fin {_LEFT_S}s
{errors}"""


def _front(opening: Opening) -> str:
    """The socket, the limits, the request id, and the guard against answers that are not ours.

    `errorfile /dev/null`: HAProxy 2.8 reads no other error page where HTTP cannot be parsed or the
    headers do not come in time, and would send its own HTML.
    """
    crowded = opening.most_connections * 3 // 4
    greedy = f"{{ sc0_conn_cur gt {_ALWAYS_WELCOME} }}"
    large = HeadersTooLarge(f"The headers are larger than {HEADERS_BYTES // 1024} KiB; send less.")
    guards = "\n".join(
        f"    http-response return {_page(error, opening.folder)} if foreign {{ status {status} }}"
        for status, error in _RAY_ERRORS.items()
    )
    away = NotReady("No ingress is up; try again shortly.", retry_after_s=_RETRY_S)
    return f"""    bind fd@{opening.listener}
    errorfile 400 /dev/null
    errorfile 408 /dev/null
    errorfile 501 /dev/null
    stick-table type ipv6 size 100k expire 1m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {crowded} }}
    tcp-request connection reject if {{ fe_conn gt {crowded} }} {greedy}
    acl has_request_id req.hdr(x-request-id) -m reg ^{REQUEST_ID}$
    http-request set-header x-request-id req_%[uuid] unless has_request_id
    http-request set-var(txn.request_id) req.hdr(x-request-id)
    http-request set-header x-llm-serve-bind {"loopback" if opening.loopback else "open"}
    http-request return {_page(large, opening.folder)} if {{ req.hdrs -m len gt {HEADERS_BYTES} }}
    acl is_json res.hdr(content-type) -m beg application/json
    acl is_error status ge 400
    http-response set-var(txn.foreign) bool(true) if is_error !is_json
    acl foreign var(txn.foreign) -m bool
{guards}
    http-response return {_page(away, opening.folder)} if foreign"""


def _page(error: ServeError, folder: Path) -> str:
    """`status ... file ... hdr ...` of an error, as HAProxy's rules take it; writes the file."""
    body = to_json(error_body(error))
    page = folder / f"{error.status}-{zlib.crc32(body):08x}.json"
    page.write_bytes(body)
    headers = {"x-request-id": "%[var(txn.request_id)]", "cache-control": "no-store"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    given = " ".join(f"hdr {name} {value}" for name, value in headers.items())
    return f"status {error.status} content-type application/json file {page} {given}"


def opening_for(listener: int, folder: Path, host: str, open_files: int, body_s: float) -> Opening:
    """The opening of a door that listens on `host`."""
    body = max(1, round(body_s))
    return Opening(listener, folder, is_loopback(host), most_connections(open_files), body)
