"""Each format's answers, as its models write them, read whole and cut at any place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.chat import ChatFormat
from llm_serve.chat.formats import TOOL_PARSERS
from llm_serve.sampling import Delta, Tools
from tests.chat.answers import Parsed, parse

TOOLS = Tools(
    (
        {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "detail": {"type": "object"},
                    "metric": {"type": ["boolean", "null"]},
                },
            },
        },
        {"name": "now"},
    )
)
PARIS = ("weather", {"city": 'Paris, "France"', "days": 3})
NOW = ("now", {})
BOTH = [PARIS, NOW]
ESCAPED = '"Paris, \\"France\\""'
OBJECT = f'{{"name": "weather", "arguments": {{"city": {ESCAPED}, "days": 3}}}}'
LISTED = f'[{OBJECT}, {{"name": "now", "arguments": {{}}}}]'
DEEP, SEP = "<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"

ANSWERS: list[tuple[str, str, str, list[tuple[str, dict[str, Any]]]]] = [
    ("hermes", f"<tool_call>\n{OBJECT}\n</tool_call>", "", [PARIS]),
    ("hermes", f'Yes.<tool_call>{OBJECT}</tool_call>\n\n<tool_call>{{"name":"now"}}', "Yes.", BOTH),
    ("longcat", f"<longcat_tool_call>{OBJECT}</longcat_tool_call> Done", " Done", [PARIS]),
    ("llama3_json", OBJECT.replace("arguments", "parameters"), "", [PARIS]),
    ("llama3_json", f'<|python_tag|>{OBJECT}; {{"name": "now", "parameters": {{}}}}', "", BOTH),
    ("llama3_json", '{"name": "Ada", "parameters": {}}', '{"name": "Ada", "parameters": {}}', []),
    ("llama3_json", '{"a": 1}', '{"a": 1}', []),
    ("llama3_json", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("mistral", f"[TOOL_CALLS] {LISTED}", "", BOTH),
    ("mistral", f'Well.[TOOL_CALLS][{OBJECT[:-1]}, "id": "abcdefghi"}}]', "Well.", [PARIS]),
    (
        "mistral",
        f'[TOOL_CALLS]weather[ARGS]{{"city": {ESCAPED}, "days": 3}}[TOOL_CALLS]now[ARGS]{{}}',
        "",
        BOTH,
    ),
    ("mistral", "[TOOL_CALLS]now[CALL_ID]abc123def[ARGS]{}", "", [NOW]),
    ("mistral", "[TOOL_CALLS]now{}", "", [NOW]),
    ("granite", f"<|tool_call|>{LISTED}", "", BOTH),
    ("granite", f"<tool_call> {LISTED}", "", BOTH),
    ("phi4_mini_json", f"functools{LISTED}", "", BOTH),
    ("jamba", f"<tool_calls>{LISTED}</tool_calls>", "", BOTH),
    (
        "deepseek_v3",
        f'{DEEP}{CALL}function{SEP}weather\n```json\n{{"city": {ESCAPED}, "days": 3}}\n```'
        f"{CALL_END}\n{CALL}function{SEP}now\n```json\n{{}}\n```{CALL_END}<｜tool▁calls▁end｜>",
        "",
        BOTH,
    ),
    (
        "deepseek_v31",
        f'So:{DEEP}{CALL}weather{SEP}{{"city": {ESCAPED}, "days": 3}}{CALL_END}'
        f"{CALL}now{SEP}{{}}{CALL_END}<｜tool▁calls▁end｜>",
        "So:",
        BOTH,
    ),
    (
        "qwen3_coder",
        '<tool_call>\n<function=weather>\n<parameter=city>\nParis, "France"\n</parameter>\n'
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        "",
        BOTH,
    ),
    (
        "qwen3_coder",
        "Let me.\n<function=weather>\n<parameter=city>\n\nA\n <b>\n\n</parameter>\n"
        '<parameter=detail>\n{"a": [1]}\n</parameter>\n'
        "<parameter=metric>\nTrue\n</parameter>\n</function>",
        "Let me.",
        [("weather", {"city": "\nA\n <b>\n", "detail": {"a": [1]}, "metric": True})],
    ),
    ("qwen3_coder", f"<tool_call>\n{OBJECT}\n</tool_call>", "", [PARIS]),
    (
        "seed_oss",
        '<seed:tool_call>\n<function=weather>\n<parameter=city>Paris, "France"</parameter>\n'
        "<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
        "",
        [PARIS],
    ),
    (
        "glm45",
        '<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris, "France"</arg_value>\n'
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n"
        "<tool_call>now\n</tool_call>",
        "",
        BOTH,
    ),
    (
        "glm47",
        '<tool_call>weather<arg_key>city</arg_key><arg_value>Paris, "France"</arg_value>'
        "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call><tool_call>now</tool_call>",
        "",
        BOTH,
    ),
    ("pythonic", "[weather(city='Paris, \"France\"', days=3), now()]", "", BOTH),
    ("pythonic", '[weather(city="Paris, \\"France\\"", days=3)]', "", [PARIS]),
    (
        "pythonic",
        "[weather(detail={'a': (1, True), 'b': [null, -2.5]}, metric=None)]",
        "",
        [("weather", {"detail": {"a": [1, True], "b": [None, -2.5]}, "metric": None})],
    ),
    (
        "pythonic",
        '[weather(**{"days": 3, "metric": true})]',
        "",
        [("weather", {"days": 3, "metric": True})],
    ),
    (
        "pythonic",
        "[see](https://example.org) for [now()]",
        "[see](https://example.org) for [now()]",
        [],
    ),
    (
        "lfm2",
        "Let me.<|tool_call_start|>[weather(city='Paris, \"France\"', days=3), now()]"
        "<|tool_call_end|>See.",
        "Let me.See.",
        BOTH,
    ),
    ("lfm2", "[now()]", "[now()]", []),
    ("llama4_pythonic", "<|python_start|>[now()]<|python_end|>", "", [NOW]),
]
"""Parser, answer, its text, its calls."""


def _read(parsed: Parsed) -> list[tuple[str, Any]]:
    return [(name, json.loads(arguments)) for name, arguments in parsed.calls]


@pytest.mark.parametrize(("parser", "answer", "text", "calls"), ANSWERS)
def test_what_models_write(
    parser: str, answer: str, text: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    parsed = parse(ChatFormat.of(None, parser), TOOLS, answer)
    assert parsed.text == text
    assert _read(parsed) == calls
    assert parsed.finish_reason == ("tool_calls" if calls else "stop")
    cut = parse(ChatFormat.of(None, parser), TOOLS, answer, cuts=range(len(answer)))
    assert cut == parsed, "cut into characters"


def test_every_format_has_an_example() -> None:
    same = {"llama4_json": "llama3_json", "qwen3_json": "hermes", "qwen3_xml": "qwen3_coder"}
    shown = {parser for parser, *_ in ANSWERS}
    assert shown | same.keys() == TOOL_PARSERS.keys()
    for alias, name in same.items():
        assert TOOL_PARSERS[alias] == TOOL_PARSERS[name]


_PIECES = sorted(
    {piece for _, answer, _, _ in ANSWERS for piece in (answer, answer[:15], answer[-15:])}
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(TOOL_PARSERS)),
    st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3)), max_size=4).map("".join),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_no_text_breaks_a_parser_and_no_cut_changes_it(
    parser: str, answer: str, cuts: list[int]
) -> None:
    chat_format = ChatFormat.of(None, parser)
    whole = parse(chat_format, TOOLS, answer)
    assert parse(chat_format, TOOLS, answer, cuts=[c for c in cuts if c <= len(answer)]) == whole
    assert parse(chat_format, TOOLS, answer, cuts=range(len(answer))) == whole
    if not whole.calls:
        assert whole.text == answer or parser.startswith("deepseek")


def _seconds(parser: str, answer: str) -> float:
    """CPU time of reading the answer in pieces of four characters."""
    reader = ChatFormat.of(None, parser).parser(TOOLS, reasoning=False)
    assert reader is not None
    began = time.process_time()
    for at in range(0, len(answer), 4):
        reader.push(Delta(answer[at : at + 4], 1))
    return time.process_time() - began


@pytest.mark.parametrize("parser", ["hermes", "llama3_json", "mistral", "pythonic", "qwen3_coder"])
def test_the_cost_is_linear_in_the_length(parser: str) -> None:
    answer = next(a for name, a, *_ in ANSWERS if name == parser and "Paris" in a)
    short, long = (answer.replace("Paris", "x, <" * count) for count in (2_000, 16_000))
    ratio = min(_seconds(parser, long) for _ in range(2)) / min(
        _seconds(parser, short) for _ in range(2)
    )
    assert ratio < 20, "eight times the text; 64 would be quadratic"


def test_another_object_is_not_held_back() -> None:
    reader = ChatFormat.of(None, "llama3_json").parser(TOOLS, reasoning=False)
    assert reader is not None
    assert reader.push(Delta('{"title": "A lo', 9)).text == '{"title": "A lo'
    assert reader.push(Delta("ng story", 9)).text == "ng story"


@pytest.mark.parametrize("parser", ["hermes", "llama3_json", "mistral", "granite", "deepseek_v31"])
def test_json_arguments_are_passed_on_as_they_come(parser: str) -> None:
    answer = next(a for name, a, *_ in ANSWERS if name == parser and "Paris" in a)
    reader = ChatFormat.of(None, parser).parser(TOOLS, reasoning=False)
    assert reader is not None
    head, tail = answer.split("aris", 1)
    assert reader.push(Delta(head, 9)).calls[-1].arguments.endswith('"P')
    assert [call.arguments for call in reader.push(Delta("aris", 1)).calls] == ["aris"]
    assert reader.push(Delta(tail, 9, "stop")).finish_reason == "tool_calls"
