"""The types of answers in the OpenAPI document and what is really written agree, strictly."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.api import views
from llm_serve.api.schemas import answers as types
from llm_serve.api.schemas import states
from llm_serve.config import Config
from llm_serve.errors import ServeError
from llm_serve.generation.render import OpenAIRenderer
from llm_serve.generation.request import GenerationRequest
from llm_serve.progress import ModelInfo
from llm_serve.sampling import CallDelta, Delta, Sampling, TokenLogprob
from llm_serve.status import Loading, ModelStatus, ServerStatus
from llm_serve.wire import error_body, to_json
from tests.support.answers import check, kind_of
from tests.support.client import Api, parse_frames
from tests.support.errors import every_error

TEXT = st.text(max_size=5)
COUNT = st.integers(0, 10**12)
SECONDS = st.floats(0, 1e6)
LOGPROB = st.floats(-1e3, 0)
TOKENS = st.builds(
    TokenLogprob,
    TEXT,
    st.binary(max_size=4),
    LOGPROB,
    st.lists(st.tuples(TEXT, st.binary(max_size=4), LOGPROB), max_size=2).map(tuple),
)
DELTAS = st.builds(
    Delta,
    TEXT,
    st.integers(0, 3),
    st.none(),
    st.lists(TOKENS, max_size=2).map(tuple),
    cached_tokens=st.none() | st.integers(0, 9),
)
CALLS = st.lists(TEXT, max_size=3).map(
    lambda pieces: tuple(
        CallDelta(0, piece, None if number else "c", None if number else "f")
        for number, piece in enumerate(pieces)
    )
)
STATES = ("unloaded", "queued", "loading", "ready", "draining", "failed")
STATUS = st.builds(
    ModelStatus,
    id=st.just("v"),
    state=st.sampled_from(STATES),
    stage=st.none() | st.sampled_from(["download", "weights"]),
    progress=st.none() | st.floats(0, 1),
    error=st.none() | TEXT,
    cooldown_s=SECONDS,
    eta_s=st.none() | SECONDS,
    position=st.none() | st.integers(0, 9),
    replicas=st.integers(0, 3),
    pinned=st.booleans(),
    info=st.none()
    | st.builds(ModelInfo, COUNT, COUNT, TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=2)),
    running=COUNT,
    queued=COUNT,
)
LOADING = st.builds(Loading, STATUS, st.none() | TEXT, st.integers(1, 60))
CONFIG = Config.model_validate(
    {
        "models": [
            {"id": "v", "backend": "vllm", "adapters": [{"id": "v-lora", "source": "/lora"}]},
            {"id": "t", "backend": "tensorrt_llm"},
        ]
    }
)


@settings(deadline=None)
@given(
    kind=st.sampled_from(["chat", "completion"]),
    deltas=st.lists(DELTAS, min_size=1, max_size=4),
    n=st.integers(1, 2),
    logprobs=st.none() | st.integers(0, 2),
    usage=st.booleans(),
    reasoning=TEXT,
    calls=CALLS,
)
def test_whatever_is_generated_is_rendered_as_its_type(
    kind: Any,
    deltas: list[Delta],
    n: int,
    logprobs: int | None,
    usage: bool,
    reasoning: str,
    calls: tuple[CallDelta, ...],
) -> None:
    if kind == "chat":
        deltas = [Delta("", 1, reasoning=reasoning), *deltas, Delta("", 1, calls=calls)]
    pieces = [(index, delta) for delta in deltas for index in range(n)]
    pieces += [(index, Delta("", 1, finish_reason="stop")) for index in range(n)]

    def renderer(stream: bool) -> OpenAIRenderer:
        sampling = Sampling(logprobs=logprobs)
        request = GenerationRequest(
            "x", kind, "m", 0, sampling, n=n, stream=stream, include_usage=usage
        )
        return OpenAIRenderer(request, 3, n)

    streaming, whole = renderer(True), renderer(False)
    sent = b"".join(streaming.chunk(*piece) for piece in pieces) + streaming.end()
    *frames, done = parse_frames(sent)
    assert done == "[DONE]"
    assert ("usage" in frames[-1]) == usage
    ended = [c["finish_reason"] for frame in map(json.loads, frames) for c in frame["choices"]]
    assert [reason for reason in ended if reason] == ["stop"] * n
    for frame in frames:
        check(types.ChatCompletionChunk if kind == "chat" else types.CompletionChunk, frame)
    for piece in pieces:
        whole.add(*piece)
    body = whole.body()
    check(types.ChatCompletion if kind == "chat" else types.Completion, body)
    if kind == "chat":
        assert _streamed(frames, n) == [_said(c["message"]) for c in json.loads(body)["choices"]]


def _said(message: dict[str, Any]) -> tuple[str, str, str]:
    calls = message.get("tool_calls", ())
    arguments = "".join(call["function"]["arguments"] for call in calls)
    return message.get("reasoning", ""), message.get("content") or "", arguments


def _streamed(frames: list[str], n: int) -> list[tuple[str, str, str]]:
    """What each answer said, of the pieces."""
    choices = [choice for frame in frames for choice in json.loads(frame)["choices"]]
    said = ([_said(c["delta"]) for c in choices if c["index"] == i] for i in range(n))
    return [tuple(map("".join, zip(*pieces, strict=True))) for pieces in said]


@settings(deadline=None)
@given(
    models=st.tuples(STATUS, STATUS),
    before=st.tuples(STATUS, STATUS),
    state=st.sampled_from(["starting", "ok", "switching", "degraded", "draining"]),
    target=st.sampled_from([None, "t"]),
)
def test_however_the_models_stand_they_are_shown_as_their_type(
    models: tuple[ModelStatus, ...], before: tuple[ModelStatus, ...], state: Any, target: Any
) -> None:
    def server(of: tuple[ModelStatus, ...]) -> ServerStatus:
        named = zip(of, CONFIG.models, strict=True)
        models = tuple(_named(status, model.id) for status, model in named)
        return ServerStatus(state, models, switch_target=target, created=7)

    now = server(models)
    check(states.Health, to_json(views.health(CONFIG, now)))
    check(states.ModelList, to_json(views.model_list(CONFIG, now)))
    for model_id in ("v", "v-lora", "t"):
        check(states.ModelObject, to_json(views.one_model(CONFIG, now, model_id)))
    for earlier in (None, server(before)):
        event = views.event(CONFIG, earlier, now)
        if event is not None:
            check(states.StateEvent, to_json(event))


def _named(status: ModelStatus, model_id: str) -> ModelStatus:
    fields = {name: getattr(status, name) for name in ModelStatus.__slots__}
    return ModelStatus(**fields | {"id": model_id})


@settings(deadline=None)
@given(loading=LOADING)
def test_a_load_on_its_way_and_its_503(loading: Loading) -> None:
    check(states.ModelLoad, to_json(loading.body()))
    for kind in every_error():
        check(states.ErrorResponse, to_json(error_body(kind("a", loading=loading.body()))))


@pytest.mark.parametrize("kind", [ServeError, *every_error()])
def test_every_error(kind: type[ServeError]) -> None:
    for param in (None, "messages[0]"):
        check(states.ErrorResponse, to_json(error_body(kind("a", param=param, retry_after_s=3))))


@pytest.fixture(scope="module")
def bodies(api: Api) -> dict[str, Any]:
    return {
        "/v1/chat/completions": api.chat(logprobs=True, top_logprobs=0).json(),
        "/v1/completions": api.complete(logprobs=0).json(),
        "/v1/models": api.get("/v1/models").json(),
        "/v1/models/echo/a": api.get("/v1/models/echo/a").json(),
        "/healthz": api.get("/healthz").json(),
        "/nope": api.get("/nope").json(),
    }


FREE = ("capabilities", "engine_details", "top_logprobs")
"""Objects by names that are not ours to know; the last is a list in the answer to a chat."""


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from _objects(item)
    if isinstance(node, dict):
        yield node
        for name, item in node.items():
            if name not in FREE:
                yield from _objects(item)


def test_one_member_more_or_less_anywhere_is_noticed(bodies: dict[str, Any]) -> None:
    tried = 0
    for path, body in bodies.items():
        kind = kind_of(path, body)
        check(kind, to_json(body))
        for at in range(len(list(_objects(body)))):
            more, less = copy.deepcopy(body), copy.deepcopy(body)
            list(_objects(more))[at]["unheard_of"] = []
            node = list(_objects(less))[at]
            del node[next(iter(node))]
            for wrong in (more, less):
                tried += 1
                with pytest.raises(AssertionError, match="not a "):
                    check(kind, json.dumps(wrong))
    assert tried > 30
