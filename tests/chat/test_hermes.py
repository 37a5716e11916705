"""Hermes's format, and what all formats share: calls are read whole, however the text is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.chat import ChatFormat
from llm_serve.sampling import Delta, Tools
from tests.chat.answers import Parsed, parse

TOOLS = Tools(({"name": "weather", "parameters": {"type": "object"}}, {"name": "now"}))
HERMES = ChatFormat.of(None)
TWO = (
    'I look.\n\n<tool_call>\n{"name": "weather", "arguments": {"city": "Par\\"is}", '
    '"x": [1, {"a": "]</tool_call>"}]}}\n</tool_call>\n'
    '<tool_call>{"arguments": {}, "name": "now"}</tool_call>\n'
)


def test_calls_and_the_text_before_them() -> None:
    parsed = parse(HERMES, TOOLS, TWO)
    assert parsed.text == "I look."
    assert [name for name, _ in parsed.calls] == ["weather", "now"]
    assert json.loads(parsed.calls[0][1]) == {
        "city": 'Par"is}',
        "x": [1, {"a": "]</tool_call>"}],
    }
    assert parsed.calls[1][1] == "{}"
    assert parsed.finish_reason == "tool_calls"


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TWO))))
def test_it_does_not_matter_how_the_text_is_cut(cuts: list[int]) -> None:
    assert parse(HERMES, TOOLS, TWO, cuts=cuts) == parse(HERMES, TOOLS, TWO)


def test_arguments_come_as_they_are_written() -> None:
    parser = HERMES.parser(TOOLS, reasoning=False)
    assert parser is not None
    head = parser.push(Delta('<tool_call>\n{"name": "weather", "arguments": {"city": "Pa', 20))
    assert [(call.name, call.arguments) for call in head.calls] == [("weather", '{"city": "Pa')]
    more = parser.push(Delta("ris", 1))
    assert [call.arguments for call in more.calls] == ["ris"]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nno JSON\n</tool_call>",
        '<tool_call>\n{"name": "weather"',
        '<tool_call>\n{"name": 5, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        "a < b, <tool_ and <tool",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert parse(HERMES, TOOLS, text) == Parsed("", text, [], "stop")


def test_a_call_that_was_begun_stays_one() -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": ]}}\n</tool_call>Done.'
    parsed = parse(HERMES, TOOLS, text, cuts=range(len(text)))
    assert parsed.calls == [("weather", '{"city": ]}}\n')]
    assert parsed.text == "Done."
    cut = parse(HERMES, TOOLS, text[:54], finish="length")
    assert cut.calls == [("weather", '{"city": ')]
    assert cut.finish_reason == "length"


def test_without_tools_text_is_text() -> None:
    assert HERMES.parser(None, reasoning=False) is None
    assert HERMES.parser(Tools(TOOLS.functions, "none"), reasoning=False) is None
