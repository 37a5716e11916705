"""Every kind of guide, byte by byte: what it accepts whole, what it refuses, and how it says so."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from llm_serve.backends.transformers.guides import trial

from .conftest import EOS, THINK_END

PERSON = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name"],
        "additionalProperties": False,
    }
)


def accepts(vocabulary: Any, guide: tuple[str, str, str], *parts: str | int) -> bool:
    """Whether texts and tokens, one after the other, can be the whole answer."""
    after_token = THINK_END if guide[2] == "<end of thought>" else None
    matcher = trial.compiled(vocabulary, trial.grammar_of(*guide, after_token))
    tokens: list[int] = []
    for part in parts:
        tokens += [part] if isinstance(part, int) else vocabulary.greedy_tokenize(part)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("kind", "text", "good", "bad"),
    [
        ("json_object", "", ["{}", '{"a": [1, {"b":null}], "é": "\\n"}'], ["[]", "1", "{", "{a}"]),
        ("json_schema", PERSON, ['{"name": "Al", "age":3}', '{"name":""}'], ['{"age":3}', "{}"]),
        ("json_schema", "true", ["1", "{}", "null"], ["", "nil"]),
        ("regex", "(yes|no)!?", ["yes", "no!"], ["", "yesno", "maybe", " yes"]),
        ("regex", "a/b\n", ["a/b\n"], ["a/b"]),
        ("regex", "^[0-9]{3}$", ["123"], ["12", "1234"]),
        ("regex", "[^a]|ü", ["ü", "b"], ["a"]),
        ("grammar", 'root ::= "a" b*\nb ::= [xy]', ["a", "axy"], ["b", "az"]),
        ("grammar", 'start: A B\nA: /a+/\nB: "b"', ["aab"], ["b", "aa"]),
        ("lark", 'start: "x" y\ny: /[0-9]+/ | %json {"type": "boolean"}', ["x1", "xtrue"], ["x"]),
    ],
)
def test_what_a_guide_accepts(
    vocabulary: Any, kind: str, text: str, good: list[str], bad: list[str]
) -> None:
    assert [t for t in good if not accepts(vocabulary, (kind, text, ""), t)] == []
    assert [t for t in bad if accepts(vocabulary, (kind, text, ""), t)] == []


def test_json_is_on_one_line(vocabulary: Any) -> None:
    """A model that may put white space anywhere can go on with it for ever."""
    for kind, text in (("json_object", ""), ("json_schema", '{"type": "object"}')):
        guide = (kind, text, "")
        for good in ('{"a":1,"b":2}', '{"a": 1, "b": 2}'):
            assert accepts(vocabulary, guide, good)
        for bad in (
            '{ "a":1}',
            '{"a":  1}',
            '{"a":1\n}',
            '{"a":1} ',
            ' {"a":1}',
            '{"a":1,\n"b":2}',
        ):
            assert not accepts(vocabulary, guide, bad)


@pytest.mark.parametrize("after", ["</think>", 'a "quote"\\', "\n--", "é"])
def test_text_is_free_until_the_end_of_the_reasoning(vocabulary: Any, after: str) -> None:
    guide = ("json_object", "", after)
    for before in ("", "hm {hm}\n", "<think>ü"):
        for space in ("", "\n", "\n\n", " "):
            assert accepts(vocabulary, guide, f"{before}{after}{space}{{}}")
    for bad in ("{}", f"{after}", f"hm{after}\n\n\n{{}}", f"hm{after}x", f"hm{after}{{}}{{}}"):
        assert not accepts(vocabulary, guide, bad)


def test_reasoning_that_a_token_ends(vocabulary: Any) -> None:
    guide = ("regex", "yes", "<end of thought>")
    assert accepts(vocabulary, guide, "hm", THINK_END, "\n\nyes")
    assert not accepts(vocabulary, guide, "hm<end of thought>yes")
    assert not accepts(vocabulary, guide, "hm", EOS)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("json_schema", '{"not": {"type": "null"}}', "not"),
        ("json_schema", '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("json_schema", '{"properties": {"a": {"if": {}, "then": {}}}}', "then"),
        ("json_schema", '{"oneOf": [{"type": "integer"}, {"minimum": 2}]}', "oneOf"),
        ("json_schema", '{"type": "string", "format": "colour"}', "colour"),
        ("json_schema", '{"type": "strin"}', "strin"),
        ("json_schema", '{"$ref": "https://example.com/schema"}', "https://example.com/schema"),
        ("json_schema", '{"x-guidance": {"lenient": true}, "not": {}}', "x-guidance"),
        ("json_schema", "false", "true"),
        ("json_schema", "[]", "object"),
        ("json_schema", '{"type": "string", "pattern": "(?=a)b"}', "look-ahead"),
        ("regex", "a(", "unclosed group"),
        ("regex", r"\bword", "WordUnicode"),
        ("grammar", "root ::= [a-z", "line 1"),
        ("grammar", 'start: "a" missing', "missing"),
        ("lark", "start", "Expected"),
    ],
)
def test_what_cannot_be_obeyed_is_named(vocabulary: Any, kind: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        accepts(vocabulary, (kind, text, ""), "")


def test_one_of_several_that_exclude_each_other(vocabulary: Any) -> None:
    """What pydantic writes for a union with a discriminator."""

    def variant(kind: str) -> dict[str, Any]:
        properties = {"kind": {"const": kind, "type": "string"}, kind: {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": ["kind", kind]}

    schema = {
        "$defs": {"A": variant("a"), "B": variant("b")},
        "discriminator": {"propertyName": "kind"},
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
    }
    guide = ("json_schema", json.dumps(schema), "")
    assert accepts(vocabulary, guide, '{"kind": "a", "a": 1}')
    assert accepts(vocabulary, guide, '{"kind": "b", "b": 1}')
    assert not accepts(vocabulary, guide, '{"kind": "a", "b": 1}')


def test_what_computes_for_too_long_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its processor time: what only waits for a busy machine is late, and is no one's fault."""

    def spin(*given: object) -> dict[str, Any]:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler came by the fork
        while True:
            pass

    def wait(*given: object) -> dict[str, Any]:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        time.sleep(60)
        return {}

    monkeypatch.setattr(trial, "_try", spin)
    monkeypatch.setattr(trial, "CPU_S", 1)
    monkeypatch.setattr(trial, "WALL_S", 60)
    trial._answer(object(), b"{}")  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == {"killed": True}
    monkeypatch.setattr(trial, "_try", wait)
    monkeypatch.setattr(trial, "WALL_S", 1)
    trial._answer(object(), b"{}")  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == {"late": True}
