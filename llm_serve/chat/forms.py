"""The forms that one conversation can have, since templates differ in what they take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]
_INSTRUCTING = ("system", "developer")


def forms(messages: list[Message]) -> Iterator[list[Message]]:
    """The messages, from what a client sent to what most templates take.

    As they are; the messages of the system and of developers merged into one at the begin; that one
    merged into the first turn of the user, and turns of one role that follow each other into one.
    In each: calls side by side, then one after the other; their arguments as objects, then as JSON
    text.
    """
    for form in _by_system(messages):
        yield form
        if not any("tool_calls" in message for message in form):
            continue
        yield _with_text(form)
        if any(len(message.get("tool_calls", ())) > 1 for message in form):
            one_by_one = _one_by_one(form)
            yield one_by_one
            yield _with_text(one_by_one)


def in_parts(form: list[Message]) -> list[Message]:
    """The messages with content as a list of parts."""
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in form]


def keeps(messages: list[Message], prompt: str) -> bool:
    """Whether what the system and developers said is in the prompt, and what the user said last:
    templates leave out what they have no place for."""
    said = [m["content"] for m in messages if m["role"] in _INSTRUCTING]
    said += [m["content"] for m in messages if m["role"] == "user"][-1:]
    return all(text.strip() in prompt for text in said)


def _by_system(messages: list[Message]) -> Iterator[list[Message]]:
    yield messages
    systems = [m for m in messages if m["role"] in _INSTRUCTING]
    others = [m for m in messages if m["role"] not in _INSTRUCTING]
    text = _joined([m["content"] for m in systems])
    merged = [{"role": "system", "content": text}, *others]
    if systems and merged != messages:
        yield merged
    if systems:
        others = [{"role": "user", "content": text}, *others]
    if (turns := _turns(others)) != messages:
        yield turns


def _turns(messages: list[Message]) -> list[Message]:
    """Messages of one role that follow each other as one."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else {}
        plain = message.keys() == {"role", "content"} == last.keys()
        if plain and last["role"] == message["role"]:
            turns[-1] = {**last, "content": _joined([last["content"], message["content"]])}
        else:
            turns.append(message)
    return turns


def _one_by_one(messages: list[Message]) -> list[Message]:
    """Each call in a message of its own, its result after it: some models know one call a turn."""
    results = {m.get("tool_call_id"): m for m in messages if m["role"] == "tool"}
    split: list[Message] = []
    placed: list[Message] = []
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            split += [] if any(message is result for result in placed) else [message]
            continue
        for place, call in enumerate(calls):
            content = "" if place else message["content"]
            split.append({**message, "content": content, "tool_calls": [call]})
            if (result := results.get(call.get("id"))) is not None:
                split.append(result)
                placed.append(result)
    return split


def _with_text(messages: list[Message]) -> list[Message]:
    """The arguments of calls as JSON text: some templates add them to text."""
    return [
        {**message, "tool_calls": [_text_call(call) for call in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]


def _text_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _joined(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)
