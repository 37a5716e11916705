"""What answers are held to: walks through the grammar, with no model, end in valid calls."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_serve.chat import ChatFormat
from llm_serve.chat.formats import TOOL_PARSERS
from llm_serve.chat.grammar.arguments import arguments_schema
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Guide, Tools
from tests.chat.answers import parse
from tests.chat.signatures import lists_of_functions
from tests.chat.test_templates import QWEN3
from tests.chat.walks import SPECIAL, TOKENS, allows, walk

WEATHER: dict[str, Any] = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
TOOLS = Tools((WEATHER, {"name": "now"}))
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
SCHEMA = Guide("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}}')


def form(parser: str = "hermes", *, grammars: bool = True) -> ChatFormat:
    return ChatFormat.of(None, parser, tokens=TOKENS, special=SPECIAL, grammars=grammars)


def guided(tools: Tools, wanted: Guide | None = None, *, parser: str = "hermes") -> Guide:
    guide = form(parser).guide(tools, wanted, reasoning=False)
    assert guide is not None
    return guide


def check(parser: str, tools: Tools, chance: random.Random) -> bool:
    """Walks once and checks what comes out; False where the walk found no end."""
    answer = walk(guided(tools, parser=parser), chance)
    if answer is None:
        return False
    got = parse(form(parser), tools, answer)
    schemas = {function["name"]: arguments_schema(function) for function in tools.functions}
    for name, arguments in got.calls:
        jsonschema.validate(json.loads(arguments), schemas[name])
    if tools.choice != "auto":
        assert got.calls, answer
        assert got.text == "", answer
    if not tools.parallel or tools.choice == "named":
        assert len(got.calls) <= 1
    return True


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(set(TOOL_PARSERS) - {"llama4_json", "qwen3_json", "qwen3_xml"})),
    lists_of_functions(),
    st.sampled_from(["required", "named", "auto"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_finished_call_parses_and_validates(
    parser: str,
    functions: list[dict[str, Any]],
    choice: Literal["required", "named", "auto"],
    parallel: bool,
    chance: random.Random,
) -> None:
    name = functions[0]["name"] if choice == "named" else None
    check(parser, Tools(tuple(functions), choice, name, parallel), chance)


@pytest.mark.parametrize("parser", sorted(TOOL_PARSERS))
def test_walks_end(parser: str) -> None:
    """The property above is not about walks that never ended."""
    tools = replace(TOOLS, choice="required")
    assert sum(check(parser, tools, random.Random(seed)) for seed in range(4)) >= 3


"""Hermes alone from here on."""


@pytest.mark.parametrize(
    ("change", "answer", "allowed"),
    [
        ({}, "Noon.", True),
        ({}, "", True),
        ({}, f"I look.\n{CALL}\n{CALL}\nDone.", True),
        ({}, "<tool_call>\nwhat", False),
        ({}, '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>', False),
        ({"parallel": False}, f"I look.\n{CALL}", True),
        ({"parallel": False}, f"{CALL}\n{CALL}", False),
        ({"choice": "required"}, "Noon.", False),
        ({"choice": "required"}, "", False),
        ({"choice": "required"}, CALL, True),
        ({"choice": "required"}, f"{CALL}\n{CALL}", True),
        ({"choice": "required", "parallel": False}, f"{CALL}\n{CALL}", False),
        ({"choice": "named", "name": "now"}, CALL, True),
        ({"choice": "named", "name": "now"}, f"{CALL}\n{CALL}", False),
        ({"choice": "named", "name": "weather"}, CALL, False),
    ],
)
def test_choices(change: dict[str, Any], answer: str, allowed: bool) -> None:
    assert allows(guided(replace(TOOLS, **change)), answer) is allowed


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ('{"city": "Paris"}', True),
        ('{"city":"Paris","days":3}', True),
        ('{"city": "Paris", "days": "3"}', False),
        ('{"days": 3}', False),
        ('{"city": "Paris", "more": 1}', False),
        ('{"city":  "Paris"}', False),
    ],
)
def test_arguments_are_held_to_the_schema(arguments: str, allowed: bool) -> None:
    call = f'<tool_call>\n{{"name": "weather", "arguments": {arguments}}}\n</tool_call>'
    assert allows(guided(replace(TOOLS, choice="required")), call) is allowed


@pytest.mark.parametrize(
    ("parser", "answer", "allowed"),
    [
        ("pythonic", "[1, 2]", True),
        ("pythonic", "[now()", False),
        ("pythonic", '[now(), weather(city="x")]', True),
        ("pythonic", "[weather(days=1)]", False),
        ("llama3_json", '{"name": "Ada"}', True),
        ("llama3_json", '{"name": "now", "parameters": {}}', True),
        ("llama3_json", '{"name": "now"}', False),
    ],
)
def test_without_marks_only_what_begins_like_a_call_is_held_to_one(
    parser: str, answer: str, allowed: bool
) -> None:
    assert allows(guided(TOOLS, parser=parser), answer) is allowed


def test_a_response_format_beside_tools() -> None:
    guide = guided(TOOLS, SCHEMA)
    assert allows(guide, '{"a": 1}')
    assert allows(guide, CALL)
    assert not allows(guide, f"Yes. {CALL}")
    assert not allows(guide, '{"a": "b"}')
    assert allows(guided(TOOLS, Guide("json_object")), '{"b": 2}')
    assert allows(guided(TOOLS, Guide("regex", r"a/b+\/\\\d")), "a/bb/\\5")
    assert allows(guided(TOOLS, Guide("regex", "a\nb")), "a\nb")
    assert not allows(guided(replace(TOOLS, choice="required"), SCHEMA), '{"a": 1}')
    with pytest.raises(InvalidRequest) as refusal:
        guided(TOOLS, Guide("grammar", 'root ::= "a"'))
    assert refusal.value.param == "response_format"


def test_without_tools_a_format_stays_as_it_is() -> None:
    for tools in (None, Tools(()), Tools(TOOLS.functions, "none")):
        assert form().guide(tools, SCHEMA, reasoning=False) == SCHEMA
        assert form().guide(tools, None, reasoning=False) is None


def test_reasoning_comes_first() -> None:
    model = ChatFormat.of(QWEN3, tokens=TOKENS, special=SPECIAL)
    required = replace(TOOLS, choice="required")
    within = model.guide(required, None, reasoning=True)
    assert within is not None
    assert within.after == "</think>"
    assert allows(within, CALL)
    assert model.guide(None, SCHEMA, reasoning=True) == replace(SCHEMA, after="</think>")
    before = model.guide(required, None, reasoning=False)
    assert before is not None
    assert before.after == ""
    assert allows(before, CALL)
    assert allows(before, f"<think>\nHm.\n</think>\n\n{CALL}")
    assert not allows(before, "<think>\nHm.\n</think>\n\nNoon.")
    formatted = model.guide(None, SCHEMA, reasoning=False)
    assert formatted is not None
    assert allows(formatted, '<think>Hm.</think>\n\n{"a": 1}')
    grammar = Guide("grammar", 'root ::= "a"')
    assert model.guide(None, grammar, reasoning=False) == grammar


def test_a_name_that_is_no_tool() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        guided(replace(TOOLS, choice="named", name="other"))
    assert refusal.value.param == "tool_choice"


ODD: list[dict[str, Any]] = [
    {"type": "string", "format": "odd"},
    {"type": "string", "pattern": "^(?!a)[a-c]+$"},
    {"type": "string", "pattern": r"(a)\1"},
    {"type": "string", "pattern": "("},
    {"type": "any"},
    {"$ref": "https://example.org/schema"},
    {"type": "object", "patternProperties": {"^a": {}, "b$": {}}, "additionalProperties": False},
    {"type": "array", "items": {"anyOf": [{"type": "str"}]}, "maxItems": 2},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"not": {"type": "null"}, "type": "boolean"},
    {"type": "integer", "default": {"pattern": "("}},
]


@pytest.mark.parametrize("schema", ODD)
@pytest.mark.parametrize("parser", ["hermes", "qwen3_coder", "pythonic"])
def test_functions_that_are_not_strict_may_say_what_no_grammar_can(
    schema: dict[str, Any], parser: str
) -> None:
    parameters = {"type": "object", "properties": {"a": schema, "b": {"type": "boolean"}}}
    tools = Tools(({"name": "f", "parameters": {**parameters, "required": ["b"]}},), "required")
    answer = walk(guided(tools, parser=parser), random.Random(1))
    assert answer is not None
    ((name, arguments),) = parse(form(parser), tools, answer).calls[:1]
    assert name == "f"
    assert isinstance(json.loads(arguments)["b"], bool)


def test_a_pattern_that_a_grammar_can_be_made_of_is_enforced() -> None:
    schema = {"type": "string", "pattern": r"^\d{2}/(?:a|b)$"}
    function = {"name": "f", "parameters": {"type": "object", "properties": {"p": schema}}}
    guide = guided(Tools((function,), "required"))
    call = '<tool_call>\n{"name": "f", "arguments": {"p": "%s"}}\n</tool_call>'
    assert allows(guide, call % "12/a")
    assert not allows(guide, call % "1/a")


def test_what_is_written_for_people_is_no_part_of_a_grammar() -> None:
    described = {
        "type": "object",
        "description": "Told at length",
        "properties": {
            "description": {"type": "string", "description": "Told at length"},
            "title": {"anyOf": [{"type": "integer", "title": "Told at length"}]},
        },
        "required": ["description", "title"],
    }
    guide = guided(Tools(({"name": "f", "parameters": described},), "required"))
    assert "Told" not in guide.text
    call = '<tool_call>\n{"name": "f", "arguments": {"description": "a", "title": 1}}\n</tool_call>'
    assert allows(guide, call)


def test_engines_that_know_schemas_alone() -> None:
    plain = form("mistral", grammars=False)
    required = replace(TOOLS, choice="required")
    guide = plain.guide(required, None, reasoning=False)
    assert guide is not None
    assert guide.kind == "json_schema"
    calls = [{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]
    schema = json.loads(guide.text)
    jsonschema.validate(calls, schema)
    for wrong in ([], calls[:1] * 2 + [{"name": "other", "arguments": {}}], [{"name": "weather"}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    got = parse(plain, required, json.dumps(calls), cuts=range(40))
    assert got.calls == [("weather", '{"city": "Paris"}'), ("now", "{}")]
    assert got.finish_reason == "tool_calls"
    assert parse(plain, TOOLS, "[TOOL_CALLS][1]").text == "[TOOL_CALLS][1]"
    assert parse(plain, TOOLS, ' [{"name": "Ada"}] so').text == ' [{"name": "Ada"}] so'
    one = plain.guide(replace(required, parallel=False), None, reasoning=False)
    assert one is not None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(calls, json.loads(one.text))
    both = plain.guide(TOOLS, SCHEMA, reasoning=False)
    assert both is not None
    jsonschema.validate({"a": 1}, json.loads(both.text))
    jsonschema.validate(calls, json.loads(both.text))
    with pytest.raises(InvalidRequest):
        plain.guide(TOOLS, Guide("regex", "a"), reasoning=False)
