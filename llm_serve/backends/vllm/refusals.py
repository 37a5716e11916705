"""Which errors of vLLM's server are about the request.

vLLM has classes for them, `VLLMClientError`, but its server also answers 400, with the text, for
whatever ValueError or TypeError comes by: its own code raises such for requests it cannot take, and
so does every defect inside. Here the second kind is told from the first, logged, and made a 500.
"""

from __future__ import annotations

import dis
import logging
from collections.abc import Callable
from typing import Any

from llm_serve.backends.vllm import private

log = logging.getLogger("llm_serve.backends.vllm")

_READS_REQUESTS = tuple(
    f"vllm.{package}."
    for package in (
        *("entrypoints", "inputs", "multimodal", "parser", "pooling_params", "reasoning"),
        *("renderers", "sampling_params", "tokenizers", "tool_parsers", "v1.structured_output"),
        "v1.engine.input_processor",
    )
)


def install() -> None:
    """Every module of vLLM's server that makes an answer of an exception asks here first. To be
    called when they are imported; again does no harm."""
    private.replace_error_response(_asking_first)


def _asking_first(original: Callable[..., Any]) -> Callable[..., Any]:
    from vllm.exceptions import VLLMError, VLLMServerError

    def create_error_response(message: str | Exception, *args: Any, **named: Any) -> Any:
        told = isinstance(message, str | VLLMError) or is_about_the_request(message)
        if not told:
            log.error("vLLM's server failed on a request", exc_info=message)  # type: ignore[arg-type]
            message = VLLMServerError("The engine failed on this request.")
        return original(message, *args, **named)

    return create_error_response


def is_about_the_request(error: BaseException) -> bool:
    """Whether the client can mend it: vLLM says so, its code that reads requests raised it itself
    (and did not stumble), or a chat template or a schema refused what was sent."""
    from vllm.exceptions import VLLMClientError

    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if kinds & {"jinja2.TemplateError", "pydantic_core.ValidationError"}:
        return True
    if isinstance(error, VLLMClientError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not isinstance(error, ValueError | TypeError | NotImplementedError):
        return False
    frame = trace.tb_frame
    raised = dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return raised and f"{frame.f_globals.get('__name__', '')}.".startswith(_READS_REQUESTS)
