"""From bytes to a `GenerationRequest`, or to a 400 that names the field and the remedy.

In two steps, `read_object` and the parser of a route, so that others get their turn between them:
each may take some 20 ms (see `outline`).
"""

from __future__ import annotations

import time
import uuid
from typing import Literal, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from llm_serve.api.parsing.allowlist import Fields, model_of
from llm_serve.api.parsing.by_engine import (
    CHAT,
    TEXT,
    completed_by_engine,
    engines_words,
    rendered_here,
)
from llm_serve.api.parsing.capabilities import need
from llm_serve.api.parsing.conversation import conversation_of, guide_of
from llm_serve.api.parsing.explain import explain
from llm_serve.api.schemas.engine_requests import EngineChatRequest, EngineCompletionRequest
from llm_serve.api.schemas.requests import ChatRequest, CompletionRequest, Sampled
from llm_serve.backends import CAPABILITIES
from llm_serve.config import Config, ModelConfig
from llm_serve.errors import InvalidRequest, UnsupportedParameter
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Guide, Sampling

_Request = TypeVar("_Request", bound=Sampled)


def read_object(body: bytes) -> Fields:
    """The body's members. Raises InvalidRequest."""
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return fields


def parse_chat(fields: Fields, config: Config) -> GenerationRequest:
    """The request of `POST /v1/chat/completions`. Raises InvalidRequest and its children."""
    model = model_of(fields, config)
    extended = CAPABILITIES[model.backend].extensions
    body: ChatRequest = _validate(EngineChatRequest if extended else ChatRequest, fields)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true.", param="top_logprobs")
    top = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = body.max_completion_tokens or body.max_tokens
    guide = guide_of(body, model)
    conversation = conversation_of(body, model)
    sampling = _sampling(body, model, top, max_tokens, guide)
    if _by_engine(body, model, guide):
        sent = engines_words(fields, conversation.tools)
        request = completed_by_engine(CHAT, sent, body, model, sampling)
    else:
        request = _rendered("chat", body, model, sampling, conversation=conversation)
    return _bounded(request, model)


def parse_completion(fields: Fields, config: Config) -> GenerationRequest:
    """The request of `POST /v1/completions`. Raises InvalidRequest and its children."""
    model = model_of(fields, config)
    extended = CAPABILITIES[model.backend].extensions
    schema = EngineCompletionRequest if extended else CompletionRequest
    body: CompletionRequest = _validate(schema, fields)
    if body.echo:
        need(model, "echo")
    if body.best_of is not None and body.best_of != body.n:
        raise UnsupportedParameter(
            "best_of other than n is not supported; ask for n answers.", param="best_of"
        )
    guide = guide_of(body, model)
    sampling = _sampling(body, model, body.logprobs, body.max_tokens, guide)
    prompts = body.prompts()
    if _by_engine(body, model, guide):
        sent = engines_words(fields)
        request = completed_by_engine(TEXT, sent, body, model, sampling, len(prompts))
    else:
        request = _rendered("completion", body, model, sampling, prompts=prompts)
    return _bounded(request, model)


def _by_engine(body: Sampled, model: ModelConfig, guide: Guide | None) -> bool:
    """Whether the engine's own server is to answer it."""
    if not CAPABILITIES[model.backend].extensions:
        return False
    asked = guide is not None or body.guided_by_engine() is not None
    return asked or body.needs_engine() or not rendered_here(model)


def _rendered(
    kind: Literal["chat", "completion"],
    body: Sampled,
    model: ModelConfig,
    sampling: Sampling,
    *,
    conversation: Conversation | None = None,
    prompts: tuple[str | tuple[int, ...], ...] = (),
) -> GenerationRequest:
    """A request whose answer our renderer writes."""
    options = body.stream_options
    return GenerationRequest(
        id=f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{uuid.uuid4().hex}",
        kind=kind,
        model=model.id,
        created=int(time.time()),
        sampling=sampling,
        conversation=conversation,
        prompts=prompts,
        n=body.n,
        stream=body.stream,
        include_usage=options is not None and options.include_usage,
    )


def _bounded(request: GenerationRequest, model: ModelConfig) -> GenerationRequest:
    """The request, where it can ever run. Raises InvalidRequest."""
    most = model.max_running + model.max_queued
    if request.sequences > most:
        param = "prompt" if request.n <= most else "n"
        raise InvalidRequest(
            f"{param}: {request.sequences} answers (n times prompts) are more than {model.id} runs "
            f"and queues, which is {most}; split the request, or raise max_queued.",
            param=param,
        )
    return request


def _sampling(
    body: Sampled,
    model: ModelConfig,
    top_logprobs: int | None,
    max_tokens: int | None,
    guide: Guide | None,
) -> Sampling:
    """How each sequence is sampled. Raises InvalidRequest, also for what the model cannot do."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true.", param="stream_options")
    used = {
        "n": body.n != 1,
        "seed": body.seed is not None,
        "presence_penalty": body.presence_penalty != 0,
        "frequency_penalty": body.frequency_penalty != 0,
        "logit_bias": bool(body.logit_bias),
        "top_k": bool(body.top_k),
        "min_p": bool(body.min_p),
        "logprobs": top_logprobs is not None,
        "top_logprobs": bool(top_logprobs),
    }
    for name, is_used in used.items():
        if is_used:
            need(model, "penalties" if name.endswith("_penalty") else name, name)
    stop = body.stop or ()
    defaults = model.defaults
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        top_k=body.top_k or 0,
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=_logit_bias(body.logit_bias or {}),
        seed=body.seed,
        max_tokens=max_tokens or defaults.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        logprobs=top_logprobs,
        ignore_eos=body.ignore_eos,
        guide=guide,
        final_only=not body.stream,
        adapter=body.model if body.model != model.id else None,
    )


def _logit_bias(bias: dict[str, float]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for token, value in bias.items():
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise InvalidRequest(
                f"logit_bias: {token[:40]!r} is not a token id; keys are token ids.",
                param="logit_bias",
            )
        pairs.append((int(token), value))
    return tuple(pairs)


def _validate(schema: type[_Request], fields: Fields) -> _Request:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from None
