"""The renderer of `/v1/responses`: whatever comes, each event is strictly of the SDK's type."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.backends.base import Backend
from llm_serve.errors import EngineDied, InferenceTimeout, InvalidRequest, QueueFull
from llm_serve.generation.execution import execute
from llm_serve.generation.request import GenerationRequest
from llm_serve.generation.response_items import response_of
from llm_serve.generation.responses import ResponsesRenderer, failed_midway
from llm_serve.generation.tool_names import custom_arguments, custom_input
from llm_serve.sampling import CallDelta, Conversation, Delta, Prompt, Sampling, TokenLogprob
from tests.support.openai_events import check_response, parse_events, text_of

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch", "format": {"type": "text"}},
    {
        "type": "namespace",
        "name": "files",
        "description": "Files.",
        "tools": [{"type": "function", "name": "read"}, {"type": "custom", "name": "write"}],
    },
]
ECHO: dict[str, Any] = {
    "instructions": "Be brief.",
    "max_output_tokens": 5,
    "max_tool_calls": None,
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": "low", "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 0.5,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": TOOLS,
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
REQUEST = GenerationRequest(
    id="resp_0123456789abcdef",
    kind="chat",
    model="echo/a",
    created=1_700_000_000,
    sampling=Sampling(),
    dialect="responses",
    echo=ECHO,
)
NAMES = ("weather", "patch", "files__read", "files__write", "unheard_of")
LOGPROB = st.builds(
    TokenLogprob,
    st.text(max_size=3),
    st.binary(max_size=4),
    st.floats(-20, 0),
    st.lists(
        st.tuples(st.text(max_size=3), st.binary(max_size=4), st.floats(-20, 0)), max_size=2
    ).map(tuple),
)


TEXT = st.text(max_size=6)


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    """Deltas as `llm_serve.chat` gives them: reasoning, text and calls in any order, each in pieces
    of any size, and pieces of different kinds in one delta where that keeps their order."""
    pieces: list[str | CallDelta] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["reasoning", "text", "call"]), max_size=5)):
        gains = draw(st.lists(TEXT, min_size=1, max_size=3))
        if kind != "call":
            pieces += [f"{kind[0]}{gain}" for gain in gains]
            continue
        name = draw(st.sampled_from(NAMES))
        pieces.append(CallDelta(calls, "", f"call_{calls}", name))
        pieces += [CallDelta(calls, gain) for gain in gains]
        calls += 1
    deltas: list[dict[str, Any]] = []
    rank = 9
    for piece in pieces:
        kind = (
            "calls" if isinstance(piece, CallDelta) else {"r": "reasoning", "t": "text"}[piece[0]]
        )
        order = ("reasoning", "text", "calls").index(kind)
        if order < rank or (order == rank and kind != "calls") or draw(st.booleans()):
            deltas.append({"text": "", "reasoning": "", "calls": ()})
        rank = order
        deltas[-1][kind] += (piece,) if isinstance(piece, CallDelta) else piece[1:]
    for delta in deltas:
        delta["tokens"] = draw(st.integers(1, 3))
        delta["cached_tokens"] = draw(st.none() | st.integers(0, 9))
        if delta["text"]:
            delta["logprobs"] = tuple(draw(st.lists(LOGPROB, max_size=2)))
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    return [*(Delta(**delta) for delta in deltas), Delta("", 1, reason)]


def stream(deltas: list[Delta]) -> list[dict[str, Any]]:
    renderer = ResponsesRenderer(REQUEST, 7)
    body = renderer.begin() + b"".join(renderer.chunk(0, d) for d in deltas) + renderer.end()
    return parse_events(body)


def whole(deltas: list[Delta]) -> dict[str, Any]:
    renderer = ResponsesRenderer(REQUEST, 7)
    for delta in deltas:
        renderer.add(0, delta)
    return check_response(renderer.body())


@settings(deadline=None)
@given(answers())
def test_a_stream_and_a_whole_answer_say_the_same(deltas: list[Delta]) -> None:
    events, answer = stream(deltas), whole(deltas)
    last = events[-1]["response"]
    assert {**last, "completed_at": 0} == {**answer, "completed_at": 0}
    said = "".join(delta.text for delta in deltas)
    thought = "".join(delta.reasoning for delta in deltas)
    by_kind: dict[str, str] = {"message": "", "reasoning": ""}
    for item in answer["output"]:
        if item["type"] in by_kind:
            by_kind[item["type"]] += text_of(item)
    assert by_kind == {"message": said, "reasoning": thought}
    cut = deltas[-1].finish_reason == "length"
    assert answer["status"] == ("incomplete" if cut else "completed")
    assert answer["incomplete_details"] == ({"reason": "max_output_tokens"} if cut else None)
    usage = answer["usage"]
    assert usage["output_tokens"] == sum(delta.tokens for delta in deltas)
    assert usage["total_tokens"] == 7 + usage["output_tokens"]
    assert 0 <= usage["output_tokens_details"]["reasoning_tokens"] <= usage["output_tokens"]
    assert {response_of(item["id"]) for item in answer["output"]} == {REQUEST.id}


@settings(deadline=None)
@given(
    answers(),
    st.sampled_from([EngineDied("It died."), QueueFull("Full."), InferenceTimeout("Late.")]),
)
def test_a_stream_that_fails_tells_it(deltas: list[Delta], error: Any) -> None:
    renderer = ResponsesRenderer(REQUEST, 7)
    body = renderer.begin() + b"".join(renderer.chunk(0, d) for d in deltas[:-1])
    events = parse_events(body + renderer.failed(error))
    assert events[-1]["response"]["error"]["message"] == error.message
    assert events[-1]["response"]["error"]["type"] == error.code
    # The ingress, which has seen the events but not what was in them, tells the same.
    parse_events(body + failed_midway(REQUEST, error, body.count(b"\n\n")))
    parse_events(failed_midway(REQUEST, error, 0))


def test_calls_go_by_the_names_of_the_tools() -> None:
    calls = (
        CallDelta(0, '{"city": "Oslo"}', "call_0", "weather"),
        CallDelta(1, custom_arguments('*** "a"'), "call_1", "patch"),
        CallDelta(2, "{}", "call_2", "files__read"),
        CallDelta(3, '{"input": "cut', "call_3", "files__write"),
    )
    output = whole([Delta("", 9, "tool_calls", calls=calls)])["output"]
    shown = [
        {k: v for k, v in item.items() if k not in ("id", "status", "call_id")} for item in output
    ]
    assert shown == [
        {"type": "function_call", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "custom_tool_call", "name": "patch", "input": '*** "a"'},
        {"type": "function_call", "name": "read", "namespace": "files", "arguments": "{}"},
        {
            "type": "custom_tool_call",
            "name": "write",
            "namespace": "files",
            "input": '{"input": "cut',
        },
    ]
    assert [item["call_id"] for item in output] == ["call_0", "call_1", "call_2", "call_3"]


def test_an_answer_of_nothing_is_a_message_of_nothing() -> None:
    (item,) = whole([Delta("", 1, "stop")])["output"]
    assert (item["type"], text_of(item), item["status"]) == ("message", "", "completed")


@settings(deadline=None)
@given(st.text())
def test_the_text_of_a_custom_tool_survives_its_arguments(text: str) -> None:
    assert custom_input(custom_arguments(text)) == text
    assert json.loads(custom_arguments(text)) == {"input": text}


async def test_what_a_template_refuses_is_said_of_the_input() -> None:
    class Refusing:
        def encode_chat(self, conversation: Conversation) -> Prompt:
            raise InvalidRequest("No system turn here.", param="messages")

    asked = replace(REQUEST, conversation=Conversation(({"role": "system", "content": "x"},)))
    with pytest.raises(InvalidRequest) as refused:
        async for _ in execute(cast(Backend, Refusing()), asked, 1):
            pass
    assert refused.value.param == "input"
