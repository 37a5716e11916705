"""Reasoning, before text and before calls, begun in the prompt or in the answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.chat import ChatFormat
from llm_serve.sampling import CallDelta, Delta, TokenLogprob, Tools
from tests.chat.answers import Parsed, parse
from tests.chat.test_templates import QWEN3

TOOLS = Tools(({"name": "now"},))
MODEL = ChatFormat.of(QWEN3)
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
CASES = [
    ("<think>\nHm.\n</think>\n\nNoon.", False, Parsed("Hm.", "Noon.", [], "stop")),
    ("Hm.\n\nYes.\n</think>\n\nNoon.\n", True, Parsed("Hm.\n\nYes.", "Noon.\n", [], "stop")),
    ("<think>\n\n</think>\n\nNoon.", False, Parsed("", "Noon.", [], "stop")),
    ("\n<think>Hm.</think>Noon.", False, Parsed("Hm.", "Noon.", [], "stop")),
    ("<think>Hm.</think>Noon.", True, Parsed("Hm.", "Noon.", [], "stop")),
    ("  Noon. <think>", False, Parsed("", "  Noon. <think>", [], "stop")),
    ("<thi", False, Parsed("", "<thi", [], "stop")),
    ("<think>Hm, </thin", False, Parsed("Hm, </thin", "", [], "stop")),
    (
        f"<think>a {CALL}</think>\n\n{CALL}",
        False,
        Parsed(f"a {CALL}", "", [("now", "{}")], "tool_calls"),
    ),
    (f"Hm.</think>\n\nSo:\n{CALL}", True, Parsed("Hm.", "So:", [("now", "{}")], "tool_calls")),
    ("", True, Parsed("", "", [], "stop")),
]


@pytest.mark.parametrize(("answer", "inside", "wanted"), CASES)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_it_is_told_from_the_answer(
    answer: str, inside: bool, wanted: Parsed, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(answer))))
    assert parse(MODEL, TOOLS, answer, reasoning=inside, cuts=cuts) == wanted


def test_other_marks() -> None:
    magistral = ChatFormat.of(None, "mistral", "mistral")
    answer = "[THINK]Hm.[/THINK]Noon.[TOOL_CALLS]now[ARGS]{}"
    assert parse(magistral, TOOLS, answer) == Parsed("Hm.", "Noon.", [("now", "{}")], "tool_calls")
    seed = ChatFormat.of(None, "seed_oss", "seed_oss")
    assert parse(seed, None, "<seed:think>Hm.</seed:think>Noon.").reasoning == "Hm."


def test_without_tools_reasoning_is_still_told_apart() -> None:
    assert parse(MODEL, None, f"<think>Hm.</think>{CALL} ") == Parsed("Hm.", f"{CALL} ", [], "stop")


def test_all_else_of_a_delta_stays() -> None:
    parser = MODEL.parser(TOOLS, reasoning=True)
    assert parser is not None
    logprobs = (TokenLogprob("Hm", b"Hm", -0.5),)
    first = parser.push(Delta("Hm", 1, None, logprobs, cached_tokens=7))
    assert first == Delta("", 1, None, logprobs, reasoning="Hm", cached_tokens=7)
    silent = Delta("", 2, None, logprobs)
    assert parser.push(silent) == silent
    last = parser.push(Delta(f"</think>{CALL}", 9, "length"))
    assert last.finish_reason == "length"
    assert last.calls == (CallDelta(0, "{}", last.calls[0].id, "now"),)
