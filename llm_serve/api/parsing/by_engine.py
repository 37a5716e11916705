"""Requests that the engine's own server answers: the body goes there as it came, nearly."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from llm_serve.api.parsing.allowlist import KINDS, Fields, model_of
from llm_serve.api.schemas.requests import Sampled
from llm_serve.api.schemas.values import MAX_MESSAGES
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, Kind, ModelConfig, VllmEngine
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Sampling, Tools
from llm_serve.wire import to_json

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_KINDS: dict[str, tuple[Kind, ...]] = {
    "/v1/embeddings": ("embedding",),
    "/v1/rerank": ("rerank", "embedding"),
    "/tokenize": KINDS,
    "/detokenize": KINDS,
}
"""Which kinds of models a route is for; all others are for text."""
_STREAMED = ("/v1/responses",)


def parse_for_engine(path: str, capability: str) -> Callable[[Fields, Config], GenerationRequest]:
    """The parser of a route that engines with a server of their own answer."""

    def parse(fields: Fields, config: Config) -> GenerationRequest:
        model = model_of(fields, config, _KINDS.get(path, ("text",)))
        if not getattr(CAPABILITIES[model.backend], capability):
            raise UnsupportedParameter(
                f"{path} is not supported by the {model.backend} backend of {model.id}; "
                f"GET /v1/models/{model.id} lists what is.",
                param="model",
            )
        stream = fields.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequest("stream: Input should be a valid boolean.", param="stream")
        if stream and path not in _STREAMED:
            raise UnsupportedParameter(f"{path} has no stream; leave it out.", param="stream")
        for name, value in fields.items():
            _check_lists(name, value, tokens=path not in _STREAMED)
        asked = fields.get("model")
        sampling = Sampling(adapter=asked if asked != model.id else None)
        return _by_engine(uuid.uuid4().hex, path, fields, model, sampling, bool(stream))

    return parse


def completed_by_engine(
    path: str,
    fields: Fields,
    body: Sampled,
    model: ModelConfig,
    sampling: Sampling,
    inputs: int = 1,
) -> GenerationRequest:
    """A request that the engine's own server answers: the request as it came, with what is decided
    here filled in. `inputs` is how many prompts it holds."""
    request_id = uuid.uuid4().hex
    decided = {
        "request_id": request_id,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens" if path == CHAT else "max_tokens": sampling.max_tokens,
    }
    sent = {**fields, **decided}
    return _by_engine(request_id, path, sent, model, sampling, body.stream, body.n, inputs)


def engines_words(fields: Fields, tools: Tools | None = None) -> Fields:
    """The request as the engine's server takes it: `guided_...` are older names of what is in
    `structured_outputs`, and of `tools` those are kept that may be called."""
    sent = dict(fields)
    for name in ("json", "regex", "choice", "grammar"):
        value = sent.pop(f"guided_{name}", None)
        if value is not None:
            sent["structured_outputs"] = {name: value}
    if tools is None:
        return sent
    choice = sent.get("tool_choice")
    allowed = isinstance(choice, dict) and choice.get("type") == "allowed_tools"
    if allowed:
        sent["tool_choice"] = tools.choice
    if allowed or tools.forced:
        sent["tools"] = [{"type": "function", "function": one} for one in functions_of(tools)]
    return sent


def functions_of(tools: Tools) -> list[Fields]:
    """The functions as vLLM's server takes them: it holds a call that is demanded to the parameters
    of those alone that say `strict`."""
    return [one | {"strict": True} if tools.forced else one for one in tools.functions]


def for_engine(
    path: str, sent: Fields, model: ModelConfig, sampling: Sampling, stream: bool = False
) -> GenerationRequest:
    """A request of a route of its own for the engine's own server."""
    return _by_engine(uuid.uuid4().hex, path, sent, model, sampling, stream)


def rendered_here(model: ModelConfig) -> bool:
    """Whether nothing in the model's engine section changes how plain answers look."""
    return not isinstance(model.engine, VllmEngine) or not model.engine.shapes_answers


def _by_engine(
    request_id: str,
    path: str,
    sent: Fields,
    model: ModelConfig,
    sampling: Sampling,
    stream: bool,
    n: int = 1,
    inputs: int = 1,
) -> GenerationRequest:
    return GenerationRequest(
        id=request_id,
        kind="engine",
        model=model.id,
        created=int(time.time()),
        sampling=sampling,
        n=n,
        stream=stream,
        path=path,
        body=to_json({**sent, "model": sampling.adapter or model.id}),
        inputs=inputs,
    )


def _check_lists(name: str, value: Any, tokens: bool) -> None:
    """Raises InvalidRequest for a long list in a field that the engine checks, which collects every
    error in it. `tokens`: a list of token ids may be longer."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            if len(value) > MAX_MESSAGES and not (tokens and set(map(type, value)) == {int}):
                raise InvalidRequest(
                    f"{name}: List should have at most {MAX_MESSAGES} items, not {len(value)}.",
                    param=name[:200],
                )
            rest.extend(v for v in value if isinstance(v, list | dict))
        elif isinstance(value, dict):
            rest.extend(v for v in value.values() if isinstance(v, list | dict))
