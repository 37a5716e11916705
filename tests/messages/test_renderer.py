"""Deltas to Anthropic's events and to the whole message: the same, and each valid, whatever is
generated and however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.errors import InternalError
from llm_serve.generation.messages.renderer import MessagesRenderer
from llm_serve.generation.messages.signature import reasoning_of
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import CallDelta, Delta, FinishReason, Sampling
from tests.support.anthropic_types import check_error, check_message, read_events, whole

TEXTS = st.text(min_size=1, max_size=8)
INPUTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3)


def _request(thinking: str = "shown", max_tokens: int | None = None) -> GenerationRequest:
    return GenerationRequest(
        id="msg_1",
        kind="chat",
        model="m",
        created=0,
        sampling=Sampling(max_tokens=max_tokens),
        stream=True,
        dialect="messages",
        echo={"thinking": thinking},
        path="/v1/messages",
    )


def _streamed(request: GenerationRequest, deltas: list[Delta]) -> list[dict[str, Any]]:
    renderer = MessagesRenderer(request, 7, 1)
    first = renderer.chunk(0, deltas[0])  # counted before the stream begins, as execution does
    rest = b"".join(renderer.chunk(0, delta) for delta in deltas[1:])
    return read_events(renderer.begin() + first + rest + renderer.end())


def _body(request: GenerationRequest, deltas: list[Delta]) -> dict[str, Any]:
    renderer = MessagesRenderer(request, 7, 1)
    for delta in deltas:
        renderer.add(0, delta)
    body: dict[str, Any] = json.loads(renderer.body())
    check_message(body)
    return body


@st.composite
def _said(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Delta]]:
    """What an answer says, block by block, and deltas that say it."""
    blocks: list[dict[str, Any]] = []
    deltas: list[Delta] = []
    for kind in draw(st.lists(st.sampled_from(["thinking", "text", "tool_use"]), max_size=5)):
        pieces = draw(st.lists(TEXTS, min_size=1, max_size=3))
        if kind == "tool_use":
            index = sum(block["type"] == "tool_use" for block in blocks)
            made = draw(INPUTS)
            blocks.append({"type": kind, "id": f"call_{index}", "name": "f", "input": made})
            text = json.dumps(made)
            cut = draw(st.integers(0, len(text)))
            first = CallDelta(index, text[:cut], f"call_{index}", "f")
            deltas.append(Delta("", 1, calls=(first,)))
            deltas.append(Delta("", 1, calls=(CallDelta(index, text[cut:]),)))
            continue
        member = "text" if kind == "text" else "thinking"
        if blocks and blocks[-1]["type"] == kind:
            blocks[-1][member] += "".join(pieces)
        else:
            blocks.append({"type": kind, member: "".join(pieces)})
        deltas += [
            Delta(piece, 1) if kind == "text" else Delta("", 1, reasoning=piece) for piece in pieces
        ]
    return blocks, draw(_cut(deltas))


def _kind(delta: Delta) -> int:
    """Where its last part stands in the order of parts within a delta."""
    return 2 if delta.calls else 1 if delta.text else 0


@st.composite
def _cut(draw: st.DrawFn, deltas: list[Delta]) -> list[Delta]:
    """The same with neighbours joined here and there, where one delta may hold both."""
    cut: list[Delta] = []
    for delta in deltas:
        before = cut[-1] if cut and draw(st.booleans()) else None
        if before is not None and _kind(before) <= _kind(delta):
            cut[-1] = Delta(
                before.text + delta.text,
                before.tokens + delta.tokens,
                reasoning=before.reasoning + delta.reasoning,
                calls=before.calls + delta.calls,
            )
        else:
            cut.append(delta)
    return cut


def _less_signatures(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in block.items() if k != "signature"} for block in blocks]


@settings(max_examples=100, deadline=None)
@given(_said(), st.sampled_from(["stop", "length", "tool_calls"]), st.none() | st.integers(0, 7))
def test_the_stream_makes_the_message(
    said: tuple[list[dict[str, Any]], list[Delta]], finish: FinishReason, cached: int | None
) -> None:
    blocks, deltas = said
    deltas = [*deltas, Delta("", 1, finish)]
    first = deltas[0]
    deltas[0] = Delta(
        first.text,
        first.tokens,
        first.finish_reason,
        reasoning=first.reasoning,
        calls=first.calls,
        cached_tokens=cached,
    )
    message = whole(_streamed(_request(), deltas))
    assert message == _body(_request(), deltas)
    assert _less_signatures(message["content"]) == (blocks or [{"type": "text", "text": ""}])
    usage = message["usage"]
    assert usage["input_tokens"] + (usage["cache_read_input_tokens"] or 0) == 7
    assert usage["cache_read_input_tokens"] == cached
    assert usage["output_tokens"] == sum(delta.tokens for delta in deltas)


@settings(max_examples=50, deadline=None)
@given(_said())
def test_reasoning_that_is_not_shown_is_in_the_signature_or_nowhere(
    said: tuple[list[dict[str, Any]], list[Delta]],
) -> None:
    blocks, deltas = said
    deltas = [*deltas, Delta("", 1, "stop")]
    omitted = whole(_streamed(_request("omitted"), deltas))
    assert omitted == _body(_request("omitted"), deltas)
    shown = [dict(block) for block in omitted["content"]]
    for block in shown:
        if block["type"] == "thinking":
            assert block["thinking"] == ""
            block["thinking"] = reasoning_of(block["signature"])
    assert _less_signatures(shown) == (blocks or [{"type": "text", "text": ""}])
    hidden = whole(_streamed(_request("hidden"), deltas))
    assert hidden == _body(_request("hidden"), deltas)
    assert "thinking" not in [block["type"] for block in hidden["content"]]
    assert hidden["usage"] == omitted["usage"]


@pytest.mark.parametrize(
    ("last", "max_tokens", "reason", "sequence"),
    [
        (Delta("", 1, "stop"), None, "end_turn", None),
        (Delta("", 1, "stop", stop="END"), None, "stop_sequence", "END"),
        (Delta("", 1, "tool_calls"), None, "tool_use", None),
        (Delta("", 1, "length"), 2, "max_tokens", None),
        (Delta("", 1, "length"), 32000, "model_context_window_exceeded", None),
    ],
)
def test_why_it_ended(last: Delta, max_tokens: int, reason: str, sequence: str | None) -> None:
    request = _request(max_tokens=max_tokens)
    message = whole(_streamed(request, [Delta("a", 1), last]))
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert message == _body(request, [Delta("a", 1), last])


@pytest.mark.parametrize(
    ("arguments", "read"),
    [("", {}), ('{"a": 1, "b": "wo', {"a": 1, "b": "wo"}), ('{"a": [1, ', {"a": [1]}), ("[1]", {})],
)
def test_a_call_that_was_cut_short_is_read_as_far_as_it_came(
    arguments: str, read: dict[str, Any]
) -> None:
    call = CallDelta(0, arguments, "call_0", "f")
    deltas = [Delta("", 1, calls=(call,)), Delta("", 1, "length")]
    assert _body(_request(), deltas)["content"][0]["input"] == read


@pytest.mark.parametrize(
    ("arguments", "reason"), [('{"a": 1}', "tool_use"), ('{"a": ', "stop_sequence")]
)
def test_a_call_that_a_stop_sequence_cut_is_none_to_run(arguments: str, reason: str) -> None:
    call = CallDelta(0, arguments, "call_0", "f")
    deltas = [Delta("", 1, calls=(call,)), Delta("", 1, "tool_calls", stop="END")]
    assert _body(_request(), deltas)["stop_reason"] == reason


def test_a_failure_midway_is_an_event() -> None:
    renderer = MessagesRenderer(_request(), 7, 1)
    renderer.chunk(0, Delta("a", 1))
    (value,) = read_events(renderer.failed(InternalError("It broke.")))
    check_error(value)
    assert value["error"]["type"] == "api_error"


@given(st.text())
def test_a_signature_comes_back(signature: str) -> None:
    """Whatever a client sends as one: another server's says nothing."""
    from llm_serve.generation.messages.signature import signature_of

    assert reasoning_of(signature_of(signature)) == signature
    assert reasoning_of(signature) == ""
    assert isinstance(reasoning_of(f"llm-serve:{signature}"), str)
