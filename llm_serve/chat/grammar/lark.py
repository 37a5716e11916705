"""Grammars in llguidance's Lark syntax, from the parts that formats of calls are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llm_serve.chat.grammar.arguments import arguments_schema
from llm_serve.chat.grammar.schemas import bare, loosened

_SPACES = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""JSON on one line, as templates show it to models: free white space is where small models stay."""


class Lark:
    """Rules of one grammar. What its methods return is an expression that others may hold.

    `tokens` are the ids of the texts that the tokenizer has as one token of its own. A mark that is
    one may come as it, or be spelled.
    """

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self._tokens = tokens
        longest_first = sorted(map(re.escape, tokens), key=len, reverse=True)
        self._any_token = re.compile(f"({'|'.join(longest_first)})") if tokens else None
        self._rules: list[str] = []
        self._seen: dict[str, str] = {}

    def grammar(self, start: str) -> str:
        return "\n".join(["%llguidance {}", f"start: {start}", *self._rules])

    def rule(self, body: str, options: str = "") -> str:
        """A rule of its own; the same one for the same body."""
        return self._named("r", body, options)

    def terminal(self, body: str) -> str:
        return self._named("T", body, "")

    def _named(self, letter: str, body: str, options: str) -> str:
        key = f"{letter}{options}: {body}"
        if key not in self._seen:
            self._seen[key] = f"{letter}{len(self._seen)}"
            self._rules.append(f"{self._seen[key]}{options}: {body}")
        return self._seen[key]

    def either(self, choices: Iterable[str]) -> str:
        return self.rule(" | ".join(choices))

    def literal(self, text: str) -> str:
        """The text; a part of it that is one token may come as it, or be spelled."""
        if not text:
            return '""'
        if text in self._tokens:
            return f"({self._token(text)} | {_quoted(text)})"
        if self._any_token is None:
            return _quoted(text)
        parts = [part for part in self._any_token.split(text) if part]
        return " ".join(map(self.literal, parts)) if len(parts) > 1 else _quoted(text)

    def is_token(self, text: str) -> bool:
        return text in self._tokens

    def _token(self, mark: str) -> str:
        return f"<[{self._tokens[mark]}]>"

    def json(self, schema: Any, *, lenient: bool = False) -> str:
        """JSON that the schema allows; `lenient` leaves out of it what cannot be enforced."""
        options: dict[str, Any] = dict(_SPACES)
        schema = bare(schema)
        if lenient:
            schema = loosened(schema)
            options["lenient"] = True
        if not isinstance(schema, dict):  # true or false
            schema = {} if schema else {"not": {}}
        return self.rule(f"%json {json.dumps({**schema, 'x-guidance': options})}")

    def arguments(self, function: dict[str, Any]) -> str:
        """The arguments of a function, as a JSON object."""
        return self.json(arguments_schema(function), lenient=not function.get("strict"))

    def call_object(self, function: dict[str, Any], key: str = "arguments") -> str:
        """A call as a JSON object, its arguments under `key`."""
        head = f'{{"name": {json.dumps(function["name"])}, "{key}": '
        return self.rule(f'{self.literal(head)} {self.arguments(function)} "}}"')

    def text(self) -> str:
        """Any text, none at all too."""
        return self.terminal("/(?s:.*)/")

    def text_but(self, *starts: str) -> str:
        """Any text that begins with none of these regular expressions."""
        return self.terminal(f"/(?s:.*)/ & ~/({'|'.join(starts)})(?s:.*)/")

    def until(self, mark: str) -> str:
        """Text to the end of the next mark."""
        spelled = self.rule(f"/(?s:.*)/ {_quoted(mark)}", "[lazy]")
        if mark not in self._tokens:
            return spelled
        return self.either([spelled, f"{self.text()} {self._token(mark)}"])

    def call_list(self, functions: Iterable[dict[str, Any]], *, parallel: bool) -> str:
        """Calls as one JSON list."""
        call = self.either(map(self.call_object, functions))
        more = f"(/, ?/ {call})*" if parallel else ""
        return self.rule(f'"[" {call} {more} "]"')

    def calls(self, begin: str, call: str, *, between: str, free: bool, parallel: bool) -> str:
        """Calls, each after the mark `begin`; with `free`, in the midst of text, or only text."""
        if free:
            one = self.rule(f"{self.until(begin)} {call}")
            return self.rule(f"{one}* {self.text()}" if parallel else f"{one} | {self.text()}")
        one = self.rule(f"{self.literal(begin)} {call}")
        return self.rule(f"{one} ({self.literal(between)} {one})*" if parallel else one)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
