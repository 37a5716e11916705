"""What an answer must be, as TensorRT-LLM is told."""

from __future__ import annotations

from typing import Any

from llm_serve.errors import UnsupportedParameter
from llm_serve.sampling import Guide

USED = ("json", "json_object", "regex", "grammar")
"""The parameters of `GuidedDecodingParams` that we use."""


def guided_decoding(params: Any, guide: Guide | None) -> Any:
    """`params`, the class `GuidedDecodingParams`, filled in; None without a guide.

    Its grammars are GBNF, and it holds a whole answer to them. Raises UnsupportedParameter.
    """
    if guide is None:
        return None
    if guide.after or guide.kind == "lark":
        raise _unsupported(guide, "an answer that is held to something only in part")
    if guide.kind == "json_object":
        return params(json_object=True)
    if guide.kind == "grammar" and "::=" not in guide.text:
        raise _unsupported(guide, "a grammar that is not GBNF (name ::= expression)")
    field = "json" if guide.kind == "json_schema" else guide.kind
    return params(**{field: guide.text})


def _unsupported(guide: Guide, what: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"{guide.param}: {what} is not supported by the tensorrt_llm backend.", param=guide.param
    )
